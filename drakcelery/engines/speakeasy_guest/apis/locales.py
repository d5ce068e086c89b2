"""What depends on the language: order and case of text, names, dates; as in American English."""

from __future__ import annotations

import datetime
import struct
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import Api, constant, put, read_text
from drakcelery.engines.speakeasy_guest.apis.clock import read_moment
from drakcelery.engines.speakeasy_guest.apis.code_pages import (
    ERROR_INVALID_PARAMETER,
    decoded,
    encoded,
    give,
    read_narrow,
    read_wide,
)
from drakcelery.engines.speakeasy_guest.machine import locale
from drakcelery.engines.speakeasy_guest.machine.ansi import ANSI

LOWER, UPPER, SORT_KEY = 0x100, 0x200, 0x400
"""``LCMAP_…``."""

IGNORE_CASE: Final = (0x1, 0x10)
LESS, EQUAL, GREATER = 1, 2, 3
"""``CSTR_…``."""

RETURN_NUMBER: Final = 0x20000000
KNOWN: Final = 0xFFFF
"""Bits of an ``LCTYPE`` that say what is asked for."""

CTYPE1: Final = 1
LONG_DATE, SHORT_TIME, NO_SECONDS = 0x2, 0x2, 0x2
KEYBOARD: Final = 0x04090409
ANSI_CODEC: Final = ANSI


def _read(emu: Any, name: str, place: int, count: int) -> str:
    if name.endswith("A"):
        return decoded(read_narrow(emu, place, count), ANSI_CODEC)
    return read_wide(emu, place, count)


def _give(emu: Any, name: str, text: str, target: int, room: int) -> int:
    if name.endswith("A"):
        return give(emu, encoded(text, ANSI_CODEC), target, room, 1)
    return give(emu, text.encode("utf-16-le", "surrogatepass"), target, room, 2)


def _map(emu: Any, name: str, argv: list[Any]) -> int:
    flags, source, count, target, room = argv[1:6]
    if not source or not count:
        emu.set_last_error(ERROR_INVALID_PARAMETER)
        return 0
    text = _read(emu, name, source, count)
    if flags & SORT_KEY:
        return give(emu, text.rstrip("\0").casefold().encode("utf-8", "replace") + b"\0", target, room, 1)
    if flags & (LOWER | UPPER):
        text = "".join(_changed(char, upper=bool(flags & UPPER)) for char in text)
    return _give(emu, name, text, target, room)


def _changed(char: str, *, upper: bool) -> str:
    other = char.upper() if upper else char.lower()
    return other if len(other) == 1 else char


def _compare(emu: Any, name: str, argv: list[Any]) -> int:
    if "Ordinal" in name:
        texts, ignore = argv[:4], bool(argv[4] & 0xFFFFFFFF)
    else:
        texts, ignore = argv[2:6], bool(argv[1] & (IGNORE_CASE[0] | IGNORE_CASE[1]))
    if not texts[0] or not texts[2]:
        emu.set_last_error(ERROR_INVALID_PARAMETER)
        return 0
    first, second = (_read(emu, name, texts[at], texts[at + 1]).rstrip("\0") for at in (0, 2))
    argv[argv.index(texts[0])] = first
    if "Ordinal" in name:
        one, two = (text.upper() if ignore else text for text in (first, second))
        return EQUAL if one == two else LESS if one < two else GREATER
    return EQUAL + compare_words(first, second, ignore_case=ignore)


def compare_words(first: str, second: str, *, ignore_case: bool) -> int:
    """-1, 0 or 1: which of two texts comes first, as words are sorted."""
    one, two = (_key(text, ignore=ignore_case) for text in (first, second))
    return (one > two) - (one < two)


def _key(text: str, *, ignore: bool) -> tuple[str, str]:
    """Letters before case, and small ones first, as words are sorted."""
    return text.casefold(), "" if ignore else text.swapcase()


def _kinds(emu: Any, name: str, argv: list[Any]) -> int:
    """``GetStringTypeW`` and, with a locale before, ``GetStringTypeA`` and ``GetStringTypeEx``."""
    kind, source, count, target = argv if name == "GetStringTypeW" else argv[1:5]
    text = _read(emu, name, source, count)
    numbers = [_kind(char) if kind == CTYPE1 else 0 for char in text]
    emu.mem_write(target, struct.pack(f"<{len(numbers)}H", *numbers))
    return 1


