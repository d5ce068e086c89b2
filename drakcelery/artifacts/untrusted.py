"""Opening what an engine left behind. Names, links and kinds of file are the guest's choice (I7)."""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path

from drakcelery.errors import EngineError

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""O_NONBLOCK: opening a FIFO that nobody writes to must not wait for ever."""


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
        descriptor = os.open(name, _FLAGS, dir_fd=directory)
    except PermissionError:
        raise EngineError(
            f"{os.fspath(name)!r} of the engine's output may not be read by this user (uid {os.getuid()})"
        ) from None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a symbolic link; a socket
            raise UntrustedFileError(_sentence(name)) from None
        raise
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(descriptor)
        raise UntrustedFileError(_sentence(name))
    return io.FileIO(descriptor, "rb")


def open_untrusted_directory(path: Path) -> int:
    """Open the directory *path* itself, not what a link of this name points to; returns its descriptor.

    Raises:
        UntrustedFileError: it is something else than a directory.
        FileNotFoundError: there is nothing of this name.
    """
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise UntrustedFileError(f"{str(path)!r} of the engine's output is not a directory") from None
        raise


def _sentence(name: Path | str) -> str:
    return (
        f"{os.fspath(name)!r} is a link, a device or shared with another name: only regular files are read "
        "from an engine's output; see what else writes to this directory"
    )
