"""A page of a list: what is searched for, and the entries from a place on. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from pydantic import Field

from drakcelery.model.analysis import Value

PAGE = 100
"""Entries that the browser gets at a time."""
LONGEST_SEARCH = 200
"""Characters that are searched for."""
MOST_FOLDED = 2000
"""Processes that somebody has folded or unfolded one by one."""
T = TypeVar("T")

_DEFANGED = re.compile(r"\[([.:])\]")
_SCHEME = re.compile(r"\b(?:hxxp|fxp)(s?)(?=://)")


class Query(Value):
    """What somebody asks of a list."""

    search: str = Field(default="", max_length=LONGEST_SEARCH)
    kind: str = Field(default="", max_length=40)
    """One of the list's kinds; empty: all."""
    windows: bool = False
    """What only Windows did as well."""
    since: float | None = Field(default=None, ge=-1e9, le=1e9)
    """Of the timeline: seconds from the start of the run."""
    until: float | None = Field(default=None, ge=-1e9, le=1e9)
    offset: int = Field(default=0, ge=0, le=10_000_000)
    """Entries before those of this page."""
    folded: bool = False
    """Of the process tree: whether all are folded, except *turned*; else these are."""
    turned: frozenset[int] = Field(default=frozenset(), max_length=MOST_FOLDED)

    @property
    def needle(self) -> str:
        """What to look for in small letters, as the report has it: what a page shows is defanged."""
        text = _DEFANGED.sub(r"\1", self.search.strip().lower())
        return _SCHEME.sub(lambda found: ("ft" if found[0][0] == "f" else "htt") + "p" + found[1], text)


class Row(Value):
    """An entry, fit to be shown; it is text, and no markup."""

    key: str
    """The same for the same entry, whatever is searched for."""
    cells: tuple[str, ...]
    marks: tuple[str, ...] = ()
    """What nobody should miss."""
    own: bool = True
    """Whether the sample did it; else only Windows."""
    seen: str | None = None
    """Of an indicator: as it was seen, not defanged."""


class Page(Value):
    """Some entries of a list."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    offset: int
    total: int
    """Entries that were asked for, on all pages."""
    size: int = PAGE


def matches(needle: str, texts: Iterable[str | None]) -> bool:
    """Whether one of *texts* has *needle*, which is in small letters."""
    return not needle or any(needle in text.lower() for text in texts if text)


def cut(items: Sequence[T], offset: int) -> tuple[int, Sequence[T]]:
    """(offset, the entries there); where there are none any more, the last page."""
    if offset >= len(items):
        offset = max(0, len(items) - 1) // PAGE * PAGE
    return offset, items[offset : offset + PAGE]


def make_page(
    found: Sequence[T],
    row: Callable[[T], Row],
    *,
    offset: int,
    columns: tuple[str, ...],
) -> Page:
    """The page of *found* from *offset* on; *row* is called for its entries only."""
    start, some = cut(found, offset)
    return Page(columns=columns, rows=tuple(map(row, some)), offset=start, total=len(found))
