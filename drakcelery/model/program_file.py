"""The headers of a Windows program in a file."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pefile


@contextmanager
def headers(path: Path) -> Iterator[Any]:
    """pefile's image of the file at *path*, without its directories, for as long as the block lasts.

    pefile can open a file itself, but searches the whole process for garbage whenever it closes one
    (``PE._close_data``): a tenth of a second in a worker, for each look at a sample.

    Raises:
        pefile.PEFormatError: the file is no program, or is broken.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        try:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:  # mmap's word for an empty file
            raise pefile.PEFormatError("the file is empty") from None
        with data:
            yield pefile.PE(data=data, fast_load=True)
