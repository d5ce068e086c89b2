"""The order in which a run's events were first seen: processes, and an entry of each list. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from drakcelery.behaviour.report import Report, ReportedProcess, Seen
from drakcelery.flower.report import entries
from drakcelery.flower.report.pages import Page, Query, Row, make_page, matches
from drakcelery.flower.report.tables import TABLES
from drakcelery.operators.report.processes import Cast
from drakcelery.operators.report.values import LONGEST, shown

STARTED, ENDED = "process started", "process ended"
KINDS = (
    *(STARTED, ENDED, "injection", "file", "registry", "service", "scheduled task", "mutex", "WMI"),
    *("name", "connection", "HTTP", "TLS", "call", "capability", "dump"),
)
BARS = 60
"""Parts of the run in which events are counted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """Something that was seen, and when first."""

    at: float
    kind: str
    what: ReportedProcess | Seen


class Timeline(Page):
    """Some moments, and how many there are in each part of the run."""

    bars: tuple[int, ...]
    """Of all that was asked for, in parts of equal length."""
    first: float
    """Seconds from the start of the run to the beginning of the first part."""
    last: float


def moments(report: Report) -> tuple[Moment, ...]:
    """All of them in order; what has no time is left out."""
    return tuple(sorted(_moments(report), key=lambda one: one.at))


def _moments(report: Report) -> Iterator[Moment]:
    for process in report.processes:
        if process.started is not None:
            yield Moment(at=process.started, kind=STARTED, what=process)
        if process.ended is not None:
            yield Moment(at=process.ended, kind=ENDED, what=process)
    for table in TABLES.values():
        for one in table.entries(report):
            if one.first is not None:
                yield Moment(at=one.first, kind=entries.kind(one), what=one)


def timeline_page(all_of_them: Iterable[Moment], cast: Cast, began: float, query: Query) -> Timeline:
    """The moments that *query* asks for; *began*: UNIX time of the run's start."""
    found = list(_chosen(all_of_them, cast, began, query))

    def row(place: tuple[int, Moment]) -> Row:
        number, one = place
        kind, what, by, marks = _told(one, cast)
        return Row(
            key=str(number),
            cells=(entries.since(one.at, began), kind, what, by),
            marks=marks,
            own=_is_own(one, cast),
        )

    page = make_page(found, row, offset=query.offset, columns=("When", "Kind", "What", "By"))
    first, last, bars = _bars([one.at - began for _, one in found])
    return Timeline(**dict(page), bars=bars, first=first, last=last)


def _chosen(
    all_of_them: Iterable[Moment], cast: Cast, began: float, query: Query
) -> Iterator[tuple[int, Moment]]:
    needle, windows = query.needle, query.windows or not cast.own
    low = began + query.since if query.since is not None else float("-inf")
    high = began + query.until if query.until is not None else float("inf")
    for number, one in enumerate(all_of_them):
        if not low <= one.at <= high or query.kind not in ("", one.kind):
            continue
        if (windows or _is_own(one, cast)) and (not needle or matches(needle, _texts(one, cast))):
            yield number, one


def _is_own(one: Moment, cast: Cast) -> bool:
    if isinstance(one.what, ReportedProcess):
        return one.what.seqid in cast.own
    return cast.is_own(one.what)


def _texts(one: Moment, cast: Cast) -> tuple[str | None, ...]:
    if isinstance(one.what, ReportedProcess):
        return one.what.image, one.what.command_line, str(one.what.pid)
    return entries.texts(one.what, cast)


def _told(one: Moment, cast: Cast) -> tuple[str, str, str, tuple[str, ...]]:
    """(kind, what, by whom, marks)."""
    if isinstance(one.what, ReportedProcess):
        who = cast.name(one.what.seqid)
        if one.kind == ENDED:
            killer = one.what.killed_by
            return ENDED, who, cast.name(killer) if killer not in (None, one.what.seqid) else "", ()
        parent = one.what.parent
        command = shown(one.what.command_line, LONGEST)
        marks = ("the sample",) if one.what.origin == "sample" else ()
        return STARTED, f"{who}  {command}", cast.name(parent) if parent is not None else "", marks
    cells = entries.cells(one.what, cast)
    words = cells[1:] if cells[0] == one.kind else cells
    what, by = "  ".join(filter(None, words)), entries.actors(one.what, cast)
    return one.kind, what, by, tuple(entries.marks(one.what))


def _bars(times: Sequence[float]) -> tuple[float, float, tuple[int, ...]]:
    """(first, last, how many there are in each part between); *times* are in order."""
    if not times:
        return 0.0, 0.0, ()
    first, last = times[0], times[-1]
    counts = [0] * BARS
    for at in times:
        counts[min(BARS - 1, int((at - first) / ((last - first) or 1) * BARS))] += 1
    return first, last, tuple(counts)
