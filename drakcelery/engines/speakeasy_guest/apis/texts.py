"""Texts that programs have room for: cut to it, or written whole, in UTF-16 or in the code page.

Sizes and lengths are in characters as the program counts them: UTF-16's units, or bytes.
"""

from __future__ import annotations

from typing import Any, Final

from drakcelery.engines.speakeasy_guest.machine.ansi import ANSI

LOW: Final = 0xFFFFFFFF


def width(*, wide: bool) -> int:
    """Bytes of a character."""
    return 2 if wide else 1


def encoded(text: str, *, wide: bool) -> bytes:
    """The bytes of a text, without a zero; what the code page lacks is a question mark."""
    return text.encode("utf-16-le", "surrogatepass") if wide else text.encode(ANSI, "replace")


def ended(text: str, *, wide: bool) -> bytes:
    """The bytes of a text and of its zero."""
    return encoded(text, wide=wide) + bytes(width(wide=wide))


def cut(text: str, room: int, *, wide: bool) -> bytes:
    """The bytes of a text and of its zero, as much of them as *room* characters hold."""
    each = width(wide=wide)
    return encoded(text, wide=wide)[: max(room - 1, 0) * each] + bytes(each)


def field(text: str, room: int, *, wide: bool) -> bytes:
    """A text in a field of a structure, which has *room* characters: cut to it, or with zeros behind it."""
    return cut(text, room, wide=wide).ljust(room * width(wide=wide), b"\0")


def write(emu: Any, place: int, text: str, *, wide: bool) -> int:
    """A text with its zero, however long; its length."""
    data = ended(text, wide=wide)
    emu.mem_write(place, data)
    return len(data) // width(wide=wide) - 1


def write_cut(emu: Any, place: int, text: str, room: int, *, wide: bool) -> int:
    """A text cut to its room, with its zero; its length, 0 where there is no room at all."""
    if not place or not room & LOW:
        return 0
    data = cut(text, room & LOW, wide=wide)
    emu.mem_write(place, data)
    return len(data) // width(wide=wide) - 1


def fits(text: str, room: int, *, wide: bool) -> bool:
    """Whether there is room for a text and its zero."""
    return len(encoded(text, wide=wide)) // width(wide=wide) < room & LOW


def write_or_need(emu: Any, place: int, text: str, room: int, *, wide: bool) -> int:
    """A text; its length, or with too little room how much it needs, its zero among it."""
    if place and fits(text, room, wide=wide):
        return write(emu, place, text, wide=wide)
    return len(ended(text, wide=wide)) // width(wide=wide)
