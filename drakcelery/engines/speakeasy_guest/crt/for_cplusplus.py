"""What Visual C++'s library for C++ (``msvcp140.dll``) asks of the C runtime, and hardly anything else does.

Names of days and months are English.
"""

from __future__ import annotations

import calendar

from drakcelery.engines.speakeasy_guest.crt.abi import Answer, Function
from drakcelery.engines.speakeasy_guest.crt.machine import to_units
from drakcelery.engines.speakeasy_guest.crt.runtime import Runtime
from drakcelery.engines.speakeasy_guest.crt.times import FUNCTIONS as TIMES

DAYS = tuple(range(6, 13))
"""Python's numbers of the days from Sunday on, less 7 each after the first."""

TABLE = 1024
"""Bytes of the table of names; its layout is the C runtime's own business."""


def _names(short: list[str], full: list[str]) -> str:
    """``:Sun:Sunday:Mon:Monday`` and so on, as ``std::time_get`` reads it."""
    return "".join(f":{one}:{other}" for one, other in zip(short, full, strict=True))


def _days() -> str:
    order = [number % 7 for number in DAYS]
    return _names([calendar.day_abbr[day] for day in order], [calendar.day_name[day] for day in order])


def _months() -> str:
    return _names(list(calendar.month_abbr)[1:], list(calendar.month_name)[1:])


def _given(text: str, width: int) -> Answer:
    """A copy of a text, which the caller frees."""

    def answer(crt: Runtime) -> int:
        data = to_units(text, width) + bytes(width)
        address = crt.heap.allocate(len(data))
        if address:
            crt.machine.write(address, data)
        return address

    return answer


def _table(crt: Runtime) -> int:
    return int(crt.heap.zeroed(TABLE))


def _buffer_places(crt: Runtime, address: int, base: int, pointer: int, count: int) -> int:
    """Where a stream keeps its buffer: it is empty always, so the library calls a function for each text."""
    size = crt.machine.size
    for target, offset in ((base, 2 * size), (pointer, 0), (count, size)):
        crt.machine.put(target, address + offset)
    return 0


FUNCTIONS: dict[str, Function] = {
    "_get_stream_buffer_pointers": Function("pppp", _buffer_places),
    "__strncnt": Function("pp", lambda crt, text, count: len(crt.machine.string(text, 1, count))),
    "_Getdays": Function("", _given(_days(), 1)),
    "_W_Getdays": Function("", _given(_days(), 2)),
    "_Getmonths": Function("", _given(_months(), 1)),
    "_W_Getmonths": Function("", _given(_months(), 2)),
    "_Gettnames": Function("", _table),
    "_W_Gettnames": Function("", _table),
    "_Strftime": Function("ppspp", lambda crt, *words: TIMES["strftime"].answer(crt, *words[:4])),
    "_Wcsftime": Function("ppwpp", lambda crt, *words: TIMES["wcsftime"].answer(crt, *words[:4])),
}
"""Functions by name."""
