"""The page that Windows shares with every program, KUSER_SHARED_DATA: time, version, features.

Go's runtime and C++ libraries read the time and the version there, without a call. Offsets: Microsoft's
``ntddk.h`` and public symbols, the same in 32 and 64 bits.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import PAGE
from drakcelery.engines.speakeasy_guest.machine.clock import UNITS

ADDRESS: Final = 0x7FFE0000
READ_ONLY: Final = 2
"""Speakeasy's ``PERM_MEM_READ``."""

STEP: Final = 15.625
"""Milliseconds of a tick, after which Windows writes the page again."""

TICK_MULTIPLIER: Final = 0x0FA00000
"""A tick is 15.625 ms, in fixed point with 24 bits."""

INTERRUPT_TIME, SYSTEM_TIME, TICK_COUNT = 0x8, 0x14, 0x320
TIMES: Final = slice(INTERRUPT_TIME, TICK_COUNT + 12)
"""What is written again."""

FEATURES: Final = 0x274
HAS_FEATURES: Final = (2, 3, 6, 8, 9, 10, 12, 13, 14, 23)
"""``PF_*`` of ``IsProcessorFeaturePresent``: 8-byte exchange, MMX, SSE, RDTSC, PAE, SSE2, NX, SSE3, 16-byte
exchange, fast fail."""

PAGES: Final = 256
"""Of memory, in a MiB."""

FIXED: Final = {0x4: TICK_MULTIPLIER, 0x264: 1, 0x268: 1, 0x2D0: 0x110, 0x2D8: 1}
"""Of 4 bytes each: multiplier of ticks, workstation, that this is valid, suite, session."""

FREQUENCY: Final = (0x300, 10_000_000)
"""Of the performance counter."""


class SharedData:
    """The page of one Windows."""

    def __init__(self, emu: Any) -> None:
        self._emu = emu
        self._written = -STEP
        if emu.get_address_map(ADDRESS) is None:
            emu.mem_map(PAGE, base=ADDRESS, perms=READ_ONLY, tag="emu.struct.KUSER_SHARED_DATA_USER")
        self._content = self._page()
        emu.mem_write(ADDRESS, bytes(self._content))
        self.update()

    def update(self) -> None:
        """Let the time go on."""
        clock = self._emu.clock
        passed = clock.passed
        if passed - self._written < STEP:
            return
        self._written = passed
        for offset, value in (
            (INTERRUPT_TIME, clock.uptime * UNITS),
            (SYSTEM_TIME, clock.file_time),
            (TICK_COUNT, clock.uptime / STEP),
        ):
            low, high = int(value) & 0xFFFFFFFF, int(value) >> 32
            struct.pack_into("<III", self._content, offset, low, high, high)
        # At once: a write to memory that the program may not write to takes a millisecond
        self._emu.mem_write(ADDRESS + TIMES.start, bytes(self._content[TIMES]))

    def _page(self) -> bytearray:
        page = bytearray(PAGE)
        version = self._emu.get_os_version()
        machine, architecture = (0x14C, 0) if self._emu.get_ptr_size() == 4 else (0x8664, 9)
        root = "C:\\Windows".encode("utf-16-le")
        page[0x30 : 0x30 + len(root)] = root
        struct.pack_into("<HH", page, 0x2C, machine, machine)
        for offset, value in FIXED.items():
            struct.pack_into("<I", page, offset, value)
        struct.pack_into("<I", page, 0x2E8, self._emu.guest.memory * PAGES)
        struct.pack_into("<I", page, 0x260, version["build"])
        struct.pack_into("<II", page, 0x26C, version["major"], version["minor"])
        struct.pack_into("<H", page, 0x26A, architecture)
        struct.pack_into("<Q", page, *FREQUENCY)
        struct.pack_into("<I", page, 0x3C0, self._emu.guest.processors)
        for feature in HAS_FEATURES:
            page[FEATURES + feature] = 1
        return page
