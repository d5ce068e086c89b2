"""C++ exceptions of Visual C++: ``throw``, the handler of frames with ``try``, and what ``catch`` runs."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from drakcelery.engines.speakeasy_guest.calling.guest_calls import ELSEWHERE, GuestCall, Steps
from drakcelery.engines.speakeasy_guest.crt import catching
from drakcelery.engines.speakeasy_guest.crt.abi import Function
from drakcelery.engines.speakeasy_guest.crt.catching import CXX_EXCEPTION, MAGIC, Catch, Tables, Thrown
from drakcelery.engines.speakeasy_guest.crt.runtime import Runtime
from drakcelery.engines.speakeasy_guest.crt.scopes import ANY_UNWIND, CONTINUE_SEARCH, caller
from drakcelery.engines.speakeasy_guest.exceptions import contexts, frames32, frames64
from drakcelery.engines.speakeasy_guest.exceptions.contexts import (
    CONTEXT_SIZE,
    NONCONTINUABLE,
    RECORD_SIZE,
    TARGET_UNWIND,
    Dispatcher,
    ExceptionRecord,
)
from drakcelery.engines.speakeasy_guest.exceptions.frames64 import STATUS_UNWIND_CONSOLIDATE

CALL_CATCH = "__CxxCallCatchBlock"
MAX_STATES = 65536
NO_HELP = -2


def _throw(crt: Runtime, thrown: int, info: int) -> Steps:
    registers = caller(crt)
    if not crt.machine.is_64:
        registers["esp"] += 8
    now = Thrown(thrown, info, _image_base(crt, info))
    if not info and crt.process.caught:  # throw; without an object
        now = crt.process.caught[-1]
    parameters = (MAGIC[0], now.object, now.info, *((now.base,) if crt.machine.is_64 else ()))
    address = registers[crt.emu.processor.pc]
    record = ExceptionRecord(code=CXX_EXCEPTION, address=address, flags=NONCONTINUABLE, parameters=parameters)
    steps: Steps = crt.emu.exceptions.dispatch(record, registers)
    return (yield from steps)


def _image_base(crt: Runtime, address: int) -> int:
    if not crt.machine.is_64 or not address:
        return 0
    module = crt.emu.get_module_from_addr(address)
    return int(module.get_base()) if module is not None else 0


def thrown_by(crt: Runtime, record: ExceptionRecord) -> Thrown | None:
    """The object of a C++ exception; None for another one."""
    words = record.parameters
    if record.code != CXX_EXCEPTION or len(words) < (4 if crt.machine.is_64 else 3) or not words[2]:
        return None
    return Thrown(words[1], words[2], words[3] if crt.machine.is_64 else 0)


def _found(
    crt: Runtime, tables: Tables, state: int, thrown: Thrown
) -> tuple[int, Catch, catching.Catchable] | None:
    """The catch that takes the object in a state: the first state of its ``try``, itself, and as what."""
    for low, high, catches in tables.tries():
        if low <= state <= high:
            for catch in catches:
                catchable = catching.caught_as(crt.machine, catch, thrown)
                if catchable is not None:
                    return low, catch, catchable
    return None


def _destroy(crt: Runtime, thrown: Thrown) -> Generator[GuestCall, int, None]:
    destructor = crt.machine.number(thrown.info + 4, 4)
    if destructor:
        yield catching.method(crt.machine, thrown.base + destructor, thrown.object)


# 64 bits.


def _frame_64(crt: Runtime, record: int, establisher: int, _context: int, place: int) -> Steps:
    registers = caller(crt)
    frame = Dispatcher.read(crt.emu, place)
    tables = Tables(
        crt.machine, frame.image_base + crt.machine.number(frame.handler_data, 4), frame.image_base
    )
    what = contexts.read_record(crt.emu, record)
    if not tables.is_known:
        return CONTINUE_SEARCH
    establisher = _function_frame(crt, tables, frame, establisher)
    if what.flags & ANY_UNWIND:
        target = -1
        if what.flags & TARGET_UNWIND and what.code == STATUS_UNWIND_CONSOLIDATE:
            target = contexts_signed(what.parameters[3])
        yield from _unwind_states_64(crt, tables, frame, establisher, target)
        return CONTINUE_SEARCH
    thrown = thrown_by(crt, what)
    found = _found(crt, tables, _state_64(crt, tables, frame, establisher), thrown) if thrown else None
    if thrown is None or found is None:
        return CONTINUE_SEARCH
    low, catch, catchable = found
    yield from catching.deliver(crt.machine, catch, catchable, thrown, establisher)
    return (yield from _enter_64(crt, (frame, establisher, low), catch, thrown, registers))


def contexts_signed(value: int) -> int:
    """A parameter of a record as a state."""
    return value - (1 << 64) if value >> 63 else value


def _function_frame(crt: Runtime, tables: Tables, frame: Dispatcher, establisher: int) -> int:
    """The function's frame, from that of one of its catches."""
    begin = frame.image_base + crt.machine.number(frame.function_entry, 4) if frame.function_entry else 0
    for _, _, catches in tables.tries():
        for catch in catches:
            if catch.handler == begin:
                return crt.machine.number(establisher + catch.parent)
    return establisher


def _state_64(crt: Runtime, tables: Tables, frame: Dispatcher, establisher: int) -> int:
    place = tables.unwind_help
    noted = crt.machine.number(establisher + place, 4, signed=True) if place else NO_HELP
    return noted if noted != NO_HELP else tables.state_at(frame.control_pc)


