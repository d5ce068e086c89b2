"""A Unicorn that keeps what it has translated while the program calls functions of Windows.

Unicorn 1 stops when its program counter is written, and forgets all code that it has translated
(``uc_reg_write`` and ``cpu_exec`` in its sources). A program that calls a function would be translated anew
after each call, which took as long as all else. Here a ``ret`` lies where functions of Windows are, and where
the program goes on is put on the stack for it.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any, Final

from unicorn import Uc, UcError, x86_const  # type: ignore[import-untyped]  # without types
from unicorn.unicorn import _uc  # type: ignore[import-untyped]  # without types
from unicorn.unicorn_const import UC_ERR_OK  # type: ignore[import-untyped]  # without types

COUNTERS: Final = (x86_const.UC_X86_REG_RIP, x86_const.UC_X86_REG_EIP)
PLAIN: Final = frozenset(
    getattr(x86_const, f"UC_X86_REG_{name}")
    for name in (
        *("RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI", "RIP", "EFLAGS"),
        *("R8", "R9", "R10", "R11", "R12", "R13", "R14", "R15"),
        *("EAX", "ECX", "EDX", "EBX", "ESP", "EBP", "ESI", "EDI", "EIP"),
    )
)
"""Registers that are numbers; the binding would look for all other kinds first."""


class Translated(Uc):  # type: ignore[misc]  # the base has no types
    """Unicorn, whose program counter may be written late."""

    def __init__(self, arch: int, mode: int, *, size: int) -> None:
        super().__init__(arch, mode)
        self._size = size
        self._stack = x86_const.UC_X86_REG_RSP if size == 8 else x86_const.UC_X86_REG_ESP
        self._at_return = False
        self._place: int | None = None
        self._cell = ctypes.c_uint64(0)
        self._thread = threading.get_ident()

    def at_return(self, act: Callable[[], None]) -> None:
        """Run *act* where the next instruction is ``ret``; the program is then where *act* set it."""
        self._at_return = True
        try:
            act()
            if self._at_return and self._place is not None:
                self._push(self._place)
        finally:
            self.settle()

    def settle(self) -> None:
        """From here on the program counter is written at once, with what was to be written late."""
        self._at_return = False
        if self._place is not None:
            place, self._place = self._place, None
            self.reg_write(COUNTERS[0] if self._size == 8 else COUNTERS[1], place)

    def _push(self, place: int) -> None:
        """Have ``ret`` go there; where the stack has no room for that, nothing."""
        top = self.reg_read(self._stack) - self._size
        wanted = place.to_bytes(self._size, "little")
        try:
            if self.mem_read(top, self._size) != wanted:
                self.mem_write(top, wanted)
        except UcError:
            return
        self.reg_write(self._stack, top)
        self._place = None

    def reg_read(self, reg_id: int, opt: Any = None) -> Any:
        """A register."""
        if reg_id not in PLAIN:
            return super().reg_read(reg_id, opt)
        if self._place is not None and reg_id in COUNTERS:
            return self._place
        cell = self._cell
        cell.value = 0
        _check(_uc.uc_reg_read(self._uch, reg_id, ctypes.byref(cell)))
        return cell.value

    def reg_write(self, reg_id: int, value: Any) -> None:
        """Write a register."""
        if reg_id not in PLAIN:
            super().reg_write(reg_id, value)
            return
        if self._at_return and reg_id in COUNTERS:
            self._place = value & ((1 << (8 * self._size)) - 1)
            return
        cell = self._cell
        cell.value = value
        _check(_uc.uc_reg_write(self._uch, reg_id, ctypes.byref(cell)))

    # What is translated does not hold any more, or belongs to another thread.

    def context_save(self) -> Any:
        """All registers."""
        self.settle()
        return super().context_save()

    def context_restore(self, context: Any) -> None:
        """Set all registers."""
        self.settle()
        super().context_restore(context)

    def emu_stop(self) -> None:
        """Stop before the next instruction; another thread may want it, too."""
        if threading.get_ident() == self._thread:
            self.settle()
        super().emu_stop()

    def mem_map(self, address: int, size: int, *more: Any) -> None:
        """Have memory there."""
        self.settle()
        super().mem_map(address, size, *more)

    def mem_unmap(self, address: int, size: int) -> None:
        """Have none there."""
        self.settle()
        super().mem_unmap(address, size)

    def mem_protect(self, address: int, size: int, *more: Any) -> None:
        """Change what memory may be used for."""
        self.settle()
        super().mem_protect(address, size, *more)

    def hook_add(self, *what: Any, **more: Any) -> Any:
        """Have something called."""
        self.settle()
        return super().hook_add(*what, **more)


def _check(status: int) -> None:
    if status != UC_ERR_OK:
        raise UcError(status)
