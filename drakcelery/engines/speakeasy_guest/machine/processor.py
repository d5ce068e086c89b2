"""The emulated processor's registers, by their names, in 32 and 64 bits alike."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from unicorn import x86_const  # type: ignore[import-untyped]  # without types

GENERAL_64 = (
    *("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"),
    *("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"),
)
"""In the order of their numbers, which is that of a ``CONTEXT`` too."""

GENERAL_32 = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
VECTORS = tuple(f"xmm{number}" for number in range(16))
SEGMENT_BASES = {32: ("FS", 19), 64: ("GS", 15)}
"""Register and number of the descriptor that Speakeasy sets up for a thread's block (TEB)."""

FLOATING = {"fpcw": 0x27F, "fptag": 0xFFFF, "mxcsr": 0x1F80}
"""What a thread of Windows begins with: no exceptions, double precision, nothing on the stack.

Unicorn has zeros, by which the floating-point unit would compute in single precision.
"""

IMPORT_REGISTERS = ("rcx", "rdx", "r8", "r9")

Registers = dict[str, int]


class Processor:
    """Registers of one emulator; values are unsigned."""

    def __init__(self, emu: Any) -> None:
        self._emu = emu
        self.bits: int = emu.get_ptr_size() * 8
        self.size = self.bits // 8
        self.mask = (1 << self.bits) - 1
        self.general = GENERAL_64 if self.bits == 64 else GENERAL_32
        first = "r" if self.bits == 64 else "e"
        self.pc, self.sp, self.result = f"{first}ip", f"{first}sp", f"{first}ax"
        self.all = (*self.general, self.pc, "eflags")

    def get(self, name: str) -> int:
        """A register."""
        return int(self._emu.emu_eng.emu.reg_read(_CONSTANTS[name]))

    def set(self, name: str, value: int) -> None:
        """Write a register."""
        limit = (1 << 128) - 1 if name.startswith("xmm") else self.mask
        self._emu.emu_eng.emu.reg_write(_CONSTANTS[name], value & limit)

    def reset_floating(self) -> None:
        """Have the floating-point unit as a thread finds it that begins."""
        for name, value in FLOATING.items():
            self.set(name, value)

    def snapshot(self) -> Registers:
        """The general registers, where the program is, and the flags."""
        return {name: self.get(name) for name in self.all}

    def restore(self, registers: Registers) -> None:
        """Write registers; the program's place last, since that ends the block that is being run."""
        for name, value in registers.items():
            if name != self.pc:
                self.set(name, value)
        if self.pc in registers:
            self.set(self.pc, registers[self.pc])

    def enter(self, address: int, arguments: Iterable[int], back: int, stack: int) -> None:
        """Call a function of the program: below *stack*, with *back* as where it returns to."""
        words = [value & self.mask for value in arguments]
        count = max(len(words), 4 if self.bits == 64 else 0)  # room for the four that are in registers
        base = (stack - count * self.size) & ~0xF
        if self.bits == 64:
            self.restore(dict(zip(IMPORT_REGISTERS, words, strict=False)))
        for number, value in enumerate(words):
            self._emu.mem_write(base + number * self.size, value.to_bytes(self.size, "little"))
        self._emu.mem_write(base - self.size, back.to_bytes(self.size, "little"))
        self.set(self.sp, base - self.size)
        self.set(self.pc, address)

    def go_on(self) -> None:
        """Have the emulator see that the program is elsewhere than it was."""
        self.set(self.pc, self.get(self.pc))

    def after_return(self, place: int, words: int) -> Registers:
        """The registers once the present function has returned to *place*, having taken *words*."""
        registers = self.snapshot()
        registers[self.pc] = place
        registers[self.sp] += self.size * (1 + (words if self.bits == 32 else 0))
        return registers

    def set_thread_block(self, address: int) -> None:
        """Let ``fs`` (32 bits) or ``gs`` (64 bits) begin at *address*, below 4 GiB."""
        unicorn = self._emu.emu_eng.emu
        name, number = SEGMENT_BASES[self.bits]
        _, table, _, _ = unicorn.reg_read(x86_const.UC_X86_REG_GDTR)
        place = table + number * 8
        entry = int.from_bytes(unicorn.mem_read(place, 8), "little")
        entry &= ~(0xFF << 56 | 0xFFFFFF << 16)
        entry |= (address & 0xFFFFFF) << 16 | (address >> 24 & 0xFF) << 56
        unicorn.mem_write(place, entry.to_bytes(8, "little"))
        register = getattr(x86_const, f"UC_X86_REG_{name}")
        unicorn.reg_write(register, number << 3 | 3)


_CONSTANTS: dict[str, int] = {
    name: getattr(x86_const, f"UC_X86_REG_{name.upper()}")
    for name in (*GENERAL_64, *GENERAL_32, *VECTORS, *FLOATING, "rip", "eip", "eflags")
}