def _unwind_states_64(
    crt: Runtime, tables: Tables, frame: Dispatcher, establisher: int, target: int
) -> Generator[GuestCall, int, None]:
    """Destroy the objects of the states that are left."""
    state = _state_64(crt, tables, frame, establisher)
    for _ in range(MAX_STATES):
        if state in (target, -1):
            break
        state, action = tables.unwound(state)
        if tables.unwind_help:
            crt.machine.put(establisher + tables.unwind_help, state, 4)
        if action:
            yield GuestCall(action, (0, establisher))
    if tables.unwind_help:
        crt.machine.put(establisher + tables.unwind_help, target if target != -1 else state, 4)


def _enter_64(
    crt: Runtime, where: tuple[Dispatcher, int, int], catch: Catch, thrown: Thrown, registers: Any
) -> Steps:
    """Leave the frames below, and run the catch in the frame."""
    frame, establisher, low = where
    calls = int(crt.emu.get_proc("msvcrt", CALL_CATCH))
    record = crt.emu.guest_calls.reserve(RECORD_SIZE[64])
    parameters = (
        *(calls, establisher, catch.handler, low),
        *(thrown.object, thrown.info, thrown.base, _help(crt, frame, establisher)),
    )
    contexts.write_record(
        crt.emu,
        record,
        ExceptionRecord(
            code=STATUS_UNWIND_CONSOLIDATE,
            address=frame.control_pc,
            flags=NONCONTINUABLE,
            parameters=parameters,
        ),
    )
    wish = frames64.Unwinding(
        target=frame.establisher,
        target_ip=frame.control_pc,
        record=record,
        value=0,
        context=crt.emu.guest_calls.reserve(CONTEXT_SIZE[64]),
    )
    return (yield from frames64.unwind_to(crt.emu, crt.emu.exceptions.tables, wish, registers))


def _help(crt: Runtime, frame: Dispatcher, establisher: int) -> int:
    """Where the frame notes its state; 0 for nowhere."""
    place = frame.image_base + crt.machine.number(frame.handler_data, 4)
    tables = Tables(crt.machine, place, frame.image_base)
    return establisher + tables.unwind_help if tables.unwind_help else 0


def _call_catch(crt: Runtime, record: int) -> Steps:
    """Run a catch block in its function's frame; where the program continues."""
    words = contexts.read_record(crt.emu, record).parameters
    _, establisher, handler, _, *thrown, noted = words
    if noted:
        crt.machine.put(noted, NO_HELP, 4)  # the place in the program says the state again
    crt.process.caught.append(Thrown(*thrown))
    place = yield GuestCall(handler, (0, establisher))
    now = crt.process.caught.pop()
    yield from _destroy(crt, now)
    return place


# 32 bits.


def _frame_32(crt: Runtime, record: int, node: int, _context: int, _dispatcher: int) -> Steps:
    """The tables' address is in eax; the node holds the state behind its handler."""
    tables = Tables(crt.machine, crt.machine.register("eax"), 0)
    registers = caller(crt)
    what = contexts.read_record(crt.emu, record)
    if not tables.is_known:
        return CONTINUE_SEARCH
    if what.flags & ANY_UNWIND:
        yield from _unwind_states_32(crt, tables, node, -1)
        return CONTINUE_SEARCH
    thrown = thrown_by(crt, what)
    state = crt.machine.number(node + 8, signed=True)
    found = _found(crt, tables, state, thrown) if thrown else None
    if thrown is None or found is None:
        return CONTINUE_SEARCH
    low, catch, catchable = found
    frame = node + 12
    yield from catching.deliver(crt.machine, catch, catchable, thrown, frame)
    yield from frames32.unwind_to(crt.emu, target=node, record=record, value=0, registers=registers)
    yield from _unwind_states_32(crt, tables, node, low)
    crt.process.caught.append(thrown)
    place = yield GuestCall(catch.handler, registers={"ebp": frame})
    yield from _destroy(crt, crt.process.caught.pop())
    stack = crt.machine.number(node - 4)
    crt.emu.processor.restore(registers | {"ebp": frame, "esp": stack, "eip": place})
    return ELSEWHERE


def _unwind_states_32(
    crt: Runtime, tables: Tables, node: int, target: int
) -> Generator[GuestCall, int, None]:
    for _ in range(MAX_STATES):
        state = crt.machine.number(node + 8, signed=True)
        if state in (target, -1):
            break
        outer, action = tables.unwound(state)
        crt.machine.put(node + 8, outer)
        if action:
            yield GuestCall(action, registers={"ebp": node + 12})


def _frame(crt: Runtime, record: int, frame: int, context: int, dispatcher: int) -> Steps:
    handler = _frame_64 if crt.machine.is_64 else _frame_32
    return (yield from handler(crt, record, frame, context, dispatcher))


FUNCTIONS: dict[str, Function] = {
    "_CxxThrowException": Function("pp", _throw, 2),
    **dict.fromkeys(
        ("__CxxFrameHandler", "__CxxFrameHandler2", "__CxxFrameHandler3"), Function("pppp", _frame)
    ),
    "__CxxFrameHandler4": Function("pppp", lambda _crt, *_frame: CONTINUE_SEARCH),
    CALL_CATCH: Function("p", _call_catch),
}
"""Functions by name."""
