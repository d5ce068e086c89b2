"""Templates of dialogues in resources: which buttons and fields they have (winuser.h: ``DLGTEMPLATE``,
``DLGTEMPLATEEX``)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

EXTENDED: Final = b"\x01\x00\xff\xff"
SET_FONT: Final = 0x40
"""``DS_SETFONT``: a font follows the title."""

BUTTON: Final = 0x80
"""The atom of the class of buttons."""

DEFAULT_BUTTON: Final = 1
CHECKS: Final = (2, 3, 4, 5, 6, 9)
"""The styles of buttons that are on or off."""

STYLE: Final = 0xF
DISABLED: Final = 0x08000000
"""``WS_DISABLED``."""

MAX_CONTROLS: Final = 256


@dataclass(frozen=True)
class Control:
    """A button, field or whatever else is in a dialogue."""

    number: int
    style: int
    button: bool
    text: str

    @property
    def default(self) -> bool:
        """Whether Enter presses it."""
        return self.button and self.style & STYLE == DEFAULT_BUTTON

    @property
    def checks(self) -> bool:
        """Whether it is on or off."""
        return self.button and self.style & STYLE in CHECKS

    @property
    def enabled(self) -> bool:
        """Whether it can be used from the beginning."""
        return not self.style & DISABLED


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def unpack(self, form: str) -> tuple[int, ...]:
        values = struct.unpack_from(form, self._data, self.at)
        self.at += struct.calcsize(form)
        return values

    def align(self) -> None:
        self.at = -(-self.at // 4) * 4

    def name(self) -> str | int:
        """A text, or the number that stands for one."""
        (first,) = struct.unpack_from("<H", self._data, self.at)
        if first == 0xFFFF:
            return self.unpack("<HH")[1]
        end = self.at
        while struct.unpack_from("<H", self._data, end) != (0,):
            end += 2
        text = self._data[self.at : end].decode("utf-16-le", "replace")
        self.at = end + 2
        return text


def style_of(data: bytes) -> int:
    """The dialogue's own style; 0 for a damaged template."""
    place = 12 if data[:4] == EXTENDED else 0
    return int.from_bytes(data[place : place + 4], "little")


def controls(data: bytes) -> list[Control]:
    """What is in the dialogue; up to where the template is damaged."""
    reader, found = _Reader(data), list[Control]()
    extended = data[:4] == EXTENDED
    try:
        style, count = (reader.unpack("<4x4x4xIH8x") if extended else reader.unpack("<I4xH8x"))[:2]
        for _ in range(3):  # menu, class, title
            reader.name()
        if style & SET_FONT:
            reader.unpack("<6x" if extended else "<2x")
            reader.name()
        for _ in range(min(count, MAX_CONTROLS)):
            reader.align()
            own, number = reader.unpack("<4x4xI8xI" if extended else "<I4x8xH")
            kind, text = reader.name(), reader.name()
            (more,) = reader.unpack("<H")
            reader.at += more
            button = kind == BUTTON or str(kind).lower() == "button"
            found.append(Control(number, own, button, text if isinstance(text, str) else ""))
    except struct.error:
        pass
    return found
