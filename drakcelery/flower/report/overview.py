"""What stands above the lists: how it ended, what the sample did, and what is missing. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from drakcelery.behaviour.report import Report
from drakcelery.flower.report import timeline
from drakcelery.flower.report.indicators import KINDS
from drakcelery.flower.report.tables import TABLES
from drakcelery.model.analysis import Value
from drakcelery.operators.report.document import Fact, Part
from drakcelery.operators.report.processes import Cast
from drakcelery.operators.report.sections import about_capa, ending, shortfalls
from drakcelery.operators.report.summary import facts


class Named(Value):
    """A line of what it did."""

    name: str
    text: str


class ListSize(Value):
    """How much there is in a list."""

    name: str
    title: str
    own: int
    """Of the sample's."""
    all: int
    kinds: tuple[str, ...] = ()
    """What it can be filtered by."""


class Overview(Value):
    """The top of the page."""

    ending: str
    is_whole: bool
    """Whether what was seen is all that there was to see."""
    facts: tuple[Named, ...]
    lists: tuple[ListSize, ...]
    notes: tuple[str, ...]
    only_windows: bool
    """Whether no process is known to be the sample's."""


def overview(report: Report, cast: Cast) -> Overview:
    """The top of the page of *report*."""
    said = ending(report)
    return Overview(
        ending=said.text,
        is_whole=said.kind != "alert",
        facts=tuple(Named(name=one.name, text=_joined(one.parts)) for one in facts(report) if _names(one)),
        lists=_lists(report, cast),
        notes=tuple(_notes(report)),
        only_windows=not cast.own,
    )


def _lists(report: Report, cast: Cast) -> tuple[ListSize, ...]:
    sizes = [ListSize(name="processes", title="Processes", own=len(cast.own), all=len(cast.all))]
    sizes.append(ListSize(name="timeline", title="Timeline", own=0, all=1, kinds=timeline.KINDS))
    for table in TABLES.values():
        rows = list(table.entries(report))
        own = sum(map(cast.is_own, rows))
        sizes.append(ListSize(name=table.name, title=table.title, own=own, all=len(rows), kinds=table.kinds))
    found = sum(len(getattr(report.indicators, one)) for one in KINDS)
    kinds = tuple(kind for kind, _ in KINDS.values())
    sizes.append(ListSize(name="indicators", title="Indicators", own=found, all=found, kinds=kinds))
    return tuple(sizes)


def _notes(report: Report) -> Iterator[str]:
    run = report.capa
    for parts in chain(shortfalls(report), about_capa(run) if run is not None else ()):
        yield " ".join(part.text for part in parts)


def _names(fact: Fact) -> bool:
    """Whether it names something; the lists have the numbers."""
    return any(part.kind == "value" for part in fact.parts)


def _joined(parts: tuple[Part, ...]) -> str:
    return " · ".join(part.text for part in parts)
