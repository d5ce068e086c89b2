"""Files in directories that somebody else may change: opened by handle, never through a link.

The vm worker of a Xen host is root, and the io worker, which reads what guests wrote, is not. A member of the
group may replace a file by a link, a second name of another file, a pipe or a device; these must neither be
followed nor waited for. Every function here takes such a path and raises :class:`UnsafeFile` if it is one of
these.

The directories of a path are safe from being swapped only if nobody else may change them, which
:func:`own_directory` ensures (:mod:`drakcelery.host.state_dir`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

DEPTH = 32
"""Directories within each other that :func:`walk` enters: each takes a handle."""

_SAFELY = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""O_NONBLOCK: opening a FIFO that nobody else has open must not wait forever."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class UnsafeFile(OSError):
    """A path should be a plain file or directory, but is a link, or something that others may change."""


def unsafe(path: Path | str, what: str) -> UnsafeFile:
    """The error that says *what* is wrong with *path*."""
    return UnsafeFile(errno.EPERM, what, os.fspath(path))


def open_regular(
    name: Path | str, flags: int = os.O_RDONLY, *, mode: int = 0o600, directory: int | None = None
) -> int:
    """Open a regular file that has one name; below the open *directory* if one is given.

    The caller closes the descriptor.

    Raises:
        UnsafeFile: it is something else.
        OSError: it is not there, or may not be opened.
    """
    try:
        descriptor = os.open(name, flags | _SAFELY, mode, dir_fd=directory)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a symbolic link; a socket or a pipe
            raise unsafe(name, "is a link, or no regular file") from None
        raise
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(descriptor)
        raise unsafe(name, "is a device, or has a second name")
    return descriptor


def open_directory(path: Path | str, *, directory: int | None = None) -> int:
    """Open the directory *path* itself, not what a link of this name points to; the caller closes it.

    Raises:
        UnsafeFile: it is something else.
        OSError: it is not there, or may not be opened.
    """
    try:
        return os.open(path, _DIRECTORY, dir_fd=directory)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise unsafe(path, "is no directory") from None
        raise


def is_regular(path: Path) -> bool:
    """Whether there is a file, and no link, of this name."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def opened(path: Path) -> BinaryIO:
    """A file to read, which knows its name. Raises as :func:`open_regular`."""
    return open(path, "rb", opener=open_regular)


def read(path: Path, *, most: int) -> bytes:
    """Read a file of at most *most* bytes. Raises as :func:`open_regular`, and if it is larger."""
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size  # memory is taken for all that is asked for
        data = file.read(min(size, most) + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"is larger than {most} bytes", os.fspath(path))
    return data


def append(path: Path, data: bytes) -> None:
    """Add to the end of a file, which is made if it does not exist. Raises as :func:`open_regular`."""
    parent = open_directory(path.parent)
    try:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        descriptor = open_regular(path.name, flags, mode=0o660, directory=parent)
        try:
            _write(descriptor, data)
        finally:
            os.close(descriptor)
    finally:
        os.close(parent)


def replace(path: Path, data: bytes, *, durable: bool) -> None:
    """Write a file, whole or not at all; *durable*: also after a power failure. Raises :class:`OSError`."""
    parent = open_directory(path.parent)
    draft = f".{path.name}.{uuid.uuid4().hex}"
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        descriptor = open_regular(draft, flags, mode=0o660, directory=parent)
        try:
            _write(descriptor, data)
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(draft, path.name, src_dir_fd=parent, dst_dir_fd=parent)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(draft, dir_fd=parent)
        raise
    finally:
        os.close(parent)


def _write(descriptor: int, data: bytes) -> None:
    """Write all of *data*: what fits only in part on a full disk, is refused the next time."""
    while data:
        data = data[os.write(descriptor, data) :]


