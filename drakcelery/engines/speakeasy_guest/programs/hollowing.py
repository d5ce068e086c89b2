"""Processes that the sample starts suspended, and whose program it puts another one in the place of.

All processes share one memory here. What the sample writes into a suspended process at an address that its
own process uses is therefore kept beside that memory. When the first thread is resumed, an image of a program
that was written there becomes a file again, and is emulated as that process' program.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import PAGE
from drakcelery.engines.speakeasy_guest.machine import memory
from drakcelery.engines.speakeasy_guest.programs.images import as_file, bits_of

MAX_BYTES: Final = 64 * 1024 * 1024
"""Bytes that are kept of all such processes."""

IMAGE_BASE: Final = {4: 0x400000, 8: 0x140000000}
ENTRY: Final = 0x1000
BLOCK: Final = 0x7FFD3000
"""Address of the process environment block of such a process, where Speakeasy has none."""

IMAGE_IN_BLOCK: Final = {4: 0x8, 8: 0x10}
HEADER: Final = 0x80


@dataclass
class Region:
    """Memory of a suspended process that is kept beside the common one."""

    base: int
    data: bytearray
    written: bool = False

    def has(self, address: int, size: int) -> bool:
        """Whether the bytes are all in here."""
        return self.base <= address and address + size <= self.base + len(self.data)


@dataclass
class Suspended:
    """A process whose first thread has not run."""

    process: Any
    block: int
    """Where its process environment block is."""
    regions: list[Region]
    shared: list[tuple[int, int]] = field(default_factory=list)
    """Base and size of what was allocated for it in the common memory."""
    entry: int = 0
    """Where its first thread was told to begin."""

    def region(self, address: int, size: int) -> Region | None:
        """The one with these bytes."""
        return next((one for one in self.regions if one.has(address, size)), None)


class Hollows:
    """The suspended processes of a run."""

    def __init__(self, emu: Any) -> None:
        self._emu = emu
        self._known: dict[int, Suspended] = {}
        self._left = MAX_BYTES

    def begin(self, process: Any) -> None:
        """A process was started suspended: it has the headers of a program, and a block that says where."""
        size = self._emu.get_ptr_size()
        block = bytearray(PAGE)
        base = IMAGE_BASE[size]
        place = process.get_peb().address or BLOCK
        where = IMAGE_IN_BLOCK[size]
        block[where : where + size] = base.to_bytes(size, "little")
        regions = [Region(place, block), Region(base, _headers(base, size))]
        self._known[process.get_id()] = Suspended(process, place, regions, entry=base + ENTRY)

    def of(self, handle: int) -> Suspended | None:
        """The one behind the handle of a process, or of its first thread."""
        found = self._emu.get_object_from_handle(handle)
        for one in self._known.values():
            if found is not None and found in (one.process, one.process.threads[0]):
                return one
        return None

    def allocate(self, one: Suspended, address: int, size: int) -> int:
        """Memory at an address that is in use in the sample's own process; 0 where it is not, or too much."""
        base = address // PAGE * PAGE
        end = -(-(address + size) // PAGE) * PAGE
        taken = any(start < end and base < stop for start, stop in memory.taken(self._emu))
        if not address or not taken or end - base > self._left:
            return 0
        self._left -= end - base
        one.regions[:] = [other for other in one.regions if not base <= other.base < end]
        one.regions.append(Region(base, bytearray(end - base)))
        return base

    def write(self, one: Suspended, address: int, data: bytes) -> bool:
        """Put bytes into such memory; False where there is none."""
        region = one.region(address, len(data))
        if region is None:
            return False
        region.data[address - region.base : address - region.base + len(data)] = data
        region.written = True
        return True

    def unmap(self, one: Suspended, address: int) -> None:
        """The program that was there is gone."""
        one.regions[:] = [region for region in one.regions if region.base != address]

    def resumed(self, thread: Any) -> None:
        """The first thread runs: what was put in the place of the program is emulated after the sample."""
        one = next((each for each in self._known.values() if thread is each.process.threads[0]), None)
        if one is None:
            return
        del self._known[one.process.get_id()]
        self._left += sum(len(region.data) for region in one.regions)
        for base, data in self._written(one):
            if bits_of(data) and (file := as_file(data, base, one.entry)):
                self._emu.replace_program(one.process, file)
                return

    def _written(self, one: Suspended) -> list[tuple[int, bytes]]:
        kept = [(region.base, bytes(region.data)) for region in one.regions if region.written]
        return kept + [
            (base, bytes(self._emu.mem_read(base, min(size, MAX_BYTES))))
            for base, size in one.shared
            if self._emu.get_address_map(base) is not None
        ]


def _headers(base: int, size: int) -> bytearray:
    """The headers of a small program at *base*, for those who look before they replace it."""
    wide = size == 8
    data = bytearray(PAGE)
    data[:2] = b"MZ"
    struct.pack_into("<I", data, 0x3C, HEADER)
    machine, length, magic = (0x8664, 0xF0, 0x20B) if wide else (0x14C, 0xE0, 0x10B)
    struct.pack_into("<4sHHIIIHHH", data, HEADER, b"PE\0\0", machine, 0, 0, 0, 0, length, 0x22, magic)
    optional = HEADER + 24
    struct.pack_into("<I", data, optional + 16, ENTRY)
    struct.pack_into("<Q" if wide else "<I", data, optional + (24 if wide else 28), base)
    struct.pack_into("<II", data, optional + 32, PAGE, 0x200)
    struct.pack_into("<II", data, optional + 56, 0x10000, PAGE)
    return data
