"""What the processor says that it can do.

Unicorn 1.0.2 computes with MMX and the floating-point unit, and its ``cpuid`` denies both and the time stamp
counter; 32-bit Go programs end where it does.
"""

from __future__ import annotations

from typing import Any, Final

from speakeasy.winenv import arch

from drakcelery.engines.speakeasy_guest.machine.places import places

INSTRUCTION: Final = b"\x0f\xa2"
FEATURES: Final = 1
"""The leaf with the features."""

DENIED: Final = 1 << 0 | 1 << 4 | 1 << 23
"""Bits of EDX: FPU, TSC and MMX (Intel's manual, volume 2A, CPUID)."""


def look_after(emu: Any, image: Any) -> None:
    """Let each ``cpuid`` in the code of a 32-bit *image* tell all."""
    if emu.get_ptr_size() == 8:
        return
    wanted: dict[int, int] = {}

    def before(_emu: Any, address: int, _size: int, _context: Any) -> bool:
        wanted[address + len(INSTRUCTION)] = emu.reg_read(arch.X86_REG_EAX)
        return True

    def after(_emu: Any, address: int, _size: int, _context: Any) -> bool:
        if wanted.pop(address, None) == FEATURES:
            emu.reg_write(arch.X86_REG_EDX, emu.reg_read(arch.X86_REG_EDX) | DENIED)
        return True

    for address in places(image, INSTRUCTION):
        emu.add_code_hook(before, begin=address, end=address)
        following = address + len(INSTRUCTION)
        emu.add_code_hook(after, begin=following, end=following)
