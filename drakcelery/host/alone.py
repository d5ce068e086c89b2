"""Who may be at work on files beside whom: all together, or one alone.

A stage that killed its process once, by using up the memory for one, gets the host's io worker to itself the
next time: if it kills again, it kills nobody else, and nobody else can have done it. Whoever waits here has
not entered its stage, so it does not count as at work when the worker dies. The kernel drops a lock with the
process that has it.
"""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_GATE = "io.gate"
"""Held by who is about to begin: while somebody waits to be alone nobody else does."""
_FLOOR = "io.floor"
"""Shared by all who are at work."""


POLL_SECONDS = 0.02
"""Between two looks of who waits."""

Waiting = Callable[[], None]
"""Called again and again by who waits; what it raises ends that."""


@contextlib.contextmanager
def together(place: Path, waiting: Waiting) -> Iterator[None]:
    """Be at work beside others, but beside nobody who is :func:`alone`.

    *place* is the directory of the io worker, which it alone may change.
    """
    with contextlib.ExitStack() as floor:
        with _locked(place / _GATE, fcntl.LOCK_EX, waiting):
            floor.enter_context(_locked(place / _FLOOR, fcntl.LOCK_SH, waiting))
        yield


@contextlib.contextmanager
def alone(place: Path, waiting: Waiting) -> Iterator[None]:
    """Wait until all others are done, and let nobody begin meanwhile."""
    with (
        _locked(place / _GATE, fcntl.LOCK_EX, waiting),
        _locked(place / _FLOOR, fcntl.LOCK_EX, waiting),
    ):
        yield


@contextlib.contextmanager
def _locked(path: Path, how: int, waiting: Waiting) -> Iterator[None]:
    with path.open("a") as file:
        while True:
            try:
                fcntl.flock(file, how | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                waiting()
                time.sleep(POLL_SECONDS)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)  # closing is not enough where a fork has the file open as well
