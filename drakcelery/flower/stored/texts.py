"""A piece of a text, in lines. Pure."""

from __future__ import annotations

from drakcelery.model.analysis import Value
from drakcelery.model.text import REPLACEMENT

PIECE = 64 * 1024
"""Bytes that the browser gets at a time."""
TEXTS = (".log", ".json", ".txt")
"""How names of artifacts end that are texts."""


class Piece(Value):
    """Some lines of a text."""

    lines: tuple[str, ...]
    """Without control characters, and no markup."""
    start: int
    """Bytes before the first one."""
    end: int
    """Bytes up to the end of the last one."""
    size: int
    """Bytes of the whole text."""
    begins_within: bool
    """Whether the first line is the rest of one that is longer than a piece."""
    ends_within: bool
    """Whether the last line goes on."""


def is_text(name: str) -> bool:
    """Whether an artifact of this name can be read as a text."""
    return name.endswith(TEXTS)


def bounds(*, start: int | None, before: int | None) -> tuple[int, int]:
    """(first byte, how many) to read for the piece from *start* on, or for the one that ends *before*.

    One more byte than the piece in front: it tells whether a line begins there.
    """
    first = max(0, before - PIECE) if before is not None else start or 0
    last = before if before is not None else first + PIECE
    front = max(0, first - 1)
    return front, last - front


def piece(data: bytes, *, front: int, size: int, before: int | None = None) -> Piece:
    """The whole lines among *data*, which is the text from the byte *front* on.

    With *before* it is the piece that ends there, and else the one that begins at ``front + 1``, or at 0. A
    line that is longer than a piece is shown in parts.
    """
    at = front + 1 if front else 0
    is_start = front == 0 or data[:1] == b"\n"
    data = data[at - front :]
    if not is_start and before is not None and (cut := data.find(b"\n") + 1) and cut < len(data):
        data, at, is_start = data[cut:], at + cut, True
    end = at + len(data)
    if before is None and end < size and (cut := data.rfind(b"\n") + 1):
        data, end = data[:cut], at + cut
    ends = end >= size or data.endswith(b"\n")
    lines = data.removesuffix(b"\n").split(b"\n") if data else []
    return Piece(
        lines=tuple(map(_shown, lines)),
        start=at,
        end=end,
        size=size,
        begins_within=bool(data) and not is_start,
        ends_within=bool(data) and not ends,
    )


def _shown(line: bytes) -> str:
    text = line.decode("utf-8", "replace").removesuffix("\r")
    return "".join(char if char.isprintable() or char == "\t" else REPLACEMENT for char in text)
