"""What a machine is and what a process may have of it: processors, their use, its stack, its errors."""

from __future__ import annotations

import struct
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import Api, put
from drakcelery.engines.speakeasy_guest.machine.shared_data import PROCESSORS

ALL: Final = (1 << PROCESSORS) - 1
"""Each processor's bit."""

GRANULARITY: Final = 0x10000
LOWEST: Final = 0x10000
HIGHEST: Final = {4: 0x7FFEFFFF, 8: 0x7FFFFFFEFFFF}
"""Addresses that a program may have, by the size of a pointer."""

FREE_BUILD: Final = 0xF0000000


def _system_info(emu: Any, _name: str, argv: list[Any]) -> int:
    size = emu.get_ptr_size()
    architecture, kind = (0, 586) if size == 4 else (9, 8664)
    word = "<HHI" + ("III" if size == 4 else "QQQ") + "IIIHH"
    emu.mem_write(
        argv[0],
        struct.pack(
            word,
            *(architecture, 0, 0x1000, LOWEST, HIGHEST[size], ALL, PROCESSORS, kind, GRANULARITY),
            *(6, 0x9E0A),  # level and revision: Intel's family 6, model 158
        ),
    )
    return 0


def _affinity(emu: Any, _name: str, argv: list[Any]) -> int:
    for place in argv[1:3]:
        put(emu, place, ALL, emu.get_ptr_size())
    return 1


def _thread_affinity(_emu: Any, _name: str, _argv: list[Any]) -> int:
    return ALL  # what it was before


def _boost(emu: Any, _name: str, argv: list[Any]) -> int:
    put(emu, argv[1], 0, 4)
    return 1


def _true(_emu: Any, _name: str, _argv: list[Any]) -> int:
    return 1


def _zero(_emu: Any, _name: str, _argv: list[Any]) -> int:
    return 0


def _wer_flags(emu: Any, _name: str, argv: list[Any]) -> int:
    put(emu, argv[1], 0, 4)
    return 0  # S_OK


def _version_numbers(emu: Any, _name: str, argv: list[Any]) -> int:
    version = emu.get_os_version()
    put(emu, argv[0], version["major"], 4)
    put(emu, argv[1], version["minor"], 4)
    put(emu, argv[2], version["build"] | FREE_BUILD, 4)
    return 0


def _stack_guarantee(emu: Any, _name: str, argv: list[Any]) -> int:
    put(emu, argv[0], 0, 4)
    return 1


APIS = {
    "GetSystemInfo": Api(words=1, answer=_system_info),
    "GetNativeSystemInfo": Api(words=1, answer=_system_info),
    "GetProcessAffinityMask": Api(words=3, answer=_affinity),
    "SetProcessAffinityMask": Api(words=2, answer=_true),
    "SetThreadAffinityMask": Api(words=2, answer=_thread_affinity),
    "GetProcessPriorityBoost": Api(words=2, answer=_boost),
    "GetThreadPriorityBoost": Api(words=2, answer=_boost),
    "SetProcessPriorityBoost": Api(words=2, answer=_true),
    "SetThreadPriorityBoost": Api(words=2, answer=_true),
    "SetProcessDEPPolicy": Api(words=1, answer=_true),
    "SetThreadStackGuarantee": Api(words=1, answer=_stack_guarantee),
    "SetThreadDescription": Api(words=2, answer=_zero),
    "timeBeginPeriod": Api(words=1, answer=_zero),
    "timeEndPeriod": Api(words=1, answer=_zero),
    "WerGetFlags": Api(words=2, answer=_wer_flags),
    "WerSetFlags": Api(words=1, answer=_zero),
    "GetErrorMode": Api(words=0, answer=_zero),
    "RtlGetNtVersionNumbers": Api(words=3, answer=_version_numbers),
}
