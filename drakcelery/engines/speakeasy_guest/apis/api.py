"""Functions of ours: what Speakeasy 1.5 lacks, or answers so that programs stop or their doings stay unseen.

The functions themselves are in the modules beside this one; :mod:`table` lists them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from drakcelery.engines.speakeasy_guest.calling.guest_calls import Steps
from drakcelery.engines.speakeasy_guest.machine.ansi import ANSI

MAX_TEXT = 32 * 1024
"""Bytes of one string read from the guest."""

MAX_DATA = 4 * 1024 * 1024
"""Bytes of one buffer read from the guest."""

PAGE = 0x1000

Answer = Callable[[Any, str, list[Any]], int | Steps]
"""Takes the emulator, the function's name and its arguments (text may replace addresses), gives a value.

One that calls the program's functions, or waits, gives a generator: see :mod:`guest_calls`."""


@dataclass(frozen=True, kw_only=True)
class Api:
    """A function of ours: how many arguments it takes and what answers it."""

    words: int
    answer: Answer
    cdecl: bool = False


def constant(value: int) -> Callable[[Any, str, list[Any]], int]:
    """The answer of a function that says the same to everybody."""
    return lambda _emu, _name, _argv: value


def read_text(emu: Any, address: int, *, wide: bool) -> str:
    """A string of the guest up to its zero, :data:`MAX_TEXT` bytes at most. Raises for bad memory."""
    data = b""
    width = 2 if wide else 1
    while len(data) < MAX_TEXT:
        piece = emu.mem_read(address, PAGE - address % PAGE)
        data += piece
        address += len(piece)
        end = _end_of_text(data, width)
        if end is not None:
            data = data[:end]
            break
    return data.decode("utf-16-le" if wide else ANSI, "replace")


def _end_of_text(data: bytes, width: int) -> int | None:
    end = data.find(b"\0" * width)
    while end % width and end >= 0:
        end = data.find(b"\0" * width, end + 1)
    return None if end < 0 else end


def read_counted(emu: Any, address: int) -> str:
    """The text of a ``UNICODE_STRING``."""
    length = int.from_bytes(emu.mem_read(address, 2), "little")
    buffer = emu.read_ptr(address + emu.get_ptr_size())
    return bytes(emu.mem_read(buffer, length)).decode("utf-16-le", "replace") if length and buffer else ""


def text_argument(emu: Any, name: str, argv: list[Any], number: int) -> str:
    """The string that argument *number* points to, which also takes its place in the log."""
    if not argv[number]:
        return ""
    argv[number] = read_text(emu, argv[number], wide=name.endswith("W"))
    return str(argv[number])


def put(emu: Any, address: int, value: int, size: int) -> None:
    """Write a number to the guest; nothing where *address* is NULL."""
    if address:
        emu.mem_write(address, value.to_bytes(size, "little"))
