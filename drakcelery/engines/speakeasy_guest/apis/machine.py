"""What a machine is and what a process may have of it: processors, their use, its stack, its errors."""

from __future__ import annotations

import struct
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import Api, constant, put

MIB: Final = 1024 * 1024
GRANULARITY: Final = 0x10000
LOWEST: Final = 0x10000
HIGHEST: Final = {4: 0x7FFEFFFF, 8: 0x7FFFFFFEFFFF}
"""Addresses that a program may have, by the size of a pointer."""

IN_USE: Final = 40
"""Per cent of the machine's memory."""

FREE_BUILD: Final = 0xF0000000


def _all(emu: Any) -> int:
    """Each processor's bit."""
    return int((1 << emu.guest.processors) - 1)


def _system_info(emu: Any, _name: str, argv: list[Any]) -> int:
    size, processors = emu.get_ptr_size(), emu.guest.processors
    architecture, kind = (0, 586) if size == 4 else (9, 8664)
    word = "<HHI" + ("III" if size == 4 else "QQQ") + "IIIHH"
    emu.mem_write(
        argv[0],
        struct.pack(
            word,
            *(architecture, 0, 0x1000, LOWEST, HIGHEST[size], _all(emu), processors, kind, GRANULARITY),
            *(6, 0x9E0A),  # level and revision: Intel's family 6, model 158
        ),
    )
    return 0


def _memory(emu: Any, name: str, argv: list[Any]) -> int:
    """``MEMORYSTATUSEX``, of 64 bits always, or ``MEMORYSTATUS``, of a pointer's size."""
    extended = name.endswith("Ex")
    size = 8 if extended else emu.get_ptr_size()
    space = HIGHEST[emu.get_ptr_size()] + 1 - LOWEST
    memory = emu.guest.memory * MIB
    free = memory * (100 - IN_USE) // 100
    # of memory, of memory and page file, and of addresses: all there is, and what is free
    numbers = [
        memory,
        free,
        2 * memory,
        memory + free,
        space,
        space - memory // 64,
        *([0] if extended else []),
    ]
    most = (1 << 8 * size) - 1
    content = b"".join(min(number, most).to_bytes(size, "little") for number in numbers)
    emu.mem_write(argv[0], struct.pack("<II", 8 + len(content), IN_USE) + content)
    return 1


def _affinity(emu: Any, _name: str, argv: list[Any]) -> int:
    for place in argv[1:3]:
        put(emu, place, _all(emu), emu.get_ptr_size())
    return 1


def _thread_affinity(emu: Any, _name: str, _argv: list[Any]) -> int:
    return _all(emu)  # what it was before


def _boost(emu: Any, _name: str, argv: list[Any]) -> int:
    put(emu, argv[1], 0, 4)
    return 1


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
    "GlobalMemoryStatus": Api(words=1, answer=_memory),
    "GlobalMemoryStatusEx": Api(words=1, answer=_memory),
    "GetProcessAffinityMask": Api(words=3, answer=_affinity),
    "SetProcessAffinityMask": Api(words=2, answer=constant(1)),
    "SetThreadAffinityMask": Api(words=2, answer=_thread_affinity),
    "GetProcessPriorityBoost": Api(words=2, answer=_boost),
    "GetThreadPriorityBoost": Api(words=2, answer=_boost),
    "SetProcessPriorityBoost": Api(words=2, answer=constant(1)),
    "SetThreadPriorityBoost": Api(words=2, answer=constant(1)),
    "SetProcessDEPPolicy": Api(words=1, answer=constant(1)),
    "SetThreadStackGuarantee": Api(words=1, answer=_stack_guarantee),
    "SetThreadDescription": Api(words=2, answer=constant(0)),
    "timeBeginPeriod": Api(words=1, answer=constant(0)),
    "timeEndPeriod": Api(words=1, answer=constant(0)),
    "WerGetFlags": Api(words=2, answer=_wer_flags),
    "WerSetFlags": Api(words=1, answer=constant(0)),
    "GetErrorMode": Api(words=0, answer=constant(0)),
    "RtlGetNtVersionNumbers": Api(words=3, answer=_version_numbers),
}
