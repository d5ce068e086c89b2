"""The guest's memory: where there is room, and what of it is worth to keep."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from drakcelery.engines.speakeasy_guest.apis.api import PAGE
from drakcelery.engines.speakeasy_guest.record.dumps import CHUNK, Block

EXECUTE = 0x10
"""Speakeasy's flag for executable memory (``speakeasy.common.PERM_MEM_EXEC``)."""

IMAGE_SCN_MEM_EXECUTE = 0x20000000
ALLOCATED = ("api.virtualalloc", "api.virtalloc")
"""How Speakeasy tags memory that the program asked Windows for."""

LIKE_PROGRAM = "Possible binary detected"
MAPPED = "api.mapviewoffile"
"""The same of views."""


def first_free(
    taken: Iterable[tuple[int, int]], size: int, start: int, top: int, unit: int = PAGE
) -> tuple[int, int]:
    """The first whole pages from *start* on that overlap none of *taken* (start, end): base and size.

    The base is a multiple of *unit*.

    Raises:
        MemoryError: there is none below *top*.
    """
    total = max(-(-size // PAGE), 1) * PAGE
    base = start // unit * unit
    for begin, end in sorted(taken):
        if begin < base + total and base < end:
            base = -(-end // unit) * unit
    if base + total > top:
        raise MemoryError(f"no room for {size} bytes")
    return base, total


def free_range(emu: Any, size: int, start: int, limit: int) -> tuple[int, int]:
    """The first free range of the guest from *start* on: base and size.

    Raises:
        MemoryError: the program has all of the *limit* that it may have, or there is no room.
    """
    if sum(end + 1 - begin for begin, end, _ in emu.get_mem_regions()) + size > limit:
        raise MemoryError(f"the program may have {limit} bytes")
    return first_free(taken(emu), size, start, 1 << (8 * emu.get_ptr_size()))


def taken(emu: Any) -> list[tuple[int, int]]:
    """Start and end of each address range that is somebody's."""
    ranges = [(begin, end + 1) for begin, end, _ in emu.get_mem_regions()]
    ranges += [(block.base, block.base + block.size) for block in emu.mem_reserves]
    ranges += emu.allocations.taken()
    ranges.append(emu.get_reserved_ranges())
    return ranges


def read(emu: Any, base: int, size: int) -> Iterator[bytes]:
    """Guest memory piece by piece; ends where nothing is mapped any more."""
    for start in range(base, base + size, CHUNK):
        try:
            yield bytes(emu.mem_read(start, min(CHUNK, base + size - start)))
        except Exception:  # noqa: BLE001  # Unicorn's error: the block is gone
            return


def dump(emu: Any, block: Any, *, reason: str, method: str) -> None:
    """Keep a block of memory among the run's dumps."""
    process = block.get_process() or emu.curr_process
    pid = process.get_id() if process else 0
    kept = Block(base=block.get_base(), reason=reason, method=method, pid=pid)
    emu.recorder.dumps.add(kept, read(emu, kept.base, block.get_size()))


def dump_heap(emu: Any) -> None:
    """Keep what is in blocks of the heap that have no memory of their own, where it is like a program."""
    pid = emu.curr_process.get_id() if emu.curr_process else 0
    for base, size in emu.runtime.heap.programs() if emu.runtime is not None else ():
        kept = Block(base=base, reason=LIKE_PROGRAM, method="FinishAnalysis", pid=pid)
        emu.recorder.dumps.add(kept, read(emu, base, size))


def dump_freed(emu: Any, block: Any) -> None:
    """Keep what the program frees, for the same reasons as at its end."""
    reason = _reason(emu, block, (block.get_tag() or "").lower())
    if reason:
        dump(emu, block, reason=reason, method="NtFreeVirtualMemory")


def release(emu: Any, block: Any) -> None:
    """Take a block away."""
    emu.mem_unmap(block.base, block.size)
    emu.maps.remove(block)


def is_heap_block(emu: Any, address: int) -> bool:
    """Whether a block begins there that the program, or Windows for it, has allocated and may free.

    What is mapped or allocated in pages, modules and stacks are none.
    """
    block = emu.get_address_map(address)
    if block is None or block.get_base() != address or block.is_free():
        return False
    tag = (block.get_tag() or "").lower()
    return tag.startswith("api.") and not tag.startswith((*ALLOCATED, MAPPED))


def watch_data(emu: Any, image: Any) -> set[int]:
    """Sections of *image* with code that runs and is not marked as such: theirs, as it is found.

    Unpackers of the time before Windows minded this leave it so.
    """
    ran: set[int] = set()
    for section in image.sections:
        if not section.Characteristics & IMAGE_SCN_MEM_EXECUTE and section.Misc_VirtualSize:
            _watch_section(emu, image.get_base(), section, ran)
    return ran


def _watch_section(emu: Any, base: int, section: Any, ran: set[int]) -> None:
    def executed(_emu: Any, _address: int, _size: int, _context: Any) -> bool:
        ran.add(section.VirtualAddress)
        hook.disable()
        return True

    start = base + section.VirtualAddress
    hook = emu.add_code_hook(executed, begin=start, end=start + section.Misc_VirtualSize - 1)


def worth_keeping(emu: Any) -> Iterator[tuple[Any, str]]:
    """Blocks of a process and DRAKVUF's reason to dump each: executable, or like a program."""
    for block in list(emu.get_mem_maps()):
        tag = (block.get_tag() or "").lower()
        if tag.startswith("api.") and (reason := _reason(emu, block, tag)):
            yield block, reason


def dump_image(emu: Any, image: Any, *, reason: str, method: str) -> None:
    """Keep a program or library as it is in memory now."""
    block = emu.get_address_map(image.base)
    if block is not None:
        dump(emu, block, reason=reason, method=method)


def dump_changed(emu: Any, image: Any, ran: Collection[int]) -> None:
    """Keep a program or library whose code is another than when it was loaded.

    *ran*: see :func:`watch_data`.
    """
    if _code_changed(emu, image, ran):
        dump_image(emu, image, reason="Code section changed", method="FinishAnalysis")


def _reason(emu: Any, block: Any, tag: str) -> str | None:
    if next(read(emu, block.get_base(), 2), b"") == b"MZ":
        return LIKE_PROGRAM
    if tag.startswith(ALLOCATED) and (block.get_prot() or 0) & EXECUTE:
        return "Interesting RWX memory" if block.get_size() > PAGE else "Possible shellcode detected"
    return None


def _code_changed(emu: Any, image: Any, ran: Collection[int]) -> bool:
    for section in image.sections:
        if section.Characteristics & IMAGE_SCN_MEM_EXECUTE or section.VirtualAddress in ran:
            place = section.VirtualAddress
            for chunk in read(emu, image.base + place, max(section.Misc_VirtualSize, 1)):
                loaded = bytes(image.mapped_image[place : place + len(chunk)])
                if chunk != loaded and chunk != _linked(image, place, loaded, chunk):
                    return True
                place += len(chunk)
    return False


def _linked(image: Any, place: int, loaded: bytes, chunk: bytes) -> bytes:
    """What was loaded to *place*, with the addresses of imports as they are in *chunk*.

    Old programs have those in their code, and Windows writes them.
    """
    linked = bytearray(loaded)
    for address in image.imports:
        start = address - image.base - place
        if 0 <= start < len(chunk):
            linked[start : start + image.ptr_size] = chunk[start : start + image.ptr_size]
    return bytes(linked)
