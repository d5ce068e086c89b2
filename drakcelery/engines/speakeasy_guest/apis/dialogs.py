"""Dialogues: opened, told what happens, and answered as somebody would who wants to get on.

Nobody sits before the emulated Windows. A modal dialogue gets its default button pressed when the program's
other threads have nothing to do; where that one is not to be used, boxes are ticked first.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis import buttons, resources
from drakcelery.engines.speakeasy_guest.apis.api import Api, read_pages, read_text
from drakcelery.engines.speakeasy_guest.apis.dialog_templates import Control, controls, style_of
from drakcelery.engines.speakeasy_guest.apis.message_loop import deliver
from drakcelery.engines.speakeasy_guest.apis.window_procedures import (
    CANCEL,
    INIT_DIALOG,
    LOW,
    destroy,
    put_text,
    send,
)
from drakcelery.engines.speakeasy_guest.apis.windows import CHILD, VISIBLE
from drakcelery.engines.speakeasy_guest.calling.guest_calls import GuestCall, Leave, Steps, Wait
from drakcelery.engines.speakeasy_guest.scheduling.desktop import (
    DIALOG,
    IDENTITY,
    PARENT,
    QUIT,
    Message,
    Window,
)

RESOURCE: Final = 5
"""``RT_DIALOG``."""

MAX_CLICKS: Final = 24
MAX_DELIVERED: Final = 1024
"""Messages that come between two clicks."""

MAX_TEMPLATE: Final = 64 * 1024
ERROR_CONTROL_ID_NOT_FOUND: Final = 1421


def _template(emu: Any, name: str, argv: list[Any]) -> bytes:
    """A dialogue's template: its resource, or in memory (``…Indirect…``); empty for none."""
    if "Indirect" in name:
        return read_pages(emu, argv[1], MAX_TEMPLATE)
    key = resources.key(emu, argv[1], wide=name.endswith("W"))
    data = resources.content(emu, argv[0], RESOURCE, key)
    argv[1] = key
    return data[:MAX_TEMPLATE]


def _opened(emu: Any, name: str, argv: list[Any]) -> Generator[GuestCall | Wait | Leave, int, Window]:
    """A dialogue with its controls, which has been told that it begins."""
    template = _template(emu, name, argv)
    style = style_of(template)
    made = Window(DIALOG, dialog=argv[3], thread=emu.scheduler.current, numbers={PARENT: argv[2]})
    made.parent = argv[2] & LOW if style & CHILD else 0
    made.visible = bool(style & VISIBLE) or name.startswith("DialogBox")
    emu.desktop.add(made)
    for part in controls(template):
        emu.desktop.add(_item_of(made, part))
    if made.dialog:
        yield from send(emu, Message(made.handle, INIT_DIALOG, 0, argv[4]))
    return made


def _item_of(dialog: Window, part: Control) -> Window:
    kind = "Button" if part.button else "Static"
    made = Window(kind, part.text, parent=dialog.handle, thread=dialog.thread, control=part, visible=True)
    made.enabled = part.enabled
    made.numbers = {IDENTITY: part.number, PARENT: dialog.handle}
    return made


def _create(emu: Any, name: str, argv: list[Any]) -> Steps:
    made = yield from _opened(emu, name, argv)
    return made.handle


def _box(emu: Any, name: str, argv: list[Any]) -> Steps:
    if not argv[3]:
        return 0
    dialog = yield from _opened(emu, name, argv)
    for _ in range(MAX_CLICKS):
        yield from _settled(emu, dialog)
        if dialog.over:
            break
        yield from _answered(emu, dialog)
    if not dialog.over:
        yield from buttons.press(emu, dialog, CANCEL)
    yield from destroy(emu, dialog)
    return dialog.result


def _settled(emu: Any, dialog: Window) -> Steps:
    """What was posted is delivered, timers have come once, and other threads have done what they can."""
    scheduler, desktop = emu.scheduler, emu.desktop
    me = scheduler.current

    def idle() -> bool:
        others = (one for one in scheduler.threads if one is not me)
        return desktop.has_message(me) or dialog.over or all(one.rests for one in others)

    due = desktop.next_timer(me)
    if due is not None:
        limit = max(int(due - emu.clock.passed) + 1, 1)
        yield from scheduler.wait(lambda: dialog.over or desktop.has_message(me), limit)
    for _ in range(MAX_DELIVERED):
        yield from scheduler.wait(idle)
        message = desktop.next(me, 0, emu.clock.passed, remove=True) if not dialog.over else None
        if message is None:
            break
        if message.number == QUIT:  # for the loop around this one
            desktop.quitting[me] = message.word
            dialog.over = True
            break
        yield from deliver(emu, message)
    return 0


def _answered(emu: Any, dialog: Window) -> Steps:
    """Press the button that is meant for those who agree."""
    button = buttons.agreeing(emu, dialog)
    if not button.enabled:
        for one in emu.desktop.dialogs():
            yield from buttons.tick(emu, one)
    if button.enabled and not dialog.over:
        yield from buttons.press(emu, dialog, button.number)
    return 0


def _end(emu: Any, _name: str, argv: list[Any]) -> int:
    dialog = emu.desktop.get(argv[0])
    if dialog is None:
        return 0
    dialog.over, dialog.result = True, argv[1]
    return 1


def _item(emu: Any, _name: str, argv: list[Any]) -> Window | None:
    found: Window | None = emu.desktop.item(argv[0], argv[1] & LOW)
    return found


def _get_item(emu: Any, name: str, argv: list[Any]) -> int:
    found = _item(emu, name, argv)
    if found is None:
        emu.set_last_error(ERROR_CONTROL_ID_NOT_FOUND)
    return found.handle if found is not None else 0


def _send(emu: Any, name: str, argv: list[Any]) -> Steps:
    found = _item(emu, name, argv)
    if found is None:
        return 0
    message = Message(found.handle, argv[2] & LOW, argv[3], argv[4])
    return (yield from send(emu, message, wide=name.endswith("W")))


def _set_text(emu: Any, name: str, argv: list[Any]) -> int:
    found = _item(emu, name, argv)
    argv[2] = read_text(emu, argv[2], wide=name.endswith("W")) if argv[2] else ""
    if found is not None:
        found.title = argv[2]
    return int(found is not None)


def _get_text(emu: Any, name: str, argv: list[Any]) -> int:
    found = _item(emu, name, argv)
    return put_text(emu, found.title if found else "", argv[2], argv[3], wide=name.endswith("W"))


def _check(emu: Any, name: str, argv: list[Any]) -> int:
    found = _item(emu, name, argv)
    if found is not None:
        found.checked = argv[2] & LOW
    return int(found is not None)


def _is_checked(emu: Any, name: str, argv: list[Any]) -> int:
    found = _item(emu, name, argv)
    return found.checked if found is not None else 0


APIS = {
    "DialogBoxParam": Api(words=5, answer=_box),
    "DialogBoxIndirectParam": Api(words=5, answer=_box),
    "CreateDialogParam": Api(words=5, answer=_create),
    "CreateDialogIndirectParam": Api(words=5, answer=_create),
    "EndDialog": Api(words=2, answer=_end),
    "GetDlgItem": Api(words=2, answer=_get_item),
    "SendDlgItemMessage": Api(words=5, answer=_send),
    "SetDlgItemText": Api(words=3, answer=_set_text),
    "GetDlgItemText": Api(words=4, answer=_get_text),
    "CheckDlgButton": Api(words=3, answer=_check),
    "IsDlgButtonChecked": Api(words=2, answer=_is_checked),
}
