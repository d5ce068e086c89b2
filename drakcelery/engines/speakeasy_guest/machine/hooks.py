"""Hooks that cost nothing while they are off: Unicorn then calls a function that does nothing.

Speakeasy has a hook on every instruction, and needs it for the first one after each call of Windows only.
Between two calls it is off; but Unicorn would go on to call it, and Python would take a hundred times as long
as the instruction does.
"""

from __future__ import annotations

import ctypes
from typing import Final

from speakeasy.engines.unicorn_eng import EmuEngine
from speakeasy.winenv import arch
from unicorn import uc_version  # type: ignore[import-untyped]  # without types
from unicorn.unicorn_const import (  # type: ignore[import-untyped]  # without types
    UC_ARCH_X86,
    UC_MODE_32,
    UC_MODE_64,
)

from drakcelery.engines.speakeasy_guest.machine.translated import Translated

CALLBACK: Final = 32
"""Where ``struct hook`` has its function in Unicorn 1.0, on machines of 64 bits (``include/uc_priv.h``)."""

KNOWN: Final = uc_version()[0] == 1 and ctypes.sizeof(ctypes.c_void_p) == 8
"""Whether this Unicorn's hooks are known; with any other they stay as they are."""

NOTHING: Final = ctypes.cast(ctypes.CDLL(None).ffs, ctypes.c_void_p).value
"""A function of the C library that takes any number and changes nothing."""


class SwitchedHooks(EmuEngine):  # type: ignore[misc]  # the base has no types
    """Speakeasy's view of Unicorn, whose hooks can be off, and which keeps what it has translated."""

    emu: Translated

    def init_engine(self, eng_arch: int, mode: int) -> None:
        """Make Unicorn."""
        super().init_engine(eng_arch, mode)
        bits = 64 if mode == arch.BITS_64 else 32
        self.emu = Translated(UC_ARCH_X86, UC_MODE_64 if bits == 64 else UC_MODE_32, size=bits // 8)

    def hook_enable(self, hook_handle: int) -> None:
        """Have a hook called."""
        super().hook_enable(hook_handle)
        self._switch(hook_handle, on=True)

    def hook_disable(self, hook_handle: int) -> None:
        """Have a hook no longer called, until it is enabled."""
        super().hook_disable(hook_handle)
        self._switch(hook_handle, on=False)

    def _switch(self, handle: int, *, on: bool) -> None:
        hook = self._callbacks.get(handle)
        if hook is None or not KNOWN:
            return
        ours = ctypes.cast(hook.cb, ctypes.c_void_p).value
        place = ctypes.c_void_p.from_address(handle + CALLBACK)
        if place.value in (ours, NOTHING):
            place.value = ours if on else NOTHING
