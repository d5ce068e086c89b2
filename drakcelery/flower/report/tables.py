"""The lists of a report as tables. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from drakcelery.behaviour.report import Report, Seen
from drakcelery.flower.report import entries
from drakcelery.flower.report.pages import Page, Query, Row, make_page, matches
from drakcelery.operators.report.processes import Cast


@dataclass(frozen=True, kw_only=True)
class Table:
    """A list of the report, or several that are shown as one."""

    name: str
    title: str
    columns: tuple[str, ...]
    entries: Callable[[Report], Iterable[Seen]]
    kinds: tuple[str, ...] = ()
    """What it can be filtered by."""


COMMON = ("By", "Times", "First")
"""Columns that every table has. ``First``: seconds from the start of the run."""
_TABLES = (
    Table(
        name="capabilities",
        title="Capabilities",
        columns=("Rule", "ATT&CK", "MBC"),
        entries=lambda report: report.capabilities,
    ),
    Table(
        name="files",
        title="Files",
        columns=("Path", "What was done"),
        entries=lambda report: report.files,
        kinds=("created", "written", "deleted", "renamed", "executable", "autostart"),
    ),
    Table(
        name="registry",
        title="Registry",
        columns=("Key", "Value", "What was done"),
        entries=lambda report: report.registry,
        kinds=("set", "deleted", "autostart"),
    ),
    Table(
        name="network",
        title="Network",
        columns=("Kind", "What", "Where"),
        entries=lambda report: chain(
            report.network.names, report.network.connections, report.network.http, report.network.tls
        ),
        kinds=("name", "connection", "HTTP", "TLS"),
    ),
    Table(
        name="system",
        title="System",
        columns=("Kind", "What", "Details"),
        entries=lambda report: chain(
            report.injections, report.services, report.tasks, report.mutexes, report.wmi
        ),
        kinds=("injection", "service", "scheduled task", "mutex", "WMI"),
    ),
    Table(
        name="calls",
        title="Key calls",
        columns=("Category", "Function"),
        entries=lambda report: report.calls,
    ),
    Table(
        name="dumps",
        title="Dumps",
        columns=("Name", "Size", "Address", "Reason"),
        entries=lambda report: report.dumps,
        kinds=(entries.IN_ZIP, entries.NOT_IN_ZIP),
    ),
)
TABLES = {table.name: table for table in _TABLES}


def table_page(table: Table, report: Report, cast: Cast, query: Query) -> Page:
    """The entries that *query* asks for."""
    began = float(report.run.started)

    def row(place: tuple[int, Seen]) -> Row:
        number, one = place
        common = (entries.actors(one, cast), f"{one.count:,}", entries.since(one.first, began))
        return Row(
            key=str(number),
            cells=(*entries.cells(one, cast), *common),
            marks=tuple(entries.marks(one)),
            own=cast.is_own(one),
        )

    found = list(chosen(table, report, cast, query))
    columns = (*table.columns, *COMMON)
    return make_page(found, row, offset=query.offset, columns=columns)


def chosen(table: Table, report: Report, cast: Cast, query: Query) -> Iterator[tuple[int, Seen]]:
    """The entries that *query* asks for, each with its place in the list."""
    needle, windows = query.needle, query.windows or not cast.own
    for number, one in enumerate(table.entries(report)):
        if not windows and not cast.is_own(one):
            continue
        if query.kind and query.kind not in entries.kinds(one):
            continue
        if not needle or matches(needle, entries.texts(one, cast)):
            yield number, one
