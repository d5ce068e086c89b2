"""Cabinets for the tests, as Microsoft's *Cabinet Format* has them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

BLOCK = 32 * 1024


def cabinet(files: Mapping[str, bytes], compression: int, *, room: int = 0) -> bytes:
    """One folder with *files*, stored (0) or by MSZIP (1), with *room* reserved bytes in each part."""
    data = b"".join(files.values())
    parts = [data[place : place + BLOCK] for place in range(0, len(data), BLOCK)]
    blocks = b""
    for number, part in enumerate(parts):
        packed = _packed(part, parts[number - 1] if number else b"") if compression else part
        blocks += struct.pack("<IHH", 0, len(packed), len(part)) + bytes(room) + packed
    entries, place = b"", 0
    for name, content in files.items():
        entries += (
            struct.pack("<IIHHHH", len(content), place, 0, 0x5C21, 0x4000, 0x20) + name.encode() + b"\0"
        )
        place += len(content)
    reserve = struct.pack("<HBB", room, room, room) + bytes(room) if room else b""
    files_at = 36 + len(reserve) + 8 + room
    size = files_at + len(entries) + len(blocks)
    folder = struct.pack("<IHH", files_at + len(entries), len(parts), compression) + bytes(room)
    flags = 4 if room else 0
    head = struct.pack("<4s4xI4xI4xBBHHHHH", b"MSCF", size, files_at, 3, 1, 1, len(files), flags, 7, 0)
    return head + reserve + folder + entries + blocks


def _packed(part: bytes, before: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15, zdict=before) if before else zlib.compressobj(wbits=-15)
    return b"CK" + packer.compress(part) + packer.flush()
