"""Functions by which threads wait, and make what others wait for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import Api, put, text_argument
from drakcelery.engines.speakeasy_guest.calling.guest_calls import Steps
from drakcelery.engines.speakeasy_guest.scheduling.scheduler import (
    INFINITE,
    INTERRUPTED,
    TIMED_OUT,
    GuestThread,
)
from drakcelery.engines.speakeasy_guest.scheduling.wait_objects import (
    Event,
    Mutex,
    Semaphore,
    Timer,
    Waitable,
)

WAIT_TIMEOUT: Final = 0x102
WAIT_IO_COMPLETION: Final = 0xC0
WAIT_FAILED: Final = 0xFFFFFFFF
ERROR_NOT_OWNER: Final = 288
ERROR_TOO_MANY_POSTS: Final = 298
ERROR_ALREADY_EXISTS: Final = 183
ERROR_INVALID_HANDLE: Final = 6
MAX_OBJECTS: Final = 64
"""``MAXIMUM_WAIT_OBJECTS``."""

WAIT_ALL, ALERTABLE = 1, 2
"""Flags of ``MsgWaitForMultipleObjectsEx``."""

CREATE_MANUAL, CREATE_SET = 1, 2
"""Flags of ``CreateEventEx``."""

TICKS: Final = 10_000
"""100 ns, in a millisecond."""


@dataclass
class Messages:
    """Messages and timers of windows, as something to wait for."""

    emu: Any

    def ready(self, thread: GuestThread) -> bool:
        """Whether there is one."""
        due = self.emu.desktop.next_timer(thread)
        late = due is not None and due <= self.emu.clock.passed
        return late or bool(self.emu.desktop.has_message(thread))

    def acquire(self, _thread: GuestThread) -> None:
        """It stays until the program takes it."""


def _wait(
    emu: Any,
    handles: list[int],
    milliseconds: int,
    *,
    every: bool,
    alertable: bool,
    messages: Messages | None = None,
) -> Steps:
    """Wait for one or all; what has no state is there at once."""
    scheduler = emu.scheduler
    objects = [emu.wait_objects.get(handle) for handle in handles]
    if messages is not None:
        objects.append(messages)
    me = scheduler.current

    def which() -> int | None:
        able = [one is None or one.ready(me) for one in objects]
        if every:
            return 0 if all(able) else None
        return able.index(True) if True in able else None

    result = yield from scheduler.wait(lambda: which() is not None, milliseconds, alertable=alertable)
    if result == TIMED_OUT:
        return WAIT_TIMEOUT
    if result == INTERRUPTED:
        yield from scheduler.queued_calls()
        return WAIT_IO_COMPLETION
    if messages is not None and which() is None:  # it waits for what will never come
        emu.desktop.lose_patience(me)
    number = which() or 0
    taken = objects if every else [objects[number]]
    for one in taken:
        if one is not None and one.ready(me):
            one.acquire(me)
    return 0 if every else number


def _wait_one(emu: Any, name: str, argv: list[Any]) -> Steps:
    alertable = bool(name.endswith("Ex") and argv[2])
    return (yield from _wait(emu, [argv[0]], argv[1] & INFINITE, every=False, alertable=alertable))


def _wait_many(emu: Any, _name: str, argv: list[Any]) -> Steps:
    count, place, every, milliseconds = argv[:4]
    size = emu.get_ptr_size()
    handles = [emu.read_ptr(place + size * number) for number in range(min(count & INFINITE, MAX_OBJECTS))]
    alertable = len(argv) > 4 and bool(argv[4])
    wanted = bool(every & 0xFFFFFFFF)
    return (yield from _wait(emu, handles, milliseconds & INFINITE, every=wanted, alertable=alertable))


def _wait_or_message(emu: Any, name: str, argv: list[Any]) -> Steps:
    """``MsgWaitForMultipleObjects``: a message counts as one object more."""
    count, place = argv[:2]
    size = emu.get_ptr_size()
    handles = [emu.read_ptr(place + size * number) for number in range(min(count & INFINITE, MAX_OBJECTS))]
    extended = name.endswith("Ex")
    limit = argv[2 if extended else 3] & INFINITE
    every = bool(argv[4] & WAIT_ALL if extended else argv[2] & INFINITE)
    alertable = extended and bool(argv[4] & ALERTABLE)
    due = emu.desktop.next_timer(emu.scheduler.current)
    timer = INFINITE if due is None else max(int(due - emu.clock.passed) + 1, 1)
    return (
        yield from _wait(
            emu, handles, min(limit, timer), every=every, alertable=alertable, messages=Messages(emu)
        )
    )


def _signal_and_wait(emu: Any, _name: str, argv: list[Any]) -> Steps:
    _release(emu, argv[0])
    return (yield from _wait(emu, [argv[1]], argv[2] & INFINITE, every=False, alertable=bool(argv[3])))


def _nt_wait(emu: Any, _name: str, argv: list[Any]) -> Steps:
    return (
        yield from _wait(emu, [argv[0]], interval(emu, argv[2]), every=False, alertable=bool(argv[1] & 0xFF))
    )


def interval(emu: Any, place: int) -> int:
    """Milliseconds of a time of the native API, at least 1: negative ones count from now, 100 ns each."""
    if not place:
        return INFINITE
    value = int.from_bytes(emu.mem_read(place, 8), "little", signed=True)
    return min(max(-value // TICKS, 1), INFINITE - 1) if value < 0 else 0


def _release(emu: Any, handle: int) -> None:
    found: Waitable | None = emu.wait_objects.get(handle)
    if isinstance(found, Event):
        found.is_set = True
    elif isinstance(found, Mutex):
        found.release(emu.scheduler.current)
    elif isinstance(found, Semaphore):
        found.count = min(found.count + 1, found.most)


def _sleep(emu: Any, name: str, argv: list[Any]) -> Steps:
    alertable = name == "SleepEx" and bool(argv[1])
    return (yield from _rest(emu, argv[0] & INFINITE, alertable=alertable))


def _nt_delay(emu: Any, _name: str, argv: list[Any]) -> Steps:
    return (yield from _rest(emu, interval(emu, argv[1]), alertable=bool(argv[0] & 0xFF)))


def _rest(emu: Any, milliseconds: int, *, alertable: bool) -> Steps:
    scheduler = emu.scheduler
    if not milliseconds and not alertable:
        return (yield from _give_way(emu, "", []))
    # As it begins, since it may be the last that the program does
    emu.recorder.journal.write_seldom("delaymon", "NtDelayExecution", DelayIntervalMs=milliseconds)
    result = yield from scheduler.wait(lambda: False, milliseconds, alertable=alertable)
    if result == INTERRUPTED:
        yield from scheduler.queued_calls()
        return WAIT_IO_COMPLETION
    return 0


def _give_way(emu: Any, _name: str, _argv: list[Any]) -> Steps:
    yield from emu.scheduler.give_way()
    return int(emu.scheduler.others())


def _create_event(emu: Any, name: str, argv: list[Any]) -> int:
    if "Ex" in name:
        manual, is_set, place = argv[2] & CREATE_MANUAL, argv[2] & CREATE_SET, 1
    else:
        manual, is_set, place = argv[1] & 0xFFFFFFFF, argv[2] & 0xFFFFFFFF, 3
    event = Event(manual=bool(manual), is_set=bool(is_set))
    return _create(emu, text_argument(emu, name.replace("Ex", ""), argv, place), event)


def _create(emu: Any, name: str, waitable: Waitable) -> int:
    """A handle; of the object that there is already by that name."""
    found = emu.get_object_from_name(name) if name else None
    if found is not None:
        emu.set_last_error(ERROR_ALREADY_EXISTS)
        return int(found.get_handle())
    handle, _ = emu.create_event(name)
    emu.wait_objects.add(handle, waitable)
    emu.set_last_error(0)
    return int(handle)


def _create_semaphore(emu: Any, name: str, argv: list[Any]) -> int:
    semaphore = Semaphore(count=argv[1] & 0x7FFFFFFF, most=argv[2] & 0x7FFFFFFF)
    return _create(emu, text_argument(emu, name.replace("Ex", ""), argv, 3), semaphore)


def _create_timer(emu: Any, name: str, argv: list[Any]) -> int:
    manual, place = (argv[2] & 1, 1) if "Ex" in name else (argv[1], 2)
    timer = Timer(manual=bool(manual), scheduler=emu.scheduler)
    return _create(emu, text_argument(emu, name.replace("Ex", ""), argv, place), timer)


def _set_timer(emu: Any, _name: str, argv: list[Any]) -> int:
    found = emu.wait_objects.get(argv[0])
    if not isinstance(found, Timer):
        return 0
    found.due = emu.scheduler.now + interval(emu, argv[1])
    found.period = argv[2] & 0x7FFFFFFF
    return 1


def _create_network_event(emu: Any, _name: str, _argv: list[Any]) -> int:
    """``WSACreateEvent``: it stays set until it is reset."""
    return _create(emu, "", Event(manual=True, is_set=False))


def _set_event(emu: Any, name: str, argv: list[Any]) -> int:
    found = emu.wait_objects.get(argv[0])
    if isinstance(found, Event):
        found.is_set = "Reset" not in name
    return int(emu.get_object_from_handle(argv[0]) is not None)


def _release_mutex(emu: Any, _name: str, argv: list[Any]) -> int:
    found = emu.wait_objects.get(argv[0])
    if isinstance(found, Mutex) and not found.release(emu.scheduler.current):
        emu.set_last_error(ERROR_NOT_OWNER)
    return int(found is not None)


def _release_semaphore(emu: Any, _name: str, argv: list[Any]) -> int:
    found = emu.wait_objects.get(argv[0])
    if not isinstance(found, Semaphore):
        emu.set_last_error(ERROR_INVALID_HANDLE)
        return 0
    more = argv[1] & 0x7FFFFFFF
    if found.count + more > found.most:
        emu.set_last_error(ERROR_TOO_MANY_POSTS)
        return 0
    put(emu, argv[2], found.count, 4)
    found.count += more
    return 1


APIS = {
    "WaitForSingleObject": Api(words=2, answer=_wait_one),
    "WaitForSingleObjectEx": Api(words=3, answer=_wait_one),
    "WaitForMultipleObjects": Api(words=4, answer=_wait_many),
    "WaitForMultipleObjectsEx": Api(words=5, answer=_wait_many),
    "MsgWaitForMultipleObjects": Api(words=5, answer=_wait_or_message),
    "MsgWaitForMultipleObjectsEx": Api(words=5, answer=_wait_or_message),
    "SignalObjectAndWait": Api(words=4, answer=_signal_and_wait),
    "NtWaitForSingleObject": Api(words=3, answer=_nt_wait),
    "NtDelayExecution": Api(words=2, answer=_nt_delay),
    "NtYieldExecution": Api(words=0, answer=_give_way),
    "SwitchToThread": Api(words=0, answer=_give_way),
    "Sleep": Api(words=1, answer=_sleep),
    "SleepEx": Api(words=2, answer=_sleep),
    "CreateEvent": Api(words=4, answer=_create_event),
    "CreateEventEx": Api(words=4, answer=_create_event),
    "SetEvent": Api(words=1, answer=_set_event),
    "ResetEvent": Api(words=1, answer=_set_event),
    "WSACreateEvent": Api(words=0, answer=_create_network_event),
    "WSASetEvent": Api(words=1, answer=_set_event),
    "WSAResetEvent": Api(words=1, answer=_set_event),
    "WSAWaitForMultipleEvents": Api(words=5, answer=_wait_many),
    "ReleaseMutex": Api(words=1, answer=_release_mutex),
    "CreateSemaphore": Api(words=4, answer=_create_semaphore),
    "CreateSemaphoreEx": Api(words=6, answer=_create_semaphore),
    "ReleaseSemaphore": Api(words=3, answer=_release_semaphore),
    "CreateWaitableTimer": Api(words=3, answer=_create_timer),
    "CreateWaitableTimerEx": Api(words=4, answer=_create_timer),
    "SetWaitableTimer": Api(words=6, answer=_set_timer),
    "SetWaitableTimerEx": Api(words=7, answer=_set_timer),
}
