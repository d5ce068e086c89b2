"""The headers of a Windows program in a file."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pefile


class Image(pefile.PE):  # type: ignore[misc] # pefile ships no types
    """pefile's image of bytes that are the caller's, who closes them.

    pefile searches the whole process for garbage whenever it closes an image (``PE._close_data``), and it
    closes each that is broken: a tenth of a second in a worker, for each look at a sample.
    """

    def _close_data(self) -> None:
        """Nothing: there is none of its own."""


@contextmanager
def headers(path: Path) -> Iterator[Any]:
    """The image of the file at *path*, without its directories, for as long as the block lasts.

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
            yield Image(data=data, fast_load=True)
