"""Stages that work on files: side by side, or one alone.

A stage that killed its process once, for example by using up the memory, gets the host's io worker to itself
the next time. If it kills its process again, it kills no other, and no other can have caused it. A process
that waits here has not entered its stage, so it does not count as at work when the worker dies. The kernel
releases a lock when the process that holds it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_GATE = "io.gate"
"""Held by a process that is about to begin, so that nothing else begins while one waits to be alone."""
_FLOOR = "io.floor"
"""Shared by all processes at work."""


POLL_SECONDS = 0.02
"""Seconds between two tries of a process that waits."""

Waiting = Callable[[], None]
"""Called again and again while a process waits; what it raises ends the wait."""


@contextlib.contextmanager
def together(place: Path, waiting: Waiting) -> Iterator[None]:
    """Work beside others, but never beside one that is :func:`alone`.

    *place* is the directory of the io worker, which it alone may change.
    """
    with contextlib.ExitStack() as floor:
        with _locked(place / _GATE, fcntl.LOCK_EX, waiting):
            floor.enter_context(_locked(place / _FLOOR, fcntl.LOCK_SH, waiting))
        yield


@contextlib.contextmanager
def alone(place: Path, waiting: Waiting) -> Iterator[None]:
    """Wait until all others are done, and let none begin meanwhile."""
    with (
        _locked(place / _GATE, fcntl.LOCK_EX, waiting),
        _locked(place / _FLOOR, fcntl.LOCK_EX, waiting),
    ):
        yield


@contextlib.contextmanager
def _locked(path: Path, how: int, waiting: Waiting) -> Iterator[None]:
    with path.open("ab", buffering=0) as file:
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
            fcntl.flock(file, fcntl.LOCK_UN)  # closing is not enough if a fork has the file open as well
