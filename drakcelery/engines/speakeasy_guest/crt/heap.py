"""malloc: small blocks from arenas of its own, large ones from the emulator, so that they can be dumped."""

from __future__ import annotations

from drakcelery.engines.speakeasy_guest.crt.machine import PAGE, Machine

ARENA = 256 * 1024
ALIGNMENT = 16


class Heap:
    """Blocks by address."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._sizes: dict[int, int] = {}
        self._free: dict[int, list[int]] = {}
        self._aliases: dict[int, int] = {}
        self._next = 0
        self._end = 0

    def allocate(self, size: int) -> int:
        """A block of *size* bytes, zeroed where it is fresh; 0 if there is no memory."""
        if size >= PAGE:
            try:
                address = self._machine.allocate(-(-size // PAGE) * PAGE, "api.heap.malloc")
            except Exception:  # noqa: BLE001  # no memory, or Unicorn's error: malloc's answer is NULL
                return 0
        else:
            address = self._small(-(-max(size, 1) // ALIGNMENT) * ALIGNMENT)
        if address:
            self._sizes[address] = size
        return address

    def _small(self, size: int) -> int:
        free = self._free.get(size)
        if free:
            return free.pop()
        if self._next + size > self._end:
            try:
                self._next = self._machine.allocate(ARENA, "emu.crt.heap")
            except Exception:  # noqa: BLE001  # as above
                return 0
            self._end = self._next + ARENA
        address = self._next
        self._next += size
        return address

    def zeroed(self, size: int) -> int:
        """A block of zeros."""
        address = self.allocate(size)
        if address and size < PAGE:
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
        if size >= PAGE:
            self._machine.emu.mem_free(address)
        else:
            self._free.setdefault(-(-max(size, 1) // ALIGNMENT) * ALIGNMENT, []).append(address)
        return True

    def resize(self, address: int, size: int) -> int:
        """A block of another size with the same content; 0 if there is no memory."""
        old = self._sizes.get(address)
        if old is None:
            return self.allocate(size) if not address else 0
        fresh = self.allocate(size)
        if fresh:
            self._machine.write(fresh, self._machine.read(address, min(old, size)))
            self.release(address)
        return fresh
