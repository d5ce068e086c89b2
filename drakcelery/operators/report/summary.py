"""A report in a few lines, for the end of a command that waited for it. Pure, but for printing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.text import Text

from drakcelery.behaviour.report import Report
from drakcelery.errors import DrakceleryError
from drakcelery.operators.report.document import Fact, Part
from drakcelery.operators.report.lists import is_telling
from drakcelery.operators.report.processes import Cast
from drakcelery.operators.report.sections import clue_facts, ending
from drakcelery.operators.report.stored import read_report
from drakcelery.operators.report.text import Line, ending_line, fact_lines, print_lines
from drakcelery.operators.report.values import SHORT, shown, shown_host
from drakcelery.reading import Analysis

T = TypeVar("T")

NAMED = 4
"""Things of a kind that are named; the others are counted."""


def facts(report: Report) -> Iterator[Fact]:
    """What the sample did, by kind; nothing of what it did not do; and why that may be little."""
    cast = Cast(report)
    files = [one for one in report.files if cast.is_own(one)]
    values = [one for one in report.registry if cast.is_own(one)]
    targets = dict.fromkeys(one.target for one in report.injections if cast.is_own(one))
    autostarts = [(one.autostart, one.path) for one in files if one.autostart]
    autostarts += [(one.autostart, one.value or one.key) for one in values if one.autostart]
    yield from _fact("processes", sorted(cast.own, key=cast.order), cast.name)
    yield from _fact("injected into", list(targets), cast.name)
    yield from _fact("autostart", autostarts, lambda one: f"{shown(one[0], SHORT)}: {shown(one[1])}")
    techniques = {found.id: found.technique for one in report.capabilities for found in one.attack}
    yield from _fact(
        "ATT&CK", list(techniques.items()), lambda one: f"{shown(one[0], SHORT)} {shown(one[1], SHORT)}"
    )
    yield from _fact("services", [one.name for one in report.services if cast.is_own(one)], shown)
    yield from _fact("tasks", [one.name for one in report.tasks if cast.is_own(one)], shown)
    yield from _fact("executables", [one.path for one in files if is_telling(one) and one.executable], shown)
    yield from _count("files", len(files))
    yield from _count("registry", len(values))
    found = report.indicators
    network: list[tuple[Callable[[str], str], str]] = [(shown, one) for one in found.urls]
    network += [(shown_host, one) for one in (*found.hosts, *found.addresses)]
    yield from _fact("network", network, lambda one: one[0](one[1]))
    yield from _count("memory dumps", sum(cast.is_own(one) for one in report.dumps))
    yield from clue_facts(report)


def _fact(name: str, values: Sequence[T], words: Callable[[T], str]) -> Iterator[Fact]:
    """The first few of *values* in *words*, and how many more there are."""
    if values:
        parts = tuple(Part(words(one)) for one in values[:NAMED])
        more = len(values) - NAMED
        yield Fact(name=name, parts=(*parts, Part(f"and {more} more", "words")) if more > 0 else parts)


def _count(name: str, count: int) -> Iterator[Fact]:
    if count:
        yield Fact(name=name, parts=(Part(str(count), "words"),))


def print_summary(console: Console, find: Callable[[], Analysis], *, where: str) -> None:
    """Print how the analysis ended, what its sample did, and where there is more: by the name *where*.

    That it cannot be read is said, and is no failure: the analysis itself is complete.
    """
    try:
        report = read_report(find())
    except DrakceleryError as error:
        console.print(f"no report: {error}", style="dim", markup=False, highlight=False)
        return
    more = Text(f"More: drakcelery report {where}", style="dim")
    print_lines(console, [ending_line(ending(report)), *fact_lines(tuple(facts(report))), Line(text=more)])
