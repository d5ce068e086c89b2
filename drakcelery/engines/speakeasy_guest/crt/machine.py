"""Memory and registers of the emulated program, as the C runtime uses them."""

from __future__ import annotations

import struct
from typing import Any

from unicorn.x86_const import UC_X86_REG_XMM0  # type: ignore[import-untyped]  # without types

from drakcelery.engines.speakeasy_guest.machine.ansi import ANSI

PAGE = 0x1000
MAX_STRING = 4 * 1024 * 1024
"""Bytes of one string that are looked at; a longer one ends there."""

MAX_BLOCK = 512 * 1024 * 1024
"""Bytes that one call may copy, fill or compare."""

CHUNK = 1024 * 1024


def from_units(data: bytes, width: int) -> str:
    """Text with one character for each code unit: Latin-1, or UTF-16 with its surrogates as they are."""
    if width == 1:
        return data.decode("latin-1")
    data = data[: len(data) & ~1]
    text = data.decode("utf-16-le", "surrogatepass") if _is_plain(data) else None
    if text is not None and len(text) * 2 == len(data):
        return text
    return "".join(map(chr, struct.unpack(f"<{len(data) // 2}H", data)))


def _is_plain(data: bytes) -> bool:
    return not any(0xD8 <= high <= 0xDF for high in data[1::2])


def to_units(text: str, width: int) -> bytes:
    """The reverse of :func:`from_units`; what has no narrow form becomes ``?``."""
    if width == 1:
        return text.encode("latin-1", "replace")
    return text.encode("utf-16-le", "surrogatepass")


def named(name: str, width: int) -> bytes:
    """The name of a file or variable as the program gets it."""
    return name.encode(ANSI, "replace") if width == 1 else to_units(name, width)


class Machine:
    """One emulated processor and its memory."""

    def __init__(self, emu: Any) -> None:
        self.emu = emu
        self.size: int = emu.get_ptr_size()
        """Bytes of a pointer."""
        self.is_64 = self.size == 8
        self.mask = (1 << (8 * self.size)) - 1
        self.unicorn = emu.emu_eng.emu

    # Memory. All of these raise Unicorn's error where nothing is mapped.

    def read(self, address: int, size: int) -> bytes:
        """Bytes; raises ValueError for more than :data:`MAX_BLOCK`."""
        if size > MAX_BLOCK:
            raise ValueError(f"{size} bytes are too many")
        return bytes(self.emu.mem_read(address, size)) if size else b""

    def write(self, address: int, data: bytes) -> None:
        """Put bytes."""
        if data:
            self.emu.mem_write(address, data)

    def fill(self, address: int, unit: bytes, count: int) -> None:
        """Put *unit* *count* times."""
        if count * len(unit) > MAX_BLOCK:
            raise ValueError(f"{count} are too many")
        step = CHUNK // len(unit)
        whole = unit * min(step, count)
        for start in range(0, count, step):
            number = min(step, count - start)
            self.write(address + start * len(unit), whole[: number * len(unit)])

    def number(self, address: int, size: int = 0, *, signed: bool = False) -> int:
        """A little-endian number; of a pointer's size by default."""
        return int.from_bytes(self.read(address, size or self.size), "little", signed=signed)

    def put(self, address: int, value: int, size: int = 0) -> None:
        """Write a number; nothing where *address* is NULL."""
        if address:
            size = size or self.size
            self.write(address, (value & ((1 << (8 * size)) - 1)).to_bytes(size, "little"))

    def string(self, address: int, width: int = 1, limit: int = MAX_STRING) -> bytes:
        """The bytes up to a zero of *width* bytes, *limit* units at most."""
        data = bytearray()
        limit = min(limit * width, MAX_STRING)
        while len(data) < limit:
            size = min(PAGE - address % PAGE, limit - len(data)) or width
            start = max(len(data) - width + 1, 0)
            data += self.read(address, size)
            address += size
            end = _zero(data, width, start - start % width)
            if end is not None:
                return bytes(data[:end])
        return bytes(data[:limit])

    def text(self, address: int, width: int = 1, limit: int = MAX_STRING) -> str:
        """A string as text; empty for NULL."""
        return from_units(self.string(address, width, limit), width) if address else ""

    def name(self, address: int, width: int = 1) -> str:
        """A string as the name of a file or variable, which Windows' other functions know too."""
        data = self.string(address, width) if address else b""
        return data.decode(ANSI) if width == 1 else from_units(data, width)

    def put_name(self, address: int, text: str, width: int = 1) -> None:
        """A name with its zero."""
        self.write(address, named(text, width) + bytes(width))

    def put_text(self, address: int, text: str, width: int = 1) -> None:
        """A string with its zero."""
        self.write(address, to_units(text, width) + bytes(width))

    def allocate(self, size: int, tag: str) -> int:
        """Fresh memory. Raises MemoryError when the program has all it may have."""
        return int(self.emu.mem_map(max(size, 1), base=None, tag=tag))

    # Registers, by Speakeasy's names.

    def register(self, name: str) -> int:
        """A register's value."""
        return int(self.emu.reg_read(name))

    def set_register(self, name: str, value: int) -> None:
        """Set a register."""
        self.emu.reg_write(name, value & self.mask)

    @property
    def stack(self) -> int:
        """The stack pointer."""
        return int(self.emu.get_stack_ptr())

    @stack.setter
    def stack(self, value: int) -> None:
        self.emu.set_stack_ptr(value & self.mask)

    def jump(self, address: int) -> None:
        """Go on there."""
        self.emu.set_pc(address & self.mask)

    def xmm(self, number: int) -> int:
        """An SSE register's 128 bits."""
        return int(self.unicorn.reg_read(UC_X86_REG_XMM0 + number))

    def set_xmm(self, number: int, value: int) -> None:
        """Set an SSE register."""
        self.unicorn.reg_write(UC_X86_REG_XMM0 + number, value)


def _zero(data: bytearray, width: int, start: int) -> int | None:
    if width == 1:
        end = data.find(0, start)
        return None if end < 0 else end
    end = data.find(b"\0\0", start)
    while end % 2 and end >= 0:
        end = data.find(b"\0\0", end + 1)
    return None if end < 0 else end
