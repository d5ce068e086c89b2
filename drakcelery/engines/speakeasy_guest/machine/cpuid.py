"""What the processor says that it can do.

Unicorn 1.0.2 computes with MMX and the floating-point unit, and its ``cpuid`` denies both and the time stamp
counter; 32-bit Go programs end where it does. It knows no hypervisor either, which some guests have.
"""

from __future__ import annotations

from typing import Any, Final

from speakeasy.winenv import arch

from drakcelery.engines.speakeasy_guest.machine.places import places
from drakcelery.model.emulated_guest import HYPERVISORS

INSTRUCTION: Final = b"\x0f\xa2"
FEATURES: Final = 1
"""The leaf with the features."""

DENIED: Final = 1 << 0 | 1 << 4 | 1 << 23
"""Bits of EDX: FPU, TSC and MMX (Intel's manual, volume 2A, CPUID)."""


PRESENT: Final = 1 << 31
"""Bit of ECX: there is a hypervisor (Intel and AMD keep it free for that)."""

OF_HYPERVISOR: Final = 0x40000000
"""The leaf that names it: its highest leaf in EAX, and 12 bytes in EBX, ECX and EDX."""


RESULT: Final = {
    "RAX": arch.X86_REG_EAX,
    "RBX": arch.X86_REG_EBX,
    "RCX": arch.X86_REG_ECX,
    "RDX": arch.X86_REG_EDX,
}
"""Where the answer is, by the names that DRAKVUF's cpuidmon gives."""


def look_after(emu: Any, image: Any) -> None:
    """Let each ``cpuid`` in the code of *image* tell all, and the log tell each. 64-bit code needs neither,
    unless the guest has a hypervisor or the job asked for cpuidmon."""
    hypervisor, journal = emu.guest.hypervisor, emu.recorder.journal
    if emu.get_ptr_size() == 8 and hypervisor is None and not journal.wants("cpuidmon"):
        return
    wanted: dict[int, tuple[int, int]] = {}

    def before(_emu: Any, address: int, _size: int, _context: Any) -> bool:
        asked = emu.reg_read(arch.X86_REG_EAX), emu.reg_read(arch.X86_REG_ECX)
        wanted[address + len(INSTRUCTION)] = asked
        return True

    def after(_emu: Any, address: int, _size: int, _context: Any) -> bool:
        asked = wanted.pop(address, None)
        if asked is None:
            return True
        leaf, subleaf = asked
        if leaf == FEATURES and emu.get_ptr_size() == 4:
            emu.reg_write(arch.X86_REG_EDX, emu.reg_read(arch.X86_REG_EDX) | DENIED)
        if hypervisor is not None:
            _show(emu, HYPERVISORS[hypervisor], leaf)
        answer = {name: f"{emu.reg_read(one):#x}" for name, one in RESULT.items()}
        journal.write_seldom("cpuidmon", "cpuid", Leaf=f"{leaf:#x}", Subleaf=f"{subleaf:#x}", **answer)
        return True

    for address in places(image, INSTRUCTION):
        emu.add_code_hook(before, begin=address, end=address)
        following = address + len(INSTRUCTION)
        emu.add_code_hook(after, begin=following, end=following)


def _show(emu: Any, name: bytes, leaf: int) -> None:
    """The hypervisor, where a program looks for it."""
    if leaf == FEATURES:
        emu.reg_write(arch.X86_REG_ECX, emu.reg_read(arch.X86_REG_ECX) | PRESENT)
    elif leaf == OF_HYPERVISOR:
        emu.reg_write(arch.X86_REG_EAX, OF_HYPERVISOR + 1)
        for register, place in ((arch.X86_REG_EBX, 0), (arch.X86_REG_ECX, 4), (arch.X86_REG_EDX, 8)):
            emu.reg_write(register, int.from_bytes(name[place : place + 4], "little"))
