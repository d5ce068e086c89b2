"""The user: answers boxes, has a clipboard and a screen to take pictures of, and notices nothing."""

from __future__ import annotations

import struct
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import Api, constant, text_argument
from drakcelery.engines.speakeasy_guest.apis.computer import SCREEN

ANSWERS: Final = {0: 1, 1: 1, 2: 5, 3: 6, 4: 6, 5: 2, 6: 11}
"""Which button of a message box is pressed, by ``MB_…``: OK, yes, ignore, continue; never retry."""

WORK_AREA, SET_WALLPAPER = 0x30, 0x14
"""``SPI_GETWORKAREA`` and ``SPI_SETDESKWALLPAPER``."""

FIRST_FORMAT: Final = 0xC000
CONTEXT, BITMAP = 0x21010, 0x22010
"""Handles of GDI that nothing is behind."""

MAX_LINES: Final = 65536


def _box(emu: Any, name: str, argv: list[Any]) -> int:
    """``MessageBox`` and its kin: what it says is in the log."""
    name = name.replace("Ex", "").replace("Timeout", "")
    for number in (1, 2):
        text_argument(emu, name, argv, number)
    return ANSWERS.get(argv[3] & 0xF, 1)


def _set_clipboard(emu: Any, _name: str, argv: list[Any]) -> int:
    kind, handle = argv[0] & 0xFFFFFFFF, argv[1]
    emu.desktop.clipboard[kind] = handle
    return int(handle)


def _get_clipboard(emu: Any, _name: str, argv: list[Any]) -> int:
    return int(emu.desktop.clipboard.get(argv[0] & 0xFFFFFFFF, 0))


def _has_format(emu: Any, _name: str, argv: list[Any]) -> int:
    return int(argv[0] & 0xFFFFFFFF in emu.desktop.clipboard)


def _empty(emu: Any, _name: str, _argv: list[Any]) -> int:
    emu.desktop.clipboard.clear()
    return 1


def _register_format(emu: Any, name: str, argv: list[Any]) -> int:
    text = text_argument(emu, name, argv, 0).lower()
    known: dict[str, int] = emu.desktop.formats
    return known.setdefault(text, FIRST_FORMAT + len(known))


def _parameters(emu: Any, name: str, argv: list[Any]) -> int:
    """``SystemParametersInfo``: whatever is set is set; the work area is the screen without its bar."""
    if argv[0] & 0xFFFFFFFF == WORK_AREA:
        emu.mem_write(argv[2], struct.pack("<4i", 0, 0, SCREEN[0], SCREEN[1] - 40))
    elif argv[0] & 0xFFFFFFFF == SET_WALLPAPER and argv[2]:
        text_argument(emu, name, argv, 2)
    return 1


def _lines(_emu: Any, _name: str, argv: list[Any]) -> int:
    """``GetDIBits``: a picture of nothing, of as many lines as were asked for."""
    return int(min(argv[3] & 0xFFFFFFFF, MAX_LINES))


def _count(_emu: Any, _name: str, argv: list[Any]) -> int:
    return int(argv[0] & 0xFFFFFFFF)


APIS = {
    "MessageBox": Api(words=4, answer=_box),
    "MessageBoxEx": Api(words=5, answer=_box),
    "MessageBoxTimeout": Api(words=6, answer=_box),
    "OpenClipboard": Api(words=1, answer=constant(1)),
    "CloseClipboard": Api(words=0, answer=constant(1)),
    "EmptyClipboard": Api(words=0, answer=_empty),
    "SetClipboardData": Api(words=2, answer=_set_clipboard),
    "GetClipboardData": Api(words=1, answer=_get_clipboard),
    "IsClipboardFormatAvailable": Api(words=1, answer=_has_format),
    "RegisterClipboardFormat": Api(words=1, answer=_register_format),
    "SystemParametersInfo": Api(words=4, answer=_parameters),
    "CreateCompatibleDC": Api(words=1, answer=constant(CONTEXT)),
    "CreateCompatibleBitmap": Api(words=3, answer=constant(BITMAP)),
    "GetDIBits": Api(words=7, answer=_lines),
    "ExitWindowsEx": Api(words=2, answer=constant(1)),
    "BlockInput": Api(words=1, answer=constant(1)),
    "SwapMouseButton": Api(words=1, answer=constant(0)),
    "keybd_event": Api(words=4, answer=constant(0)),
    "mouse_event": Api(words=5, answer=constant(0)),
    "SendInput": Api(words=3, answer=_count),
}
