"""Storage of threads and fibers, and fibers themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import PAGE, Api
from drakcelery.engines.speakeasy_guest.calling.guest_calls import GuestCall, Leave, Pending, Steps
from drakcelery.engines.speakeasy_guest.scheduling.thread_blocks import SLOTS, Stack

NO_INDEX: Final = 0xFFFFFFFF
ERROR_INVALID_PARAMETER: Final = 87
ERROR_ALREADY_FIBER: Final = 1280
FIRST_SLOT: Final = 4
"""The lower indexes are Windows' own libraries'; older programs of Rust take 0 for a failure."""

MAX_FLS: Final = 4000
LEAST_STACK: Final = 64 * 1024
MOST_STACK: Final = 16 * 1024 * 1024
MAX_FIBERS: Final = 1024


@dataclass
class Storage:
    """Which indexes of a process are taken, and its fibers."""

    thread: set[int] = field(default_factory=set)
    fiber: dict[int, int] = field(default_factory=dict)
    """Callbacks by index; 0 for none."""
    fibers: dict[int, Fiber] = field(default_factory=dict)
    """By address."""


@dataclass(eq=False)
class Fiber:
    """A fiber while it does not run."""

    address: int
    start: int = 0
    parameter: int = 0
    stack: Stack | None = None
    saved: Any = None
    pending: list[Pending] = field(default_factory=list)


def _slot(emu: Any, index: int) -> int:
    return int(emu.thread_block() + emu.offsets.slots + index * emu.get_ptr_size())


def _tls_alloc(emu: Any, _name: str, _argv: list[Any]) -> int:
    free = next((index for index in range(FIRST_SLOT, SLOTS) if index not in emu.storage.thread), None)
    if free is None:
        return NO_INDEX
    emu.storage.thread.add(free)
    emu.write_ptr(_slot(emu, free), 0)
    return free


def _has_index(emu: Any, index: int) -> bool:
    if index < SLOTS:
        return True
    emu.set_last_error(ERROR_INVALID_PARAMETER)
    return False


def _tls_set(emu: Any, _name: str, argv: list[Any]) -> int:
    if not _has_index(emu, argv[0] & NO_INDEX):
        return 0
    emu.write_ptr(_slot(emu, argv[0] & NO_INDEX), argv[1])
    return 1


def _tls_get(emu: Any, _name: str, argv: list[Any]) -> int:
    if not _has_index(emu, argv[0] & NO_INDEX):
        return 0
    emu.set_last_error(0)
    return int(emu.read_ptr(_slot(emu, argv[0] & NO_INDEX)))


def _tls_get_only(emu: Any, _name: str, argv: list[Any]) -> int:
    """``TlsGetValue2`` leaves the last error alone."""
    index = argv[0] & NO_INDEX
    return int(emu.read_ptr(_slot(emu, index))) if index < SLOTS else 0


def _tls_free(emu: Any, _name: str, argv: list[Any]) -> int:
    emu.storage.thread.discard(argv[0] & NO_INDEX)
    return int(_has_index(emu, argv[0] & NO_INDEX))


def _fls_alloc(emu: Any, _name: str, argv: list[Any]) -> int:
    index = next(number for number in range(1, MAX_FLS + 2) if number not in emu.storage.fiber)
    if index > MAX_FLS:
        return NO_INDEX
    emu.storage.fiber[index] = argv[0]
    return index


def _fls_set(emu: Any, _name: str, argv: list[Any]) -> int:
    index = argv[0] & NO_INDEX
    if index not in emu.storage.fiber:
        emu.set_last_error(ERROR_INVALID_PARAMETER)
        return 0
    emu.scheduler.current.values[index] = argv[1]
    return 1


def _fls_get(emu: Any, _name: str, argv: list[Any]) -> int:
    index = argv[0] & NO_INDEX
    emu.set_last_error(0 if index in emu.storage.fiber else ERROR_INVALID_PARAMETER)
    return int(emu.scheduler.current.values.get(index, 0))


def _fls_get_only(emu: Any, _name: str, argv: list[Any]) -> int:
    """``FlsGetValue2`` leaves the last error alone."""
    return int(emu.scheduler.current.values.get(argv[0] & NO_INDEX, 0))


def _fls_free(emu: Any, _name: str, argv: list[Any]) -> Steps:
    index = argv[0] & NO_INDEX
    callback = emu.storage.fiber.pop(index, None)
    if callback is None:
        return 0
    for thread in tuple(emu.scheduler.threads):
        value = thread.values.pop(index, 0)
        if value and callback:
            yield GuestCall(callback, (value,))
    return 1


def clear_values(emu: Any) -> Steps:
    """Tell the callbacks what the present thread, which ends, holds in its fiber-local storage."""
    values = emu.scheduler.current.values
    for index, callback in sorted(emu.storage.fiber.items()):
        value = values.pop(index, 0)
        if value and callback:
            yield GuestCall(callback, (value,))
    return 0


def _convert(emu: Any, _name: str, argv: list[Any]) -> int:
    thread = emu.scheduler.current
    if thread.fiber is not None:
        emu.set_last_error(ERROR_ALREADY_FIBER)
        return 0
    thread.fiber = _make(emu, argv[0])
    emu.write_ptr(emu.thread_block() + emu.offsets.fiber, thread.fiber.address)
    return int(thread.fiber.address)


def _make(emu: Any, parameter: int) -> Fiber:
    """A fiber's data begins with its parameter: ``GetFiberData`` is ``*(void **)GetCurrentFiber()``."""
    address = emu.heap_alloc(0x100, heap="fiber")
    emu.write_ptr(address, parameter)
    fiber = Fiber(address=address, parameter=parameter)
    emu.storage.fibers[address] = fiber
    return fiber


