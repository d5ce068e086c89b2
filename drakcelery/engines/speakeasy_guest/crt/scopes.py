"""Handlers that Visual C++'s ``__try`` blocks name: in 64 bits by tables, in 32 bits by a chain of levels.

``__C_specific_handler`` reads a ``SCOPE_TABLE``; ``_except_handler3`` and ``_except_handler4_common`` read
the frame that the compiler laid down (``EH3``/``EH4`` registration: scope table and try level).
"""

from __future__ import annotations

from collections.abc import Generator

from drakcelery.engines.speakeasy_guest.calling.guest_calls import ELSEWHERE, GuestCall, Steps
from drakcelery.engines.speakeasy_guest.crt.abi import Function, signed
from drakcelery.engines.speakeasy_guest.crt.runtime import Runtime
from drakcelery.engines.speakeasy_guest.exceptions import contexts, frames32, frames64
from drakcelery.engines.speakeasy_guest.exceptions.contexts import (
    CONTEXT_SIZE,
    TARGET_UNWIND,
    UNWINDING,
    Dispatcher,
)
from drakcelery.engines.speakeasy_guest.machine.processor import Registers

CONTINUE_EXECUTION, CONTINUE_SEARCH = 0, 1
EXECUTE_HANDLER = 1
MAX_SCOPES = 4096
ANY_UNWIND = UNWINDING | contexts.EXIT_UNWIND


def caller(crt: Runtime) -> Registers:
    """The registers as they are when the present call has returned."""
    registers: Registers = crt.emu.exceptions.registers()
    processor = crt.emu.processor
    registers[processor.pc] = crt.emu.get_ret_address()
    registers[processor.sp] += processor.size
    return registers


def pointers_to(crt: Runtime, record: int, context: int) -> int:
    """``EXCEPTION_POINTERS``, for as long as the present function waits."""
    place = int(crt.emu.guest_calls.reserve(16))
    crt.machine.put(place, record)
    crt.machine.put(place + crt.machine.size, context)
    return place


def _c_specific(crt: Runtime, record: int, establisher: int, context: int, place: int) -> Steps:
    registers = caller(crt)
    frame = Dispatcher.read(crt.emu, place)
    flags = contexts.read_record(crt.emu, record).flags
    if flags & ANY_UNWIND:
        return (yield from _leave_64(crt, frame, place, establisher, flags))
    pointers = pointers_to(crt, record, context)
    for _, handler, jump in _scopes(crt, frame):
        if not jump:
            continue
        result = handler
        if handler != EXECUTE_HANDLER:
            result = signed((yield GuestCall(frame.image_base + handler, (pointers, establisher))))
        if result < 0:
            return CONTINUE_EXECUTION
        if result > 0:
            code = contexts.read_record(crt.emu, record).code
            wish = frames64.Unwinding(
                target=establisher,
                target_ip=frame.image_base + jump,
                record=record,
                value=code,
                context=crt.emu.guest_calls.reserve(CONTEXT_SIZE[64]),
            )
            return (yield from frames64.unwind_to(crt.emu, crt.emu.exceptions.tables, wish, registers))
    return CONTINUE_SEARCH


def _scopes(crt: Runtime, frame: Dispatcher) -> list[tuple[int, int, int]]:
    """The scopes around the frame's place, innermost first: number, handler and where it continues."""
    pc = frame.control_pc - frame.image_base
    count = min(crt.machine.number(frame.handler_data, 4), MAX_SCOPES)
    found = []
    for number in range(frame.scope_index, count):
        words = frame.handler_data + 4 + 16 * number
        begin, end, handler, jump = (crt.machine.number(words + 4 * item, 4) for item in range(4))
        if begin <= pc < end:
            found.append((number, handler, jump))
    return found


def _leave_64(crt: Runtime, frame: Dispatcher, place: int, establisher: int, flags: int) -> Steps:
    """Run the ``__finally`` blocks that the unwinding leaves."""
    target = frame.target_ip - frame.image_base
    for number, handler, jump in _scopes(crt, frame):
        words = frame.handler_data + 4 + 16 * number
        begin, end = crt.machine.number(words, 4), crt.machine.number(words + 4, 4)
        if flags & TARGET_UNWIND and (begin <= target < end or (jump and jump == target)):
            break
        if not jump:
            frame.scope_index = number + 1
            frame.write(crt.emu, place)
            yield GuestCall(frame.image_base + handler, (1, establisher))
    return CONTINUE_SEARCH


# 32 bits.


def _level(crt: Runtime, frame: int) -> int:
    return signed(crt.machine.number(frame + 12))


def _scope(crt: Runtime, table: int, level: int) -> tuple[int, int, int]:
    """The level around it, the filter (0: a ``__finally``), and the handler."""
    place = table + 12 * level
    return signed(crt.machine.number(place)), crt.machine.number(place + 4), crt.machine.number(place + 8)


def _leave_32(crt: Runtime, frame: int, table: int, until: int) -> Generator[GuestCall, int, None]:
    """Run the ``__finally`` blocks of the levels within *until*."""
    for _ in range(MAX_SCOPES):
        level = _level(crt, frame)
        if level < 0 or level == until:
            return
        outer, filtered, handler = _scope(crt, table, level)
        crt.machine.put(frame + 12, outer)
        if not filtered:
            yield GuestCall(handler, registers={"ebp": frame + 16})


def _by_levels(crt: Runtime, table: int, record: int, frame: int, context: int) -> Steps:
    registers = caller(crt)
    if contexts.read_record(crt.emu, record).flags & ANY_UNWIND:
        yield from _leave_32(crt, frame, table, -1)
        return CONTINUE_SEARCH
    crt.machine.put(frame - 4, pointers_to(crt, record, context))
    level = _level(crt, frame)
    for _ in range(MAX_SCOPES):
        if level < 0:
            break
        outer, filtered, handler = _scope(crt, table, level)
        result = 0
        if filtered:
            result = signed((yield GuestCall(filtered, registers={"ebp": frame + 16})))
        if result < 0:
            return CONTINUE_EXECUTION
        if result > 0:
            yield from frames32.unwind_to(crt.emu, target=frame, record=record, value=0, registers=registers)
            yield from _leave_32(crt, frame, table, level)
            crt.machine.put(frame + 12, outer)
            stack = crt.machine.number(frame - 8)
            crt.emu.processor.restore(registers | {"ebp": frame + 16, "esp": stack, "eip": handler})
            return ELSEWHERE
        level = outer
    return CONTINUE_SEARCH


def _handler3(crt: Runtime, record: int, frame: int, context: int, _dispatcher: int) -> Steps:
    return (yield from _by_levels(crt, crt.machine.number(frame + 8), record, frame, context))


def _handler4(
    crt: Runtime, cookie: int, _check: int, record: int, frame: int, context: int, _dispatcher: int
) -> Steps:
    table = crt.machine.number(frame + 8) ^ crt.machine.number(cookie)
    return (yield from _by_levels(crt, table + 16, record, frame, context))


FUNCTIONS: dict[str, Function] = {
    "__C_specific_handler": Function("pppp", _c_specific),
    "_except_handler2": Function("pppp", _handler3),
    "_except_handler3": Function("pppp", _handler3),
    "_except_handler4_common": Function("pppppp", _handler4),
}
"""Functions by name."""
