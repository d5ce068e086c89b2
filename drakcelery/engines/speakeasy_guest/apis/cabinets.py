"""Unpacking of cabinets (Cabinet.dll, ``FDI…``), by functions for files that the program brings."""

from __future__ import annotations

import struct
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import Api, read_string
from drakcelery.engines.speakeasy_guest.calling.guest_calls import GuestCall, Steps
from drakcelery.engines.speakeasy_guest.machine import cabinet
from drakcelery.engines.speakeasy_guest.machine.cabinet import BadCabinet, Cabinet, Header, Member

CABINET_NOT_FOUND, NOT_A_CABINET, CORRUPT, BAD_COMPRESSION, TARGET, ABORT = 1, 2, 4, 6, 8, 11
"""``FDIERROR_…``"""

CABINET_INFO, COPY_FILE, CLOSE_FILE = 0, 2, 3
"""``fdint…``, of which the program is told."""

BINARY: Final = 0x8000
"""``_O_BINARY``: how a cabinet is opened, to be read."""

EXECUTE: Final = 0x40
"""``_A_EXEC``."""

PORTION: Final = 32 * 1024
MOST: Final = 512 * 1024 * 1024
NOTE: Final = {4: "<i5I6Hi", 8: "<i4x5Q6Hi"}
"""``FDINOTIFICATION``: bytes, three texts, the program's value, a file, numbers and the error."""

LONGEST: Final = 1024
"""Bytes of a path."""

Asked = Generator[GuestCall, int, int]


class Failed(Exception):
    """Unpacking has failed, with an error of FDI's."""

    def __init__(self, code: int) -> None:
        super().__init__(str(code))
        self.code = code


@dataclass
class Context:
    """What the program gave to ``FDICreate``: its functions, and where errors are told."""

    open: int
    read: int
    write: int
    close: int
    seek: int
    errors: int


@dataclass
class Contexts:
    """Those of a process, by handle."""

    known: dict[int, Context] = field(default_factory=dict)


def _create(emu: Any, _name: str, argv: list[Any]) -> int:
    handle = int(emu.heap_alloc(0x40, heap="fdi"))
    _, _, opens, reads, writes, closes, seeks, _, errors = argv
    emu.unpacking.known[handle] = Context(opens, reads, writes, closes, seeks, errors)
    return handle


def _destroy(emu: Any, _name: str, argv: list[Any]) -> int:
    return int(emu.unpacking.known.pop(argv[0], None) is not None)


def _signed(emu: Any, value: int) -> int:
    bits = 8 * emu.get_ptr_size()
    return value - (1 << bits) if value >> (bits - 1) & 1 else value


def _is_cabinet(emu: Any, _name: str, argv: list[Any]) -> Steps:
    """``FDIIsCabinet``: what the header of an open file says."""
    context = emu.unpacking.known.get(argv[0])
    if context is None:
        return 0
    buffer = emu.guest_calls.reserve(cabinet.HEADER.size)
    got = (yield GuestCall(context.read, (argv[1], buffer, cabinet.HEADER.size))) & 0xFFFFFFFF
    try:
        header = Header.read(bytes(emu.mem_read(buffer, min(got, cabinet.HEADER.size))))
    except BadCabinet:
        return 0
    flags = header.flags
    numbers = (header.size, header.folders, header.files, header.set_id, header.number)
    around = (bool(flags & cabinet.RESERVE), bool(flags & cabinet.PREVIOUS), bool(flags & cabinet.NEXT))
    emu.mem_write(argv[2], struct.pack("<I4H3I", *numbers, *around))
    return 1


def _copy(emu: Any, _name: str, argv: list[Any]) -> Steps:
    """``FDICopy``: each file that the program wants is written where it opens one."""
    context = emu.unpacking.known.get(argv[0])
    if context is None:
        return 0
    name, folder = (read_string(emu, place, 1, LONGEST) if place else b"" for place in argv[1:3])
    argv[1:3] = name.decode("latin-1"), folder.decode("latin-1")
    try:
        data = yield from _whole(emu, context, folder + name)
        yield from _unpack(emu, context, Cabinet(data), argv[4], argv[6])
    except (Failed, BadCabinet) as error:
        code = error.code if isinstance(error, Failed) else CORRUPT
        if isinstance(error, cabinet.UnknownCompression):
            code = BAD_COMPRESSION
        if context.errors:
            emu.mem_write(context.errors, struct.pack("<III", code, 0, 1))
        return 0
    return 1


