"""What a Windows program file says about itself: its kind, and its exports."""

from __future__ import annotations

from typing import Any


def bits_of(program: bytes) -> int:
    """32 or 64 for a Windows EXE of that kind, 0 for anything else."""
    header = int.from_bytes(program[0x3C:0x40], "little")
    if program[:2] != b"MZ" or program[header : header + 4] != b"PE\0\0":
        return 0
    return {0x14C: 32, 0x8664: 64}.get(int.from_bytes(program[header + 4 : header + 6], "little"), 0)


def is_export(item: Any, wanted: str) -> bool:
    """Whether pefile's *item* is the export *wanted*: a name, or ``#`` and a number."""
    if wanted.startswith("#") and wanted[1:].isdigit():
        return bool(item.ordinal == int(wanted[1:]))
    name = item.name.decode("latin-1") if isinstance(item.name, bytes) else item.name
    return name in (wanted, f"{wanted}W", f"{wanted}A")
