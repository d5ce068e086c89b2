"""Locks that lie in the program's memory: critical sections, slim locks, condition variables, addresses.

What a lock holds is kept here by its address; the program's memory only says that it is initialised.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import Api, put
from drakcelery.engines.speakeasy_guest.calling.guest_calls import GuestCall, Steps
from drakcelery.engines.speakeasy_guest.scheduling.scheduler import INFINITE, TIMED_OUT, GuestThread
from drakcelery.engines.speakeasy_guest.scheduling.wait_objects import Mutex

ERROR_TIMEOUT: Final = 1460
SHARED: Final = 1
"""A flag of ``SleepConditionVariableSRW``."""

CHECK_ONLY, ASYNC, INIT_FAILED = 1, 2, 4
"""Flags of ``InitOnceBeginInitialize`` and ``InitOnceComplete``."""

ONCE_DONE: Final = 2
"""What the low bits of a finished ``INIT_ONCE`` are; above them is its context."""


@dataclass
class SlimLock:
    """A slim reader/writer lock."""

    owner: GuestThread | None = None
    readers: int = 0


@dataclass
class Locks:
    """The locks of one process."""

    sections: dict[int, Mutex] = field(default_factory=dict)
    slim: dict[int, SlimLock] = field(default_factory=dict)
    wakes: dict[int, list[Wake]] = field(default_factory=dict)
    """Threads that wait for an address, or for a condition variable there."""
    once: dict[int, GuestThread] = field(default_factory=dict)
    """Who initialises what."""


@dataclass
class Wake:
    """A thread that was told to go on, or not yet."""

    told: bool = False


def _enter(emu: Any, name: str, argv: list[Any]) -> int | Steps:
    """At once where it is free: most are, and programs enter them often."""
    section = emu.locks.sections.setdefault(argv[0], Mutex())
    me = emu.scheduler.current
    if not section.ready(me):
        return 0 if name.startswith("Try") else _entered(emu, argv[0])
    section.acquire(me)
    return 1


def _entered(emu: Any, place: int) -> Steps:
    section = emu.locks.sections.setdefault(place, Mutex())
    me = emu.scheduler.current
    yield from emu.scheduler.wait(lambda: section.ready(me))
    section.acquire(me)
    return 1


def _leave(emu: Any, _name: str, argv: list[Any]) -> int:
    section = emu.locks.sections.get(argv[0])
    if section is not None:
        section.release(emu.scheduler.current)
    return 0


def _initialize(emu: Any, _name: str, argv: list[Any]) -> int:
    """A ``CRITICAL_SECTION`` that is free: its LockCount is -1."""
    emu.locks.sections.pop(argv[0], None)
    emu.mem_write(argv[0], bytes(emu.get_ptr_size() * 6 - (8 if emu.get_ptr_size() == 8 else 0)))
    put(emu, argv[0] + emu.get_ptr_size(), 0xFFFFFFFF, 4)
    return 1


def _acquire(emu: Any, name: str, argv: list[Any]) -> Steps:
    lock = emu.locks.slim.setdefault(argv[0], SlimLock())
    shared = "Shared" in name
    if name.startswith("Try") and not _is_free(lock, shared=shared):
        return 0
    yield from _acquire_lock(emu, lock, shared=shared)
    return 1


def _is_free(lock: SlimLock, *, shared: bool) -> bool:
    free = lock.owner is None or lock.owner.over
    return free and (shared or not lock.readers)


def _acquire_lock(emu: Any, lock: SlimLock, *, shared: bool) -> Steps:
    yield from emu.scheduler.wait(lambda: _is_free(lock, shared=shared))
    if shared:
        lock.readers += 1
    else:
        lock.owner = emu.scheduler.current
    return 0


def _release(emu: Any, name: str, argv: list[Any]) -> int:
    lock = emu.locks.slim.get(argv[0])
    if lock is not None:
        _give_back(lock, shared="Shared" in name)
    return 0


def _give_back(lock: SlimLock, *, shared: bool) -> None:
    if shared:
        lock.readers = max(lock.readers - 1, 0)
    else:
        lock.owner = None


def _sleep_on(emu: Any, place: int, milliseconds: int) -> Steps:
    """Wait to be woken at an address: 1, or 0 where the time is over."""
    wake = Wake()
    emu.locks.wakes.setdefault(place, []).append(wake)
    result = yield from emu.scheduler.wait(lambda: wake.told, milliseconds & INFINITE)
    waiting = emu.locks.wakes.get(place, [])
    if wake in waiting:
        waiting.remove(wake)
    if result == TIMED_OUT:
        emu.set_last_error(ERROR_TIMEOUT)
        return 0
    return 1


def _wake(emu: Any, name: str, argv: list[Any]) -> int:
    waiting = emu.locks.wakes.get(argv[0], [])
    count = len(waiting) if "All" in name else 1
    for wake in waiting[:count]:
        wake.told = True
    del waiting[:count]
    return 0


def _sleep_section(emu: Any, _name: str, argv: list[Any]) -> Steps:
    variable, section, milliseconds = argv
    _leave(emu, "", [section])
    result = yield from _sleep_on(emu, variable, milliseconds)
    yield from _entered(emu, section)
    return result


def _sleep_slim(emu: Any, _name: str, argv: list[Any]) -> Steps:
    variable, place, milliseconds, flags = argv
    shared = bool(flags & SHARED)
    lock = emu.locks.slim.setdefault(place, SlimLock())
    _give_back(lock, shared=shared)
    result = yield from _sleep_on(emu, variable, milliseconds)
    yield from _acquire_lock(emu, lock, shared=shared)
    return result


def _wait_on_address(emu: Any, _name: str, argv: list[Any]) -> Steps:
    place, compared, size, milliseconds = argv
    size = min(size, 8)
    if bytes(emu.mem_read(place, size)) != bytes(emu.mem_read(compared, size)):
        return 1
    return (yield from _sleep_on(emu, place, milliseconds))


def _once(emu: Any, _name: str, argv: list[Any]) -> Steps:
    """``InitOnceExecuteOnce``."""
    place, function, parameter, result = argv
    yield from emu.scheduler.wait(_not_under_way(emu, place))
    value = emu.read_ptr(place)
    if value & 3 == ONCE_DONE:
        put(emu, result, value & ~3, emu.get_ptr_size())
        return 1
    emu.locks.once[place] = emu.scheduler.current
    context = emu.guest_calls.reserve(16)
    done = yield GuestCall(function, (place, parameter, context))
    emu.locks.once.pop(place, None)
    if not done & 0xFFFFFFFF:
        return 0
    value = emu.read_ptr(context)
    emu.write_ptr(place, value & ~3 | ONCE_DONE)
    put(emu, result, value, emu.get_ptr_size())
    return 1


def _not_under_way(emu: Any, place: int) -> Callable[[], bool]:
    me = emu.scheduler.current
    return lambda: emu.locks.once.get(place, me) is me or emu.locks.once[place].over


def _begin_once(emu: Any, _name: str, argv: list[Any]) -> Steps:
    place, flags, pending, result = argv
    if not flags & (CHECK_ONLY | ASYNC):
        yield from emu.scheduler.wait(_not_under_way(emu, place))
    value = emu.read_ptr(place)
    done = value & 3 == ONCE_DONE
    put(emu, pending, int(not done), 4)
    if done:
        put(emu, result, value & ~3, emu.get_ptr_size())
        return 1
    if flags & CHECK_ONLY:
        return 0
    emu.locks.once[place] = emu.scheduler.current
    return 1


def _complete_once(emu: Any, _name: str, argv: list[Any]) -> int:
    place, flags, context = argv
    emu.locks.once.pop(place, None)
    if not flags & INIT_FAILED:
        emu.write_ptr(place, context & ~3 | ONCE_DONE)
    return 1


def _zero(emu: Any, _name: str, argv: list[Any]) -> int:
    emu.write_ptr(argv[0], 0)
    return 0


def _nothing(_emu: Any, _name: str, _argv: list[Any]) -> int:
    return 1


_ENTER = Api(words=1, answer=_enter)
_LEAVE = Api(words=1, answer=_leave)
_ACQUIRE = Api(words=1, answer=_acquire)
_RELEASE = Api(words=1, answer=_release)
_WAKE = Api(words=1, answer=_wake)
_ZERO = Api(words=1, answer=_zero)

APIS = {
    "InitializeCriticalSection": Api(words=1, answer=_initialize),
    "RtlInitializeCriticalSection": Api(words=1, answer=_initialize),
    "InitializeCriticalSectionAndSpinCount": Api(words=2, answer=_initialize),
    "InitializeCriticalSectionEx": Api(words=3, answer=_initialize),
    "DeleteCriticalSection": Api(words=1, answer=_nothing),
    "EnterCriticalSection": _ENTER,
    "RtlEnterCriticalSection": _ENTER,
    "TryEnterCriticalSection": _ENTER,
    "LeaveCriticalSection": _LEAVE,
    "RtlLeaveCriticalSection": _LEAVE,
    "InitializeSRWLock": _ZERO,
    "AcquireSRWLockExclusive": _ACQUIRE,
    "AcquireSRWLockShared": _ACQUIRE,
    "TryAcquireSRWLockExclusive": _ACQUIRE,
    "TryAcquireSRWLockShared": _ACQUIRE,
    "ReleaseSRWLockExclusive": _RELEASE,
    "ReleaseSRWLockShared": _RELEASE,
    "InitializeConditionVariable": _ZERO,
    "SleepConditionVariableCS": Api(words=3, answer=_sleep_section),
    "SleepConditionVariableSRW": Api(words=4, answer=_sleep_slim),
    "WakeConditionVariable": _WAKE,
    "WakeAllConditionVariable": _WAKE,
    "WaitOnAddress": Api(words=4, answer=_wait_on_address),
    "WakeByAddressSingle": _WAKE,
    "WakeByAddressAll": _WAKE,
    "InitOnceInitialize": _ZERO,
    "InitOnceExecuteOnce": Api(words=4, answer=_once),
    "InitOnceBeginInitialize": Api(words=4, answer=_begin_once),
    "InitOnceComplete": Api(words=3, answer=_complete_once),
}
