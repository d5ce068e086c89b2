"""Dialogues: opened, told what happens, and answered as somebody would who wants to get on.

Nobody sits before the emulated Windows. A modal dialogue gets its default button pressed when the program's
other threads have nothing to do; where that one is not to be used, boxes are ticked first.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis import resources
from drakcelery.engines.speakeasy_guest.apis.api import MAX_TEXT, Api, read_text
from drakcelery.engines.speakeasy_guest.apis.desktop import of_a_window
from drakcelery.engines.speakeasy_guest.apis.dialog_templates import controls
from drakcelery.engines.speakeasy_guest.apis.dialog_windows import MAX_WINDOWS, Dialogs, Window
from drakcelery.engines.speakeasy_guest.calling.guest_calls import GuestCall, Steps, Wait

DIALOG: Final = 5
"""``RT_DIALOG``."""

INIT, COMMAND, DESTROY = 0x110, 0x111, 0x2
SET_TEXT, GET_TEXT, TEXT_LENGTH = 0xC, 0xD, 0xE
GET_CHECK, SET_CHECK = 0xF0, 0xF1
"""Messages (winuser.h)."""

OK, CANCEL, YES = 1, 2, 6
RESULT_OF_MESSAGE: Final = 0
"""Where a dialogue keeps what it answers (``DWLP_MSGRESULT``)."""

PROCEDURE: Final = -4
"""``GWLP_WNDPROC``."""

MAX_CLICKS: Final = 24
MAX_POSTED: Final = 1024
MAX_TEMPLATE: Final = 64 * 1024

Told = Generator[GuestCall | Wait, int, int]


def _template(emu: Any, name: str, argv: list[Any]) -> bytes:
    """A dialogue's template: its resource, or in memory (``…Indirect…``); empty for none."""
    if "Indirect" in name:
        page = 0x1000 - argv[1] % 0x1000
        return bytes(emu.mem_read(argv[1], page))
    key = resources.key(emu, argv[1], wide=name.endswith("W"))
    data = resources.content(emu, argv[0], DIALOG, key)
    argv[1] = key
    return data[:MAX_TEMPLATE]


def _opened(emu: Any, name: str, argv: list[Any]) -> Generator[GuestCall, int, Window]:
    """A dialogue with its controls, which has been told that it begins."""
    parts = controls(_template(emu, name, argv))
    dialogs: Dialogs = emu.dialogs
    made = dialogs.add(argv[2], procedure=argv[3])
    for part in parts:
        dialogs.add(made.handle, number=part.number, control=part, text=part.text, enabled=part.enabled)
    if made.procedure:
        yield _told(made, INIT, 0, argv[4])
    return made


def _told(dialog: Window, message: int, first: int, second: int) -> GuestCall:
    return GuestCall(dialog.procedure, (dialog.handle, message, first, second))


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
        yield _told(dialog, COMMAND, CANCEL, emu.dialogs.item(dialog.handle, CANCEL).handle)
        dialog.over = True
    return dialog.result


def _settled(emu: Any, dialog: Window) -> Told:
    """What was posted is delivered, and other threads have done what they can."""
    scheduler = emu.scheduler
    me = scheduler.current

    def idle() -> bool:
        others = (one for one in scheduler.threads if one is not me)
        return bool(dialog.posted) or dialog.over or all(one.over or one.wait is not None for one in others)

    while not dialog.over:
        yield from scheduler.wait(idle)
        if not dialog.posted:
            break
        yield _told(dialog, *dialog.posted.pop(0))
    return 0


def _answered(emu: Any, dialog: Window) -> Generator[GuestCall, int, None]:
    """Press the button that is meant for those who agree."""
    button = _button(emu, dialog)
    if not button.enabled:
        yield from _ticked(emu)
    if button.enabled and not dialog.over:
        yield _told(dialog, COMMAND, button.number, button.handle)


