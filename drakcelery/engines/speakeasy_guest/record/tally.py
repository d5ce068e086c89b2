"""What a run came to: how far the program got, and which functions of Windows it missed."""

from __future__ import annotations

import string
from collections import Counter
from importlib import resources

from drakcelery.engines.speakeasy_guest.job import Missing
from drakcelery.engines.speakeasy_guest.naming import without_width
from drakcelery.engines.speakeasy_guest.record.calls import Call

MOST_COUNTED = 4096
"""So many different functions are counted; a program can ask for any name."""

MOST_TOLD = 32
"""So many of them go into the record: those that were called most often."""

NAME = 100
"""Characters of a function's name, its DLL's included; they come from the program."""

_PRINTABLE = frozenset(string.ascii_letters + string.digits + string.punctuation)


def startup_functions() -> frozenset[str]:
    """What a C runtime calls before ``main``, without ``A`` and ``W``."""
    text = resources.files(__package__).joinpath("startup.txt").read_text(encoding="ascii")
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    return frozenset(name for line in lines for name in line.split())


class Tally:
    """Counts the calls of a run.

    Attributes:
        calls: how many there were.
        in_start_up: whether the program has called nothing but what a C runtime calls before ``main``. Where
            ``main`` begins cannot be seen in a program without symbols; this can.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.in_start_up = True
        self._last: Call | None = None
        self._startup = startup_functions()
        self._missing: Counter[tuple[str, bool]] = Counter()

    def add(self, call: Call) -> None:
        """Another call has begun, or was stepped over; each is added once."""
        self.calls += 1
        self._last = call
        if self.in_start_up:
            self.in_start_up = call.name in self._startup or without_width(call.name) in self._startup
        if call.unsupported:
            key = (function_name(call), call.guessed)
            if key in self._missing or len(self._missing) < MOST_COUNTED:
                self._missing[key] += 1

    def missing(self) -> list[Missing]:
        """The functions that were called and are not imitated, the most frequent first."""
        most = sorted(self._missing.items(), key=lambda item: (-item[1], item[0]))[:MOST_TOLD]
        return [Missing(name=name, count=count, guessed=guessed) for (name, guessed), count in most]

    def broke_off(self, why: str) -> str:
        """That the emulation broke off, where, and what is not known for it, in two sentences."""
        where = " in the program's start-up" if self.in_start_up else ""
        known = "" if self.in_start_up else " from there on"
        return (
            f"the emulation broke off{where}, {self._after()}, {why}. What the program does{known} is unknown"
        )

    def _after(self) -> str:
        if self._last is None:
            return "before any API call"
        missed = ", not imitated" if self._last.unsupported else ""
        calls = "1 API call" if self.calls == 1 else f"{self.calls} API calls"
        return f"after {calls} (last: {function_name(self._last)}{missed})"


def function_name(call: Call) -> str:
    """``dll.function``; what is not printable ASCII in either is replaced, and both are bounded."""
    name = f"{call.module}.{call.name}"
    return "".join(char if char in _PRINTABLE else "?" for char in name[:NAME])
