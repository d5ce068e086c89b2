"""A zip writer that deflates on several threads; the standard library's uses zlib, on one thread.

Format: PKWARE's APPNOTE.TXT 6.3.3, with zip64 if a size or an offset needs it. It is written from start to
end, so that it can be hashed, or sent, on the way: a member of more than one block has its sizes in a data
descriptor behind it. All members carry the same time, so that equal input gives equal bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import Protocol

from drakcelery.artifacts.deflate import Block, Deflater, Source

_VERSION = 20
_VERSION_ZIP64 = 45
_MADE_BY_UNIX = 3 << 8
_UTF8 = 1 << 11
_DESCRIPTOR = 1 << 3
_STORED, _DEFLATED = 0, 8
_DATE_1980 = (1 << 5) | 1
_FILE_MODE = 0o100644 << 16
_FOLDER_MODE = (0o40755 << 16) | 0x10
_MAX_16 = 0xFFFF
_MAX_32 = 0xFFFFFFFF
_ZIP64_FROM = _MAX_32 - (_MAX_32 >> 8)
"""Members of at least this size get zip64 headers, since data that cannot be deflated grows a little."""


class Target(Protocol):
    """Where a zip goes."""

    def write(self, data: bytes, /) -> int:
        """Append *data*."""

    def tell(self) -> int:
        """Where it will be."""


@dataclass(frozen=True, kw_only=True)
class _Member:
    name: bytes
    method: int
    mode: int
    offset: int
    zip64: bool = False
    streamed: bool = False
    """Its sizes are not known when its header is written."""
    crc: int = 0
    packed: int = 0
    size: int = 0

    def local_header(self) -> bytes:
        extra = struct.pack("<HHQQ", 1, 16, self.size, self.packed) if self.zip64 else b""
        sizes = (_MAX_32, _MAX_32) if self.zip64 else (self.packed, self.size)
        fixed = (self.method, 0, _DATE_1980, self.crc, *sizes, len(self.name), len(extra))
        version = _VERSION_ZIP64 if self.zip64 else _VERSION
        return struct.pack("<4sHHHHHIIIHH", b"PK\3\4", version, self._flags(), *fixed) + self.name + extra

    def descriptor(self) -> bytes:
        sizes = "QQ" if self.zip64 else "II"
        return struct.pack(f"<4sI{sizes}", b"PK\7\b", self.crc, self.packed, self.size)

    def _flags(self) -> int:
        return _UTF8 | (_DESCRIPTOR if self.streamed else 0)

    def central_header(self) -> bytes:
        large = [self.size, self.packed] if self.zip64 else []
        sizes = (_MAX_32, _MAX_32) if self.zip64 else (self.packed, self.size)
        offset = self.offset
        if offset >= _MAX_32:
            large.append(offset)
            offset = _MAX_32
        extra = struct.pack(f"<HH{len(large)}Q", 1, 8 * len(large), *large) if large else b""
        version = _VERSION_ZIP64 if large else _VERSION
        fixed = (self.method, 0, _DATE_1980, self.crc, *sizes, len(self.name), len(extra), 0, 0, 0)
        head = (b"PK\1\2", _MADE_BY_UNIX | version, version, self._flags(), *fixed, self.mode, offset)
        return struct.pack("<4sHHHHHHIIIHHHHHII", *head) + self.name + extra


class ZipWriter:
    """Writes a zip to *target*, which stays the caller's: a context; call :meth:`finish` last."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._position = target.tell()
        self._members: list[_Member] = []
        self._data_start = 0
        self._deflater = Deflater(self._write_block)

    def __enter__(self) -> ZipWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._deflater.__exit__()

    def add_folder(self, name: str) -> None:
        """Add an empty folder; *name* ends with a slash."""
        self._deflater.drain()
        member = _Member(name=name.encode(), method=_STORED, mode=_FOLDER_MODE, offset=self._position)
        self._write(member.local_header())
        self._members.append(member)

    def add(self, name: str, source: Source, limit: int) -> int:
        """Add the first *limit* bytes of *source*, which is read here; returns how many there were."""
        return self._deflater.add(name, source, limit)

    def _write_block(self, block: Block) -> None:
        if block.first:
            member = _Member(
                name=block.name.encode(),
                method=_DEFLATED,
                mode=_FILE_MODE,
                offset=self._position,
                zip64=block.limit >= _ZIP64_FROM,
                streamed=not block.last,
            )
            if block.last:
                member = replace(member, crc=block.crc, packed=len(block.packed), size=block.size)
            self._write(member.local_header())
            self._members.append(member)
            self._data_start = self._position
        self._write(block.packed)
        if block.last and not block.first:
            packed = self._position - self._data_start
            member = replace(self._members[-1], crc=block.crc, packed=packed, size=block.size)
            self._write(member.descriptor())
            self._members[-1] = member

    def finish(self) -> None:
        """Write what is still on its way, and the central directory."""
        self._deflater.drain()
        start = self._position
        for member in self._members:
            self._write(member.central_header())
        size, count = self._position - start, len(self._members)
        if count >= _MAX_16 or start >= _MAX_32 or size >= _MAX_32:
            made_by = _MADE_BY_UNIX | _VERSION_ZIP64
            record = (b"PK\6\6", 44, made_by, _VERSION_ZIP64, 0, 0, count, count, size, start)
            self._write(struct.pack("<4sQHHIIQQQQ", *record))
            self._write(struct.pack("<4sIQI", b"PK\6\7", 0, start + size, 1))
        count = min(count, _MAX_16)
        end = (b"PK\5\6", 0, 0, count, count, min(size, _MAX_32), min(start, _MAX_32), 0)
        self._write(struct.pack("<4sHHHHIIH", *end))

    def _write(self, data: bytes) -> None:
        self._target.write(data)
        self._position += len(data)
