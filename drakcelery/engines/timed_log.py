"""A recorded log whose lines come at their own times: how a quiet stop is shown without Xen."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from drakcelery.artifacts.log import LINE_LIMIT
from drakcelery.behaviour.events import seconds

_TIME = re.compile(rb'"TimeStamp": ?"([0-9.]{1,32})"')


class TimedLog:
    """A record that is played once.

    Attributes:
        length: seconds from its first line to its last one.
    """

    def __init__(self, recorded: Path, length: float) -> None:
        """*length*: how long it is to take, seconds; 0: as long as it took.

        Raises :class:`OSError` if it cannot be read.
        """
        self._file = recorded.open("rb")
        self._first, last = _span(self._file)
        recorded_length = last - self._first
        self.length = length or recorded_length
        self._scale = self.length / recorded_length if recorded_length else 1.0
        self._file.seek(0)
        self._rest = pieces(self._file)
        self._next = next(self._rest, None)
        self._at = 0.0

    def close(self) -> None:
        """Play no more of it."""
        self._file.close()

    def until(self, second: float) -> Iterator[bytes]:
        """The next lines that are due by then; one without a time comes with the line before it."""
        while self._next is not None:
            moment = _time(self._next)
            if moment is not None:
                self._at = max(self._at, (moment - self._first) * self._scale)
            if self._at > second:
                return
            line, self._next = self._next, next(self._rest, None)
            yield line


def _span(file: BinaryIO) -> tuple[float, float]:
    """The times of the earliest and the latest line; 0 if none has one."""
    first, last = float("inf"), 0.0
    for line in pieces(file):
        moment = _time(line)
        if moment is not None:
            first, last = min(first, moment), max(last, moment)
    return min(first, last), last


def pieces(file: BinaryIO) -> Iterator[bytes]:
    """The lines, or pieces of a line that is too long."""
    return iter(lambda: file.readline(LINE_LIMIT), b"")


def _time(line: bytes) -> float | None:
    match = _TIME.search(line)
    return seconds(match[1].decode()) if match is not None else None
