"""Speakeasy's Windows with a C runtime for each process."""

from __future__ import annotations

from typing import Any

from drakcelery.engines.speakeasy_guest.crt import table
from drakcelery.engines.speakeasy_guest.crt.runtime import Runtime
from drakcelery.engines.speakeasy_guest.record.calls import Call
from drakcelery.engines.speakeasy_guest.record.tally import Tally
from drakcelery.engines.speakeasy_guest.scheduling.threads import Threading


class WithRuntime(Threading):
    """What the emulated Windows does for C runtimes."""

    runtime: Runtime | None = None
    tally: Tally

    def start(self) -> None:
        """Run what is queued for a process, which gets a runtime of its own."""
        self.runtime = Runtime(self)
        for image in (self.image, *self.libraries.images()):
            if image is not None:
                self.link_variables(image)
        super().start()

    def link_variables(self, image: Any) -> None:
        """Let what is loaded into the process find the runtime's variables."""
        if self.runtime is not None:
            table.link_variables(self.runtime, image.imports)

    def answers(self, call: Call) -> bool:
        """Answer a function of the C runtime; False for another."""
        function = table.find(call.module, call.name)
        if function is None or self.runtime is None:
            return False
        self.tally.add(call)
        self.runtime.call(call, function)
        return True

    def variable(self, module: str, name: str) -> int:
        """The address of a C runtime's variable; 0 where a DLL's export is none."""
        return table.variable(self.runtime, module, name) if self.runtime is not None else 0

    def close_runtime(self) -> None:
        """The process is over."""
        if self.runtime is not None:
            self.runtime.close()

    def _hook_code(self, emu: Any, addr: int, size: int, ctx: Any) -> Any:
        """Also sees a function of Windows that returns to another one, or to one of ours that waits.

        Speakeasy sees a call where its address cannot be read; right behind another call, it can be.
        """
        start, end = self.get_reserved_ranges()
        if start <= addr < end and not self.run_complete:
            for address, module, name in (*self.callbacks, *self.dyn_imps):
                if address == addr:
                    self.handle_import_func(module, name)
                    if not self.run_complete:
                        return True
        return super()._hook_code(emu, addr, size, ctx)
