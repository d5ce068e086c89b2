"""Functions of ours that have the program's functions run, and go on when those return.

An :class:`~drakcelery.engines.speakeasy_guest.apis.api.Api` answers by a generator then: it yields a
:class:`GuestCall` and gets what the program's function returned. That function returns to a made-up import
of :data:`MODULE`, whose number says which of ours it was called by. A function of the program may also never
return (an exception, ``longjmp``); ours is given up then, when the stack is found to be above it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from drakcelery.engines.speakeasy_guest.machine.processor import Processor, Registers

MODULE: Final = "guest-call"
MAX_PENDING: Final = 1024
"""Functions of ours that wait at a time in one thread; a program that needs more has lost its way."""

RED_ZONE = 128
"""Bytes below the stack pointer that are left alone."""


@dataclass(frozen=True)
class GuestCall:
    """Have the program's function at *address* run."""

    address: int
    arguments: tuple[int, ...] = ()
    registers: Registers = field(default_factory=dict)
    """Registers that it expects to be set, besides its arguments."""


@dataclass(frozen=True)
class Wait:
    """Have other threads run: see :meth:`scheduler.Scheduler.wait`."""

    ready: Callable[[], bool]
    milliseconds: int
    alertable: bool = False
    lasting: bool = False


@dataclass(frozen=True)
class Leave:
    """Go on elsewhere by calling *how*; what was yielded from goes on by :meth:`GuestCalls.resume`."""

    how: Callable[[], None]


class Elsewhere:
    """A function of ours has set all registers: there is nothing to return."""


ELSEWHERE: Final = Elsewhere()

Outcome = int | Elsewhere
Steps = Generator[GuestCall | Wait | Leave, int, Outcome]
Done = Callable[[Outcome, str | None], None]
"""Gets what a function of ours returned, and why it failed."""


@dataclass
class Pending:
    """A function of ours that waits."""

    steps: Steps
    registers: Registers
    """As they were when it was called."""
    after: Registers
    """As they are when it has returned, apart from the result: where an unwinder goes on."""
    stack: int
    """What the program's functions may use lies below."""
    done: Done


class GuestCalls:
    """The functions of ours that wait, of the thread that runs."""

    def __init__(self, emu: Any) -> None:
        self._emu = emu
        self.pending: list[Pending] = []
        self._returns: list[int] = []

    @property
    def processor(self) -> Processor:
        """The emulator's."""
        processor: Processor = self._emu.processor
        return processor

    def begin(self, steps: Steps, after: Registers, done: Done) -> None:
        """Start a function of ours; *done* gets what it returns."""
        registers = self.processor.snapshot()
        stack = registers[self.processor.sp]
        self._drop(stack)
        if len(self.pending) >= MAX_PENDING:
            raise RecursionError(f"{MAX_PENDING} calls into the program at a time")
        self.pending.append(
            Pending(steps=steps, registers=registers, after=after, stack=stack - RED_ZONE, done=done)
        )
        self._advance(None)

    def returned(self, name: str) -> None:
        """A function of the program has returned to our function of this name (``return_0``).

        Raises:
            ValueError: none of ours waits there.
        """
        number = int(name.rpartition("_")[2])
        if number >= len(self.pending):
            raise ValueError("a return to a call that was never made")
        del self.pending[number + 1 :]
        self._advance(self.processor.get(self.processor.result))

    def resume(self, value: int) -> None:
        """Go on with the last function of ours, which waited for something else than the program."""
        self._advance(value)

    def reserve(self, size: int) -> int:
        """Room on the program's stack, zeroed, for as long as the function of ours waits."""
        pending = self.pending[-1]
        pending.stack = (pending.stack - size) & ~0xF
        self._emu.mem_write(pending.stack, bytes(size))
        return pending.stack

    def behind(self, address: int) -> Registers | None:
        """Where the program goes on behind our function that an *address* returns to; None for any other."""
        if address not in self._returns:
            return None
        number = self._returns.index(address)
        return dict(self.pending[number].after) if number < len(self.pending) else None

    def _drop(self, stack: int) -> None:
        """Forget what waits below *stack*: it was left by a jump."""
        while self.pending and self.pending[-1].registers[self.processor.sp] <= stack:
            self.pending.pop().steps.close()

    def _advance(self, value: int | None) -> None:
        pending = self.pending[-1]
        problem = None
        outcome: Outcome = 0
        try:
            request = pending.steps.send(value)  # type: ignore[arg-type]  # None starts a generator
            if isinstance(request, Wait):
                self._emu.scheduler.block(request)
                return
            if isinstance(request, Leave):
                request.how()
                return
            self.processor.restore(request.registers)
            self.processor.enter(request.address, request.arguments, self._return_address(), pending.stack)
        except StopIteration as stop:
            outcome = stop.value
        except Exception as error:  # noqa: BLE001  # a bad pointer of the program must not end the run
            problem = f"{type(error).__name__}: {error}"[:200]
        else:
            return
        self._finish(pending)
        if not isinstance(outcome, Elsewhere):
            self.processor.restore(pending.registers)
        pending.done(outcome, problem)

    def _finish(self, pending: Pending) -> None:
        if pending in self.pending:
            del self.pending[self.pending.index(pending) :]

    def _return_address(self) -> int:
        number = len(self.pending) - 1
        while len(self._returns) <= number:
            self._returns.append(self._emu.add_callback(MODULE, f"return_{len(self._returns)}"))
        return self._returns[number]
