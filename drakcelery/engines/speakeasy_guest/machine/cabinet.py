"""Cabinets, as Microsoft's *Cabinet Format* has them: what is in one, and the bytes of its folders.

Folders without compression and with MSZIP are unpacked; those with Quantum or LZX are not.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

SIGNATURE: Final = b"MSCF"
HEADER: Final = struct.Struct("<4s4xI4xI4xBBHHHHH")
FOLDER: Final = struct.Struct("<IHH")
FILE: Final = struct.Struct("<IIHHHH")
BLOCK: Final = struct.Struct("<4xHH")
PREVIOUS, NEXT, RESERVE = 0x1, 0x2, 0x4
"""Flags of a cabinet: parts of it are in another one; it has reserved room."""

STORED, MSZIP = 0, 1
WINDOW: Final = 32 * 1024
MOST: Final = 256 * 1024 * 1024
"""Bytes of a folder that are unpacked."""

ACROSS: Final = 0xFFFD
"""Numbers of folders from here on stand for one that goes on in another cabinet."""

NAME_IS_UTF: Final = 0x80
"""``_A_NAME_IS_UTF``."""


class BadCabinet(Exception):
    """What is no cabinet, is broken, or needs what we lack."""


class UnknownCompression(BadCabinet):
    """A folder is compressed as we do not know."""


@dataclass(frozen=True, kw_only=True)
class Folder:
    """Data that several files share."""

    place: int
    blocks: int
    compression: int


@dataclass(frozen=True, kw_only=True)
class Member:
    """A file in a cabinet."""

    name: bytes
    size: int
    place: int
    """Where it begins in its folder's data."""
    folder: int
    date: int
    time: int
    attributes: int


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a cabinet says of itself."""

    size: int
    files_at: int
    folders: int
    files: int
    flags: int
    set_id: int
    number: int

    @classmethod
    def read(cls, data: bytes) -> Header:
        """From the first :data:`HEADER` bytes. Raises :class:`BadCabinet`."""
        if len(data) < HEADER.size or data[:4] != SIGNATURE:
            raise BadCabinet("no cabinet")
        _, size, files_at, _, _, folders, files, flags, set_id, number = HEADER.unpack_from(data)
        return cls(
            size=size,
            files_at=files_at,
            folders=folders,
            files=files,
            flags=flags,
            set_id=set_id,
            number=number,
        )


class Cabinet:
    """One cabinet. Raises :class:`BadCabinet` where it cannot be read."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.header = Header.read(data)
        try:
            self._read()
        except struct.error as error:
            raise BadCabinet(str(error)) from None

    def _read(self) -> None:
        place, room, self._block_room = HEADER.size, 0, 0
        if self.header.flags & RESERVE:
            header_room, room, self._block_room = struct.unpack_from("<HBB", self._data, place)
            place += 4 + header_room
        for flag in (PREVIOUS, NEXT):
            for _ in range(2 if self.header.flags & flag else 0):
                place = self._data.index(0, place) + 1 if 0 in self._data[place:] else len(self._data)
        self._folders: list[Folder] = []
        for _ in range(self.header.folders):
            at, blocks, compression = FOLDER.unpack_from(self._data, place)
            self._folders.append(Folder(place=at, blocks=blocks, compression=compression & 0xF))
            place += FOLDER.size + room
        self.members = list(self._files())

    def _files(self) -> Iterator[Member]:
        place = self.header.files_at
        for _ in range(self.header.files):
            size, at, folder, date, time, attributes = FILE.unpack_from(self._data, place)
            end = self._data.find(b"\0", place + FILE.size)
            if end < 0:
                raise BadCabinet("a name without an end")
            name = self._data[place + FILE.size : end]
            yield Member(
                name=name, size=size, place=at, folder=folder, date=date, time=time, attributes=attributes
            )
            place = end + 1

    def content(self, number: int) -> bytes:
        """The data of a folder. Raises :class:`BadCabinet`."""
        if number >= len(self._folders):
            raise BadCabinet("a folder that goes on in another cabinet")
        folder = self._folders[number]
        if folder.compression not in (STORED, MSZIP):
            raise UnknownCompression(f"compression {folder.compression}")
        out, place = bytearray(), folder.place
        for _ in range(folder.blocks):
            if place + BLOCK.size > len(self._data) or len(out) > MOST:
                raise BadCabinet("a block beyond the end")
            packed, size = BLOCK.unpack_from(self._data, place)
            place += BLOCK.size + self._block_room
            block = self._data[place : place + packed]
            place += packed
            out += block if folder.compression == STORED else _inflated(block, bytes(out[-WINDOW:]), size)
        return bytes(out)


def _inflated(block: bytes, before: bytes, size: int) -> bytes:
    """A block of MSZIP, which may repeat what is in the one *before*."""
    if block[:2] != b"CK":
        raise BadCabinet("no block of MSZIP")
    try:
        unpacked = zlib.decompressobj(-zlib.MAX_WBITS, zdict=before).decompress(block[2:], size)
    except zlib.error as error:
        raise BadCabinet(str(error)) from None
    if len(unpacked) != size:
        raise BadCabinet("a block that is too short")
    return unpacked
