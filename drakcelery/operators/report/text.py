"""A page about a report on a terminal, or in a pipe. Pure, but for printing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from drakcelery.operators.report.document import Document, Entry, Fact, Part, Section
from drakcelery.operators.report.processes import DEEPEST

GAP = "  "
"""Between the parts of a line."""
_STYLES = {"value": "", "words": "cyan", "alert": "bold red", "quiet": "dim"}
_NARROWEST = 24
"""Columns that a text has at least, however far it is indented."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line before it is wrapped."""

    text: Text
    begins: str = ""
    goes_on: str = ""
    """What stands at the left of its first row, and of the others."""


def print_page(console: Console, page: Document) -> None:
    """Print *page* in whole lines: wrapped on a terminal, as they are elsewhere."""
    print_lines(console, page_lines(page))


def print_lines(console: Console, lines: Iterable[Line]) -> None:
    """Print *lines*: wrapped on a terminal, as they are elsewhere."""
    for line in lines:
        for row in _rows(console, line):
            console.print(row, soft_wrap=True)


def _rows(console: Console, line: Line) -> Iterator[Text]:
    if not console.is_terminal:
        yield Text(line.begins) + line.text
        return
    width = max(_NARROWEST, console.width - max(len(line.begins), len(line.goes_on)))
    for number, row in enumerate(line.text.wrap(console, width, overflow="fold")):
        yield Text(line.goes_on if number else line.begins) + row


def page_lines(page: Document) -> Iterator[Line]:
    """The whole page."""
    yield Line(text=Text(page.title.text, style="bold"))
    yield from fact_lines(page.facts)
    yield Line(text=Text())
    yield ending_line(page.ending)
    for section in page.sections:
        yield Line(text=Text())
        yield from _section(section)
    if page.notes:
        yield Line(text=Text())
    for note in page.notes:
        yield Line(text=_joined(note, " "))


def ending_line(part: Part) -> Line:
    """How it ended."""
    return Line(text=Text(part.text, style="bold yellow" if part.kind == "alert" else "bold green"))


def fact_lines(facts: Sequence[Fact]) -> Iterator[Line]:
    """A line for each, with the names in a column."""
    width = max((len(one.name) for one in facts), default=0)
    for one in facts:
        indent = f"  {one.name.ljust(width)}  "
        yield Line(text=_joined(one.parts, GAP), begins=indent, goes_on=" " * len(indent))


def _section(section: Section) -> Iterator[Line]:
    yield Line(text=Text(f"{section.title} ({section.count})", style="bold"))
    for entry in section.entries:
        begins, goes_on = _branch(entry) if section.is_tree else ("  ", "      ")
        yield Line(text=_joined(entry.parts, GAP), begins=begins, goes_on=goes_on)
    if section.more:
        yield Line(text=Text(f"… {section.more} more: --all shows them", style="dim"), begins="  ")


def _branch(entry: Entry) -> tuple[str, str]:
    """The lines that lead to a process from its ancestors."""
    above = "".join("   " if is_last else "|  " for is_last in entry.lasts[:-1])
    if not entry.lasts:
        return "  ", "       "
    begins = "`- " if entry.lasts[-1] else "|- "
    goes_on = "   " if entry.lasts[-1] else "|  "
    deep = f"({entry.depth}) " if entry.depth > DEEPEST else ""
    return f"  {above}{begins}{deep}", f"  {above}{goes_on}    "


def _joined(parts: Iterable[Part], gap: str) -> Text:
    text = Text()
    for part in parts:
        if not part.text:
            continue
        if text:
            text.append(gap)
        if part.label:
            text.append(f"{part.label} ", style="cyan")
        text.append(part.text, style=_STYLES[part.kind])
    return text


def tree_text(section: Section) -> Iterator[str]:
    """The tree without colours, for a block of code."""
    for entry in section.entries:
        yield f"{_branch(entry)[0]}{_joined(entry.parts, GAP).plain}".removeprefix("  ")
