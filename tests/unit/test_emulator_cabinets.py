"""Cabinets: what is read of them, and what is no cabinet."""

from __future__ import annotations

import struct

import pytest

from drakcelery.engines.speakeasy_guest.machine.cabinet import (
    HEADER,
    MSZIP,
    STORED,
    BadCabinet,
    Cabinet,
    UnknownCompression,
)
from tests.cabinets import cabinet

FILES = {"readme.txt": b"read me", "bin\\payload.exe": b"MZ" + bytes(range(256)) * 300}


@pytest.mark.parametrize("compression", [STORED, MSZIP])
@pytest.mark.parametrize("room", [0, 12])
def test_what_is_packed_is_unpacked(compression: int, room: int) -> None:
    """Blocks follow one another, and each may repeat what is in the one before; reserved room is skipped."""
    read = Cabinet(cabinet(FILES, compression, room=room))
    data = read.content(0)
    found = {member.name.decode(): data[member.place : member.place + member.size] for member in read.members}
    assert found == FILES


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (b"MSCF", "no cabinet"),
        (b"PK".ljust(64), "no cabinet"),
        (cabinet(FILES, MSZIP)[: HEADER.size + 20], "unpack_from|without an end"),
        (cabinet(FILES, MSZIP).replace(b"CK", b"CK\xff"), "invalid"),
        (cabinet(FILES, STORED)[:120], "beyond the end"),
        (cabinet(FILES, MSZIP).replace(b"CK", b"XX"), "no block of MSZIP"),
    ],
)
def test_a_broken_one_is_refused(broken: bytes, why: str) -> None:
    """Whatever is cut off or is nothing that we know."""
    with pytest.raises(BadCabinet, match=why):
        Cabinet(broken).content(0)


def test_a_compression_that_is_not_known() -> None:
    """LZX is told apart from what is broken; a folder that is not there is in another cabinet."""
    packed = bytearray(cabinet(FILES, STORED))
    struct.pack_into("<H", packed, HEADER.size + 6, 0x1503)
    with pytest.raises(UnknownCompression):
        Cabinet(bytes(packed)).content(0)
    with pytest.raises(BadCabinet, match="another cabinet"):
        Cabinet(bytes(packed)).content(0xFFFD)