def _create(emu: Any, name: str, argv: list[Any]) -> int:
    if name.endswith("Ex"):
        size, (start, parameter) = max(argv[0], argv[1]), argv[3:5]
    else:
        size, start, parameter = argv
    if len(emu.storage.fibers) >= MAX_FIBERS:
        return 0
    size = min(max(size & 0xFFFFFFFF, LEAST_STACK), MOST_STACK)
    fiber = _make(emu, parameter)
    limit = emu.mem_map(size, tag="emu.stack.fiber")
    fiber.start, fiber.stack = start, Stack(limit + -(-size // PAGE) * PAGE, limit)
    return fiber.address


def _switch(emu: Any, _name: str, argv: list[Any]) -> Steps:
    target = emu.storage.fibers.get(argv[0])
    me = emu.scheduler.current.fiber
    if target is not None and me is not None and target is not me:
        yield Leave(lambda: _go(emu, me, target))
    return 0


def _go(emu: Any, left: Fiber, entered: Fiber) -> None:
    """From one fiber to another, on the same thread."""
    left.saved = emu.emu_eng.emu.context_save()
    left.pending = emu.guest_calls.pending
    emu.guest_calls.pending = entered.pending
    emu.scheduler.current.fiber = entered
    block = emu.thread_block()
    emu.write_ptr(block + emu.offsets.fiber, entered.address)
    if left.stack is None:
        left.stack = Stack(
            emu.read_ptr(block + emu.offsets.stack_base), emu.read_ptr(block + emu.offsets.stack_limit)
        )
    stack = entered.stack
    if stack is not None:
        emu.write_ptr(block + emu.offsets.stack_base, stack.base)
        emu.write_ptr(block + emu.offsets.stack_limit, stack.limit)
    if entered.saved is not None:
        emu.emu_eng.emu.context_restore(entered.saved)
        emu.guest_calls.resume(0)
    elif stack is not None:
        emu.processor.set(emu.processor.sp, stack.base - 64)
        after = {emu.processor.pc: emu.return_hook}
        emu.guest_calls.begin(_life(entered), after, lambda _outcome, _problem: emu.scheduler.end(0))


def _life(fiber: Fiber) -> Steps:
    return (yield GuestCall(fiber.start, (fiber.parameter,)))


def _delete(emu: Any, _name: str, argv: list[Any]) -> Steps:
    fiber = emu.storage.fibers.pop(argv[0], None)
    if fiber is not None and fiber is emu.scheduler.current.fiber:
        yield Leave(lambda: emu.scheduler.end(1))
    return 0


def _to_thread(emu: Any, _name: str, _argv: list[Any]) -> int:
    thread = emu.scheduler.current
    if thread.fiber is None:
        return 0
    emu.storage.fibers.pop(thread.fiber.address, None)
    thread.fiber = None
    return 1


def _is_fiber(emu: Any, _name: str, _argv: list[Any]) -> int:
    return int(emu.scheduler.current.fiber is not None)


APIS = {
    "TlsAlloc": Api(words=0, answer=_tls_alloc),
    "TlsSetValue": Api(words=2, answer=_tls_set),
    "TlsGetValue": Api(words=1, answer=_tls_get),
    "TlsFree": Api(words=1, answer=_tls_free),
    "FlsAlloc": Api(words=1, answer=_fls_alloc),
    "FlsSetValue": Api(words=2, answer=_fls_set),
    "FlsGetValue": Api(words=1, answer=_fls_get),
    "FlsGetValue2": Api(words=1, answer=_fls_get_only),
    "TlsGetValue2": Api(words=1, answer=_tls_get_only),
    "FlsFree": Api(words=1, answer=_fls_free),
    "ConvertThreadToFiber": Api(words=1, answer=_convert),
    "ConvertThreadToFiberEx": Api(words=2, answer=_convert),
    "CreateFiber": Api(words=3, answer=_create),
    "CreateFiberEx": Api(words=5, answer=_create),
    "SwitchToFiber": Api(words=1, answer=_switch),
    "DeleteFiber": Api(words=1, answer=_delete),
    "ConvertFiberToThread": Api(words=0, answer=_to_thread),
    "IsThreadAFiber": Api(words=0, answer=_is_fiber),
}
