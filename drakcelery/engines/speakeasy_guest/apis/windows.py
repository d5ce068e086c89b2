"""Windows themselves: how they are made, shown and destroyed, and what is known of each."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import Api, read_text
from drakcelery.engines.speakeasy_guest.apis.dialog_templates import Control
from drakcelery.engines.speakeasy_guest.apis.window_classes import class_name, exists, procedure, registered
from drakcelery.engines.speakeasy_guest.apis.window_procedures import (
    LOW,
    NC_CREATE,
    SET_TEXT,
    destroy,
    put_text,
    send,
)
from drakcelery.engines.speakeasy_guest.calling.guest_calls import GuestCall, Steps
from drakcelery.engines.speakeasy_guest.scheduling.desktop import IDENTITY, PARENT, Message, Window

CREATE, SIZE, PAINT, SHOW = 0x1, 0x5, 0xF, 0x18
"""Messages (winuser.h)."""

VISIBLE, DISABLED, CHILD = 0x10000000, 0x08000000, 0x40000000
"""``WS_…``."""

PROCEDURE, INSTANCE, STYLE, EX_STYLE = -4, -6, -16, -20
"""``GWL_…``."""

INVALID_WINDOW, CANNOT_FIND_CLASS = 1400, 1407
DEFAULT_SIZE: Final = 0x80000000
"""``CW_USEDEFAULT``."""

ROOM: Final = 0x01E00280
"""A width of 640 and a height of 480, as ``WM_SIZE`` has them."""

DEVICE_CONTEXT: Final = 0x1A010
STRUCTURE: Final = 96
"""Bytes that are enough for a ``CREATESTRUCT``."""

Plain = Callable[[Any, str, list[Any]], int]


def _create(emu: Any, name: str, argv: list[Any]) -> Steps:
    """``CreateWindowEx``: the window's function hears of it before the program goes on."""
    wide, texts = name.endswith("W"), argv[1:3]
    kind = class_name(emu, argv[1], wide=wide)
    if not exists(emu, kind):
        argv[1] = kind
        emu.set_last_error(CANNOT_FIND_CLASS)
        return 0
    window = emu.desktop.add(_described(emu, argv, wide=wide))
    if window.procedure:
        place = emu.guest_calls.reserve(STRUCTURE)
        emu.mem_write(place, _structure(emu, argv, texts))
        if not (yield GuestCall(window.procedure, (window.handle, NC_CREATE, 0, place))) & LOW:
            emu.desktop.remove(window)
            return 0
        if (yield GuestCall(window.procedure, (window.handle, CREATE, 0, place))) & LOW == LOW:
            yield from destroy(emu, window)
            return 0
        if window.visible:
            yield from _shown(emu, window)
    return window.handle if window.handle in emu.desktop.windows else 0


def _described(emu: Any, argv: list[Any], *, wide: bool) -> Window:
    kind = class_name(emu, argv[1], wide=wide)
    title = read_text(emu, argv[2], wide=wide) if argv[2] > 0xFFFF else ""
    argv[1], argv[2] = kind, title
    known, style = registered(emu, kind), argv[3] & LOW
    window = Window(known.name if known else str(kind), title, known.procedure if known else 0)
    window.thread, window.parent = emu.scheduler.current, argv[8] & LOW if style & CHILD else 0
    window.numbers = {STYLE: style, EX_STYLE: argv[0], IDENTITY: argv[9], INSTANCE: argv[10], PARENT: argv[8]}
    window.visible, window.enabled = bool(style & VISIBLE), not style & DISABLED
    if window.parent and window.kind.lower() == "button":
        window.control = Control(argv[9] & LOW, style, True, title)
    return window


def _structure(emu: Any, argv: list[Any], texts: list[int]) -> bytes:
    """``CREATESTRUCT``."""
    word, pad = ("I", "") if emu.get_ptr_size() == 4 else ("Q", "4x")
    numbers = [0 if one & LOW == DEFAULT_SIZE else one & LOW for one in argv[4:8]]
    pointers = (argv[11], argv[10], argv[9], argv[8])
    return struct.pack(
        f"<4{word}4II{pad}2{word}I",
        *(*pointers, *numbers[::-1], argv[3] & LOW, *texts[::-1], argv[0] & LOW),
    )


def _shown(emu: Any, window: Window) -> Steps:
    """Tell a window that it is seen, of its size, and, once it asks for messages, to paint itself."""
    yield GuestCall(window.procedure, (window.handle, SHOW, 1, 0))
    if window.handle in emu.desktop.windows:
        yield GuestCall(window.procedure, (window.handle, SIZE, 0, ROOM))
    emu.desktop.post(window.thread, Message(window.handle, PAINT))
    return 0


def _unknown(emu: Any, handle: int) -> int:
    """Of windows that Speakeasy has, such as the desktop, 1; of none, and of one that was there, 0."""
    if handle & LOW and not emu.desktop.had(handle & LOW):
        return 1
    emu.set_last_error(INVALID_WINDOW)
    return 0


def _destroy(emu: Any, _name: str, argv: list[Any]) -> Steps:
    window = emu.desktop.get(argv[0])
    return _unknown(emu, argv[0]) if window is None else (yield from destroy(emu, window))


