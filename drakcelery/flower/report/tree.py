"""The process tree: of it the part that is open, searched and folded, a page at a time. Pure."""

from __future__ import annotations

from drakcelery.behaviour.report import ReportedProcess
from drakcelery.flower.report.entries import since
from drakcelery.flower.report.pages import PAGE, Query, cut, matches
from drakcelery.model.analysis import Value
from drakcelery.operators.report.processes import Cast, Node, exit_words
from drakcelery.operators.report.values import LONGEST, shown

PATH = 8
"""Ancestors that are named above a page that begins below them."""


class TreeRow(Value):
    """A process in the tree."""

    key: int
    """Its ``seqid``."""
    name: str
    command: str
    marks: tuple[str, ...]
    facts: tuple[str, ...]
    """When it started and how it ended."""
    own: bool
    found: bool
    """Whether it is what was searched for; others are there since it hangs below them."""
    level: int
    """From 1."""
    position: int
    siblings: int
    children: int
    folded: bool


class TreePage(Value):
    """Some rows of the tree."""

    rows: tuple[TreeRow, ...]
    path: tuple[str, ...]
    """The nearest ancestors of the first row, from above."""
    offset: int
    total: int
    """Rows on all pages."""
    found: int
    """Processes that were asked for, folded or not."""
    size: int = PAGE


def tree_page(cast: Cast, began: float, query: Query) -> TreePage:
    """The part of the tree that *query* asks for; *began*: UNIX time of the run's start."""
    needle, windows = query.needle, query.windows or not cast.own
    among = cast.all if windows else cast.own
    found = {number for number in among if matches(needle, _texts(cast.all[number]))}
    nodes = list(cast.walk(cast.with_ancestors(found), lambda one: (one in query.turned) != query.folded))
    start, some = cut(nodes, query.offset)

    def row(node: Node) -> TreeRow:
        one = node.process
        return TreeRow(
            key=one.seqid,
            name=cast.name(one.seqid),
            command=shown(one.command_line or one.image or "", LONGEST),
            marks=_marks(one, cast),
            facts=_facts(one, cast, began),
            own=one.seqid in cast.own,
            found=one.seqid in found,
            level=node.depth + 1,
            position=node.position,
            siblings=node.siblings,
            children=node.children,
            folded=(one.seqid in query.turned) != query.folded,
        )

    return TreePage(
        rows=tuple(map(row, some)),
        path=_path(some[0].process, cast) if some else (),
        offset=start,
        total=len(nodes),
        found=len(found),
    )


def _texts(one: ReportedProcess) -> tuple[str | None, ...]:
    return one.image, one.command_line, str(one.pid)


def _path(process: ReportedProcess, cast: Cast) -> tuple[str, ...]:
    names: list[str] = []
    current = process.parent
    while current is not None and current in cast.all and len(names) < PATH:
        names.append(cast.name(current))
        current = cast.all[current].parent
    return tuple(reversed(names))


def _marks(one: ReportedProcess, cast: Cast) -> tuple[str, ...]:
    marks = ["the sample"] if one.origin == "sample" else []
    if one.origin == "injected" or one.injected_by:
        marks.append(f"injected by {cast.names(one.injected_by) or 'the sample'}")
    return tuple(marks)


def _facts(one: ReportedProcess, cast: Cast, began: float) -> tuple[str, ...]:
    facts = [since(one.started, began)] if one.started is not None and one.started >= began else []
    if words := exit_words(one):
        facts.append(f"exit {words}")
    elif one.ended is not None:
        facts.append("ended")
    if one.killed_by is not None and one.killed_by != one.seqid:
        facts.append(f"ended by {cast.name(one.killed_by)}")
    return tuple(facts)
