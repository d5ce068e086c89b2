"""Files in memory: ``CreateFileMapping`` to ``UnmapViewOfFile``; what is written there gets into the file."""

from __future__ import annotations

from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import PAGE, Api, text_argument
from drakcelery.engines.speakeasy_guest.apis.handles import (
    ERROR_ALREADY_EXISTS,
    ERROR_DISK_FULL,
    ERROR_FILE_NOT_FOUND,
    ERROR_INVALID_HANDLE,
    ERROR_INVALID_PARAMETER,
    ERROR_NO_SYSTEM_RESOURCES,
    failed,
    invalid_handle,
)
from drakcelery.engines.speakeasy_guest.apis.machine import GRANULARITY
from drakcelery.engines.speakeasy_guest.machine import memory
from drakcelery.engines.speakeasy_guest.machine.sections import IMAGE, WRITABLE, Section
from drakcelery.engines.speakeasy_guest.programs import library_image

ERROR_NOT_ENOUGH_MEMORY: Final = 8
ERROR_INVALID_ADDRESS: Final = 487
ERROR_FILE_INVALID: Final = 1006
ERROR_MAPPED_ALIGNMENT: Final = 1132

EXECUTABLE: Final = 0xF0
COPY: Final = 0x1
"""``FILE_MAP_COPY``, unless the view is also for reading or writing (2 and 4)."""

MAX_SIZE: Final = 256 * 1024 * 1024
TAG: Final = "api.MapViewOfFile"


def _create(emu: Any, name: str, argv: list[Any]) -> int:
    handle, protection = argv[0], argv[2] & 0xFFFFFFFF
    size = (argv[3] & 0xFFFFFFFF) << 32 | argv[4] & 0xFFFFFFFF
    called = text_argument(emu, name, argv, 5)
    known = emu.sections.named(called)
    if known is not None:
        return _handle_of(emu, known, ERROR_ALREADY_EXISTS)
    opened = emu.disk.opened(handle)
    if opened is None and handle & 0xFFFFFFFF != invalid_handle(emu) & 0xFFFFFFFF:
        return failed(emu, ERROR_INVALID_HANDLE)
    if opened is not None:
        if size > opened.get_size():
            if protection & 0xFF not in WRITABLE:
                return failed(emu, ERROR_NOT_ENOUGH_MEMORY)
            if not emu.disk.resize(opened.file, size):
                return failed(emu, ERROR_DISK_FULL)
        size = size or opened.get_size()
    if not size:
        return failed(emu, ERROR_INVALID_PARAMETER if opened is None else ERROR_FILE_INVALID)
    if size > MAX_SIZE:
        return failed(emu, ERROR_DISK_FULL)
    made = Section(size, protection, called.lower())
    if opened is not None:
        made.file, made.path = opened.file, opened.path
    return _handle_of(emu, made, 0)


def _handle_of(emu: Any, section: Section, code: int) -> int:
    handle = int(emu.sections.add(section))
    return failed(emu, code if handle else ERROR_NO_SYSTEM_RESOURCES, handle)


def _open(emu: Any, name: str, argv: list[Any]) -> int:
    found = emu.sections.named(text_argument(emu, name, argv, 2))
    return failed(emu, ERROR_FILE_NOT_FOUND) if found is None else _handle_of(emu, found, 0)


def _map(emu: Any, name: str, argv: list[Any]) -> int:
    section: Section | None = emu.sections.handles.get(argv[0])
    if section is None:
        return int(emu.original("kernel32", name, argv) or 0)
    offset = (argv[2] & 0xFFFFFFFF) << 32 | argv[3] & 0xFFFFFFFF
    wanted = argv[5] - offset if len(argv) > 5 and argv[5] else 0
    if offset % GRANULARITY or wanted % GRANULARITY:
        return failed(emu, ERROR_MAPPED_ALIGNMENT)
    if offset >= section.size or offset + argv[4] > -(-section.size // PAGE) * PAGE:
        return failed(emu, ERROR_INVALID_PARAMETER)
    content = _content(emu, section)
    if argv[1] & 0x7 == COPY and not section.protection & IMAGE:  # pages of its own, which nobody else sees
        section = Section(section.size, section.protection)
    if not section.base:
        _load(emu, section, content, wanted)
    if wanted not in (0, section.base):
        return failed(emu, ERROR_INVALID_ADDRESS)
    section.views += 1
    return failed(emu, 0, section.base + offset)


def _content(emu: Any, section: Section) -> bytes:
    if section.base:
        return bytes(emu.mem_read(section.base, section.size))
    return bytes(emu.disk.read(section.file, 0, section.size)) if section.file is not None else b""


def _load(emu: Any, section: Section, content: bytes, place: int) -> None:
    """Have the block there, not elsewhere than at *place* if that is given. Raises :class:`MemoryError`."""
    if section.protection & IMAGE and content:
        content = bytes(library_image.parse(content, section.path, bits=0).mapped_image)
        section.size = len(content)
    size = max(section.size, 1)
    top = min(1 << (8 * emu.get_ptr_size() - 1), 1 << 47)
    start = place or emu.virtual_mem_base
    base, total = memory.first_free(memory.taken(emu), size, start, top, GRANULARITY)
    if place not in (0, base):
        return
    section.base = int(emu.mem_map(total, base=base, tag=TAG))
    section.known = bytearray(content)
    emu.sections.mapped.append(section)
    if content:
        emu.mem_write(section.base, content)
    if section.file is None and section.protection & EXECUTABLE:
        emu.watch_code(section.base, total)


def _unmap(emu: Any, _name: str, argv: list[Any]) -> int:
    found = emu.sections.at(argv[0])
    if found is not None:
        emu.sections.unmap(found)
        return 1
    block = emu.get_address_map(argv[0])
    if block is None or not (block.get_tag() or "").lower().startswith(memory.MAPPED):
        return failed(emu, ERROR_INVALID_ADDRESS)
    memory.release(emu, block)  # a view of Speakeasy's own
    return 1


def _flush(emu: Any, _name: str, argv: list[Any]) -> int:
    """``FlushViewOfFile``: so many bytes, or with 0 all."""
    found = emu.sections.at(argv[0])
    if found is None:
        return failed(emu, ERROR_INVALID_ADDRESS)
    emu.sections.flush(found, argv[0] - found.base, argv[1] or None)
    return 1


APIS = {
    "CreateFileMapping": Api(words=6, answer=_create),
    "OpenFileMapping": Api(words=3, answer=_open),
    "MapViewOfFile": Api(words=5, answer=_map),
    "MapViewOfFileEx": Api(words=6, answer=_map),
    "UnmapViewOfFile": Api(words=1, answer=_unmap),
    "FlushViewOfFile": Api(words=2, answer=_flush),
}