def _button(emu: Any, dialog: Window) -> Window:
    inside = [one for one in emu.dialogs.of(dialog.handle) if one.control is not None and one.control.button]
    chosen = [one for one in inside if one.control.default] + [
        one for number in (OK, YES) for one in inside if one.number == number
    ]
    found: Window = chosen[0] if chosen else emu.dialogs.item(dialog.handle, OK)
    return found


def _ticked(emu: Any) -> Generator[GuestCall, int, None]:
    for dialog in emu.dialogs.open():
        for one in emu.dialogs.of(dialog.handle):
            if one.control is not None and one.control.checks and one.enabled and not one.checked:
                one.checked = 1
                yield _told(dialog, COMMAND, one.number, one.handle)


def _end(emu: Any, _name: str, argv: list[Any]) -> int:
    dialog = emu.dialogs.get(argv[0])
    if dialog is None:
        return 0
    dialog.over, dialog.result = True, argv[1]
    return 1


def _destroy(emu: Any, name: str, argv: list[Any]) -> Steps:
    dialog = emu.dialogs.get(argv[0])
    if dialog is not None and dialog.procedure and not dialog.over:
        dialog.over = True
        yield _told(dialog, DESTROY, 0, 0)
    return of_a_window(emu, name, argv)


def _item(emu: Any, name: str, argv: list[Any]) -> int:
    if not of_a_window(emu, name, argv):
        return 0
    return int(emu.dialogs.item(argv[0], argv[1] & 0xFFFFFFFF).handle)


def _sent(emu: Any, window: Window | None, message: int, given: tuple[int, int], *, wide: bool) -> Steps:
    """``SendMessage``."""
    first, second = given
    if window is None:
        return 0
    if window.procedure:
        done = yield _told(window, message, first, second)
        return window.values.get(RESULT_OF_MESSAGE, 0) if done else 0
    if message == SET_TEXT:
        window.text = read_text(emu, second, wide=wide) if second else ""
        return 1
    if message == GET_TEXT:
        return _give_text(emu, window.text, second, first, wide=wide)
    if message == SET_CHECK:
        window.checked = first & 0xFFFFFFFF
    return {TEXT_LENGTH: len(window.text), GET_CHECK: window.checked}.get(message, 0)


def _give_text(emu: Any, text: str, place: int, room: int, *, wide: bool) -> int:
    encoding, width = ("utf-16-le", 2) if wide else ("cp1252", 1)
    data = text.encode(encoding, "replace")[: max(min(room, MAX_TEXT) - 1, 0) * width]
    if room and place:
        emu.mem_write(place, data + bytes(width))
    return len(data) // width


def _send(emu: Any, name: str, argv: list[Any]) -> Steps:
    wide, window = name.endswith("W"), emu.dialogs.get(argv[0])
    if window is None and argv[0] in emu.dialogs.procedures:
        return (yield GuestCall(emu.dialogs.procedures[argv[0]], tuple(argv)))
    return (yield from _sent(emu, window, argv[1] & 0xFFFFFFFF, (argv[2], argv[3]), wide=wide))


def _send_to_item(emu: Any, name: str, argv: list[Any]) -> Steps:
    wide, window = name.endswith("W"), emu.dialogs.item(argv[0], argv[1] & 0xFFFFFFFF)
    return (yield from _sent(emu, window, argv[2] & 0xFFFFFFFF, (argv[3], argv[4]), wide=wide))


def _post(emu: Any, _name: str, argv: list[Any]) -> int:
    window = emu.dialogs.get(argv[0])
    if window is not None and len(window.posted) < MAX_POSTED:
        window.posted.append((argv[1] & 0xFFFFFFFF, argv[2], argv[3]))
    return 1


def _set_text(emu: Any, name: str, argv: list[Any]) -> int:
    """``SetWindowText`` and, with a control's number, ``SetDlgItemText``."""
    window = emu.dialogs.get(argv[0]) if len(argv) == 2 else emu.dialogs.item(argv[0], argv[1] & 0xFFFFFFFF)
    text = read_text(emu, argv[-1], wide=name.endswith("W")) if argv[-1] else ""
    argv[-1] = text
    if window is not None:
        window.text = text
    return 1


