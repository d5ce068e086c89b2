"""Exceptions of the emulated program, faults and what it raises itself, and who handles them.

The order is that of Windows: vectored handlers, handlers of frames, the filter for what nobody handles.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.calling.guest_calls import ELSEWHERE, GuestCall, Outcome, Steps
from drakcelery.engines.speakeasy_guest.exceptions import contexts, frames32, frames64
from drakcelery.engines.speakeasy_guest.exceptions.contexts import (
    CONTEXT_SIZE,
    NONCONTINUABLE,
    RECORD_SIZE,
    ExceptionRecord,
)
from drakcelery.engines.speakeasy_guest.exceptions.unwinding import Tables
from drakcelery.engines.speakeasy_guest.machine.processor import VECTORS, Registers

ACCESS_VIOLATION: Final = 0xC0000005
GUARD_PAGE: Final = 0x80000001
BREAKPOINT: Final = 0x80000003
SINGLE_STEP: Final = 0x80000004
ILLEGAL_INSTRUCTION: Final = 0xC000001D
PRIVILEGED_INSTRUCTION: Final = 0xC0000096
DIVIDE_BY_ZERO: Final = 0xC0000094
NAMES: Final = {
    ACCESS_VIOLATION: "an access violation",
    GUARD_PAGE: "a touch of a guard page",
    BREAKPOINT: "a breakpoint",
    SINGLE_STEP: "a single step",
    ILLEGAL_INSTRUCTION: "an illegal instruction",
    PRIVILEGED_INSTRUCTION: "a privileged instruction",
    DIVIDE_BY_ZERO: "a division by zero",
    0xE06D7363: "a C++ exception",
    0x20474343: "a C++ exception",
}

READ, WRITE, EXECUTE = 0, 1, 8
"""The first parameter of an access violation."""

CONTINUE_EXECUTION: Final = 0xFFFFFFFF
EXECUTE_HANDLER: Final = 1
"""What filters and vectored handlers return."""

FIRST_HANDLE: Final = 0x7EC00000
"""Handles of vectored handlers are numbers that no object has."""

MAX_DEPTH: Final = 32
"""Exceptions in handlers of exceptions."""

LOW: Final = 0xFFFFFFFF


@dataclass(frozen=True)
class Vectored:
    """A handler of ``AddVectoredExceptionHandler``."""

    address: int
    handle: int


class Exceptions:
    """What handles the exceptions of one process."""

    def __init__(self, emu: Any) -> None:
        self._emu = emu
        self.vectored: list[Vectored] = []
        self.continued: list[Vectored] = []
        self.filter = 0
        """``SetUnhandledExceptionFilter``."""
        self.tables = Tables(emu)
        self._depth: list[int] = []
        self._last_handle = FIRST_HANDLE

    def add(self, address: int, *, first: bool, continued: bool) -> int:
        """Add a vectored handler, for exceptions or for what goes on after one. Returns its handle."""
        self._last_handle += 8
        handlers = self.continued if continued else self.vectored
        handlers.insert(0 if first else len(handlers), Vectored(address, self._last_handle))
        return self._last_handle

    def remove(self, handle: int) -> bool:
        """Remove the handler of that handle; False without one."""
        for handlers in (self.vectored, self.continued):
            for handler in handlers:
                if handler.handle == handle:
                    handlers.remove(handler)
                    return True
        return False

    def registers(self) -> Registers:
        """The present ones, with those of vectors in 64 bits."""
        processor = self._emu.processor
        registers: Registers = processor.snapshot()
        if processor.bits == 64:
            registers |= {name: processor.get(name) for name in VECTORS}
        return registers

    def dispatch(self, record: ExceptionRecord, registers: Registers) -> Steps:
        """Find who handles it. Returns :data:`ELSEWHERE`; the process is over if nobody does."""
        emu = self._emu
        stack = registers[emu.processor.sp]
        self._depth = [one for one in self._depth if one > stack]
        if len(self._depth) >= MAX_DEPTH:
            emu.crash(record, "in too many handlers of other exceptions")
            return ELSEWHERE
        self._depth.append(stack)
        bits = emu.processor.bits
        context = emu.guest_calls.reserve(CONTEXT_SIZE[bits] + 64)
        contexts.write_context(emu, context, registers)
        place = emu.guest_calls.reserve(RECORD_SIZE[bits])
        contexts.write_record(emu, place, record)
        pointers = emu.guest_calls.reserve(16)
        emu.write_ptr(pointers, place)
        emu.write_ptr(pointers + emu.get_ptr_size(), context)
        if (yield from self._handled(record, pointers, place, context)):
            for handler in tuple(self.continued):
                if (yield GuestCall(handler.address, (pointers,))) & LOW == CONTINUE_EXECUTION:
                    break
            emu.processor.restore(contexts.read_context(emu, context))
            if self._depth:
                self._depth.pop()
            return ELSEWHERE
        emu.crash(record)
        return ELSEWHERE

    def _handled(
        self, record: ExceptionRecord, pointers: int, place: int, context: int
    ) -> Generator[GuestCall, int, bool]:
        for handler in tuple(self.vectored):
            if handler in self.vectored:
                result = yield GuestCall(handler.address, (pointers,))
                if result & LOW == CONTINUE_EXECUTION:
                    return True
        if self._emu.processor.bits == 64:
            found = yield from frames64.search(self._emu, self.tables, place, context)
        else:
            found = yield from frames32.search(self._emu, place, context)
        if found:
            return not record.flags & NONCONTINUABLE
        return (yield from self._filtered(pointers))

    def _filtered(self, pointers: int) -> Generator[GuestCall, int, bool]:
        if not self.filter:
            return False
        result = yield GuestCall(self.filter, (pointers,))
        return result & LOW == CONTINUE_EXECUTION

    def unhandled(self, pointers: int) -> Generator[GuestCall, int, Outcome]:
        """``UnhandledExceptionFilter``, as programs call it."""
        if not self.filter:
            return EXECUTE_HANDLER
        return (yield GuestCall(self.filter, (pointers,))) & LOW


def words(record: ExceptionRecord) -> str:
    """What happened, in words."""
    what = NAMES.get(record.code, f"exception {record.code:#x}")
    if record.code == ACCESS_VIOLATION and len(record.parameters) > 1:
        kind = {READ: "reading", WRITE: "writing", EXECUTE: "executing"}.get(record.parameters[0], "at")
        return f"{what} ({kind} {record.parameters[1]:#x})"
    return what
