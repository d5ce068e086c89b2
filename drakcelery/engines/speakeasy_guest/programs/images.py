"""What a Windows program file says about itself: its kind, its sections and its exports."""

from __future__ import annotations

from typing import Any, Final

SECTOR: Final = 0x200
"""Windows maps sections from files in these."""

PAGE: Final = 0x1000
SECTION_SIZE: Final = 40
"""Bytes of an ``IMAGE_SECTION_HEADER``."""


def bits_of(program: bytes) -> int:
    """32 or 64 for a Windows EXE of that kind, 0 for anything else."""
    header = int.from_bytes(program[0x3C:0x40], "little")
    if program[:2] != b"MZ" or program[header : header + 4] != b"PE\0\0":
        return 0
    return {0x14C: 32, 0x8664: 64}.get(int.from_bytes(program[header + 4 : header + 6], "little"), 0)


def section_table(program: bytes) -> slice:
    """Where the headers of the sections are in the file; empty for what is no Windows program."""
    if not bits_of(program):
        return slice(0, 0)
    header = int.from_bytes(program[0x3C:0x40], "little")
    count = int.from_bytes(program[header + 6 : header + 8], "little")
    table = header + 24 + int.from_bytes(program[header + 20 : header + 22], "little")
    there = max(len(program) - table, 0) // SECTION_SIZE
    return slice(table, table + min(count, there) * SECTION_SIZE)


def in_whole_sectors(program: bytes) -> bytes:
    """The program with the sizes of its sections in the file rounded up, as Windows maps them.

    Programs by Upack have their import directory in what only this brings in.
    """
    changed = bytearray(program)
    table = section_table(program)
    for place in range(table.start, table.stop, SECTION_SIZE):
        size, start = (int.from_bytes(program[at : at + 4], "little") for at in (place + 16, place + 20))
        rounded = min(-(-size // SECTOR) * SECTOR, len(program) - start // SECTOR * SECTOR)
        if size < rounded:
            changed[place + 16 : place + 20] = rounded.to_bytes(4, "little")
    return bytes(changed)


def is_export(item: Any, wanted: str) -> bool:
    """Whether pefile's *item* is the export *wanted*: a name, or ``#`` and a number."""
    if wanted.startswith("#") and wanted[1:].isdigit():
        return bool(item.ordinal == int(wanted[1:]))
    name = item.name.decode("latin-1") if isinstance(item.name, bytes) else item.name
    return name in (wanted, f"{wanted}W", f"{wanted}A")


def as_file(image: bytes, base: int, entry: int) -> bytes:
    """A program as a file again, from its *image* in memory at *base*; empty for what is too short.

    Each section lies in the file where it is in memory. *entry*: an address to begin at, if it is in there.
    """
    table = section_table(image)
    header = int.from_bytes(image[0x3C:0x40], "little")
    optional = header + 24
    if table.start >= table.stop or len(image) < PAGE:
        return b""
    file = bytearray(image)
    wide = image[optional : optional + 2] == b"\x0b\x02"
    place, size = (optional + 24, 8) if wide else (optional + 28, 4)
    file[place : place + size] = (base & ((1 << 8 * size) - 1)).to_bytes(size, "little")
    if base < entry < base + len(image):
        file[optional + 16 : optional + 20] = (entry - base).to_bytes(4, "little")
    file[optional + 36 : optional + 40] = file[optional + 32 : optional + 36]  # the alignment in the file
    for at in range(table.start, table.stop, SECTION_SIZE):
        length, start, raw = (
            int.from_bytes(image[at + part : at + part + 4], "little") for part in (8, 12, 16)
        )
        there = max(min(length or raw, len(image) - start), 0)
        file[at + 16 : at + 24] = there.to_bytes(4, "little") + start.to_bytes(4, "little")
    return bytes(file)
