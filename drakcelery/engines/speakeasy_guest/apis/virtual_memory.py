"""Memory that programs reserve and commit: ``VirtualAlloc``, ``VirtualFree``, ``VirtualQuery``.

What is reserved is an address range only; what is committed is there. Go reserves 600 MiB of address space.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from speakeasy.winenv.defs.windows import windows as windefs

from drakcelery.engines.speakeasy_guest.apis.api import PAGE, Api
from drakcelery.engines.speakeasy_guest.apis.machine import GRANULARITY, HIGHEST
from drakcelery.engines.speakeasy_guest.apis.protection import (
    GUARD,
    NOACCESS,
    PERMISSIONS,
    extent,
    protect,
    protection_at,
)
from drakcelery.engines.speakeasy_guest.machine import memory

COMMIT, RESERVE, DECOMMIT, RELEASE = 0x1000, 0x2000, 0x4000, 0x8000
FREE, PRIVATE = 0x10000, 0x20000
KNOWN_PROTECTIONS: Final = (0x1, 0x2, 0x4, 0x8, 0x10, 0x20, 0x40, 0x80)
ERROR_NOT_ENOUGH_MEMORY, ERROR_INVALID_PARAMETER, ERROR_INVALID_ADDRESS = 8, 87, 487
TAG: Final = "api.VirtualAlloc"


@dataclass(frozen=True)
class Allocation:
    """What one call reserved."""

    base: int
    size: int
    protection: int

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.base + self.size


@dataclass
class Allocations:
    """What programs have reserved; its address ranges are nobody else's."""

    known: dict[int, Allocation] = field(default_factory=dict)
    filling: Allocation | None = None
    """The one in which pages are being committed."""

    def find(self, address: int) -> Allocation | None:
        """The one with *address* in it."""
        return next((one for one in self.known.values() if one.base <= address < one.end), None)

    def taken(self) -> list[tuple[int, int]]:
        """Start and end of each."""
        return [(one.base, one.end) for one in self.known.values() if one is not self.filling]


def _fail(emu: Any, code: int) -> int:
    emu.set_last_error(code)
    return 0


