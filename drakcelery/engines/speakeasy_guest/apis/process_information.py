"""What a process can ask the kernel about itself; most ask whether a debugger watches them."""

from __future__ import annotations

import struct
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import Api, put
from drakcelery.engines.speakeasy_guest.apis.toolhelp import find, parent_of, path_of, pid_of
from drakcelery.engines.speakeasy_guest.naming import image_name

BASIC, DEBUG_PORT, WOW64, IMAGE_NAME, DEBUG_OBJECT, DEBUG_FLAGS = 0, 7, 26, 27, 30, 31
COOKIE, WIN32_NAME = 36, 43
"""``PROCESSINFOCLASS``."""

STATUS_INVALID_CLASS: Final = 0xC0000003
STATUS_LENGTH_MISMATCH: Final = 0xC0000004
STATUS_INVALID_HANDLE: Final = 0xC0000008
STATUS_PORT_NOT_SET: Final = 0xC0000353
PRIORITY: Final = 8
STILL_ACTIVE: Final = 0x103
COOKIE_VALUE: Final = 0x5C1A93E7


def _query(emu: Any, _name: str, argv: list[Any]) -> int:
    """``NtQueryInformationProcess``."""
    handle, kind, target, room, length = argv
    kind &= 0xFFFFFFFF
    process = find(emu, handle)
    if process is None:
        return STATUS_INVALID_HANDLE
    data = _described(emu, process, kind, target)
    if data is None:
        return STATUS_INVALID_CLASS
    put(emu, length, len(data), 4)
    if len(data) > room & 0xFFFFFFFF:
        return STATUS_LENGTH_MISMATCH
    emu.mem_write(target, data)
    return STATUS_PORT_NOT_SET if kind == DEBUG_OBJECT else 0


def _described(emu: Any, process: Any, kind: int, target: int) -> bytes | None:
    size = emu.get_ptr_size()
    if kind == BASIC:
        word = "I" if size == 4 else "Q"
        numbers = (STILL_ACTIVE, process.get_peb().address, 1, PRIORITY)
        return struct.pack(f"<6{word}", *numbers, pid_of(emu, process), parent_of(emu, process))
    if kind in (DEBUG_PORT, DEBUG_OBJECT):
        return bytes(size)
    if kind == WOW64:
        return int(process.get_peb().address if size * 8 < emu.guest.bits else 0).to_bytes(size, "little")
    if kind == DEBUG_FLAGS:
        return (1).to_bytes(4, "little")
    if kind == COOKIE:
        return COOKIE_VALUE.to_bytes(4, "little")
    if kind in (IMAGE_NAME, WIN32_NAME):
        path = path_of(process) if kind == WIN32_NAME else image_name(path_of(process))
        text = path.encode("utf-16-le")
        head = struct.pack("<HH", len(text), len(text) + 2).ljust(size, b"\0")
        place: bytes = (target + 2 * size).to_bytes(size, "little")
        return head + place + text + b"\0\0"
    return None


APIS = {"NtQueryInformationProcess": Api(words=5, answer=_query)}
