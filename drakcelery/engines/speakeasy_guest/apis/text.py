"""Functions of user32 that walk through text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from drakcelery.engines.speakeasy_guest.apis.api import Api
from drakcelery.engines.speakeasy_guest.machine.ansi import ANSI

Plain = Callable[[Any, str, list[Any]], int]


def _next(emu: Any, name: str, argv: list[Any]) -> int:
    """``CharNext``: one character on, unless the text ends here."""
    width = 2 if name.endswith("W") else 1
    address = int(argv[0])
    return address if not any(emu.mem_read(address, width)) else address + width


def _previous(_emu: Any, name: str, argv: list[Any]) -> int:
    """``CharPrev``: one character back, not before the start of the text."""
    width = 2 if name.endswith("W") else 1
    start, address = int(argv[0]), int(argv[1])
    return max(address - width, start) if address > start else start


def _of_codepage(answer: Plain) -> Plain:
    """``CharNextExA``, ``CharPrevExA``: the code page comes first; Windows' default one is narrow."""
    return lambda emu, _name, argv: answer(emu, "A", argv[1:3])


def _changed(change: Callable[[str], str]) -> Plain:
    """``CharUpper``, ``CharLower``: a text in place, or one character in the address itself."""

    def answer(emu: Any, name: str, argv: list[Any]) -> int:
        wide = name.endswith("W")
        width, encoding = (2, "utf-16-le") if wide else (1, ANSI)
        if argv[0] < 0x10000:
            return ord(_same_length(chr(argv[0]), change))
        address = int(argv[0])
        for number in range(MAX_CHANGED):
            data = bytes(emu.mem_read(address + number * width, width))
            if not any(data):
                break
            text = _same_length(data.decode(encoding, "replace"), change)
            emu.mem_write(
                address + number * width, text.encode(encoding, "replace")[:width].ljust(width, b"\0")
            )
        return address

    return answer


MAX_CHANGED = 64 * 1024
"""Characters of a text that are changed."""


def _same_length(text: str, change: Callable[[str], str]) -> str:
    changed = change(text)
    return changed if len(changed) == len(text) else text


APIS = {
    "CharNext": Api(words=1, answer=_next),
    "CharPrev": Api(words=2, answer=_previous),
    "CharNextEx": Api(words=3, answer=_of_codepage(_next)),
    "CharPrevEx": Api(words=4, answer=_of_codepage(_previous)),
    "CharUpper": Api(words=1, answer=_changed(str.upper)),
    "CharLower": Api(words=1, answer=_changed(str.lower)),
}
