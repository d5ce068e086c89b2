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

    def heap_alloc(self, size: int, heap: str = "None") -> int:
        """A block of the heap, for functions of Speakeasy's. Raises MemoryError."""
        if self.runtime is None:
            return int(super().heap_alloc(size, heap))
        block = self.runtime.heap.zeroed(size)
        if not block:
            raise MemoryError(f"no room for {size} bytes")
        return block

    def variable(self, module: str, name: str) -> int:
        """The address of a C runtime's variable; 0 where a DLL's export is none."""
        return table.variable(self.runtime, module, name) if self.runtime is not None else 0

    def close_runtime(self) -> None:
        """The process is over."""
        if self.runtime is not None:
            self.runtime.close()
