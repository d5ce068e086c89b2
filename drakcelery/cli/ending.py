"""Ends a command by a signal as Ctrl-C does: what it has begun is cleared away first."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType

NUMBERS = (signal.SIGTERM, signal.SIGHUP)
"""What ends a process from outside: by default at once, with its temporary files and its servers left."""


class Ended(KeyboardInterrupt):
    """A signal came. Whatever clears away after Ctrl-C does so after it."""


@contextlib.contextmanager
def cleared_away() -> Iterator[None]:
    """Within the block :data:`NUMBERS` interrupt as Ctrl-C does, and only once: what is cleared away is
    not to be interrupted again. After the block the process dies of the signal that came.

    A signal that was ignored before, as by nohup, stays so. A command may have handlers of its own; a program
    that it becomes has the usual ones.
    """
    came: list[int] = []

    def end(number: int, _frame: FrameType | None) -> None:
        if not came:
            came.append(number)
            raise Ended

    usual = [number for number in NUMBERS if signal.getsignal(number) is signal.SIG_DFL]
    with contextlib.suppress(ValueError):  # only the main thread may, and it gets all signals
        for number in usual:
            signal.signal(number, end)
    try:
        yield
    finally:
        for number in usual:
            if signal.getsignal(number) is end:
                signal.signal(number, signal.SIG_DFL)
        if came:
            _die_of(came[0])


def _die_of(number: int) -> None:
    """Die of a signal, so that whoever started us learns of it."""
    with contextlib.suppress(OSError, ValueError):  # the terminal may be gone
        sys.stdout.flush()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