def _kind(char: str) -> int:
    """``C1_…`` of a character."""
    bits = 0x200
    for bit, holds in (
        (0x1, char.isupper()),
        (0x2, char.islower()),
        (0x4, char.isdecimal()),
        (0x8, char.isspace()),
        (0x10, char.isprintable() and not char.isalnum() and char != " "),
        (0x20, ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0),
        (0x40, char in " \t\xa0"),
        (0x80, char in "0123456789abcdefABCDEF"),
        (0x100, char.isalpha()),
    ):
        bits |= bit if holds else 0
    return bits


def _information(emu: Any, name: str, argv: list[Any]) -> int:
    kind, target, room = argv[1:4]
    text = locale.INFORMATION.get(kind & KNOWN)
    if text is None:
        emu.set_last_error(1004)  # ERROR_INVALID_FLAGS
        return 0
    if kind & RETURN_NUMBER:
        put(emu, target, int(text, 16 if kind & KNOWN in (0x1, 0x9) else 10), 4)
        return 4 if name.endswith("A") else 2
    return _give(emu, name, f"{text}\0", target, room)


def _formatted(emu: Any, name: str, argv: list[Any]) -> int:
    """``GetDateFormat`` and ``GetTimeFormat``."""
    flags, place, picture, target, room = argv[1:6]
    try:
        moment = read_moment(emu, place) if place else _now(emu)
    except ValueError:
        emu.set_last_error(ERROR_INVALID_PARAMETER)
        return 0
    if picture:
        form = read_text(emu, picture, wide=name.endswith(("W", "Ex")))
    elif "Date" in name:
        form = locale.LONG_DATE if flags & LONG_DATE else locale.SHORT_DATE
    else:
        form = locale.SHORT_TIME if flags & NO_SECONDS else locale.TIME
    return _give(emu, name, f"{locale.written(moment, form)}\0", target, room)


def _now(emu: Any) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(emu.clock.now / 1000, datetime.UTC)


def _name(place: int) -> Any:
    """The locale's name, where there is room; its argument is number *place*."""

    def answer(emu: Any, name: str, argv: list[Any]) -> int:
        return _give(emu, name, f"{locale.NAME}\0", argv[place], argv[place + 1])

    return answer


def _keyboards(emu: Any, _name: str, argv: list[Any]) -> int:
    if argv[0] & 0xFFFFFFFF and argv[1]:
        put(emu, argv[1], KEYBOARD, emu.get_ptr_size())
    return 1


def _keyboard_name(emu: Any, name: str, argv: list[Any]) -> int:
    return int(bool(_give(emu, name, "00000409\0", argv[0], 9)))


APIS = {
    "LCMapString": Api(words=6, answer=_map),
    "LCMapStringEx": Api(words=9, answer=_map),
    "CompareString": Api(words=6, answer=_compare),
    "CompareStringEx": Api(words=9, answer=_compare),
    "CompareStringOrdinal": Api(words=5, answer=_compare),
    "GetStringTypeW": Api(words=4, answer=_kinds),
    "GetStringTypeA": Api(words=5, answer=_kinds),
    "GetStringTypeEx": Api(words=5, answer=_kinds),
    "GetLocaleInfo": Api(words=4, answer=_information),
    "GetLocaleInfoEx": Api(words=4, answer=_information),
    "GetDateFormat": Api(words=6, answer=_formatted),
    "GetDateFormatEx": Api(words=7, answer=_formatted),
    "GetTimeFormat": Api(words=6, answer=_formatted),
    "GetTimeFormatEx": Api(words=6, answer=_formatted),
    "GetUserDefaultLocaleName": Api(words=2, answer=_name(0)),
    "GetSystemDefaultLocaleName": Api(words=2, answer=_name(0)),
    "LCIDToLocaleName": Api(words=4, answer=_name(1)),
    "LocaleNameToLCID": Api(words=2, answer=constant(locale.LCID)),
    "IsValidLocale": Api(words=2, answer=constant(1)),
    "IsValidLocaleName": Api(words=1, answer=constant(1)),
    **dict.fromkeys(
        (
            *("GetUserDefaultLCID", "GetSystemDefaultLCID", "GetThreadLocale"),
            *("GetUserDefaultLangID", "GetSystemDefaultLangID"),
            *("GetUserDefaultUILanguage", "GetSystemDefaultUILanguage", "GetThreadUILanguage"),
        ),
        Api(words=0, answer=constant(locale.LCID)),
    ),
    "GetKeyboardLayout": Api(words=1, answer=constant(KEYBOARD)),
    "GetKeyboardLayoutList": Api(words=2, answer=_keyboards),
    "GetKeyboardLayoutName": Api(words=1, answer=_keyboard_name),
}
