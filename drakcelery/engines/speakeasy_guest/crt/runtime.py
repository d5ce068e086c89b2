"""The C runtime of one emulated process: what it keeps, and how its functions are answered."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

from drakcelery.engines.speakeasy_guest.crt.abi import Function, Result, Returns, read_arguments, shown
from drakcelery.engines.speakeasy_guest.crt.catching import Caught
from drakcelery.engines.speakeasy_guest.crt.heap import Heap
from drakcelery.engines.speakeasy_guest.crt.machine import Machine
from drakcelery.engines.speakeasy_guest.crt.variables import Variables
from drakcelery.engines.speakeasy_guest.record.calls import Call


@dataclass
class Process:
    """What functions keep between calls."""

    random: int = 1
    locale: str = "C"
    at_exit: list[int] = field(default_factory=list)
    signals: dict[int, int] = field(default_factory=dict)
    tokens: dict[int, int] = field(default_factory=dict)
    """Where ``strtok`` goes on, by the width of its characters."""
    invalid_parameter: int = 0
    app_type: int = 0
    umask: int = 0
    caught: list[Caught] = field(default_factory=list)
    """Objects whose catch blocks run, for ``throw`` without one."""
    temporary: int = 0
    """How many names for temporary files were given."""
    searches: dict[int, list[Any]] = field(default_factory=dict)
    """What ``_findnext`` still has to give, by its handle."""


class Runtime:
    """Answers the functions of the C runtime for one process."""

    def __init__(self, emu: Any) -> None:
        from drakcelery.engines.speakeasy_guest.crt.descriptors import Descriptors
        from drakcelery.engines.speakeasy_guest.crt.streams import Streams

        self.machine = Machine(emu)
        self.heap = Heap(self.machine)
        self.variables = Variables(self.machine)
        self.files = Descriptors(self)
        self.streams = Streams(self)
        self.process = Process()
        self._returns = Returns(self.machine)

    @property
    def emu(self) -> Any:
        """The emulator."""
        return self.machine.emu

    # Errors.

    def fail(self, number: int, result: int = -1) -> int:
        """Set ``errno`` and give *result*."""
        self.machine.put(self.variables.address("errno"), number, 4)
        return result

    # Calls.

    def call(self, call: Call, function: Function) -> None:
        """Answer *call* with a function of ours."""
        letters = function.arguments
        arguments = read_arguments(self.machine, letters)
        call.raw, texts = shown(self.machine, letters, arguments)
        try:
            result = function.answer(self, *arguments)
        except MemoryError:
            result = 0
            call.problem = "MemoryError"
        except Exception as error:  # noqa: BLE001  # a bad pointer of the program must not end the run
            call.problem = f"{type(error).__name__}: {error}"[:200]
            result = 0
        if isinstance(result, Generator):
            after = self.emu.processor.after_return(call.called_from, function.pops)
            self.emu.guest_calls.begin(
                result, after, lambda outcome, problem: self._done(call, function, texts, outcome, problem)
            )
        else:
            self._finish(function, texts, result)

    def _done(
        self, call: Call, function: Function, arguments: list[Any], outcome: Result, problem: str | None
    ) -> None:
        """A function of ours that called the program's is through."""
        call.problem = problem
        self.emu.recorder.begin(call)
        self._finish(function, arguments, outcome)

    def _finish(self, function: Function, arguments: list[Any], result: Result) -> None:
        self.emu.recorder.end(arguments, int(result) if isinstance(result, int) else 0)
        self._returns.hand_over(result, function.returns, pops=function.pops)

    def close(self) -> None:
        """The process is over: what it left in the buffers of its streams is written."""
        self.streams.flush_all()
