"""Functions by which programs raise, handle and unwind exceptions."""

from __future__ import annotations

from typing import Any

from drakcelery.engines.speakeasy_guest.apis.api import Api, put
from drakcelery.engines.speakeasy_guest.calling.guest_calls import Steps
from drakcelery.engines.speakeasy_guest.exceptions import contexts, frames32, frames64
from drakcelery.engines.speakeasy_guest.exceptions.contexts import (
    CONTEXT_SIZE,
    MOST_PARAMETERS,
    ExceptionRecord,
)
from drakcelery.engines.speakeasy_guest.exceptions.unwinding import Frame, unwind_function
from drakcelery.engines.speakeasy_guest.machine.processor import Registers

FAIL_FAST = 0xC0000602
"""``STATUS_FAIL_FAST_EXCEPTION``."""

CALL_DEPTH = 62
"""Frames that ``RtlCaptureStackBackTrace`` gives at most."""


def _behind(emu: Any, words: int) -> Registers:
    """Where the program goes on when the present call has returned, having taken *words*."""
    registers: Registers = emu.exceptions.registers()
    processor = emu.processor
    registers[processor.pc] = emu.get_ret_address()
    taken = words if processor.bits == 32 else 0
    registers[processor.sp] += processor.size * (1 + taken)
    return registers


def _raise_exception(emu: Any, _name: str, argv: list[Any]) -> Steps:
    code, flags, count, place = argv
    count = min(count, MOST_PARAMETERS) if place else 0
    size = emu.get_ptr_size()
    parameters = tuple(emu.read_ptr(place + size * number) for number in range(count))
    registers = _behind(emu, 4)
    address = registers[emu.processor.pc]
    record = ExceptionRecord(
        code=code & 0xFFFFFFFF, address=address, flags=flags & 0xFFFFFFFF, parameters=parameters
    )
    steps: Steps = emu.exceptions.dispatch(record, registers)
    return (yield from steps)


def _rtl_raise_exception(emu: Any, _name: str, argv: list[Any]) -> Steps:
    registers = _behind(emu, 1)
    record = contexts.read_record(emu, argv[0])
    record.address = registers[emu.processor.pc]
    steps: Steps = emu.exceptions.dispatch(record, registers)
    return (yield from steps)


def _rtl_unwind(emu: Any, _name: str, argv: list[Any]) -> Steps:
    target, target_ip, record, value = argv
    if emu.processor.bits == 32:
        registers = _behind(emu, 4)
        return (
            yield from frames32.unwind_to(emu, target=target, record=record, value=value, registers=registers)
        )
    context = emu.guest_calls.reserve(CONTEXT_SIZE[64])
    return (yield from _unwind_ex(emu, [target, target_ip, record, value, context, 0]))


def _rtl_unwind_ex(emu: Any, _name: str, argv: list[Any]) -> Steps:
    return (yield from _unwind_ex(emu, argv))


def _unwind_ex(emu: Any, argv: list[Any]) -> Steps:
    wish = frames64.Unwinding(*argv)
    return (yield from frames64.unwind_to(emu, emu.exceptions.tables, wish, _behind(emu, 0)))


def _rtl_restore_context(emu: Any, _name: str, argv: list[Any]) -> Steps:
    return (yield from frames64.restore(emu, contexts.read_context(emu, argv[0]), argv[1]))


def _rtl_capture_context(emu: Any, _name: str, argv: list[Any]) -> int:
    contexts.write_context(emu, argv[0], _behind(emu, 1))
    return 0


def _rtl_lookup_function_entry(emu: Any, _name: str, argv: list[Any]) -> int:
    function = emu.exceptions.tables.find(argv[0])
    base = function.base if function else emu.exceptions.tables.image_base(argv[0])
    put(emu, argv[1], base, 8)
    return function.place if function else 0


def _rtl_virtual_unwind(emu: Any, _name: str, argv: list[Any]) -> int:
    kind, base, pc, entry, context, data, establisher = argv[:7]
    registers = contexts.read_context(emu, context)
    registers["rip"] = pc
    tables = emu.exceptions.tables
    frame: Frame = unwind_function(emu, tables, registers, tables.read(entry, base), kind & 3)
    contexts.write_context(emu, context, registers)
    put(emu, data, frame.handler_data, 8)
    put(emu, establisher, frame.establisher, 8)
    return frame.handler


