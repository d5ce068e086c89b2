"""Opening what an engine left behind. Names, links and kinds of file are the guest's choice (I7)."""

from __future__ import annotations

import io
import os
from pathlib import Path

from drakcelery import safe_files
from drakcelery.errors import EngineError


class UntrustedFileError(EngineError):
    """What should be a file of its own is a link, a device, a socket or a second name of another file."""


def open_untrusted(name: Path | str, *, directory: int | None = None) -> io.FileIO:
    """Open the regular file *name*, unbuffered, for reading; below the open *directory* if one is given.

    Raises:
        UntrustedFileError: it is something else than a regular file with one name.
        EngineError: this user may not read it.
        FileNotFoundError: there is nothing of this name.
    """
    try:
        return io.FileIO(safe_files.open_regular(name, directory=directory), "rb")
    except safe_files.UnsafeFile:
        raise UntrustedFileError(_sentence(name)) from None
    except PermissionError:
        raise EngineError(
            f"{os.fspath(name)!r} of the engine's output may not be read by this user (uid {os.getuid()})"
        ) from None


def open_untrusted_directory(path: Path) -> int:
    """Open the directory *path* itself, not what a link of this name points to; returns its descriptor.

    Raises:
        UntrustedFileError: it is something else than a directory.
        FileNotFoundError: there is nothing of this name.
    """
    try:
        return safe_files.open_directory(path)
    except safe_files.UnsafeFile:
        raise UntrustedFileError(f"{str(path)!r} of the engine's output is not a directory") from None


def _sentence(name: Path | str) -> str:
    return (
        f"{os.fspath(name)!r} is a link, a device or shared with another name: only regular files are read "
        "from an engine's output; see what else writes to this directory"
    )
