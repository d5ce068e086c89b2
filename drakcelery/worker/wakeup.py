"""Wakeups: one process wakes the event loop of another, since there is something to do."""

from __future__ import annotations

import contextlib
import os


class Wakeup:
    """Made in the process that listens; signalled in its threads, and in the processes that it forks."""

    def __init__(self) -> None:
        self._listening, self._signalling = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def signal(self) -> None:
        """Never waits: a pipe that is full wakes its reader as well."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._signalling, b"\0")

    def fileno(self) -> int:
        """What an event loop watches: readable from a signal to the next :meth:`clear`."""
        return self._listening

    def clear(self) -> bool:
        """Forget all signals so far; whether there were any."""
        with contextlib.suppress(BlockingIOError):
            return bool(os.read(self._listening, 65536))
        return False
