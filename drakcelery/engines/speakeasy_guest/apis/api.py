"""Functions of ours: what Speakeasy 1.5 lacks, or answers so that programs stop or their doings stay unseen.

The functions themselves are in the modules beside this one; :mod:`table` lists them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Container
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
    data = read_string(emu, address, 2 if wide else 1, MAX_TEXT)
    return data.decode("utf-16-le" if wide else ANSI, "replace")


def read_string(emu: Any, address: int, width: int, limit: int) -> bytes:
    """Characters of *width* bytes up to the zero, *limit* bytes at most. Raises for bad memory."""
    data = bytearray()
    while len(data) < limit:
        size = min(PAGE - address % PAGE, limit - len(data))
        known = max(len(data) - width + 1, 0)
        data += emu.mem_read(address, size)
        address += size
        end = _end_of_text(data, width, known)
        if end is not None:
            return bytes(data[:end])
    return bytes(data)


def _end_of_text(data: bytearray, width: int, start: int) -> int | None:
    """Where the zero is, from *start* on, that ends a string of characters of *width* bytes."""
    end = data.find(bytes(width), start)
    while end % width and end >= 0:
        end = data.find(bytes(width), end + 1)
    return None if end < 0 else end


def read_pages(emu: Any, address: int, size: int) -> bytes:
    """*size* bytes of the guest, or what there is of them before memory ends."""
    data = bytearray()
    while len(data) < size:
        try:
            data += emu.mem_read(
                address + len(data), min(PAGE - (address + len(data)) % PAGE, size - len(data))
            )
        except Exception:  # noqa: BLE001  # Unicorn's error: there is no more
            break
    return bytes(data)


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


def free_handle(taken: Container[int], first: int) -> int:
    """The first handle from *first* on that is nobody's: as on Windows, one that was closed comes again."""
    return next(handle for handle in itertools.count(first, 4) if handle not in taken)


def put(emu: Any, address: int, value: int, size: int) -> None:
    """Write a number to the guest; nothing where *address* is NULL."""
    if address:
        emu.mem_write(address, value.to_bytes(size, "little"))
