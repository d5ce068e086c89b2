"""What windows do with messages: their own functions are called, and Windows does the rest."""

from __future__ import annotations

from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis import texts
from drakcelery.engines.speakeasy_guest.apis.api import MAX_TEXT, Api, put, read_text
from drakcelery.engines.speakeasy_guest.calling.guest_calls import GuestCall, Steps
from drakcelery.engines.speakeasy_guest.scheduling.desktop import CLOSE, Message, Window

DESTROY, COMMAND, INIT_DIALOG, NC_CREATE, NC_DESTROY = 0x2, 0x111, 0x110, 0x81, 0x82
SET_TEXT, GET_TEXT, TEXT_LENGTH, ERASE = 0xC, 0xD, 0xE, 0x14
GET_CHECK, SET_CHECK = 0xF0, 0xF1
"""Messages (winuser.h)."""

CANCEL: Final = 2
"""``IDCANCEL``."""

RESULT_OF_MESSAGE: Final = 0
"""Where a dialogue keeps what it answers (``DWLP_MSGRESULT``)."""

LOW: Final = 0xFFFFFFFF


def send(emu: Any, message: Message, *, wide: bool = False) -> Steps:
    """Have a window deal with a message; what it answers."""
    window = emu.desktop.get(message.window)
    if window is None:
        return 0
    if window.procedure:
        arguments = (message.window, message.number, message.word, message.long)
        return (yield GuestCall(window.procedure, arguments))
    return (yield from _of_windows(emu, window, message, wide=wide))


def _of_windows(emu: Any, window: Window, message: Message, *, wide: bool) -> Steps:
    """The function of a kind that Windows brings along: a dialogue's asks the program first."""
    if window.dialog:
        arguments = (message.window, message.number, message.word, message.long)
        if (yield GuestCall(window.dialog, arguments)) & LOW:
            return window.numbers.get(RESULT_OF_MESSAGE, 0)
        if message.number == CLOSE:
            cancel = emu.desktop.item(window.handle, CANCEL)
            button = cancel.handle if cancel is not None else 0
            return (yield from send(emu, Message(window.handle, COMMAND, CANCEL, button)))
    return (yield from _default(emu, window, message, wide=wide))


def _default(emu: Any, window: Window, message: Message, *, wide: bool) -> Steps:
    """What Windows does with a message that a program does not care for."""
    match message.number:
        case 0x81 | 0x14:  # NC_CREATE, ERASE
            return 1
        case 0x10:  # CLOSE
            yield from destroy(emu, window)
        case 0xC:  # SET_TEXT
            window.title = read_text(emu, message.long, wide=wide) if message.long else ""
            return 1
        case 0xD:  # GET_TEXT
            return put_text(emu, window.title, message.long, message.word, wide=wide)
        case 0xE:  # TEXT_LENGTH
            return len(window.title)
        case 0xF0:  # GET_CHECK
            return window.checked
        case 0xF1:  # SET_CHECK
            window.checked = message.word & LOW
        case 0xF5 if window.control is not None and window.control.button:  # CLICK
            yield from send(emu, Message(window.parent, COMMAND, window.number & 0xFFFF, window.handle))
    return 0


def put_text(emu: Any, text: str, target: int, room: int, *, wide: bool) -> int:
    """A text, cut to its room in characters; its length."""
    return texts.write_cut(emu, target, text, min(room & LOW, MAX_TEXT), wide=wide)


def destroy(emu: Any, window: Window) -> Steps:
    """Tell a window and those in it that they end, and forget them."""
    if window.ending:
        return 1
    window.ending = window.over = True
    yield from _notify(emu, window, DESTROY)
    for child in emu.desktop.children(window.handle):
        yield from destroy(emu, child)
    yield from _notify(emu, window, NC_DESTROY)
    emu.desktop.remove(window)
    return 1


def _notify(emu: Any, window: Window, number: int) -> Steps:
    if window.procedure or window.dialog:
        yield from send(emu, Message(window.handle, number))
    return 0


def _message(argv: list[Any]) -> Message:
    return Message(argv[0] & LOW, argv[1] & LOW, argv[2], argv[3])


def _send(emu: Any, name: str, argv: list[Any]) -> Steps:
    return (yield from send(emu, _message(argv), wide=name.endswith("W")))


def _send_in_time(emu: Any, name: str, argv: list[Any]) -> Steps:
    """``SendMessageTimeout``: with the result where the program wants it."""
    value = yield from send(emu, _message(argv), wide=name.endswith("W"))
    put(emu, argv[6], int(value) if isinstance(value, int) else 0, emu.get_ptr_size())
    return 1


def _call(emu: Any, name: str, argv: list[Any]) -> Steps:
    """``CallWindowProc``; 0 stands for the function of a kind that Windows brings along."""
    function, message = argv[0], _message(argv[1:])
    if function:
        return (yield GuestCall(function, (message.window, message.number, message.word, message.long)))
    window = emu.desktop.get(message.window)
    return 0 if window is None else (yield from _of_windows(emu, window, message, wide=name.endswith("W")))


def _of_dialogs(emu: Any, name: str, argv: list[Any]) -> Steps:
    """``DefDlgProc``."""
    return (yield from _call(emu, name, [0, *argv]))


def _of_no_program(emu: Any, name: str, argv: list[Any]) -> Steps:
    """``DefWindowProc``."""
    message = _message(argv)
    window = emu.desktop.get(message.window)
    if window is None:
        return int(message.number in (ERASE, NC_CREATE))
    return (yield from _default(emu, window, message, wide=name.endswith("W")))


APIS = {
    "SendMessage": Api(words=4, answer=_send),
    "SendMessageTimeout": Api(words=7, answer=_send_in_time),
    "SendNotifyMessage": Api(words=4, answer=_send),
    "CallWindowProc": Api(words=5, answer=_call),
    "DefWindowProc": Api(words=4, answer=_of_no_program),
    "DefDlgProc": Api(words=4, answer=_of_dialogs),
}
