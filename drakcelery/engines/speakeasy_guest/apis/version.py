"""Which Windows this is: ``VerSetConditionMask`` and ``VerifyVersionInfo``, by which installers ask.

Speakeasy says yes to everything, and takes a word too few for each: a 32-bit caller loses its stack.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from speakeasy.winenv import arch

from drakcelery.engines.speakeasy_guest.apis.api import Api

ERROR_OLD_WIN_VERSION = 1150

BITS = 3
"""Of a condition in the mask, for each kind of field, in the order of :data:`FIELDS`."""

FIELDS = ((8, 4), (4, 4), (12, 4), (16, 4), (278, 2), (276, 2), (280, 2), (282, 1))
"""Offset and size in ``OSVERSIONINFOEXW`` of each kind: ``VER_MINORVERSION`` is 1, ``VER_MAJORVERSION`` 2,
``VER_BUILDNUMBER`` 4, then platform, service pack (minor, major), suite and product type."""

MAJOR_FIRST = (1, 0, 2, 5, 4)
"""The version's fields from the most significant on: these are compared as one."""

PLATFORM, SUITE, PRODUCT = 3, 6, 7
PLATFORM_NT = 2
WORKSTATION = 1

COMPARE: dict[int, Callable[[Any, Any], bool]] = {
    1: operator.eq,
    2: operator.gt,
    3: operator.ge,
    4: operator.lt,
    5: operator.le,
}


def _set_condition(emu: Any, _name: str, argv: list[Any]) -> int:
    if emu.get_ptr_size() == 4:
        mask, kinds, condition = argv[0] | argv[1] << 32, argv[2], argv[3]
    else:
        mask, kinds, condition = argv[:3]
    for number in range(len(FIELDS)):
        if kinds >> number & 1:
            mask |= (condition & 7) << number * BITS
    if emu.get_ptr_size() == 4:
        emu.reg_write(arch.X86_REG_EDX, mask >> 32)
        return int(mask & 0xFFFFFFFF)
    return int(mask)


def _verify(emu: Any, name: str, argv: list[Any]) -> int:
    wanted_at, kinds, mask = argv[0], argv[1], argv[2]
    if emu.get_ptr_size() == 4:
        mask |= argv[3] << 32
    version = emu.get_os_version()
    ours = [version["minor"], version["major"], version["build"], PLATFORM_NT, 0, 0, 0, WORKSTATION]
    wanted = [
        int.from_bytes(emu.mem_read(wanted_at + _offset(offset, wide=name[-1] == "W"), size), "little")
        for offset, size in FIELDS
    ]
    chosen = [number for number in range(len(FIELDS)) if kinds >> number & 1]
    together = [number for number in MAJOR_FIRST if number in chosen]
    answers = [
        _holds(mask, number, ours[number], wanted[number]) for number in chosen if number not in MAJOR_FIRST
    ]
    if together:
        pairs = [[values[number] for number in together] for values in (ours, wanted)]
        answers.append(_holds(mask, together[0], *pairs))
    if all(answers):
        return 1
    emu.set_last_error(ERROR_OLD_WIN_VERSION)
    return 0


def _offset(offset: int, *, wide: bool) -> int:
    """In ``OSVERSIONINFOEXA`` the text of 128 characters is half as long."""
    return offset if wide or offset < 20 else offset - 128


def _holds(mask: int, number: int, ours: Any, wanted: Any) -> bool:
    condition = mask >> number * BITS & 7
    if number == SUITE:
        return bool(ours & wanted == wanted if condition == 6 else ours & wanted)
    compare = COMPARE.get(condition)
    return compare is not None and bool(compare(ours, wanted))


APIS = {
    "VerSetConditionMask": Api(words=4, answer=_set_condition),
    "VerifyVersionInfo": Api(words=4, answer=_verify),
}
