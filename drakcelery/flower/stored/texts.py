"""A piece of a text, in lines. Pure."""

from __future__ import annotations

from drakcelery.model.analysis import Value
from drakcelery.model.text import REPLACEMENT

PIECE = 64 * 1024
"""Bytes that the browser gets at a time."""
MOST_LINES = 2000
"""Of a piece; ours have some hundred. A browser takes seconds to show as many as there are bytes."""
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


def bounds(*, start: int | None, before: int | None) -> tuple[int, int, int]:
    """The first byte of the piece from *start* on, or of the one that ends *before*; then from where to read
    for it, and how many bytes.

    One more byte in front is read, if there is one: it tells whether a line begins there.
    """
    first = max(0, before - PIECE) if before is not None else start or 0
    last = before if before is not None else first + PIECE
    front = max(0, first - 1)
    return first, front, last - front


def piece(data: bytes, *, first: int, size: int, before: int | None = None) -> Piece:
    """The whole lines among *data*, which is the text from the byte before *first* on, or from *first* = 0.

    With *before* it is the piece that ends there, and else the one that begins at *first*. A line that is
    longer than a piece is shown in parts, and of very many lines the nearest :data:`MOST_LINES` are.
    """
    at = first
    is_start = first == 0 or data[:1] == b"\n"
    data = data[1:] if first else data
    if not is_start and before is not None and (cut := data.find(b"\n") + 1) and cut < len(data):
        data, at, is_start = data[cut:], at + cut, True
    end = at + len(data)
    if before is None and end < size and (cut := data.rfind(b"\n") + 1):
        data, end = data[:cut], at + cut
    if before is not None and (cut := _beginning_of_last(data)):
        data, at, is_start = data[cut:], at + cut, True
    elif before is None:
        data = data[: _end_of_first(data)]
        end = at + len(data)
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


def _end_of_first(data: bytes) -> int:
    """Where the first :data:`MOST_LINES` end."""
    return len(data) - len(data.split(b"\n", MOST_LINES)[-1]) if data.count(b"\n") > MOST_LINES else len(data)


def _beginning_of_last(data: bytes) -> int:
    """Where the last :data:`MOST_LINES` begin; 0 if there are no more."""
    ends = MOST_LINES + data.endswith(b"\n")
    return len(data.rsplit(b"\n", ends)[0]) + 1 if data.count(b"\n") >= ends else 0


def _shown(line: bytes) -> str:
    text = line.decode("utf-8", "replace").removesuffix("\r")
    return "".join(char if char.isprintable() or char == "\t" else REPLACEMENT for char in text)
