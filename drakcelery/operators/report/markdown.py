"""A page about a report as Markdown: CommonMark, as GitHub and others show it. Pure.

What a sample chose stands in code spans and code blocks, where neither links nor HTML nor mentions are
anything. These end at a run of as many backquotes as they begin with (CommonMark 0.31.2, sections 4.5 and
6.1), so they begin with more than there are inside. There are no tables: in one, a bar ends a code span.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from drakcelery.operators.report.document import Document, Entry, Part, Section
from drakcelery.operators.report.text import tree_text

_SPECIAL = re.compile(r"[\\`*_{}\[\]<>#|~@&!$^]")
_RUN = re.compile("`+")


def markdown(page: Document) -> str:
    """*page*, with a line end at its end."""
    return "\n".join(_lines(page)) + "\n"


def _lines(page: Document) -> Iterator[str]:
    yield f"# What {code(page.title.text)} did"
    yield ""
    yield _bold(page.ending.text)
    yield ""
    for fact in page.facts:
        yield f"- {escaped(fact.name)}: {_joined(fact.parts)}"
    for section in page.sections:
        yield ""
        yield f"## {escaped(section.title)} ({section.count})"
        yield ""
        yield from _block(tree_text(section)) if section.is_tree else _list(section.entries)
        yield from _more(section)
    if page.notes:
        yield from ("", "## Notes", "")
        yield from (f"- {_joined(note, ' ')}" for note in page.notes)


def _list(entries: Iterable[Entry]) -> Iterator[str]:
    return (f"- {_joined(entry.parts)}" for entry in entries)


def _more(section: Section) -> Iterator[str]:
    if section.more:
        yield ""
        yield f"… {section.more} more"


def _block(lines: Iterable[str]) -> Iterator[str]:
    """A block of code."""
    found = list(lines)
    fence = "`" * max(3, _longest_run("\n".join(found)) + 1)
    yield f"{fence}text"
    yield from found
    yield fence


def _joined(parts: Iterable[Part], gap: str = " · ") -> str:
    return gap.join(_part(one) for one in parts if one.text)


def _part(part: Part) -> str:
    if part.kind == "words":
        text = escaped(part.text)
    elif part.kind == "alert":
        text = _bold(part.text)
    else:
        text = code(part.text)
    return f"{escaped(part.label)} {text}" if part.label else text


def _bold(text: str) -> str:
    """Words that stand out; without any between them, the stars would be a line across the page."""
    return f"**{escaped(text.strip()) or '(empty)'}**"


def code(text: str) -> str:
    """*text* as a code span, whatever is in it."""
    if not text:
        return "(empty)"
    quotes = "`" * (_longest_run(text) + 1)
    # A span that begins and ends with a space loses one of each
    space = " " if text[0] in "` " or text[-1] in "` " else ""
    if text.strip(" ") == "":
        space = ""
    return f"{quotes}{space}{text}{space}{quotes}"


def _longest_run(text: str) -> int:
    """The length of the longest run of backquotes."""
    return max((len(one) for one in _RUN.findall(text)), default=0)


def escaped(text: str) -> str:
    """Words as they are, although Markdown has a use for some of their characters."""
    return _SPECIAL.sub(r"\\\g<0>", text)
