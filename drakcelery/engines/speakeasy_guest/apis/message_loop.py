"""Messages that are posted and waited for, and timers."""

from __future__ import annotations

import struct
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis import buttons
from drakcelery.engines.speakeasy_guest.apis.api import Api
from drakcelery.engines.speakeasy_guest.apis.window_procedures import LOW, send
from drakcelery.engines.speakeasy_guest.calling.guest_calls import GuestCall, Steps
from drakcelery.engines.speakeasy_guest.scheduling.desktop import (
    MAX_TIMERS,
    PATIENCE,
    QUIT,
    SHORTEST,
    TIMER,
    Message,
    Repeating,
)
from drakcelery.engines.speakeasy_guest.scheduling.scheduler import INFINITE, TIMED_OUT

BROADCAST: Final = 0xFFFF
REMOVE: Final = 1
"""``PM_REMOVE``."""

NOTHING: Final = 0
"""``WM_NULL``."""

FIRST_TIMER: Final = 0x1000
MOUSE: Final = (611, 402)
"""Where it is said to have been when a message came."""

ERROR_INVALID_WINDOW, ERROR_INVALID_THREAD = 1400, 1444


def _write(emu: Any, place: int, message: Message) -> None:
    """Lay down a ``MSG``."""
    when = int(emu.clock.uptime) & LOW
    if emu.get_ptr_size() == 4:
        words = (message.window, message.number, message.word & LOW, message.long & LOW)
        emu.mem_write(place, struct.pack("<5Iii", *words, when, *MOUSE))
    else:
        words = (message.window, message.number, message.word, message.long)
        emu.mem_write(place, struct.pack("<QI4xQQIii4x", *words, when, *MOUSE))


def _read(emu: Any, place: int) -> Message:
    if emu.get_ptr_size() == 4:
        return Message(*struct.unpack("<4I", emu.mem_read(place, 16)))
    return Message(*struct.unpack("<QI4xQQ", emu.mem_read(place, 32)))


def _rest(emu: Any, window: int) -> Steps:
    """Wait for a message or a timer; a user who has nothing to do any more closes the program."""
    desktop, me = emu.desktop, emu.scheduler.current
    due = desktop.next_timer(me, window)
    limit = INFINITE if due is None else max(int(due - emu.clock.passed) + 1, 1)
    others = [one for one in emu.scheduler.threads if one is not me]

    def ready() -> bool:
        idle = due is None and all(one.rests for one in others) and buttons.next_one(emu, me) is not None
        return desktop.has_message(me, window) or idle

    result = yield from emu.scheduler.wait(ready, limit)
    if result != TIMED_OUT and not desktop.has_message(me, window):
        yield from _get_on(emu)
    return 0


def _get_on(emu: Any) -> Steps:
    """Nothing happens any more: press a button, or close the program where none is left.

    A press is a message of the mouse on Windows, so that a loop sees what has changed before the next one.
    """
    me = emu.scheduler.current
    if (yield from buttons.press_next(emu, me)):
        emu.desktop.post(me, Message(0, NOTHING))
    else:
        emu.desktop.lose_patience(me)
    return 0


def _get(emu: Any, _name: str, argv: list[Any]) -> Steps:
    """``GetMessage``."""
    place, window = argv[0], argv[1] & LOW
    while True:
        message = emu.desktop.next(emu.scheduler.current, window, emu.clock.passed, remove=True)
        if message is not None:
            break
        yield from _rest(emu, window)
    yield from _see_whether_it_ends(emu, message)
    _write(emu, place, message)
    return int(message.number != QUIT)


def _see_whether_it_ends(emu: Any, message: Message | None) -> Steps:
    """Count timers and looks without a message between which nothing changes: at last it is closed."""
    desktop = emu.desktop
    if emu.recorder.changes != desktop.changes:
        desktop.changes, desktop.idle = emu.recorder.changes, 0
    if message is None or message.number == TIMER:
        desktop.idle += 1
        if desktop.idle >= PATIENCE:
            desktop.idle = 0
            yield from _get_on(emu)
    return 0