def _whole(emu: Any, context: Context, path: bytes) -> Generator[GuestCall, int, bytes]:
    """The cabinet that the program's functions open at *path*. Raises :class:`Failed`."""
    buffer = int(emu.heap_alloc(PORTION, heap="fdi"))
    emu.mem_write(buffer, path + b"\0")
    handle = yield GuestCall(context.open, (buffer, BINARY, 0))
    if _signed(emu, handle) == -1:
        raise Failed(CABINET_NOT_FOUND)
    data, wanted = b"", cabinet.HEADER.size
    while len(data) < wanted:
        size = min(PORTION, wanted - len(data))
        got = (yield GuestCall(context.read, (handle, buffer, size))) & 0xFFFFFFFF
        if not 0 < got <= size:
            break
        data += bytes(emu.mem_read(buffer, got))
        if len(data) == cabinet.HEADER.size:
            wanted = min(Header.read(data).size, MOST)
    yield GuestCall(context.close, (handle,))
    emu.runtime.heap.release(buffer)
    if len(data) < cabinet.HEADER.size:
        raise Failed(NOT_A_CABINET)
    return data


def _unpack(emu: Any, context: Context, of: Cabinet, notify: int, value: int) -> Asked:
    room = struct.calcsize(NOTE[emu.get_ptr_size()])
    place = int(emu.heap_alloc(room + LONGEST, heap="fdi"))
    text = place + room

    def notified(what: int, size: int, name: bytes, file: int, numbers: tuple[int, ...]) -> Asked:
        emu.mem_write(text, name[: LONGEST - 1] + b"\0")
        texts = (text, text + len(name[: LONGEST - 1]), text + len(name[: LONGEST - 1]))
        note = struct.pack(NOTE[emu.get_ptr_size()], size, *texts, value, file, *numbers, 0)
        emu.mem_write(place, note)
        return _signed(emu, (yield GuestCall(notify, (what, place))))

    header = of.header
    if (yield from notified(CABINET_INFO, 0, b"", 0, (0, 0, 0, header.set_id, header.number, 0))) == -1:
        raise Failed(ABORT)
    folders: dict[int, bytes] = {}
    for member in of.members:
        numbers = (member.date, member.time, member.attributes, header.set_id, header.number, member.folder)
        file = yield from notified(COPY_FILE, member.size, member.name, 0, numbers)
        if file == -1:
            raise Failed(ABORT)
        if not file:
            continue
        if member.folder not in folders:
            folders = {member.folder: of.content(member.folder)}
        yield from _written(emu, context, file, member, folders[member.folder])
        run = int(bool(member.attributes & EXECUTE))
        if (yield from notified(CLOSE_FILE, run, member.name, file, numbers)) != 1:
            raise Failed(TARGET)
    emu.runtime.heap.release(place)
    return 1


def _written(emu: Any, context: Context, file: int, member: Member, folder: bytes) -> Asked:
    """Have the program write a file. Raises :class:`Failed`."""
    data = folder[member.place : member.place + member.size]
    if len(data) != member.size:
        raise Failed(CORRUPT)
    buffer = int(emu.heap_alloc(PORTION, heap="fdi"))
    for place in range(0, len(data), PORTION):
        part = data[place : place + PORTION]
        emu.mem_write(buffer, part)
        done = yield GuestCall(context.write, (file, buffer, len(part)))
        if done & 0xFFFFFFFF != len(part):
            raise Failed(TARGET)
    emu.runtime.heap.release(buffer)
    return len(data)


APIS = {
    "FDICreate": Api(words=9, answer=_create, cdecl=True),
    "FDIIsCabinet": Api(words=3, answer=_is_cabinet, cdecl=True),
    "FDICopy": Api(words=7, answer=_copy, cdecl=True),
    "FDIDestroy": Api(words=1, answer=_destroy, cdecl=True),
}
