"""A Windows that sees where its functions are called, and lets the processor alone otherwise.

Speakeasy has nothing at those addresses, so that a call is a fault, and looks at each instruction afterwards,
to take away again what it had to put there: a call of Python for each instruction that the program runs. Here
the addresses are there, and only they are looked at.
"""

from __future__ import annotations

import traceback
from typing import Any, Final

from speakeasy.windows.common import EMU_RESERVE_SIZE, EMU_RETURN_ADDR
from unicorn.unicorn_const import UC_MEM_FETCH_UNMAPPED  # type: ignore[import-untyped]  # without types

from drakcelery.engines.speakeasy_guest.machine.texts import Texts

RETURN: Final = b"\xc3"
"""What lies at a function's address: ``ret``, by which the program goes on."""

HALT: Final = b"\xf4"
"""What lies where the program's own functions return to: ``hlt``, which nobody comes to run."""


class FunctionHooks(Texts):
    """Windows' functions, and where the program's return to, are found without looking at other places."""

    def __init__(self, config: dict[str, Any], **more: Any) -> None:
        super().__init__(config, **more)
        self._hooked = False
        self._later: dict[int, tuple[str, str]] = {}
        self.tmp_code_hook = object()  # Speakeasy makes one where there is none

    def _set_emu_hooks(self) -> None:
        """Once for all programs."""
        if not self._hooked:
            self._hooked = True
            self.emu_eng.mem_map(EMU_RETURN_ADDR, EMU_RESERVE_SIZE)
            self.mem_write(EMU_RETURN_ADDR, RETURN * EMU_RESERVE_SIZE)
            for address in (self.return_hook, self.exit_hook):
                self.mem_write(address, HALT)
            self.add_code_hook(
                self._called, begin=EMU_RETURN_ADDR, end=EMU_RETURN_ADDR + EMU_RESERVE_SIZE - 1
            )

    def _unset_emu_hooks(self) -> None:
        """Nothing is taken away."""

    def enable_code_hook(self) -> None:
        """Speakeasy's wish to see the next instruction: what it would do then is done now."""
        for _, place, symbol, value in self.impdata_queue:
            if value is not None:
                self.global_data[place] = [symbol, value]
                self.write_ptr(place, value)
        self.impdata_queue.clear()

    def disable_code_hook(self) -> None:
        """There is none."""

    def _called(self, emu: Any, address: int, size: int, context: Any) -> bool:
        """The program is at a function of Windows, or at the end of its own."""
        try:
            if self.emu_complete:
                self.emu_eng.stop()
            elif address in (self.return_hook, self.exit_hook) or self.run_complete:
                self.on_run_complete()
            else:
                function = self._function_at(address)
                if function is None:
                    self._hook_mem_unmapped(emu, UC_MEM_FETCH_UNMAPPED, address, size, 0, context)
                else:
                    self.emu_eng.emu.at_return(lambda: self._handle(*function))
                self._end_where_complete()
        except Exception as error:  # noqa: BLE001  # whatever it is, it ends the run and not the emulator
            place = self.get_pc()
            self.curr_run.error = self.get_error_info(str(error), place, traceback=traceback.format_exc())
            self.on_emu_complete()
            self.set_pc(self.return_hook)
        return True

    def _handle(self, dll: str, name: str) -> None:
        """Answer a call; where that ends a run, the place of the next one counts at once."""
        run = self.curr_run
        self.handle_import_func(dll, name)
        if self.run_complete or self.emu_complete or self.curr_run is not run:
            self.emu_eng.emu.settle()

    def _function_at(self, address: int) -> tuple[str, str] | None:
        """Library and name of what the program imported, or asked for, at an address; None for others."""
        function: tuple[str, str] | None = None
        if self.curr_mod is not None:
            function = self.curr_mod.import_table.get(address)
        if function is not None:
            return function
        if len(self._later) != len(self.dyn_imps) + len(self.callbacks):
            found = (*self.callbacks, *self.dyn_imps)
            self._later = {place: (library, name) for place, library, name in found}
        return self._later.get(address)

    def _module_access_hook(self, emu: Any, addr: int, size: int, ctx: Any) -> Any:
        """A function is called where the library that has it lies in memory."""
        done = super()._module_access_hook(emu, addr, size, ctx)
        self._end_where_complete()
        return done

    def _end_where_complete(self) -> None:
        """After a call that ends the program: Unicorn, sent elsewhere, does not stop by itself."""
        if self.run_complete and self.get_pc() != self.return_hook:
            self.set_pc(self.return_hook)
