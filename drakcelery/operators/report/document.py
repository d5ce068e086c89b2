"""What a page about a report consists of, in whatever form it is shown. Pure.

The text of a part of the kind ``value`` came from a sample, and went through
:mod:`~drakcelery.operators.report.values`; all other texts are our own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["value", "words", "alert", "quiet"]
"""``alert``: words that nobody should miss; ``quiet``: a value that is there for context."""


@dataclass(frozen=True)
class Part:
    """A value or some words, with a word of ours before it."""

    text: str
    kind: Kind = "value"
    label: str = ""


@dataclass(frozen=True)
class Entry:
    """A line."""

    parts: tuple[Part, ...]
    depth: int = 0
    """In a tree."""
    lasts: tuple[bool, ...] = ()
    """In a tree: whether it is its parent's last child, and before that whether its nearest ancestors are."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """Lines of one kind."""

    title: str
    entries: tuple[Entry, ...]
    more: int = 0
    """Lines that are not shown."""
    is_tree: bool = False

    @property
    def count(self) -> int:
        """Lines, with those that are not shown."""
        return len(self.entries) + self.more


@dataclass(frozen=True, kw_only=True)
class Fact:
    """Something that has a name."""

    name: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, kw_only=True)
class Document:
    """A page."""

    title: Part
    facts: tuple[Fact, ...] = ()
    ending: Part
    """How it ended, in a sentence or two."""
    sections: tuple[Section, ...] = ()
    notes: tuple[tuple[Part, ...], ...] = ()
    """What is to be known of the rest."""
