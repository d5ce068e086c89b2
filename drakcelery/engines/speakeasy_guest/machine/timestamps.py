"""``rdtsc``: the time stamp counter goes on as the clock does, also while a program sleeps.

Unicorn gives the counter of the machine that it runs on, which knows nothing of an emulated Sleep.
"""

from __future__ import annotations

from typing import Any, Final

from drakcelery.engines.speakeasy_guest.machine.places import places

INSTRUCTIONS: Final = (b"\x0f\x31", b"\x0f\x01\xf9")
"""``rdtsc`` and ``rdtscp``."""

PER_MILLISECOND: Final = 2_400_000
"""Of a processor with 2.4 GHz."""


def look_after(emu: Any, image: Any) -> None:
    """Have each of them in the code of *image* tell the time of the emulated Windows."""
    low, high = ("rax", "rdx") if emu.get_ptr_size() == 8 else ("eax", "edx")
    expected: set[int] = set()

    def before(following: int) -> Any:
        def noted(_emu: Any, _address: int, _size: int, _context: Any) -> bool:
            expected.add(following)
            return True

        return noted

    def after(_emu: Any, address: int, _size: int, _context: Any) -> bool:
        if address in expected:
            expected.discard(address)
            emu.clock.advance()
            counter = int(emu.clock.uptime * PER_MILLISECOND)
            emu.processor.set(low, counter & 0xFFFFFFFF)
            emu.processor.set(high, counter >> 32 & 0xFFFFFFFF)
        return True

    for instruction in INSTRUCTIONS:
        for address in places(image, instruction):
            following = address + len(instruction)
            emu.add_code_hook(before(following), begin=address, end=address)
            emu.add_code_hook(after, begin=following, end=following)
