"""C++ exceptions of Visual C++: ``throw``, the handler of frames with ``try``, and what ``catch`` runs."""

from __future__ import annotations

import functools
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from drakcelery.engines.speakeasy_guest.calling.guest_calls import ELSEWHERE, GuestCall, Steps
from drakcelery.engines.speakeasy_guest.crt import catching
from drakcelery.engines.speakeasy_guest.crt.abi import Function, signed
from drakcelery.engines.speakeasy_guest.crt.catching import (
    CXX_EXCEPTION,
    MAGIC,
    NO_STATE,
    Catch,
    Caught,
    Tables,
    Thrown,
)
from drakcelery.engines.speakeasy_guest.crt.compressed import CompressedTables
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
        now = crt.process.caught[-1].thrown
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
    crt: Runtime, tables: Tables | CompressedTables, thrown: Thrown, state: int, floor: int
) -> tuple[int, Catch, catching.Catchable] | None:
    """The catch that takes the object in a state: the first state of its ``try``, itself, and as what.

    Only a ``try`` above *floor* counts: in a catch block, one that is in it.
    """
    for low, high, catches in tables.tries():
        if floor < low <= state <= high:
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


@dataclass(frozen=True)
class Place:
    """Where an exception has come to: a frame of a function with tables, or of one of its catch blocks."""

    tables: Tables | CompressedTables
    frame: Dispatcher
    establisher: int
    """The function's frame, also in one of its catch blocks."""
    floor: int
    """The last state outside of the catch block; -1 in the function itself."""
    is_catch: bool


def _placed(crt: Runtime, frame: Dispatcher, establisher: int, *, compressed: bool) -> Place | None:
    """What the tables say of a frame; None for tables that are not known."""
    base = frame.image_base
    begin = base + crt.machine.number(frame.function_entry, 4) if frame.function_entry else 0
    place = base + crt.machine.number(frame.handler_data, 4)
    if compressed:
        short = CompressedTables(crt.machine, place, base, begin)
        return Place(short, frame, short.function_frame(establisher), NO_STATE, short.is_catch)
    tables = Tables(crt.machine, place, base)
    if not tables.is_known:
        return None
    for _, high, catches in tables.tries():
        for catch in catches:
            if catch.handler == begin:
                return Place(tables, frame, crt.machine.number(establisher + catch.parent), high, True)
    return Place(tables, frame, establisher, NO_STATE, False)


def _frame_64(
    crt: Runtime, record: int, establisher: int, _context: int, dispatcher: int, *, compressed: bool = False
) -> Steps:
    registers = caller(crt)
    place = _placed(crt, Dispatcher.read(crt.emu, dispatcher), establisher, compressed=compressed)
    what = contexts.read_record(crt.emu, record)
    if place is None:
        return CONTINUE_SEARCH
    if what.flags & ANY_UNWIND:
        target = NO_STATE
        if what.flags & TARGET_UNWIND and what.code == STATUS_UNWIND_CONSOLIDATE:
            target = signed(what.parameters[3], 64)
        yield from _unwind_states_64(crt, place, target)
        return CONTINUE_SEARCH
    thrown = thrown_by(crt, what)
    found = _found(crt, place.tables, thrown, _state_64(crt, place), place.floor) if thrown else None
    if thrown is None or found is None:
        return CONTINUE_SEARCH
    low, catch, catchable = found
    yield from catching.deliver(crt.machine, catch, catchable, thrown, place.establisher)
    return (yield from _enter_64(crt, place, low, catch, thrown, registers))


def _state_64(crt: Runtime, place: Place) -> int:
    """The state in which the function, or its catch block, was left."""
    if not place.is_catch:
        for caught in reversed(crt.process.caught):
            if caught.frame == place.establisher:
                return caught.state
    at = place.tables.unwind_help
    noted = crt.machine.number(place.establisher + at, 4, signed=True) if at else NO_HELP
    return noted if noted != NO_HELP else place.tables.state_at(place.frame.control_pc)


def _unwind_states_64(crt: Runtime, place: Place, target: int) -> Generator[GuestCall, int, None]:
    """Destroy the objects of the states that are left."""
    state = _state_64(crt, place)
    at = place.tables.unwind_help
    for _ in range(MAX_STATES):
        if state == target or state <= place.floor:
            break
        state, action = place.tables.leaving(state, place.establisher)
        if at:
            crt.machine.put(place.establisher + at, state, 4)
        if action is not None:
            yield action
    if at:
        crt.machine.put(place.establisher + at, target if target != NO_STATE else state, 4)


def _enter_64(crt: Runtime, place: Place, low: int, catch: Catch, thrown: Thrown, registers: Any) -> Steps:
    """Leave the frames below, and run the catch in the frame."""
    calls = int(crt.emu.get_proc("msvcrt", CALL_CATCH))
    record = crt.emu.guest_calls.reserve(RECORD_SIZE[64])
    at = place.tables.unwind_help
    outer, _ = place.tables.leaving(low, place.establisher)
    parameters = (
        *(calls, place.establisher, catch.handler, low),
        *(thrown.object, thrown.info, thrown.base, place.establisher + at if at else 0),
        *(outer, *catch.places),
    )
    contexts.write_record(
        crt.emu,
        record,
        ExceptionRecord(
            code=STATUS_UNWIND_CONSOLIDATE,
            address=place.frame.control_pc,
            flags=NONCONTINUABLE,
            parameters=parameters,
        ),
    )
    wish = frames64.Unwinding(
        target=place.frame.establisher,
        target_ip=place.frame.control_pc,
        record=record,
        value=0,
        context=crt.emu.guest_calls.reserve(CONTEXT_SIZE[64]),
    )
    return (yield from frames64.unwind_to(crt.emu, crt.emu.exceptions.tables, wish, registers))


def _call_catch(crt: Runtime, record: int) -> Steps:
    """Run a catch block in its function's frame; where the program continues."""
    words = contexts.read_record(crt.emu, record).parameters
    establisher, handler, _, *thrown, noted, outer = words[1:9]
    places = words[9:]
    if noted:
        crt.machine.put(noted, NO_HELP, 4)  # the place in the program says the state again
    now = Caught(Thrown(*thrown), establisher, signed(outer, 64))
    answer = yield from _caught(crt, now, GuestCall(handler, (0, establisher)))
    return places[min(answer, len(places) - 1)] if places else answer


def _caught(crt: Runtime, now: Caught, handler: GuestCall) -> Generator[GuestCall, int, int]:
    """Run a catch block, and destroy its object; the block may also be left by another exception."""
    crt.process.caught.append(now)
    try:
        answer = yield handler
    finally:
        crt.process.caught.remove(now)
    yield from _destroy(crt, now.thrown)
    return answer


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
    found = _found(crt, tables, thrown, state, NO_STATE) if thrown else None
    if thrown is None or found is None:
        return CONTINUE_SEARCH
    low, catch, catchable = found
    frame = node + 12
    yield from catching.deliver(crt.machine, catch, catchable, thrown, frame)
    yield from frames32.unwind_to(crt.emu, target=node, record=record, value=0, registers=registers)
    yield from _unwind_states_32(crt, tables, node, low)
    handler = GuestCall(catch.handler, registers={"ebp": frame})
    place = yield from _caught(crt, Caught(thrown), handler)
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
    "__CxxFrameHandler4": Function("pppp", functools.partial(_frame_64, compressed=True)),
    CALL_CATCH: Function("p", _call_catch),
}
"""Functions by name."""
