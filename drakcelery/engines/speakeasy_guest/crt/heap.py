"""The heap of a process: blocks in a few arenas, for ``malloc`` and ``HeapAlloc`` alike; large ones alone."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from typing import Final

from drakcelery.engines.speakeasy_guest.crt.machine import PAGE, Machine

ARENA: Final = 1024 * 1024
FIRST_ARENA: Final = 64 * 1024
ALIGNMENT: Final = 16
HANDLE: Final = 0x100
"""Bytes of what the handle of a heap points to."""

LARGE: Final = 64 * 1024
"""Bytes from which on a block has a mapping of its own."""

ARENA_TAG: Final = "emu.heap"
LARGE_TAG: Final = "api.heap.large"


class Heap:
    """Blocks by address."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._sizes: dict[int, int] = {}
        self._free: dict[int, list[int]] = {}
        self._aliases: dict[int, int] = {}
        self._arenas: list[tuple[int, int]] = []
        """Start and end of each."""
        self._next = 0
        self._end = 0
        self._owners: dict[int, set[int]] = {}
        """What is in each heap that the program made, by its handle."""

    def allocate(self, size: int) -> int:
        """A block of *size* bytes, zeroed where it is fresh; 0 if there is no memory."""
        room = _room(size)
        if size >= LARGE:
            try:
                address = self._machine.allocate(room, LARGE_TAG)
            except Exception:  # noqa: BLE001  # no memory, or Unicorn's error: malloc's answer is NULL
                return 0
        else:
            free = self._free.get(room)
            address = free.pop() if free else self._fresh(room)
        if address:
            self._sizes[address] = size
        return address

    def _fresh(self, room: int) -> int:
        if self._next + room > self._end:
            size = ARENA if self._arenas else FIRST_ARENA
            try:
                self._next = self._machine.allocate(max(size, room), ARENA_TAG)
            except Exception:  # noqa: BLE001  # as above
                self._end = self._next
                return 0
            self._end = self._next + max(size, room)
            bisect.insort(self._arenas, (self._next, self._end))
        address = self._next
        self._next += room
        return address

    def make(self) -> int:
        """A heap of the program's: a handle, whose blocks come from here and go with it."""
        handle = self.zeroed(HANDLE)
        if handle:
            self._owners[handle] = set()
        return handle

    def destroy(self, handle: int) -> bool:
        """Free a heap of the program's with all its blocks; False if it has none of that handle."""
        blocks = self._owners.pop(handle, None)
        if blocks is None:
            return False
        for block in blocks:
            self.release(block)
        return self.release(handle)

    def own(self, handle: int, address: int) -> None:
        """Say which heap a block is in; that of the process needs no saying."""
        if handle in self._owners and address in self._sizes:
            self._owners[handle].add(address)

    def disown(self, handle: int, address: int) -> None:
        """Say that a block is in a heap no more."""
        self._owners.get(handle, set()).discard(address)

    def zeroed(self, size: int) -> int:
        """A block of zeros."""
        address = self.allocate(size)
        if address and size < LARGE:
            self._machine.write(address, bytes(size))
        return address

    def alias(self, address: int, aligned: int) -> int:
        """Let *aligned*, a place within a block, stand for the block."""
        if aligned != address:
            self._aliases[aligned] = address
            self._sizes[aligned] = max(self._sizes[address] - (aligned - address), 0)
        return aligned

    def size_of(self, address: int) -> int | None:
        """The size of a block that was asked for; None for what is none of ours."""
        return self._sizes.get(address)

    def release(self, address: int) -> bool:
        """Give a block back; False if there is none at *address*."""
        size = self._sizes.pop(address, None)
        if address in self._aliases:
            return self.release(self._aliases.pop(address))
        if size is None:
            return False
        if size >= LARGE:
            self._machine.emu.mem_free(address)
        else:
            self._free.setdefault(_room(size), []).append(address)
        return True

    def resize(self, address: int, size: int, *, in_place: bool = False) -> int:
        """A block of another size with the same content; 0 if there is no memory, or not *in_place*."""
        old = self._sizes.get(address)
        if old is None:
            return self.allocate(size) if not address else 0
        if _room(old) == _room(size) and address not in self._aliases:
            self._sizes[address] = size
            return address
        if in_place:
            return 0
        fresh = self.allocate(size)
        if fresh:
            self._machine.write(fresh, self._machine.read(address, min(old, size)))
            self.release(address)
        return fresh

    def programs(self) -> Iterator[tuple[int, int]]:
        """Address and size of each block in an arena that begins like a program (``MZ``)."""
        addresses = sorted(self._sizes)
        for start, end in self._arenas:
            content = self._machine.read(start, end - start)
            place = bisect.bisect_left(addresses, start)
            while place < len(addresses) and addresses[place] < end:
                offset = addresses[place] - start
                if content[offset : offset + 2] == b"MZ":
                    yield addresses[place], self._sizes[addresses[place]]
                place += 1


def _room(size: int) -> int:
    """Bytes that a block of *size* takes: eight steps from one power of two to the next, or whole pages."""
    if size >= LARGE:
        return -(-size // PAGE) * PAGE
    size = max(size, 1)
    step = max(1 << max((size - 1).bit_length() - 4, 0), ALIGNMENT)
    return -(-size // step) * step
