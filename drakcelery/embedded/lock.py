"""One embedded stack for each data directory."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from drakcelery.embedded.typed import command
from drakcelery.errors import StackError

NAME = "lock"

_PATIENCE = 1.0
"""Seconds: someone who only asks whether a stack runs holds the lock for a moment."""


@contextlib.contextmanager
def held(data_dir: Path) -> Iterator[None]:
    """Hold the lock of *data_dir* for the life of the block; the kernel frees it if this process dies.

    Raises:
        StackError: another process holds it.
    """
    descriptor = _open(data_dir, os.O_RDWR | os.O_CREAT)
    try:
        if not _try_lock(descriptor):
            raise StackError(
                f"an embedded stack already runs in {data_dir} (pid {_owner(descriptor) or '?'}); stop it "
                f"with Ctrl-C there or with {command('down', data_dir)}, or choose another --data-dir"
            )
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
        os.truncate(descriptor, 0)
    finally:
        os.close(descriptor)


def holder(data_dir: Path) -> int | None:
    """The pid of the stack that runs in *data_dir*; None if there is none."""
    try:
        descriptor = _open(data_dir, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _owner(descriptor)
    else:
        return None
    finally:
        os.close(descriptor)


def _open(data_dir: Path, how: int) -> int:
    """Open the lock's file. Raises :class:`StackError` if something else lies there."""
    descriptor = os.open(data_dir / NAME, how | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise StackError(f"{data_dir / NAME} is no file: {data_dir} is no directory of an embedded stack")
    return descriptor


def is_held_by(data_dir: Path, pid: int) -> bool:
    """Whether the process *pid* has the lock's file open; False for a process that we may not look at."""
    ours = (data_dir / NAME).stat()
    try:
        opened = [one.stat() for one in Path(f"/proc/{pid}/fd").iterdir() if one.exists()]
    except OSError:
        return False
    return any((one.st_dev, one.st_ino) == (ours.st_dev, ours.st_ino) for one in opened)


def _try_lock(descriptor: int) -> bool:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        else:
            return True


def _owner(descriptor: int) -> int | None:
    text = os.pread(descriptor, 32, 0)
    return int(text) if text.isdigit() else None
