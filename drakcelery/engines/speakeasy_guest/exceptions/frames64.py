"""Handlers of 64-bit frames: who handles an exception, and how the frames below that one are left."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Final

from unicorn import UcError  # type: ignore[import-untyped]  # without types

from drakcelery.engines.speakeasy_guest.calling.guest_calls import ELSEWHERE, GuestCall, Outcome, Steps
from drakcelery.engines.speakeasy_guest.exceptions import contexts
from drakcelery.engines.speakeasy_guest.exceptions.contexts import (
    COLLIDED_UNWIND,
    CONTEXT_SIZE,
    DISPATCHER_SIZE,
    EXIT_UNWIND,
    RECORD_SIZE,
    TARGET_UNWIND,
    UNWINDING,
    Dispatcher,
    ExceptionRecord,
)
from drakcelery.engines.speakeasy_guest.exceptions.unwinding import (
    EHANDLER,
    UHANDLER,
    Frame,
    Tables,
    unwind,
    unwind_function,
)
from drakcelery.engines.speakeasy_guest.machine.processor import Registers

CONTINUE_EXECUTION, CONTINUE_SEARCH, NESTED_EXCEPTION, COLLIDED = 0, 1, 2, 3
"""What a frame's handler returns (``EXCEPTION_DISPOSITION``)."""

STATUS_UNWIND: Final = 0xC0000027
STATUS_UNWIND_CONSOLIDATE: Final = 0x80000029
STATUS_LONGJUMP: Final = 0x80000026
MAX_FRAMES: Final = 4096
"""Frames that one exception passes; a stack that goes in circles has no end."""

LOW: Final = 0xFFFFFFFF


def _pass(emu: Any, registers: Registers) -> bool:
    """Go behind functions of ours that called the program; False where the stack ends."""
    for _ in range(MAX_FRAMES):
        behind = emu.guest_calls.behind(registers["rip"])
        if behind is None:
            break
        registers.update(behind)
    return not emu.is_outermost(registers["rip"])


def search(emu: Any, tables: Tables, record: int, context: int) -> Generator[GuestCall, int, bool]:
    """Ask the handlers of each frame, from *context* up; True if one had the program continue there."""
    registers = contexts.read_context(emu, context)
    place = emu.guest_calls.reserve(DISPATCHER_SIZE)
    scratch = emu.guest_calls.reserve(CONTEXT_SIZE[64])
    for _ in range(MAX_FRAMES):
        if not _pass(emu, registers):
            return False
        pc = registers["rip"]
        try:
            frame = unwind(emu, tables, registers, EHANDLER)
        except UcError:  # the stack or its tables lead nowhere
            return False
        if not frame.handler or frame.function is None:
            continue
        contexts.write_context(emu, scratch, registers)
        _dispatcher(frame, pc, scratch).write(emu, place)
        disposition = (yield GuestCall(frame.handler, (record, frame.establisher, context, place))) & LOW
        if disposition == CONTINUE_EXECUTION:
            return True
        if disposition == COLLIDED:
            registers = _collided(emu, tables, place, EHANDLER)
    return False


def _dispatcher(frame: Frame, pc: int, context: int, **more: int) -> Dispatcher:
    function = frame.function
    return Dispatcher(
        control_pc=pc,
        image_base=function.base if function else 0,
        function_entry=function.place if function else 0,
        establisher=frame.establisher,
        context=context,
        handler=frame.handler,
        handler_data=frame.handler_data,
        **more,
    )


def _collided(emu: Any, tables: Tables, place: int, wanted: int) -> Registers:
    """A handler came upon an unwinding that is under way: go on from that one's frame."""
    other = Dispatcher.read(emu, place)
    registers = contexts.read_context(emu, other.context)
    registers["rip"] = other.control_pc
    function = tables.read(other.function_entry, other.image_base)
    unwind_function(emu, tables, registers, function, wanted)
    return registers


