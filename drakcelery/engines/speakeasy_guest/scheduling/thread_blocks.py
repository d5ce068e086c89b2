"""What Windows keeps for each thread where the program can read it: its block (TEB), stack and local storage.

Offsets: the TEB as Microsoft's public symbols have it, the same in all versions of Windows that are in use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import PAGE
from drakcelery.engines.speakeasy_guest.calling.tidy_stack import TidyStack
from drakcelery.engines.speakeasy_guest.machine.processor import Processor

SIZE: Final = 3 * PAGE
NO_FRAMES: Final = 0xFFFFFFFF
"""The end of a 32-bit thread's chain of handlers."""

LEAST_STACK: Final = 1024 * 1024
MOST_STACK: Final = 16 * 1024 * 1024
TLS_DIRECTORY: Final = 9
MAX_TEMPLATE: Final = 16 * 1024 * 1024
"""Bytes of one module's local storage."""

MAX_STORAGES: Final = 1024
"""Modules with local storage, in one run."""

SLOTS: Final = 64
"""What ``TlsAlloc`` gives before it needs the expansion slots."""


@dataclass(frozen=True)
class Offsets:
    """Where fields are in a TEB."""

    stack_base: int
    stack_limit: int
    fiber: int
    self: int
    process_id: int
    local_storage: int
    process: int
    last_error: int
    allocation: int
    """Where the stack was allocated."""
    slots: int


OFFSETS: Final = {
    32: Offsets(0x4, 0x8, 0x10, 0x18, 0x20, 0x2C, 0x30, 0x34, 0xE0C, 0xE10),
    64: Offsets(0x8, 0x10, 0x20, 0x30, 0x40, 0x58, 0x60, 0x68, 0x1478, 0x1480),
}


@dataclass(frozen=True)
class Stack:
    """Where a thread's stack is; it grows down from *base*."""

    base: int
    limit: int


class ThreadBlocks(TidyStack):
    """A Windows whose threads have blocks."""

    processor: Processor

    def __init__(self, config: dict[str, Any], **more: Any) -> None:
        super().__init__(config, **more)
        self._stored: list[Any] = []

    @property
    def offsets(self) -> Offsets:
        """For the program's bits."""
        return OFFSETS[self.get_ptr_size() * 8]

    def thread_block(self) -> int:
        """The address of the present thread's block."""
        return int(self.fs_addr or self.gs_addr)

    def set_thread_block(self, place: int) -> None:
        """Have another block be the present one."""
        if self.get_ptr_size() == 4:
            self.fs_addr = place
        else:
            self.gs_addr = place
        Processor(self).set_thread_block(place)

    def alloc_stack(self, size: int) -> tuple[int, int]:
        """A stack of the size that Windows gives to most programs; Speakeasy's is small."""
        base, pointer = super().alloc_stack(min(max(size, LEAST_STACK), MOST_STACK))
        return base, pointer

    def _setup_gdt(self, arch: int) -> tuple[int, int]:
        """Have the first thread's block be as large as Windows' own."""
        super()._setup_gdt(arch)
        self.set_ptr_size(arch)
        self.set_thread_block(self.mem_map(SIZE, tag="emu.struct.TEB"))
        return self.fs_addr, self.gs_addr

    def init_teb(self, thread: Any, peb: Any) -> None:
        """Fill in the block of the first thread, before each of its runs."""
        super().init_teb(thread, peb)
        stack = self.get_address_map(self.stack_base - 1)
        self.write_block(self.thread_block(), thread, Stack(self.stack_base, stack.get_base()))

    def write_block(self, place: int, thread: Any, stack: Stack) -> None:
        """Fill in a thread's block."""
        offsets = self.offsets
        if self.get_ptr_size() == 4:
            self.write_ptr(place, NO_FRAMES)
        process = self.curr_process
        self.write_ptr(place + offsets.stack_base, stack.base)
        self.write_ptr(place + offsets.stack_limit, stack.limit)
        self.write_ptr(place + offsets.allocation, stack.limit)
        self.write_ptr(place + offsets.self, place)
        self.write_ptr(place + offsets.process_id, process.get_id())
        self.write_ptr(place + offsets.process_id + self.get_ptr_size(), thread.get_id())
        self.write_ptr(place + offsets.process, process.get_peb().address)

    def init_tls(self, _thread: Any) -> None:
        """Local storage of the first thread, once for each process."""
        place = self.thread_block() + self.offsets.local_storage
        if not self.read_ptr(place):
            self.write_ptr(place, self.local_storage())

    def local_storage(self) -> int:
        """A thread's copies of what each module's ``.tls`` holds; the address of the list of them."""
        size = self.get_ptr_size()
        modules = [image for image, _, _ in self.modules if _has_storage(image)]
        places: int = self.mem_map(MAX_STORAGES * size, tag="emu.tls.list")
        for image in modules:
            self._store(image, places)
        return places

    def _store(self, image: Any, places: int) -> None:
        """A copy of one module's for one thread, in the list of the thread."""
        size = self.get_ptr_size()
        directory = image.base + image.OPTIONAL_HEADER.DATA_DIRECTORY[TLS_DIRECTORY].VirtualAddress
        start, end, index = (self.read_ptr(directory + size * field) for field in range(3))
        zeros = int.from_bytes(self.mem_read(directory + 4 * size, 4), "little")
        length = end - start if start <= end else 0
        number = self._storage_number(image)
        if length + zeros > MAX_TEMPLATE or number >= MAX_STORAGES:
            return
        copy = self.mem_map(length + zeros + size, tag="emu.tls.copy")
        self.mem_write(copy, bytes(self.mem_read(start, length)))
        self.write_ptr(places + number * size, copy)
        self.mem_write(index, number.to_bytes(4, "little"))

    def _storage_number(self, image: Any) -> int:
        """A module's place in the lists, the same for as long as it is there and nobody's afterwards."""
        if not any(one is image for one in self._stored):
            self._stored.append(image)
        return next(number for number, one in enumerate(self._stored) if one is image)

    def add_storage(self, image: Any) -> None:
        """A module is loaded while threads run."""
        if _has_storage(image):
            for block in self.all_blocks():
                places = self.read_ptr(block + self.offsets.local_storage)
                if places:
                    self._store(image, places)

    def all_blocks(self) -> list[int]:
        """The blocks of the process' threads."""
        return [self.thread_block()]

    def set_last_error(self, code: int) -> None:
        """Where programs look for it too, without a call."""
        value = (code or 0) & 0xFFFFFFFF
        self.mem_write(self.thread_block() + self.offsets.last_error, value.to_bytes(4, "little"))

    def get_last_error(self) -> int:
        """The present thread's."""
        return int.from_bytes(self.mem_read(self.thread_block() + self.offsets.last_error, 4), "little")


def _has_storage(image: Any) -> bool:
    directories = image.OPTIONAL_HEADER.DATA_DIRECTORY
    return len(directories) > TLS_DIRECTORY and directories[TLS_DIRECTORY].VirtualAddress != 0