def _show(emu: Any, _name: str, argv: list[Any]) -> Steps:
    window = emu.desktop.get(argv[0])
    if window is None:
        return 0
    before, window.visible = window.visible, bool(argv[1] & LOW)
    if window.visible != before and window.procedure:
        if window.visible:
            yield from _shown(emu, window)
        else:
            yield GuestCall(window.procedure, (window.handle, SHOW, 0, 0))
    return int(before)


def _update(emu: Any, _name: str, argv: list[Any]) -> Steps:
    window = emu.desktop.get(argv[0])
    if window is not None and window.visible and window.procedure:
        yield from send(emu, Message(window.handle, PAINT))
    return 1


def _begin_paint(emu: Any, _name: str, argv: list[Any]) -> int:
    if not argv[0]:
        return 0
    size = emu.get_ptr_size()
    emu.mem_write(argv[1], DEVICE_CONTEXT.to_bytes(size, "little") + bytes(60 if size == 4 else 64))
    return DEVICE_CONTEXT


def _text(emu: Any, name: str, argv: list[Any]) -> int:
    window = emu.desktop.get(argv[0])
    return put_text(emu, window.title if window else "", argv[1], argv[2], wide=name.endswith("W"))


def _text_length(emu: Any, _name: str, argv: list[Any]) -> int:
    window = emu.desktop.get(argv[0])
    return len(window.title) if window is not None else 0


def _set_text(emu: Any, name: str, argv: list[Any]) -> Steps:
    window, place, wide = emu.desktop.get(argv[0]), argv[1], name.endswith("W")
    argv[1] = read_text(emu, place, wide=wide) if place else ""
    if window is not None:
        yield from send(emu, Message(window.handle, SET_TEXT, 0, place), wide=wide)
        window.title = str(argv[1])
    return 1


def index(value: int) -> int:
    """The number of a value of a window's, which may be below 0."""
    low = value & LOW
    return low - (1 << 32) if low >> 31 else low


def _get_number(emu: Any, name: str, argv: list[Any]) -> int:
    """``GetWindowLong`` and ``GetWindowLongPtr``; a dialogue's function is behind its result (``DWLP_…``)."""
    window, number = emu.desktop.get(argv[0]), index(argv[1])
    if window is None:
        return 0
    if number == PROCEDURE:
        return procedure(emu, window, wide=name.endswith("W"))
    if window.dialog and number == emu.get_ptr_size():
        return int(window.dialog)
    return int(window.numbers.get(number, 0))


def _set_number(emu: Any, name: str, argv: list[Any]) -> int:
    window, number = emu.desktop.get(argv[0]), index(argv[1])
    if window is None:
        return 0
    if number == PROCEDURE:
        before, window.procedure = procedure(emu, window, wide=name.endswith("W")), argv[2]
        return before
    if window.dialog and number == emu.get_ptr_size():
        old, window.dialog = int(window.dialog), argv[2]
        return old
    before, window.numbers[number] = int(window.numbers.get(number, 0)), argv[2]
    return before


def _is(what: Callable[[Window], bool]) -> Plain:
    def answer(emu: Any, _name: str, argv: list[Any]) -> int:
        window = emu.desktop.get(argv[0])
        return _unknown(emu, argv[0]) if window is None else int(what(window))

    return answer


def _enable(emu: Any, _name: str, argv: list[Any]) -> int:
    window = emu.desktop.get(argv[0])
    if window is None:
        return 0
    before, window.enabled = window.enabled, bool(argv[1] & LOW)
    return int(not before)


def _parent(emu: Any, _name: str, argv: list[Any]) -> int:
    window = emu.desktop.get(argv[0])
    return int(window.numbers.get(PARENT, 0)) if window is not None else 0


def _name_of_class(emu: Any, name: str, argv: list[Any]) -> int:
    window = emu.desktop.get(argv[0])
    return put_text(emu, window.kind if window else "", argv[1], argv[2], wide=name.endswith("W"))


APIS = {
    "CreateWindowEx": Api(words=12, answer=_create),
    "DestroyWindow": Api(words=1, answer=_destroy),
    "ShowWindow": Api(words=2, answer=_show),
    "UpdateWindow": Api(words=1, answer=_update),
    "BeginPaint": Api(words=2, answer=_begin_paint),
    "GetWindowText": Api(words=3, answer=_text),
    "GetWindowTextLength": Api(words=1, answer=_text_length),
    "SetWindowText": Api(words=2, answer=_set_text),
    "GetWindowLong": Api(words=2, answer=_get_number),
    "GetWindowLongPtr": Api(words=2, answer=_get_number),
    "SetWindowLong": Api(words=3, answer=_set_number),
    "SetWindowLongPtr": Api(words=3, answer=_set_number),
    "IsWindow": Api(words=1, answer=_is(lambda _window: True)),
    "IsWindowVisible": Api(words=1, answer=_is(lambda window: window.visible)),
    "IsWindowEnabled": Api(words=1, answer=_is(lambda window: window.enabled)),
    "EnableWindow": Api(words=2, answer=_enable),
    "GetParent": Api(words=1, answer=_parent),
    "GetClassName": Api(words=3, answer=_name_of_class),
}