def _rtl_add_function_table(emu: Any, _name: str, argv: list[Any]) -> int:
    table, count, base = argv
    emu.exceptions.tables.added[table] = (count & 0xFFFFFFFF, base)
    return 1


def _rtl_delete_function_table(emu: Any, _name: str, argv: list[Any]) -> int:
    return int(emu.exceptions.tables.added.pop(argv[0], None) is not None)


def _rtl_pc_to_file_header(emu: Any, _name: str, argv: list[Any]) -> int:
    base: int = emu.exceptions.tables.image_base(argv[0])
    put(emu, argv[1], base, emu.get_ptr_size())
    return base


def _add_vectored(emu: Any, name: str, argv: list[Any]) -> int:
    first, address = argv
    return int(emu.exceptions.add(address, first=bool(first), continued="Continue" in name))


def _remove_vectored(emu: Any, _name: str, argv: list[Any]) -> int:
    return int(emu.exceptions.remove(argv[0]))


def _set_filter(emu: Any, _name: str, argv: list[Any]) -> int:
    before: int = emu.exceptions.filter
    emu.exceptions.filter = argv[0]
    return before


def _unhandled(emu: Any, _name: str, argv: list[Any]) -> Steps:
    steps: Steps = emu.exceptions.unhandled(argv[0])
    return (yield from steps)


def _fail_fast(emu: Any, _name: str, argv: list[Any]) -> int:
    """``RaiseFailFastException``: no handler hears of it."""
    address = emu.get_ret_address()
    emu.crash(
        contexts.read_record(emu, argv[0]) if argv[0] else ExceptionRecord(code=FAIL_FAST, address=address)
    )
    return 0


def _capture_back_trace(emu: Any, _name: str, argv: list[Any]) -> int:
    skipped, wanted, place, digest = argv
    registers = _behind(emu, 4)
    walk = frames64.callers if emu.processor.bits == 64 else frames32.callers
    addresses = walk(emu, registers, CALL_DEPTH)[skipped & 0xFF :][: wanted & 0xFF]
    for number, address in enumerate(addresses):
        emu.write_ptr(place + number * emu.get_ptr_size(), address)
    put(emu, digest, sum(addresses) & 0xFFFFFFFF, 4)
    return len(addresses)


APIS = {
    "RaiseException": Api(words=4, answer=_raise_exception),
    "RtlRaiseException": Api(words=1, answer=_rtl_raise_exception),
    "RtlUnwind": Api(words=4, answer=_rtl_unwind),
    "RtlUnwindEx": Api(words=6, answer=_rtl_unwind_ex),
    "RtlRestoreContext": Api(words=2, answer=_rtl_restore_context),
    "RtlCaptureContext": Api(words=1, answer=_rtl_capture_context),
    "RtlLookupFunctionEntry": Api(words=3, answer=_rtl_lookup_function_entry),
    "RtlVirtualUnwind": Api(words=8, answer=_rtl_virtual_unwind),
    "RtlAddFunctionTable": Api(words=3, answer=_rtl_add_function_table),
    "RtlDeleteFunctionTable": Api(words=1, answer=_rtl_delete_function_table),
    "RtlPcToFileHeader": Api(words=2, answer=_rtl_pc_to_file_header),
    "RtlCaptureStackBackTrace": Api(words=4, answer=_capture_back_trace),
    "AddVectoredExceptionHandler": Api(words=2, answer=_add_vectored),
    "RtlAddVectoredExceptionHandler": Api(words=2, answer=_add_vectored),
    "AddVectoredContinueHandler": Api(words=2, answer=_add_vectored),
    "RtlAddVectoredContinueHandler": Api(words=2, answer=_add_vectored),
    "RemoveVectoredExceptionHandler": Api(words=1, answer=_remove_vectored),
    "RtlRemoveVectoredExceptionHandler": Api(words=1, answer=_remove_vectored),
    "RemoveVectoredContinueHandler": Api(words=1, answer=_remove_vectored),
    "RtlRemoveVectoredContinueHandler": Api(words=1, answer=_remove_vectored),
    "SetUnhandledExceptionFilter": Api(words=1, answer=_set_filter),
    "RaiseFailFastException": Api(words=3, answer=_fail_fast),
    "UnhandledExceptionFilter": Api(words=1, answer=_unhandled),
}
