"""The time of the emulated Windows: what has passed, what threads have slept, and a little for each look.

Programs that wait for a while by looking at the clock again and again would wait for ever in an emulator that
counts only sleep, and for long in one that counts only what has passed.
"""

from __future__ import annotations

import threading
import time
from typing import Any, Final

AGE: Final = 90 * 24 * 3_600_000
"""Milliseconds for which Windows is installed by then."""

EPOCH: Final = 11_644_473_600_000
"""Milliseconds from 1601, where the time of Windows begins, to 1970."""

UNITS: Final = 10_000
"""Of 100 nanoseconds, in a millisecond."""

PATIENCE: Final = 500
"""Looks at the clock without a sleep, after which a program is taken to wait for the time itself."""

STEP, LONG_STEP = 0.1, 15.625
"""Milliseconds that a look takes: before :data:`PATIENCE` is over, and after (a tick of Windows' clock)."""


class Clock:
    """The time of one emulated Windows."""

    def __init__(self, emu: Any) -> None:
        self._emu = emu
        self._begun = time.monotonic()
        self._start = time.time() * 1000
        self._looked = 0.0
        self._looks = 0
        self._slept = 0.0

    @property
    def passed(self) -> float:
        """Milliseconds since the program started."""
        scheduler = getattr(self._emu, "scheduler", None)
        return (time.monotonic() - self._begun) * 1000 + (scheduler.now if scheduler else 0) + self._looked

    @property
    def now(self) -> float:
        """Milliseconds since 1970."""
        return self._start + self.passed

    @property
    def installed(self) -> int:
        """When Windows was installed, in 100 nanoseconds since 1601."""
        return int((self._start + EPOCH - AGE) * UNITS)

    @property
    def uptime(self) -> float:
        """Milliseconds for which Windows has run."""
        return float(self._emu.guest.uptime * 1000 + self.passed)

    @property
    def file_time(self) -> int:
        """100 nanoseconds since 1601."""
        return int((self.now + EPOCH) * UNITS)

    def wait(self, milliseconds: float, stop: threading.Event) -> None:
        """Let so much time pass for real, or less if *stop* ends it. Whoever calls counts it as slept."""
        begun = time.monotonic()
        stop.wait(max(milliseconds, 0) / 1000)
        self._begun += time.monotonic() - begun

    def advance(self) -> None:
        """A program asks for the time."""
        scheduler = getattr(self._emu, "scheduler", None)
        slept = scheduler.now if scheduler else 0.0
        if slept != self._slept:
            self._slept, self._looks = slept, 0
        self._looks += 1
        step = STEP if self._looks < PATIENCE else LONG_STEP
        if scheduler:  # for threads that sleep it passes too
            scheduler.now += step
            self._slept = scheduler.now
        else:
            self._looked += step
