"""An event of the log: its fields, of which none is trusted to be there, or to be what it should be. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import orjson

from drakcelery.model.text import storable

MOST_TEXT = 1024
"""Characters of a path, a key or another name that are kept."""
CUT = "…"
"""What stands for the middle of a text that was longer: its beginning and its end tell what it is."""
_TIMESTAMP = 32
"""Most characters of a time."""
_MOST_PID = 2**32
_loads, _NO_JSON = orjson.loads, orjson.JSONDecodeError
_FIRST_WARNING = 0x80000000
"""``NT_SUCCESS`` is true below this (``ntdef.h``)."""
_SUCCESS = ("", "success", "status_success")
_MOST_NUMBER = 2**64


def bounded(value: object, most: int = MOST_TEXT) -> str:
    """*value* as a text of at most *most* characters; empty if it is none."""
    if not isinstance(value, str):
        return ""
    text = value
    if len(text) > most:
        end = most // 3
        text = text[: most - end - 1] + CUT + text[-end:]
    return text if text.isascii() else storable(text)


def whole_number(value: object, most: int = _MOST_NUMBER) -> int | None:
    """*value* if it is a number from 0 to below *most*, or such a number in hex as DRAKVUF prints it."""
    if isinstance(value, str):
        try:
            value = int(value, 16) if len(value) <= 18 else None
        except ValueError:
            return None
    if type(value) is int and 0 <= value < most:
        return value
    return None


def is_success(status: int | None) -> bool:
    """Whether an ``NTSTATUS`` is none of an error or a warning; also if it is not known."""
    return status is None or status & 0xFFFFFFFF < _FIRST_WARNING


def seconds(value: object) -> float | None:
    """A time of the log, in seconds since 1970; None if it is no time."""
    if not isinstance(value, str) or len(value) > _TIMESTAMP:
        return None
    try:
        found = float(value)
    except ValueError:
        return None
    return found if math.isfinite(found) and 0 <= found < 2**40 else None


class Event:
    """One line of the log."""

    __slots__ = ("fields", "method", "pid")

    def __init__(self, fields: dict[str, Any]) -> None:
        self.fields = fields
        pid = fields.get("PID")
        self.pid: int | None = pid if type(pid) is int and 0 <= pid < _MOST_PID else None
        """The process that it happened in."""
        method = fields.get("Method")
        self.method: str = method if type(method) is str else ""
        """The function that was called; empty if there is none."""

    @classmethod
    def parse(cls, line: bytes) -> Event | None:
        """Read *line*; None if it is no JSON object."""
        try:
            fields = _loads(line)
        except _NO_JSON:
            return None
        return cls(fields) if type(fields) is dict else None

    @property
    def uid(self) -> int:
        """Its number in the log; 0 if it has none."""
        return whole_number(self.fields.get("EventUID")) or 0

    @property
    def time(self) -> float | None:
        """When it happened."""
        return seconds(self.fields.get("TimeStamp"))

    @property
    def timestamp(self) -> str:
        """When it happened, as the line has it; empty if that is no time."""
        found = self.fields.get("TimeStamp")
        return found if type(found) is str and len(found) <= _TIMESTAMP else ""

    @property
    def succeeded(self) -> bool:
        """Whether it did, as far as its line says: an ``NTSTATUS``, or a word of the emulator's or an older
        DRAKVUF's."""
        status = self.fields.get("Status")
        number = whole_number(status)
        if number is None and isinstance(status, str):
            return status.casefold() in _SUCCESS
        return is_success(number)

    def flags(self, key: str) -> frozenset[str]:
        """The names in a text of flags, as ``A | B``."""
        return frozenset(name for part in self.text(key).split("|") if (name := part.strip()))

    def text(self, key: str, most: int = MOST_TEXT) -> str:
        """A text, bounded; empty if there is none."""
        found = self.fields.get(key)
        if type(found) is str and len(found) <= most and found.isascii():
            return found
        return bounded(found, most)

    def process(self, key: str) -> int | None:
        """A process id."""
        return whole_number(self.fields.get(key), _MOST_PID)

    def number(self, key: str) -> int | None:
        """A number, or a number in hex."""
        return whole_number(self.fields.get(key))


Handler = Callable[[Event], None]
"""Reads an event of a kind that it knows."""