def _alloc(emu: Any, _name: str, argv: list[Any]) -> int:
    address, size, kind, protection = argv[0], argv[1], argv[2], argv[3] & 0xFF
    if not size or protection not in KNOWN_PROTECTIONS:
        return _fail(emu, ERROR_INVALID_PARAMETER)
    if kind & (COMMIT | RESERVE) == 0:
        return int(address)  # MEM_RESET and the like
    guarded = (protection | GUARD) if argv[3] & GUARD else 0
    argv[3] = "|".join(windefs.get_page_rights(argv[3]) or ()) or argv[3]
    first = address // PAGE * PAGE
    total = -(-(address + size) // PAGE) * PAGE - first
    try:
        if address and not kind & RESERVE:
            committed = _committed(emu, first, total, protection)
            if committed and guarded:
                protect(emu, first, first + total, guarded)
            return committed
        found = _reserved(emu, address, total, protection)
        if found is None:
            return _fail(emu, ERROR_INVALID_ADDRESS)
        if kind & COMMIT or found.size <= GRANULARITY:
            _commit(emu, found, found.base, found.end, protection)
            if guarded:
                protect(emu, found.base, found.end, guarded)
    except MemoryError:  # the log says it
        emu.set_last_error(ERROR_NOT_ENOUGH_MEMORY)
        raise
    return found.base


def _reserved(emu: Any, address: int, size: int, protection: int) -> Allocation | None:
    """A new allocation, at *address* if that is not 0; None if there is something."""
    start = address // GRANULARITY * GRANULARITY
    if address:
        size += address // PAGE * PAGE - start
    top = HIGHEST[emu.get_ptr_size()]
    base, total = memory.first_free(memory.taken(emu), size, start or emu.virtual_mem_base, top, GRANULARITY)
    if address and base != start:
        return None
    found = Allocation(base, total, protection)
    emu.allocations.known[base] = found
    return found


def _committed(emu: Any, first: int, size: int, protection: int) -> int:
    """Commit pages of what is reserved, or has been allocated in another way."""
    holder = emu.allocations.find(first)
    if holder is not None and first + size <= holder.end:
        _commit(emu, holder, first, first + size, protection)
        return first
    return first if emu.get_address_map(first) is not None else _fail(emu, ERROR_INVALID_ADDRESS)


def _commit(emu: Any, holder: Allocation, first: int, end: int, protection: int) -> None:
    """Have pages there, whole granules at a time, so that they become few blocks.

    Raises:
        MemoryError: the program has all it may have.
    """
    first = holder.base + (first - holder.base) // GRANULARITY * GRANULARITY
    end = min(holder.base + -(-(end - holder.base) // GRANULARITY) * GRANULARITY, holder.end)
    permissions = PERMISSIONS[protection]
    for block in list(_blocks(emu, first, end)):
        together = (block.prot or 0) | permissions
        if together != block.prot:
            emu.mem_protect(block.base, block.size, together)
            block.prot, block.flags = together, protection
    emu.allocations.filling = holder
    try:
        for start, stop in _gaps(emu, first, end):
            emu.mem_map(stop - start, base=start, perms=permissions, tag=TAG, flags=protection)
            emu.watch_code(start, stop - start)
    except MemoryError:
        if not any(_blocks(emu, holder.base, holder.end)):
            emu.allocations.known.pop(holder.base, None)
        raise
    finally:
        emu.allocations.filling = None


def _blocks(emu: Any, first: int, end: int) -> Iterator[Any]:
    return (one for one in emu.get_mem_maps() if one.base < end and first < one.base + one.size)


def _gaps(emu: Any, first: int, end: int) -> list[tuple[int, int]]:
    """Where nothing is mapped from *first* to *end*."""
    gaps = []
    for begin, last, _ in sorted(emu.get_mem_regions()):
        if last < first or begin >= end:
            continue
        if begin > first:
            gaps.append((first, begin))
        first = last + 1
    return [*gaps, (first, end)] if first < end else gaps


def _free(emu: Any, _name: str, argv: list[Any]) -> int:
    address, size, kind = argv
    holder = emu.allocations.find(address)
    if holder is None:
        return _free_other(emu, address)
    if kind & RELEASE:
        if size or address != holder.base:
            return _fail(emu, ERROR_INVALID_PARAMETER if size else ERROR_INVALID_ADDRESS)
        if _unmap(emu, holder.base, holder.end):
            del emu.allocations.known[holder.base]
        return 1
    first = address // PAGE * PAGE
    _unmap(emu, first, min(-(-(address + size) // PAGE) * PAGE, holder.end) if size else holder.end)
    return 1


def _free_other(emu: Any, address: int) -> int:
    """Of what was not allocated here: what is in another process, and nothing that is mapped."""
    block = emu.get_address_map(address)
    if block is None:
        return _fail(emu, ERROR_INVALID_ADDRESS)
    if not (block.get_tag() or "").lower().startswith(memory.ALLOCATED):
        return _fail(emu, ERROR_INVALID_PARAMETER)
    block.set_free()
    return 1


def _unmap(emu: Any, first: int, end: int) -> bool:
    """Free pages; dump what is worth it. False where the program itself is there: that stays.

    Of a block that is freed in part the pages become zero.
    """
    if any(first <= place < end for place in (emu.get_ret_address(), emu.get_stack_ptr())):
        return False
    for block in list(_blocks(emu, first, end)):
        memory.dump_freed(emu, block)
        emu.pages.forget(first, end)
        start, stop = max(first, block.base), min(end, block.base + block.size)
        if (start, stop) == (block.base, block.base + block.size):
            memory.release(emu, block)
        else:
            emu.mem_write(start, bytes(stop - start))
    return True


def _query(emu: Any, _name: str, argv: list[Any]) -> int:
    address, buffer, length = argv
    size = emu.get_ptr_size()
    form = "<IIIIIII" if size == 4 else "<QQIIQIIII"
    if address > HIGHEST[size] or length < struct.calcsize(form) or not buffer:
        return _fail(emu, ERROR_INVALID_PARAMETER)
    base, origin, extent, state, protection = _described(emu, address // PAGE * PAGE)
    kind = 0 if state == FREE else PRIVATE
    fields: tuple[int, ...] = (base, origin, protection, extent, state, protection, kind)
    if state == RESERVE:
        fields = (base, origin, emu.allocations.known[origin].protection, extent, state, 0, kind)
    if size == 8:
        fields = (*fields[:3], 0, *fields[3:], 0)
    emu.mem_write(buffer, struct.pack(form, *fields))
    return struct.calcsize(form)


def _described(emu: Any, address: int) -> tuple[int, int, int, int, int]:
    """Base, base of the allocation, size, state and protection of the region at *address*."""
    holder, block = emu.allocations.find(address), emu.get_address_map(address)
    if block is not None:
        origin = holder.base if holder else block.base
        return address, origin, extent(emu, address, block), COMMIT, protection_at(emu, address, block)
    if holder is not None:
        end = next((stop for start, stop in _gaps(emu, address, holder.end) if start == address), holder.end)
        return address, holder.base, end - address, RESERVE, 0
    top = HIGHEST[emu.get_ptr_size()] + 1
    following = min((start for start, _ in memory.taken(emu) if start > address), default=top)
    return address, 0, max(min(following, top) - address, PAGE), FREE, NOACCESS


APIS = {
    "VirtualAlloc": Api(words=4, answer=_alloc),
    "VirtualFree": Api(words=3, answer=_free),
    "VirtualQuery": Api(words=3, answer=_query),
}
