"""A pool of threads: what a program hands over to be done, at a time, or when something has come."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import Api, constant
from drakcelery.engines.speakeasy_guest.apis.handles import ERROR_NO_SYSTEM_RESOURCES, failed
from drakcelery.engines.speakeasy_guest.apis.waits import interval
from drakcelery.engines.speakeasy_guest.calling.guest_calls import GuestCall, Steps
from drakcelery.engines.speakeasy_guest.scheduling.scheduler import INFINITE, TIMED_OUT, GuestThread
from drakcelery.engines.speakeasy_guest.scheduling.wait_objects import Waitable

WAIT_TIMEOUT: Final = 0x102
TAG: Final = "threadpool"
SIZE: Final = 0x20
"""Bytes of what the program has the address of."""

Arguments = Callable[[bool], tuple[int, ...]]


@dataclass(eq=False)
class Watch:
    """A timer, or a wait: whenever its time or its object comes, it calls a function of the program's."""

    function: int
    arguments: Arguments
    """Those of the function; whether an object came, and not the time, decides."""
    queue: int = 0
    """The timer queue that it is in; 0 for that of the process."""
    due: float | None = None
    """When a timer comes, and a wait gives up; None for never."""
    period: int = 0
    awaited: int | None = None
    """The handle that is waited for; None for a timer, and for a wait that has none now."""
    limit: int = INFINITE
    again: bool = False
    """Whether a wait goes on afterwards."""
    turn: int = 0
    """How often it was set."""
    busy: bool = False
    gone: bool = False

    def set(self, now: float, delay: int, period: int = 0) -> None:
        """Let it come after *delay* ms, or never."""
        self.due = None if delay == INFINITE else now + delay
        self.period = period
        self.turn += 1

    def changed(self, turn: int) -> bool:
        """Whether it is gone, or was set again since *turn*."""
        return self.gone or self.turn != turn


@dataclass
class Pool:
    """The timers and waits of a process, by the addresses that the program has."""

    watches: dict[int, Watch] = field(default_factory=dict)


def add(emu: Any, place: int, watch: Watch) -> bool:
    """Whether there was a thread for it."""
    handle, _ = emu.new_thread_of(_life(emu, watch))
    if handle:
        emu.pool.watches[place] = watch
    return bool(handle)


def _life(emu: Any, watch: Watch) -> Steps:
    """What the thread of a timer or wait does until that is gone."""
    scheduler = emu.scheduler
    while not watch.gone:
        turn, handle = watch.turn, watch.awaited
        waitable = None if handle is None else emu.wait_objects.get(handle)
        came = functools.partial(_has_come, watch, turn, waitable, scheduler.current)
        left = INFINITE if watch.due is None else max(int(watch.due - scheduler.now), 0)
        in_time = (yield from scheduler.wait(came, left, lasting=True)) != TIMED_OUT
        if watch.changed(turn):
            continue
        if in_time and waitable is not None:
            waitable.acquire(scheduler.current)
        _prepare_next(watch, scheduler.now, has_state=waitable is not None)
        watch.busy = True
        yield GuestCall(watch.function, watch.arguments(in_time))
        watch.busy = False
        yield from scheduler.give_way()
    return 0


def _has_come(watch: Watch, turn: int, waitable: Waitable | None, thread: GuestThread) -> bool:
    """Whether a wait is over, or was set anew; what has no state is there at once."""
    there = watch.awaited is not None and (waitable is None or waitable.ready(thread))
    return there or watch.changed(turn)


def _prepare_next(watch: Watch, now: float, *, has_state: bool) -> None:
    """When it comes again; said before its function is called, which may say otherwise."""
    if watch.awaited is None:
        watch.due = now + watch.period if watch.period else None
    elif watch.again and has_state:
        watch.due = None if watch.limit == INFINITE else now + watch.limit
    else:
        watch.awaited = watch.due = None


# Work.


def _work_item(emu: Any, _name: str, argv: list[Any]) -> int:
    handle, _ = emu.new_thread(argv[0], (argv[1],))
    return int(bool(handle))


def _simple_callback(emu: Any, _name: str, argv: list[Any]) -> int:
    handle, _ = emu.new_thread(argv[0], (0, argv[1]))
    return int(bool(handle))


def _create_work(emu: Any, _name: str, argv: list[Any]) -> int:
    place: int = emu.heap_alloc(SIZE, heap=TAG)
    emu.write_ptr(place, argv[0])
    emu.write_ptr(place + emu.get_ptr_size(), argv[1])
    return place