@dataclass
class Unwinding:
    """What ``RtlUnwindEx`` is asked for."""

    target: int
    """The frame; 0 for all of them."""
    target_ip: int
    """Where to go on in that one."""
    record: int
    """Address of the exception's record; 0 for a new one."""
    value: int
    """What is returned there."""
    context: int
    """Memory for a context, which handlers see and may change."""
    history: int = 0
    """Given on to handlers."""


def unwind_to(emu: Any, tables: Tables, wish: Unwinding, registers: Registers) -> Steps:
    """``RtlUnwindEx``: leave the frames from *registers* up to the target, and go on in that one."""
    if not wish.record:
        wish.record = emu.guest_calls.reserve(RECORD_SIZE[64])
        fresh = ExceptionRecord(code=STATUS_UNWIND, address=registers["rip"])
        contexts.write_record(emu, wish.record, fresh)
    registers = yield from _leave(emu, tables, wish, registers)
    if contexts.read_record(emu, wish.record).code != STATUS_UNWIND_CONSOLIDATE:
        registers["rip"] = wish.target_ip
    registers["rax"] = wish.value
    return (yield from restore(emu, registers, wish.record))


def _leave(
    emu: Any, tables: Tables, wish: Unwinding, registers: Registers
) -> Generator[GuestCall, int, Registers]:
    """Tell the handlers of the frames that are left; the registers in the target's frame."""
    kind = UNWINDING | (0 if wish.target else EXIT_UNWIND)
    flags = contexts.read_record(emu, wish.record).flags | kind
    place = emu.guest_calls.reserve(DISPATCHER_SIZE)
    for _ in range(MAX_FRAMES):
        if not _pass(emu, registers):
            break
        pc, current = registers["rip"], dict(registers)
        frame = unwind(emu, tables, registers, UHANDLER)
        at_target = frame.establisher == wish.target
        if frame.handler:
            contexts.write_context(emu, wish.context, current)
            contexts.set_flags(emu, wish.record, flags | (TARGET_UNWIND if at_target else 0))
            more = {"target_ip": wish.target_ip, "history": wish.history}
            _dispatcher(frame, pc, wish.context, **more).write(emu, place)
            arguments = (wish.record, frame.establisher, wish.context, place)
            if (yield GuestCall(frame.handler, arguments)) & LOW == COLLIDED:
                flags |= COLLIDED_UNWIND
                registers = _collided(emu, tables, place, UHANDLER)
                continue
            current = contexts.read_context(emu, wish.context)
        flags &= ~COLLIDED_UNWIND
        if at_target:
            return current
    return registers


def callers(emu: Any, registers: Registers, limit: int) -> list[int]:
    """Return addresses on the stack, innermost first."""
    found: list[int] = []
    while len(found) < limit and _pass(emu, registers):
        found.append(registers["rip"])
        try:
            unwind(emu, emu.exceptions.tables, registers, 0)
        except UcError:
            break
    return found


def restore(emu: Any, registers: Registers, record: int) -> Generator[GuestCall, int, Outcome]:
    """``RtlRestoreContext``: go on with *registers*, or where the record's own function says."""
    if record:
        known = contexts.read_record(emu, record)
        if known.code == STATUS_UNWIND_CONSOLIDATE and known.parameters:
            emu.guest_calls.pending[-1].after = dict(registers)  # what it runs is seen as called from there
            place = yield GuestCall(known.parameters[0], (record,))
            registers = registers | {"rip": place}
        elif known.code == STATUS_LONGJUMP and known.parameters:
            registers = registers | _jump_buffer(emu, known.parameters[0])
    emu.processor.restore(registers)
    return ELSEWHERE


def _jump_buffer(emu: Any, place: int) -> Registers:
    """The registers in a ``jmp_buf`` of Visual C++ (``setjmp.h``): after the frame's address."""
    names = ("rbx", "rsp", "rbp", "rsi", "rdi", "r12", "r13", "r14", "r15", "rip")
    found = {name: emu.read_ptr(place + 8 + 8 * number) for number, name in enumerate(names)}
    for number in range(10):
        data = emu.mem_read(place + 0x60 + 16 * number, 16)
        found[f"xmm{6 + number}"] = int.from_bytes(data, "little")
    return found
