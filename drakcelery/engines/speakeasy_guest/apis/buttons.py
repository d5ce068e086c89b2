"""Buttons, and who presses them: somebody who wants to get on, as nobody sits before the emulated Windows.

In a dialogue that waits for its end it is the button for those who agree. In any other window, also in a
dialogue that a program has among its windows, each button gets its turn when nothing else happens, that one
first, for as long as a press changes anything.
"""

from __future__ import annotations

from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.window_procedures import CANCEL, COMMAND, send
from drakcelery.engines.speakeasy_guest.calling.guest_calls import Steps
from drakcelery.engines.speakeasy_guest.scheduling.desktop import Message, Window
from drakcelery.engines.speakeasy_guest.scheduling.scheduler import GuestThread

OK, YES = 1, 6
"""``IDOK`` and ``IDYES``."""

OTHERS: Final = 3
MAX_PRESSES: Final = 24
"""Of buttons that no dialogue waits for, in one process."""

MOST_OF_ONE: Final = 4
NUMBER: Final = 0xFFFF
"""A button's number as ``WM_COMMAND`` has it, beside what happened to it (0: pressed)."""


def _rank(button: Window) -> int:
    """Who agrees presses the lowest one: the default button, OK, Yes; then come all others."""
    if button.control is not None and button.control.default:
        return 0
    return {OK: 1, YES: 2}.get(button.number, OTHERS)


def agreeing(emu: Any, dialog: Window) -> Window:
    """The button of a dialogue for who agrees."""
    inside = (one for one in emu.desktop.children(dialog.handle) if one.control and one.control.button)
    chosen = min(inside, key=_rank, default=None)
    if chosen is None or _rank(chosen) == OTHERS:
        chosen = emu.desktop.item(dialog.handle, OK)
    found: Window = chosen
    return found


def press(emu: Any, window: Window, number: int) -> Steps:
    """Tell a window that what has that number in it was pressed."""
    button = emu.desktop.item(window.handle, number)
    handle = button.handle if button is not None else 0
    return (yield from send(emu, Message(window.handle, COMMAND, number & NUMBER, handle)))


def tick(emu: Any, window: Window) -> Steps:
    """Tick the boxes of a window."""
    for one in emu.desktop.children(window.handle):
        if one.control is not None and one.control.checks and one.enabled and not one.checked:
            one.checked = 1
            yield from send(emu, Message(window.handle, COMMAND, one.number & NUMBER, one.handle))
    return 0


# Buttons of windows that are no dialogues which wait for their end.


def next_one(emu: Any, thread: GuestThread) -> tuple[Window, Window] | None:
    """A window of the thread's, and the button in it whose turn it is; None if there is none left."""
    windows = emu.desktop.windows
    if emu.desktop.presses >= MAX_PRESSES:
        return None
    left = [
        (around, one)
        for one in windows.values()
        if _is_left(one) and (around := windows.get(one.parent)) is not None and _shows(around, thread)
    ]
    inside = [(around, one) for around, one in left if around is left[0][0]]
    return min(inside, key=lambda pair: _rank(pair[1]), default=None)


def _is_left(button: Window) -> bool:
    """Whether it is a button that is pressed, not ticked, and that may yet do something."""
    kind = button.control
    if kind is None or not kind.button or kind.checks:
        return False
    return button.number != CANCEL and button.presses < MOST_OF_ONE


def _shows(window: Window, thread: GuestThread) -> bool:
    return window.thread is thread and not window.parent and window.visible and not window.over


def press_next(emu: Any, thread: GuestThread) -> Steps:
    """Press the button whose turn it is; one that does nothing, or cannot be used, is not pressed again."""
    found = next_one(emu, thread)
    if found is None:
        return 0
    window, button = found
    emu.desktop.presses += 1
    button.presses += 1
    if not button.enabled:
        yield from tick(emu, window)
    before = _state(emu)
    if button.enabled and window.handle in emu.desktop.windows:
        message = Message(window.handle, COMMAND, button.number & NUMBER, button.handle)
        yield from send(emu, message)
    if _state(emu) == before:
        button.presses = MOST_OF_ONE
    return 1


def _state(emu: Any) -> tuple[Any, ...]:
    """What can be seen of what a program does."""
    windows = emu.desktop.windows.values()
    return emu.recorder.changes, *((one.handle, one.title, one.enabled, one.visible) for one in windows)