def _submit_work(emu: Any, _name: str, argv: list[Any]) -> int:
    callback, parameter = emu.read_ptr(argv[0]), emu.read_ptr(argv[0] + emu.get_ptr_size())
    _, made = emu.new_thread(callback, (0, parameter, argv[0]))
    found = emu.scheduler.find(made)
    if found is not None:
        found.work = argv[0]
    return 0


def _wait_for_work(emu: Any, _name: str, argv: list[Any]) -> Steps:
    """Wait until what was submitted is done, also where it sleeps meanwhile."""
    mine = [one for one in emu.scheduler.threads if one.work == argv[0] and one is not emu.scheduler.current]
    yield from emu.scheduler.wait(lambda: all(one.over for one in mine))
    return 0


# Timers and waits of a pool.


def _create(*, waits: bool) -> Callable[[Any, str, list[Any]], int]:
    """``CreateThreadpoolTimer`` and ``CreateThreadpoolWait``; neither comes before it is set."""

    def answer(emu: Any, _name: str, argv: list[Any]) -> int:
        place, parameter = int(emu.heap_alloc(SIZE, heap=TAG)), argv[1]

        def arguments(in_time: bool) -> tuple[int, ...]:
            known = (0, parameter, place)
            return (*known, 0 if in_time else WAIT_TIMEOUT) if waits else known

        made = add(emu, place, Watch(argv[0], arguments))
        return place if made else failed(emu, ERROR_NO_SYSTEM_RESOURCES)

    return answer


def _set_timer(emu: Any, _name: str, argv: list[Any]) -> int:
    watch = emu.pool.watches.get(argv[0])
    if watch is None:
        return 0
    before = watch.due is not None
    watch.set(emu.scheduler.now, interval(emu, argv[1]), argv[2] & 0x7FFFFFFF)
    return int(before)


def _set_wait(emu: Any, _name: str, argv: list[Any]) -> int:
    watch = emu.pool.watches.get(argv[0])
    if watch is None:
        return 0
    before, watch.awaited = watch.awaited is not None, argv[1] or None
    watch.set(emu.scheduler.now, interval(emu, argv[2]) if argv[1] else INFINITE)
    return int(before)


def _is_set(emu: Any, _name: str, argv: list[Any]) -> int:
    watch = emu.pool.watches.get(argv[0])
    return int(watch is not None and watch.due is not None)


def _wait_for_callbacks(emu: Any, _name: str, argv: list[Any]) -> Steps:
    watch = emu.pool.watches.get(argv[0])
    if watch is not None:
        if argv[1] & INFINITE:
            watch.awaited = None
            watch.set(emu.scheduler.now, INFINITE)
        yield from emu.scheduler.wait(lambda: not watch.busy)
    return 0


def _close(emu: Any, _name: str, argv: list[Any]) -> int:
    watch = emu.pool.watches.pop(argv[0], None)
    if watch is not None:
        watch.gone = True
    return 0


_CLOSE, _WAIT = Api(words=1, answer=_close), Api(words=2, answer=_wait_for_callbacks)

APIS = {
    "QueueUserWorkItem": Api(words=3, answer=_work_item),
    "TrySubmitThreadpoolCallback": Api(words=3, answer=_simple_callback),
    "CreateThreadpoolWork": Api(words=3, answer=_create_work),
    "SubmitThreadpoolWork": Api(words=1, answer=_submit_work),
    "WaitForThreadpoolWorkCallbacks": Api(words=2, answer=_wait_for_work),
    "CloseThreadpoolWork": Api(words=1, answer=constant(0)),
    "CreateThreadpoolTimer": Api(words=3, answer=_create(waits=False)),
    "SetThreadpoolTimer": Api(words=4, answer=_set_timer),
    "SetThreadpoolTimerEx": Api(words=4, answer=_set_timer),
    "IsThreadpoolTimerSet": Api(words=1, answer=_is_set),
    "WaitForThreadpoolTimerCallbacks": _WAIT,
    "CloseThreadpoolTimer": _CLOSE,
    "CreateThreadpoolWait": Api(words=3, answer=_create(waits=True)),
    "SetThreadpoolWait": Api(words=3, answer=_set_wait),
    "SetThreadpoolWaitEx": Api(words=4, answer=_set_wait),
    "WaitForThreadpoolWaitCallbacks": _WAIT,
    "CloseThreadpoolWait": _CLOSE,
}
