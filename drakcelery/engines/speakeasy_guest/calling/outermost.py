"""Where a program's first function returns to: a place inside kernel32, as on Windows.

Programs that look for kernel32 go down from there to where its file begins (``MZ``). What lies there is a
jump to where Speakeasy expects a program to return.
"""

from __future__ import annotations

from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import PAGE
from drakcelery.engines.speakeasy_guest.calling.function_hooks import FunctionHooks

ENTRY: Final = "module_entry"
"""Speakeasy's type for a run of a program's entry point."""

IMAGE_BASE: Final = {4: 0x34, 8: 0x30}
"""Where the headers of a program say where it is loaded, by the size of an address."""

JUMP_SIZE: Final = 16
READ_EXECUTE: Final = 0x16
"""Speakeasy's flags; written to as well, by programs that change functions of Windows."""


class Outermost(FunctionHooks):
    """A Windows that calls programs from inside its kernel32."""

    def outermost(self) -> int:
        """Where a program's entry point returns to; 0 without a kernel32."""
        module = self._kernel32()
        return module.get_base() + (module.image_size & ~0xF) - JUMP_SIZE if module is not None else 0

    def is_outermost(self, address: int) -> bool:
        """Whether a function that returns to *address* is the first one of a stack."""
        return address in (self.return_hook, self.exit_hook, self.outermost())

    def _kernel32(self) -> Any:
        modules = self.get_user_modules()
        return next((one for one in modules if one.is_decoy() and one.name == "kernel32"), None)

    def _exec_run(self, run: Any) -> Any:
        """Begin a run; the entry point's return address is changed after Speakeasy has set it."""
        begun = super()._exec_run(run)
        if run.type == ENTRY and self.outermost():
            self.write_ptr(self.get_stack_ptr(), self.outermost())
        return begun

    def _handle_invalid_fetch(self, emu: Any, address: int, size: int, value: int, ctx: Any) -> Any:
        """The entry point returns, and nobody has looked at kernel32 before."""
        if address == self.outermost():
            return self.map_decoy(self._kernel32())
        return super()._handle_invalid_fetch(emu, address, size, value, ctx)

    def map_decoy(self, decoy: Any) -> Any:
        """Have a module of Windows there, as loaded; in kernel32, also what the entry point returns to."""
        mapped = super().map_decoy(decoy)
        base = decoy.get_base()
        header = int.from_bytes(self.mem_read(base + 0x3C, 4), "little")
        self.write_ptr(base + header + IMAGE_BASE[self.get_ptr_size()], base)
        if decoy is self._kernel32():
            place, size = self.outermost(), self.get_ptr_size()
            # jmp [target], which is behind it: relative in 64 bits, absolute in 32
            target = place + 8
            operand = target if size == 4 else target - (place + 6)
            self.mem_write(place, b"\xff\x25" + operand.to_bytes(4, "little"))
            self.write_ptr(target, self.return_hook)
            self.mem_protect(place // PAGE * PAGE, PAGE, READ_EXECUTE)
        return mapped
