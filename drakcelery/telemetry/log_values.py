"""Values on their way into a log: bounded, and with nothing in them that would drive a terminal.

Much of what is logged comes from a sample, its guest, or a tool that has read them (I7).
"""

from __future__ import annotations

import itertools
import math
import traceback
from collections.abc import Mapping, Sequence, Set
from typing import Any

CHARACTERS = 4000
"""Most characters of one text. A longer one is cut, and says so."""
LINE_CHARACTERS = 16_000
"""Most characters of all texts of a line together: journald splits lines of 48 KiB."""
FILE_CHARACTERS = 64_000
"""The same for ``drakrun.log``, which has the last words of tools."""
ENTRIES = 200
"""Most entries of a list or mapping."""
DEPTH = 8
_UNTOUCHED = frozenset({"exc_info"})
_INTEGERS = 2**63
"""What every reader of JSON can hold is less, and not less than the negative of it."""


def tamed(event: Mapping[str, Any], characters: int = LINE_CHARACTERS) -> dict[str, Any]:
    """*event* with harmless values; *characters* bounds all texts in it together.

    Keys are our own words and stay, as do those of structlog's own (``_record``, ``exc_info``).
    """
    room = _Room(characters)
    return {
        key: value if key in _UNTOUCHED or key.startswith("_") else room.value(value)
        for key, value in event.items()
    }


def escaped(text: str) -> str:
    """*text* with unprintable characters and lone surrogates escaped; line ends and tabs stay."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in "\n\t" else ascii(char)[1:-1] for char in text)


def exception_text(exc_info: tuple[Any, Any, Any]) -> str:
    """The traceback as Python prints it, escaped; of a long one only the end, where the cause stands."""
    text = escaped("".join(traceback.format_exception(*exc_info)).rstrip("\n"))
    cut = len(text) - LINE_CHARACTERS
    return f"… ({cut} characters before)\n{text[cut:]}" if cut > 0 else text


class _Room:
    """The room that is left in a line."""

    def __init__(self, characters: int) -> None:
        self._left = characters

    def value(self, value: object, depth: int = DEPTH) -> object:
        """As JSON can hold it."""
        if isinstance(value, str):  # most are
            return self._text(str(value))
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int) and -_INTEGERS <= value < _INTEGERS:
            return int(value)
        if isinstance(value, float) and math.isfinite(value):
            return float(value)
        if depth and isinstance(value, Mapping):
            items = itertools.islice(value.items(), ENTRIES)
            return {self._text(str(key)): self.value(one, depth - 1) for key, one in items}
        if depth and isinstance(value, Sequence | Set) and not isinstance(value, bytes | bytearray):
            return [self.value(one, depth - 1) for one in itertools.islice(value, ENTRIES)]
        return self._text(str(value))

    def _text(self, text: str) -> str:
        room = max(0, min(CHARACTERS, self._left))
        if len(text) <= room and text.isprintable():
            self._left -= len(text)
            return text
        kept = escaped(text[:room])[:room]  # escaping makes it longer
        self._left -= len(kept)
        return kept if len(text) <= room else f"{kept}… (of {len(text)} characters)"
