"""One vm worker and one io worker for each host: a lock that the kernel releases when its holder ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from drakcelery import safe_files
from drakcelery.errors import SettingsError
from drakcelery.host import state_dir as directories


@contextlib.contextmanager
def sole_worker(state_dir: Path, host: str, *, role: str = "vm") -> Iterator[None]:
    """Hold the host's lock for *role*, ``vm`` or ``io``.

    Two vm workers for one host would share its slots (I3). A worker that has the lock also knows that every
    process of its predecessor is dead.

    The kernel releases the lock when the process that holds it ends, however that happens.

    Raises:
        SettingsError: another such worker runs on this *state_dir*, or others than its user may change what
            only that user may (:mod:`drakcelery.host.state_dir`).
    """
    if role == "vm":
        directories.own(state_dir)
    path = (state_dir if role == "vm" else directories.own_io(state_dir)) / f"{role}-worker.lock"
    with _opened(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise SettingsError(
                f"{role} worker for host {host} is running already (pid {file.read().strip() or 'unknown'}, "
                f"lock {path}): stop it first"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def has_older_io_worker(state_dir: Path) -> bool:
    """Whether an io worker of an earlier version runs here: its lock is beside the vm worker's.

    The lock shows that its process exists, not that it works.
    """
    try:
        descriptor = safe_files.open_regular(state_dir / "io-worker.lock")
    except OSError:
        return False
    with os.fdopen(descriptor) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _opened(path: Path) -> TextIO:
    try:
        return os.fdopen(safe_files.open_regular(path, os.O_RDWR | os.O_CREAT | os.O_APPEND), "a+")
    except OSError as error:
        raise SettingsError(f"{path}: cannot be locked: {error.strerror}") from None
