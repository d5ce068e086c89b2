"""Functions that reach into a process which the sample has started suspended; see :mod:`programs.hollowing`.

Where another process is meant, Speakeasy's own answers, and ours for the sample's own.
"""

from __future__ import annotations

from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis import threads, virtual_memory
from drakcelery.engines.speakeasy_guest.apis.api import MAX_DATA, Answer, Api, put

STATUS_SUCCESS, STATUS_UNSUCCESSFUL = 0, 0xC0000001
REGISTERS: Final = {4: (0xB0, 0xA4), 8: (0x80, 0x88)}
"""Where a CONTEXT has the register with the entry point of a new thread, and the one with its block."""

CONTEXT_SIZE: Final = {4: 0x2CC, 8: 0x4D0}
FLAGS: Final = {4: 0x0, 8: 0x30}


def _alloc(emu: Any, _name: str, argv: list[Any]) -> int:
    """``VirtualAllocEx``."""
    handle, address, size = argv[:3]
    one = emu.hollows.of(handle)
    found = emu.hollows.allocate(one, address, size) if one is not None else 0
    if not found:
        found = int(emu.original("kernel32", "VirtualAllocEx", argv) or 0)
        if one is not None and found:
            one.shared.append((found, size))
    return found


def _write(emu: Any, _name: str, argv: list[Any]) -> int:
    """``WriteProcessMemory``."""
    handle, address, source, size, count = argv[:5]
    one = emu.hollows.of(handle)
    if one is None or not source or size > MAX_DATA * 16:
        return int(emu.original("kernel32", "WriteProcessMemory", argv) or 0)
    data = bytes(emu.mem_read(source, size))
    if not emu.hollows.write(one, address, data):
        return int(emu.original("kernel32", "WriteProcessMemory", argv) or 0)
    argv[0] = one.process.get_process_path()
    put(emu, count, size, emu.get_ptr_size())
    emu.recorder.log_process_event(None, one.process, "mem_write", {"base": address, "data": data})
    return 1


def _read(emu: Any, _name: str, argv: list[Any]) -> int:
    """``ReadProcessMemory``."""
    handle, address, target, size, count = argv[:5]
    one = emu.hollows.of(handle)
    region = one.region(address, size) if one is not None else None
    if region is None:
        return int(emu.original("kernel32", "ReadProcessMemory", argv) or 0)
    emu.mem_write(target, bytes(region.data[address - region.base : address - region.base + size]))
    put(emu, count, size, emu.get_ptr_size())
    return 1


def _unmap(emu: Any, _name: str, argv: list[Any]) -> int:
    """``NtUnmapViewOfSection`` of another process; of the own one nothing is unmapped."""
    one = emu.hollows.of(argv[0])
    if one is not None:
        emu.hollows.unmap(one, argv[1])
    return STATUS_SUCCESS


def _get_context(emu: Any, _name: str, argv: list[Any]) -> int:
    """``GetThreadContext``: a new thread has its entry point and its block in registers."""
    one = emu.hollows.of(argv[0])
    if one is None:
        return int(emu.original("kernel32", "GetThreadContext", argv) or 0)
    size = emu.get_ptr_size()
    flags = bytes(emu.mem_read(argv[1] + FLAGS[size], 4))
    emu.mem_write(argv[1], bytes(CONTEXT_SIZE[size]))
    emu.mem_write(argv[1] + FLAGS[size], flags)
    for offset, value in zip(REGISTERS[size], (one.entry, one.block), strict=True):
        put(emu, argv[1] + offset, value, size)
    return 1


def _set_context(emu: Any, _name: str, argv: list[Any]) -> int:
    one = emu.hollows.of(argv[0])
    if one is None:
        return int(emu.original("kernel32", "SetThreadContext", argv) or 0)
    one.entry = emu.read_ptr(argv[1] + REGISTERS[emu.get_ptr_size()][0])
    return 1


def _as_status(answer: Answer) -> Answer:
    """The same as a function of ntdll."""

    def told(emu: Any, name: str, argv: list[Any]) -> Any:
        return STATUS_SUCCESS if answer(emu, name, argv) else STATUS_UNSUCCESSFUL

    return told


def _nt_allocate(emu: Any, name: str, argv: list[Any]) -> int:
    """``NtAllocateVirtualMemory``: address and size come and go by reference."""
    process, place, _zero_bits, room, kind, protection = argv[:6]
    size = emu.get_ptr_size()
    wanted = [emu.read_ptr(place), emu.read_ptr(room), kind, protection]
    if process == (1 << 8 * size) - 1:
        found: Any = virtual_memory.APIS["VirtualAlloc"].answer(emu, name, wanted)
    else:
        found = _alloc(emu, name, [process, *wanted])
    if not found:
        return STATUS_UNSUCCESSFUL
    put(emu, place, int(found), size)
    return STATUS_SUCCESS


def _nt_resume(emu: Any, name: str, argv: list[Any]) -> int:
    before: Any = threads.APIS["ResumeThread"].answer(emu, name, argv)
    if before == threads.FAILED:
        return STATUS_UNSUCCESSFUL
    put(emu, argv[1], int(before), 4)
    return STATUS_SUCCESS


APIS = {
    "VirtualAllocEx": Api(words=5, answer=_alloc),
    "WriteProcessMemory": Api(words=5, answer=_write),
    "ReadProcessMemory": Api(words=5, answer=_read),
    "GetThreadContext": Api(words=2, answer=_get_context),
    "SetThreadContext": Api(words=2, answer=_set_context),
    "NtAllocateVirtualMemory": Api(words=6, answer=_nt_allocate),
    "NtWriteVirtualMemory": Api(words=5, answer=_as_status(_write)),
    "NtReadVirtualMemory": Api(words=5, answer=_as_status(_read)),
    "NtUnmapViewOfSection": Api(words=2, answer=_unmap),
    "NtGetContextThread": Api(words=2, answer=_as_status(_get_context)),
    "NtSetContextThread": Api(words=2, answer=_as_status(_set_context)),
    "NtResumeThread": Api(words=2, answer=_nt_resume),
}
