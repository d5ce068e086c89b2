"""Calls of Windows functions: one call, how often it was repeated, and which ones are logged."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from drakcelery.engines.speakeasy_guest.configuration import SHELL_PID

REPEATS_IN_FULL = 100
"""How often the very same call is logged; from then on at each power of two, with its count."""

REPEATS_REMEMBERED = 256


@dataclass(kw_only=True)
class Call:
    """One call of a Windows function, from its start to its return."""

    module: str
    name: str
    called_from: int
    raw: list[int] = field(default_factory=list)
    """Arguments as they lay in registers and on the stack."""
    unsupported: bool = False
    """The emulator does not know the function; it was stepped over with 0."""
    guessed: bool = False
    """Nobody knows how many words it takes from the stack either."""
    problem: str | None = None
    """Why the emulator's own handler failed; the function returned 0."""
    pending: list[Callable[[list[Any], int], None]] = field(default_factory=list)


class Repeats:
    """Counts equal calls among the latest ones."""

    def __init__(self) -> None:
        self._counts: OrderedDict[tuple[Any, ...], int] = OrderedDict()

    def count(self, key: tuple[Any, ...]) -> int:
        """How often *key* was seen lately, this time included."""
        number = self._counts.pop(key, 0) + 1
        self._counts[key] = number
        if len(self._counts) > REPEATS_REMEMBERED:
            self._counts.popitem(last=False)
        return number


def context(process: str, pid: int, tid: int, parent: int = SHELL_PID) -> dict[str, Any]:
    """The fields that every DRAKVUF line starts with."""
    return {
        "PID": pid,
        "PPID": parent,
        "TID": tid,
        "UserName": "SessionID",
        "UserId": 1,
        "ProcessName": process,
    }


def hooked_functions(text: str) -> frozenset[str]:
    """The functions that a DRAKVUF hook list (``dll,function,log,…`` a line) has apimon write, lower-case."""
    names = set()
    for line in text.splitlines():
        parts = [part.strip() for part in line.split("#", 1)[0].split(",")]
        if len(parts) > 2 and "log" in parts[2].lower().split("+"):
            names.add(parts[1].lower())
    return frozenset(names)


CONTINUE_SEARCH = 1
"""``ExceptionContinueSearch``; 0 would mean that the exception is mended and what raised it goes on."""

FRAME_HANDLERS: tuple[str, ...] = (
    "__CxxFrameHandler",
    "_except_handler",
    "__C_specific_handler",
    "__GSHandlerCheck",
)
"""Beginnings of the names of a C runtime's handlers: nobody imitates them, and Speakeasy's return 0."""


NO_NETWORK = 1222
"""``ERROR_NO_NETWORK``: what all functions on shares return, of which 0 would be a success."""


def value_of_unknown(name: str) -> int:
    """What a function returns of which only the name is known: nothing done, for whoever calls it."""
    if name.startswith("WNet"):
        return NO_NETWORK
    return CONTINUE_SEARCH if name.startswith(FRAME_HANDLERS) else 0