def _get_text(emu: Any, name: str, argv: list[Any]) -> int:
    window = emu.dialogs.get(argv[0]) if len(argv) == 3 else emu.dialogs.item(argv[0], argv[1] & 0xFFFFFFFF)
    text = window.text if window is not None else ""
    return _give_text(emu, text, argv[-2], argv[-1] & 0xFFFFFFFF, wide=name.endswith("W"))


def _text_length(emu: Any, _name: str, argv: list[Any]) -> int:
    window = emu.dialogs.get(argv[0])
    return len(window.text) if window is not None else 0


def _enable(emu: Any, _name: str, argv: list[Any]) -> int:
    window = emu.dialogs.get(argv[0])
    if window is None:
        return 0
    before, window.enabled = window.enabled, bool(argv[1] & 0xFFFFFFFF)
    return int(not before)


def _is_enabled(emu: Any, _name: str, argv: list[Any]) -> int:
    window = emu.dialogs.get(argv[0])
    return int(window.enabled) if window is not None else 1


def _index(value: int) -> int:
    """The number of a value of a window's, which may be below 0."""
    low = value & 0xFFFFFFFF
    return low - (1 << 32) if low >> 31 else low


def _set_long(emu: Any, _name: str, argv: list[Any]) -> int:
    window, index = emu.dialogs.get(argv[0]), _index(argv[1])
    if window is None:
        if index == PROCEDURE and len(emu.dialogs.procedures) < MAX_WINDOWS:
            emu.dialogs.procedures[argv[0]] = argv[2]
        return 0
    before = window.values.get(index, 0)
    window.values[index] = argv[2]
    return int(before)


def _get_long(emu: Any, _name: str, argv: list[Any]) -> int:
    window = emu.dialogs.get(argv[0])
    return int(window.values.get(_index(argv[1]), 0)) if window is not None else 0


def _check(emu: Any, _name: str, argv: list[Any]) -> int:
    emu.dialogs.item(argv[0], argv[1] & 0xFFFFFFFF).checked = argv[2] & 0xFFFFFFFF
    return 1


def _is_checked(emu: Any, _name: str, argv: list[Any]) -> int:
    return int(emu.dialogs.item(argv[0], argv[1] & 0xFFFFFFFF).checked)


APIS = {
    "DialogBoxParam": Api(words=5, answer=_box),
    "DialogBoxIndirectParam": Api(words=5, answer=_box),
    "CreateDialogParam": Api(words=5, answer=_create),
    "CreateDialogIndirectParam": Api(words=5, answer=_create),
    "EndDialog": Api(words=2, answer=_end),
    "DestroyWindow": Api(words=1, answer=_destroy),
    "GetDlgItem": Api(words=2, answer=_item),
    "SendMessage": Api(words=4, answer=_send),
    "SendDlgItemMessage": Api(words=5, answer=_send_to_item),
    "PostMessage": Api(words=4, answer=_post),
    "SetWindowText": Api(words=2, answer=_set_text),
    "SetDlgItemText": Api(words=3, answer=_set_text),
    "GetWindowText": Api(words=3, answer=_get_text),
    "GetDlgItemText": Api(words=4, answer=_get_text),
    "GetWindowTextLength": Api(words=1, answer=_text_length),
    "EnableWindow": Api(words=2, answer=_enable),
    "IsWindowEnabled": Api(words=1, answer=_is_enabled),
    "SetWindowLong": Api(words=3, answer=_set_long),
    "SetWindowLongPtr": Api(words=3, answer=_set_long),
    "GetWindowLong": Api(words=2, answer=_get_long),
    "GetWindowLongPtr": Api(words=2, answer=_get_long),
    "CheckDlgButton": Api(words=3, answer=_check),
    "IsDlgButtonChecked": Api(words=2, answer=_is_checked),
}
