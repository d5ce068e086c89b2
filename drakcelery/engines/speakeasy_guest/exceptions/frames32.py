"""Handlers of 32-bit frames: the chain of registrations that begins at ``fs:[0]``.

While Windows has a handler run, its own registration stands before that of the handler's frame. Some find
their frame by it (``fs:[0]``, then what follows), as unpackers by Petite do.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any, Final

from unicorn import UcError  # type: ignore[import-untyped]  # without types

from drakcelery.engines.speakeasy_guest.calling.guest_calls import GuestCall, Steps
from drakcelery.engines.speakeasy_guest.exceptions import contexts
from drakcelery.engines.speakeasy_guest.exceptions.contexts import (
    CONTEXT_SIZE,
    EXIT_UNWIND,
    RECORD_SIZE,
    UNWINDING,
    ExceptionRecord,
)
from drakcelery.engines.speakeasy_guest.machine.processor import Registers

END: Final = 0xFFFFFFFF
MAX_FRAMES: Final = 4096
CONTINUE_EXECUTION: Final = 0
STATUS_UNWIND: Final = 0xC0000027
REGISTRATION_SIZE: Final = 8
OWN_HANDLER: Final = ("ntdll", "ExecuteHandler2")
"""What stands as the handler in a registration of Windows' own."""


def chain(emu: Any) -> Iterator[tuple[int, int]]:
    """Registrations (``EXCEPTION_REGISTRATION_RECORD``) from the innermost on: address and handler.

    They ascend on the stack; one that does not ends the chain. Windows' own are left out.
    """
    place = emu.read_ptr(emu.thread_block())
    before = 0
    own = emu.add_callback(*OWN_HANDLER)
    for _ in range(MAX_FRAMES):
        if place in (END, 0) or place <= before or place % 4:
            return
        following, handler = emu.read_ptr(place), emu.read_ptr(place + 4)
        if handler != own:
            yield place, handler
            before = place
        place = following


def search(emu: Any, record: int, context: int) -> Generator[GuestCall, int, bool]:
    """Ask the handlers, innermost first; True if one had the program continue there."""
    dispatcher = emu.guest_calls.reserve(16)
    own = emu.guest_calls.reserve(REGISTRATION_SIZE)
    emu.write_ptr(own, emu.read_ptr(emu.thread_block()))
    emu.write_ptr(own + 4, emu.add_callback(*OWN_HANDLER))
    for place, handler in chain(emu):
        emu.write_ptr(emu.thread_block(), own)
        disposition = yield GuestCall(handler, (record, place, context, dispatcher))
        if emu.read_ptr(emu.thread_block()) == own:  # the handler has unwound nothing
            emu.write_ptr(emu.thread_block(), emu.read_ptr(own))
        if disposition == CONTINUE_EXECUTION:
            return True
    return False


def unwind_to(emu: Any, *, target: int, record: int, value: int, registers: Registers) -> Steps:
    """``RtlUnwind``: tell the handlers below *target* that they are left, and take them off the chain."""
    if not record:
        record = emu.guest_calls.reserve(RECORD_SIZE[32])
        contexts.write_record(emu, record, ExceptionRecord(code=STATUS_UNWIND, address=registers["eip"]))
    flags = contexts.read_record(emu, record).flags | UNWINDING | (0 if target else EXIT_UNWIND)
    contexts.set_flags(emu, record, flags)
    context = emu.guest_calls.reserve(CONTEXT_SIZE[32])
    contexts.write_context(emu, context, registers)
    dispatcher = emu.guest_calls.reserve(16)
    for place, handler in chain(emu):
        if place == target:
            emu.write_ptr(emu.thread_block(), target)  # those of Windows' own before it are gone too
            break
        yield GuestCall(handler, (record, place, context, dispatcher))
        emu.write_ptr(emu.thread_block(), emu.read_ptr(place))
    return value


def callers(emu: Any, registers: Registers, limit: int) -> list[int]:
    """Return addresses on the stack, innermost first, along the chain of ``ebp``."""
    found = [registers["eip"]]
    frame = registers["ebp"]
    while len(found) < limit:
        try:
            following, address = emu.read_ptr(frame), emu.read_ptr(frame + 4)
        except UcError:
            break
        if following <= frame or not address or emu.is_outermost(address):
            break
        found.append(address)
        frame = following
    return found
