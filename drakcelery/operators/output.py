"""Where commands print to: a terminal of any width, or a pipe, in which nothing is cut off or filled up."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Sequence
from typing import IO, TextIO, cast

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

PIPE_WIDTH = 2000
"""Columns if the output is no terminal, so that nothing is cut off, or wrapped, that a script reads."""
_TRAILING = re.compile(r"[ ]+$", re.MULTILINE)


def console() -> Console:
    """Standard output, which a shell can have closed. What a name has between two colons is no emoji."""
    if sys.stdout is None or sys.stdout.isatty():
        return Console(width=None if sys.stdout is not None else PIPE_WIDTH, emoji=False)
    return Console(width=PIPE_WIDTH, file=cast("IO[str]", _Trimmed(sys.stdout)), emoji=False)


class _Trimmed(io.TextIOBase):
    """Writes lines without the blanks with which a table fills them up, whole lines at a time."""

    def __init__(self, target: TextIO) -> None:
        self._target = target

    @property
    def encoding(self) -> str:  # type: ignore[override] # read only, as rich needs it
        """That of the target: rich draws what it can show."""
        return self._target.encoding

    def write(self, text: str, /) -> int:
        """A print of rich's comes in one call."""
        self._target.write(_TRAILING.sub("", text))
        return len(text)

    def flush(self) -> None:
        """As the target does."""
        self._target.flush()


def fitted(table: Table, width: int, *, spare: Sequence[str]) -> Table:
    """*table* without as many of the columns *spare*, in their order, as do not fit; it says which.

    Rich would make them so narrow that nothing of them is left.
    """
    if width >= PIPE_WIDTH:
        return table  # to find out that all fits takes half as long as to draw it
    console, gone = Console(width=PIPE_WIDTH, emoji=False), []
    for name in spare:
        if Measurement.get(console, console.options, table).maximum <= width:
            break
        place = next((at for at, column in enumerate(table.columns) if column.header == name), None)
        if place is not None:
            del table.columns[place]
            gone.append(name)
    if gone:
        table.caption = f"No room for {', '.join(gone)} in {width} columns; --json has all."
        table.caption_justify = "left"
    return table
