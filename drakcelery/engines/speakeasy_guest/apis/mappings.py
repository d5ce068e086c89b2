"""Files in memory: ``CreateFileMapping`` to ``UnmapViewOfFile``; what is written there gets into the file.

All views of a mapping are parts of one block, so that each sees what another one has written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import PAGE, Api, text_argument
from drakcelery.engines.speakeasy_guest.apis.handles import (
    ERROR_ALREADY_EXISTS,
    ERROR_DISK_FULL,
    ERROR_FILE_NOT_FOUND,
    ERROR_INVALID_HANDLE,
    ERROR_INVALID_PARAMETER,
    failed,
    invalid_handle,
)
from drakcelery.engines.speakeasy_guest.apis.machine import GRANULARITY
from drakcelery.engines.speakeasy_guest.machine import memory
from drakcelery.engines.speakeasy_guest.programs import library_image

ERROR_INVALID_ADDRESS: Final = 487
ERROR_FILE_INVALID: Final = 1006
ERROR_MAPPED_ALIGNMENT: Final = 1132

READ_WRITE, EXECUTE_READ_WRITE = 0x04, 0x40
WRITABLE: Final = (READ_WRITE, EXECUTE_READ_WRITE)
EXECUTABLE: Final = 0xF0
IMAGE: Final = 0x1000000
"""``SEC_IMAGE``: the file is mapped as a program."""

MAP_WRITE: Final = 0x2
MAX_SIZE: Final = 256 * 1024 * 1024
MAX_MAPPINGS: Final = 1024
FIRST, STEP = 0x4000, 4
TAG: Final = "api.MapViewOfFile"


@dataclass(eq=False)
class Mapping:
    """A file, or memory without one, that can be mapped."""

    handle: int
    size: int
    protection: int
    name: str = ""
    file: Any = None
    path: str = ""
    base: int = 0
    """Where it is; 0 until it is mapped first."""
    views: int = 0
    written: bytes = b""
    """What the file has, as far as it is known here."""


def _named(emu: Any, name: str) -> Mapping | None:
    return next((one for one in emu.mappings.values() if name and one.name == name.lower()), None)


def _create(emu: Any, name: str, argv: list[Any]) -> int:
    handle, protection = argv[0], argv[2] & 0xFFFFFFFF
    size = (argv[3] & 0xFFFFFFFF) << 32 | argv[4] & 0xFFFFFFFF
    called = text_argument(emu, name, argv, 5)
    known = _named(emu, called)
    if known is not None:
        return failed(emu, ERROR_ALREADY_EXISTS, known.handle)
    opened = emu.disk.opened(handle)
    if opened is None and handle & 0xFFFFFFFF != invalid_handle(emu) & 0xFFFFFFFF:
        return failed(emu, ERROR_INVALID_HANDLE)
    writable = protection & 0xFF in WRITABLE
    if opened is not None:
        if size > opened.get_size() and writable and not emu.disk.resize(opened.file, size):
            return failed(emu, ERROR_DISK_FULL)
        size = size or opened.get_size()
    if not size:
        return failed(emu, ERROR_INVALID_PARAMETER if opened is None else ERROR_FILE_INVALID)
    if size > MAX_SIZE or len(emu.mappings) >= MAX_MAPPINGS:
        return failed(emu, ERROR_DISK_FULL)
    made = Mapping(FIRST + STEP * len(emu.mappings), size, protection, called.lower())
    if opened is not None:
        made.file, made.path = opened.file, opened.path
    emu.mappings[made.handle] = made
    return failed(emu, 0, made.handle)


def _open(emu: Any, name: str, argv: list[Any]) -> int:
    found = _named(emu, text_argument(emu, name, argv, 2))
    return found.handle if found is not None else failed(emu, ERROR_FILE_NOT_FOUND)


def _map(emu: Any, name: str, argv: list[Any]) -> int:
    mapping: Mapping | None = emu.mappings.get(argv[0])
    if mapping is None:
        return int(emu.original("kernel32", name, argv) or 0)
    offset = (argv[2] & 0xFFFFFFFF) << 32 | argv[3] & 0xFFFFFFFF
    if offset % GRANULARITY:
        return failed(emu, ERROR_MAPPED_ALIGNMENT)
    if offset >= mapping.size or offset + argv[4] > -(-mapping.size // PAGE) * PAGE:
        return failed(emu, ERROR_INVALID_PARAMETER)
    if not mapping.base:
        _load(emu, mapping)
    mapping.views += 1
    return failed(emu, 0, mapping.base + offset)


def _load(emu: Any, mapping: Mapping) -> None:
    """Have the block there. Raises :class:`MemoryError`."""
    content = emu.disk.read(mapping.file, 0, mapping.size) if mapping.file is not None else b""
    if mapping.protection & IMAGE and content:
        content = bytes(library_image.parse(content, mapping.path, bits=0).mapped_image)
        mapping.size = len(content)
    size = max(mapping.size, 1)
    top = min(1 << (8 * emu.get_ptr_size() - 1), 1 << 46)
    base, total = memory.first_free(memory.taken(emu), size, emu.virtual_mem_base, top, GRANULARITY)
    mapping.base = int(emu.mem_map(total, base=base, tag=TAG))
    mapping.written = content
    if content:
        emu.mem_write(mapping.base, content)
    if mapping.file is None and mapping.protection & EXECUTABLE:
        emu.watch_code(mapping.base, total)


def _unmap(emu: Any, name: str, argv: list[Any]) -> int:
    found = _with(emu, argv[0])
    if found is None:
        return int(emu.original("kernel32", name, argv) or 0)
    flush(emu, found)
    found.views -= 1
    block = emu.get_address_map(found.base)
    if found.views <= 0 and found.file is not None and block is not None:
        memory.dump_freed(emu, block)
        emu.mem_unmap(block.base, block.size)
        emu.maps.remove(block)
        found.base = 0
    return 1


def _with(emu: Any, address: int) -> Mapping | None:
    """The mapping that has a view at an address."""
    found: Mapping | None = next(
        (one for one in emu.mappings.values() if one.base and one.base <= address < one.base + one.size), None
    )
    return found


def flush(emu: Any, mapping: Mapping) -> None:
    """Write what was changed in memory to the file."""
    if mapping.file is None or mapping.protection & IMAGE or mapping.protection & 0xFF not in WRITABLE:
        return
    content = bytes(emu.mem_read(mapping.base, mapping.size))
    if content != mapping.written:
        emu.disk.write(mapping.file, 0, content)
        mapping.written = content
        emu.recorder.log_file_access(None, mapping.path, "write", size=mapping.size)


def flush_all(emu: Any) -> None:
    """The process is over: what it left in views gets into the files, and the mappings are gone."""
    for one in emu.mappings.values():
        if one.base:
            flush(emu, one)
    emu.mappings.clear()


def _flush(emu: Any, _name: str, argv: list[Any]) -> int:
    found = _with(emu, argv[0])
    if found is None:
        return failed(emu, ERROR_INVALID_ADDRESS)
    flush(emu, found)
    return 1


APIS = {
    "CreateFileMapping": Api(words=6, answer=_create),
    "OpenFileMapping": Api(words=3, answer=_open),
    "MapViewOfFile": Api(words=5, answer=_map),
    "MapViewOfFileEx": Api(words=6, answer=_map),
    "UnmapViewOfFile": Api(words=1, answer=_unmap),
    "FlushViewOfFile": Api(words=2, answer=_flush),
}