def walk(top: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Path below *top*, and status, of everything in there but directories, to :data:`DEPTH`.

    What vanishes meanwhile is skipped. Raises :class:`OSError` if *top* cannot be opened.
    """
    yield from _walk(open_directory(top), "", DEPTH)


def _walk(directory: int, prefix: str, depth: int) -> Iterator[tuple[str, os.stat_result]]:
    """As :func:`walk`, below an open directory, which is closed."""
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                try:
                    if not entry.is_dir(follow_symlinks=False):
                        yield prefix + entry.name, entry.stat(follow_symlinks=False)
                        continue
                    inner = open_directory(entry.name, directory=directory) if depth else None
                except (FileNotFoundError, UnsafeFile):  # gone, or swapped, meanwhile
                    continue
                if inner is not None:
                    yield from _walk(inner, f"{prefix}{entry.name}/", depth - 1)
    finally:
        os.close(directory)


def own_directory(path: Path, mode: int) -> None:
    """Make sure that *path* is a directory which nobody but us may change; one that is made gets *mode*.

    Its group is inherited, as far as the directory above says so. For other users than root it is only made
    sure that it exists: they cannot be tricked into writing where they may not.

    Raises:
        UnsafeFile: we are root, and it is another user's, or a link of one, or others may write to it.
        OSError: it cannot be made.
    """
    path.mkdir(mode=mode, parents=True, exist_ok=True)
    if os.geteuid() != 0:
        return
    if (link := path.lstat()).st_uid != 0:
        raise unsafe(path, f"belongs to the user {link.st_uid} instead of root")
    status = path.stat()  # an operator's own link is fine: no other user could have made it
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != 0 or status.st_mode & _OTHERS_WRITE:
        raise unsafe(
            path,
            f"may be changed by others than root (user {status.st_uid}, group {status.st_gid}, mode "
            f"{stat.S_IMODE(status.st_mode):04o})",
        )


def close_directory(path: Path) -> None:
    """Make sure that nobody but us may enter the directory *path*, which an older version left open. Then its
    content may be another user's. Raises as :func:`own_directory`.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory = open_directory(path)
    try:
        if (owner := os.fstat(directory).st_uid) == os.geteuid():
            os.fchmod(directory, 0o700)
        elif os.geteuid() == 0:
            raise unsafe(path, f"belongs to the user {owner} instead of root")
    finally:
        os.close(directory)


def share(top: Path) -> None:
    """Open the tree *top*, which only its owner could enter, to the directory's group: *top* itself last.

    If that was done before, nothing is done: the group may have changed the content since.

    Raises :class:`OSError`.
    """
    directory = open_directory(top)
    try:
        if os.fstat(directory).st_mode & stat.S_IRWXG:
            return
        _share(directory, DEPTH)
        os.fchmod(directory, 0o770)
    finally:
        os.close(directory)


def _share(directory: int, depth: int) -> None:
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                inner = open_directory(entry.name, directory=directory)
                try:
                    if depth:
                        _share(inner, depth - 1)
                    os.fchmod(inner, 0o770)
                finally:
                    os.close(inner)
            elif entry.is_file(follow_symlinks=False):
                with contextlib.suppress(UnsafeFile, PermissionError):  # collect will report it
                    descriptor = open_regular(entry.name, directory=directory)
                    try:
                        os.fchmod(descriptor, 0o660)
                    finally:
                        os.close(descriptor)


def remove_tree(top: Path) -> None:
    """Delete a directory and all that is in it, or what is in its place; links are deleted, not followed.

    What is gone is fine.

    If the directory above is another user's, the empty directory stays, for its owner to delete.

    Raises :class:`OSError`.
    """
    while os.path.lexists(top):
        try:
            if top.is_dir() and not top.is_symlink():
                shutil.rmtree(top)
            else:
                top.unlink()
        except FileNotFoundError:  # another process deletes it as well
            continue
        except PermissionError as error:
            if error.filename != os.fspath(top) or any(top.iterdir()):
                raise
            return
