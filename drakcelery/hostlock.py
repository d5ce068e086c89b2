"""One vm worker and one io worker for each host: a lock that the kernel drops with whoever holds it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from drakcelery.errors import SettingsError


@contextlib.contextmanager
def sole_worker(state_dir: Path, host: str, *, role: str = "vm") -> Iterator[None]:
    """Hold the host's lock for *role*, ``vm`` or ``io``.

    Two vm workers for one host would share its slots (I3). A worker that has the lock knows as well that
    every process of the one before it is dead.

    The kernel drops the lock with the process that holds it, however that ends.

    Raises:
        SettingsError: another such worker runs on this *state_dir*.
    """
    state_dir.mkdir(parents=True, exist_ok=True)
    with (state_dir / f"{role}-worker.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise SettingsError(
                f"{role} worker for host {host} is running already (pid {file.read().strip() or 'unknown'}, "
                f"lock {file.name}): stop it first"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
