"""The lines of a plugin's log: one JSON object each, whatever else is among them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import orjson

from drakcelery.artifacts.log import LINE_LIMIT
from drakcelery.errors import ArtifactUnreadable

NAMED = 20
"""Odd lines that are named; all are counted."""


@dataclass(frozen=True, kw_only=True)
class OddLine:
    """A line that is no event."""

    number: int
    """From 1."""
    why: str


class Events:
    """Each line of a log as the object that it is, in order; may be iterated again.

    A line that is no JSON object, or has more than 1 MiB, is skipped and counted; memory is bounded by one
    line.

    Attributes:
        lines: how many there were so far, odd ones included.
        odd: how many of them were no events.
        odd_lines: the first twenty of these.
    """

    def __init__(self, opened: Callable[[], BinaryIO] | None, name: str) -> None:
        """*opened* opens the log *name*; None if it has no lines."""
        self._opened = opened
        self.name = name
        self._begin()

    def _begin(self) -> None:
        self.lines = self.odd = 0
        self.odd_lines: list[OddLine] = []

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Raises :class:`ArtifactUnreadable`, which names the line, if there is no reading on."""
        self._begin()
        if self._opened is None:
            return
        with self._opened() as file:
            while line := self._line(file):
                self.lines += 1
                event = self._event(line, file)
                if event is not None:
                    yield event

    def _line(self, file: BinaryIO) -> bytes:
        try:
            return file.readline(LINE_LIMIT + 1)
        except OSError as error:
            raise ArtifactUnreadable(f"{self.name}: reading after line {self.lines}: {error}") from None

    def _event(self, line: bytes, file: BinaryIO) -> dict[str, Any] | None:
        """The event; None, and counted, if it is none."""
        event: object = None
        if len(line.removesuffix(b"\n")) >= LINE_LIMIT:
            while line and not line.endswith(b"\n"):
                line = self._line(file)
            self._note(f"it has {LINE_LIMIT} bytes or more")
        else:
            try:
                event = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                self._note(f"it is no JSON: {error}")
            else:
                if not isinstance(event, dict):
                    self._note("it is no object")
        return event if isinstance(event, dict) else None

    def _note(self, why: str) -> None:
        """Count the line just read as odd."""
        self.odd += 1
        if len(self.odd_lines) < NAMED:
            self.odd_lines.append(OddLine(number=self.lines, why=why))