def _peek(emu: Any, _name: str, argv: list[Any]) -> Steps:
    place, window, remove = argv[0], argv[1] & LOW, bool(argv[4] & REMOVE)
    emu.clock.advance()
    message = emu.desktop.next(emu.scheduler.current, window, emu.clock.passed, remove=remove)
    if message is None or remove:
        yield from _see_whether_it_ends(emu, message)
    if message is None:
        yield from emu.scheduler.wait(lambda: False, 1)
        return 0
    _write(emu, place, message)
    return 1


def _wait(emu: Any, _name: str, _argv: list[Any]) -> Steps:
    """``WaitMessage``."""
    yield from _rest(emu, 0)
    return 1


def _dispatch(emu: Any, name: str, argv: list[Any]) -> Steps:
    return (yield from deliver(emu, _read(emu, argv[0]), wide=name.endswith("W")))


def deliver(emu: Any, message: Message, *, wide: bool = False) -> Steps:
    """Have a message that was taken out dealt with: by a timer's own function, or by the window."""
    if message.number == TIMER and message.long:
        arguments = (message.window, TIMER, message.word, int(emu.clock.uptime) & LOW)
        return (yield GuestCall(message.long, arguments))
    return (yield from send(emu, message, wide=wide))


def _post(emu: Any, _name: str, argv: list[Any]) -> int:
    handle = argv[0] & LOW
    window = emu.desktop.get(handle)
    if handle and window is None:
        if handle != BROADCAST:
            emu.set_last_error(ERROR_INVALID_WINDOW)
        return int(handle == BROADCAST)
    thread = window.thread if window is not None else emu.scheduler.current
    if thread is None:  # another program's window
        return 1
    return int(emu.desktop.post(thread, Message(handle, argv[1] & LOW, argv[2], argv[3])))


def _post_to_thread(emu: Any, _name: str, argv: list[Any]) -> int:
    threads = (one for one in emu.scheduler.threads if one.object.get_id() == argv[0] & LOW)
    thread = next(threads, None)
    if thread is None:
        emu.set_last_error(ERROR_INVALID_THREAD)
        return 0
    if argv[1] & LOW == QUIT:
        emu.desktop.quitting[thread] = argv[2]
        return 1
    return int(emu.desktop.post(thread, Message(0, argv[1] & LOW, argv[2], argv[3])))


def _quit(emu: Any, _name: str, argv: list[Any]) -> int:
    emu.desktop.quitting[emu.scheduler.current] = argv[0] & LOW
    return 0


def _set_timer(emu: Any, _name: str, argv: list[Any]) -> int:
    window, number, period, procedure = argv[0] & LOW, argv[1], argv[2] & 0x7FFFFFFF, argv[3]
    desktop = emu.desktop
    if not window:
        number = max((one.number for one in desktop.timers if not one.window), default=FIRST_TIMER) + 1
    desktop.timers = [one for one in desktop.timers if (one.window, one.number) != (window, number)]
    if len(desktop.timers) >= MAX_TIMERS:
        return 0
    due = emu.clock.passed + max(period, SHORTEST)
    desktop.timers.append(Repeating(window, number, period, procedure, emu.scheduler.current, due))
    return int(number) or 1


def _kill_timer(emu: Any, _name: str, argv: list[Any]) -> int:
    wanted = (argv[0] & LOW, argv[1])
    kept = [one for one in emu.desktop.timers if (one.window, one.number) != wanted]
    found = len(kept) < len(emu.desktop.timers)
    emu.desktop.timers = kept
    return int(found)


APIS = {
    "GetMessage": Api(words=4, answer=_get),
    "PeekMessage": Api(words=5, answer=_peek),
    "WaitMessage": Api(words=0, answer=_wait),
    "DispatchMessage": Api(words=1, answer=_dispatch),
    "PostMessage": Api(words=4, answer=_post),
    "PostThreadMessage": Api(words=4, answer=_post_to_thread),
    "PostQuitMessage": Api(words=1, answer=_quit),
    "SetTimer": Api(words=4, answer=_set_timer),
    "KillTimer": Api(words=2, answer=_kill_timer),
}
