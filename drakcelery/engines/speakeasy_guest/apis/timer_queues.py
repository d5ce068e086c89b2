"""Timer queues, and waits that a program registers: both are served by the pool."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import Api
from drakcelery.engines.speakeasy_guest.apis.handles import (
    ERROR_INVALID_HANDLE,
    ERROR_NO_SYSTEM_RESOURCES,
    failed,
    invalid_handle,
)
from drakcelery.engines.speakeasy_guest.apis.pool import SIZE, TAG, Watch, add
from drakcelery.engines.speakeasy_guest.calling.guest_calls import Steps
from drakcelery.engines.speakeasy_guest.scheduling.scheduler import INFINITE
from drakcelery.engines.speakeasy_guest.scheduling.wait_objects import Event

ONCE: Final = 0x8
"""``WT_EXECUTEONLYONCE``."""

ERROR_IO_PENDING: Final = 997


def _register(emu: Any, _name: str, argv: list[Any]) -> int:
    """``RegisterWaitForSingleObject``."""
    place, handle, function, parameter, limit, flags = argv
    limit &= INFINITE
    made = Watch(
        function,
        lambda in_time: (parameter, int(not in_time)),
        awaited=handle,
        limit=limit,
        again=not flags & ONCE,
    )
    made.set(emu.scheduler.now, limit)
    return _named(emu, place, made)


def _named(emu: Any, place: int, watch: Watch) -> int:
    """Let the program have its address at *place*."""
    address = emu.heap_alloc(SIZE, heap=TAG)
    if not add(emu, address, watch):
        return failed(emu, ERROR_NO_SYSTEM_RESOURCES)
    emu.write_ptr(place, address)
    return 1


def _queue(emu: Any, _name: str, _argv: list[Any]) -> int:
    return int(emu.heap_alloc(SIZE, heap=TAG))


def _queue_timer(emu: Any, _name: str, argv: list[Any]) -> int:
    place, queue, function, parameter = argv[:4]
    made = Watch(function, lambda _: (parameter, 1), queue=queue)
    made.set(emu.scheduler.now, argv[4] & INFINITE, argv[5] & INFINITE)
    return _named(emu, place, made)


def _change_timer(emu: Any, _name: str, argv: list[Any]) -> int:
    watch = emu.pool.watches.get(argv[1])
    if watch is None:
        return failed(emu, ERROR_INVALID_HANDLE)
    watch.set(emu.scheduler.now, argv[2] & INFINITE, argv[3] & INFINITE)
    return 1


def _delete(number: int) -> Callable[[Any, str, list[Any]], Steps]:
    """A timer or wait is gone, whose address is argument *number*; an event behind that is set."""

    def answer(emu: Any, _name: str, argv: list[Any]) -> Steps:
        watch = emu.pool.watches.pop(argv[number], None)
        if watch is None:
            return failed(emu, ERROR_INVALID_HANDLE)
        return (yield from _gone(emu, [watch], argv[number + 1] if len(argv) > number + 1 else 0))

    return answer


def _delete_queue(emu: Any, _name: str, argv: list[Any]) -> Steps:
    places = [place for place, one in emu.pool.watches.items() if argv[0] and one.queue == argv[0]]
    every = [emu.pool.watches.pop(place) for place in places]
    return (yield from _gone(emu, every, argv[1] if len(argv) > 1 else 0))


def _gone(emu: Any, watches: list[Watch], event: int) -> Steps:
    for one in watches:
        one.gone = True
    if event == invalid_handle(emu):
        yield from emu.scheduler.wait(lambda: not any(one.busy for one in watches))
        return 1
    told = emu.wait_objects.get(event) if event else None
    if isinstance(told, Event):
        told.is_set = True
    busy = any(one.busy for one in watches)
    return failed(emu, ERROR_IO_PENDING) if busy and not event else 1


APIS = {
    "RegisterWaitForSingleObject": Api(words=6, answer=_register),
    "UnregisterWait": Api(words=1, answer=_delete(0)),
    "UnregisterWaitEx": Api(words=2, answer=_delete(0)),
    "CreateTimerQueue": Api(words=0, answer=_queue),
    "CreateTimerQueueTimer": Api(words=7, answer=_queue_timer),
    "ChangeTimerQueueTimer": Api(words=4, answer=_change_timer),
    "DeleteTimerQueueTimer": Api(words=3, answer=_delete(1)),
    "DeleteTimerQueue": Api(words=1, answer=_delete_queue),
    "DeleteTimerQueueEx": Api(words=2, answer=_delete_queue),
}
