"""The indicators: defanged where they are read, and as they were seen where somebody copies them so. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from drakcelery.behaviour.report import Report
from drakcelery.flower.report.pages import Page, Query, Row, make_page, matches
from drakcelery.model.text import clean
from drakcelery.operators.report.values import LONGEST, shown, shown_host

KINDS: dict[str, tuple[str, Callable[[str], str]]] = {
    "hosts": ("host", shown_host),
    "addresses": ("address", shown_host),
    "urls": ("URL", lambda url: shown(url, LONGEST)),
    "sha256": ("sha256", shown),
}
"""By the report's name: what it is called, and what makes it fit to be read."""


def indicators_page(report: Report, query: Query) -> Page:
    """Those that *query* asks for."""
    found = list(_chosen(report, query))

    def row(one: tuple[str, str]) -> Row:
        field, value = one
        kind, defanged = KINDS[field]
        seen = clean(value, LONGEST)
        return Row(key=f"{kind} {seen}", cells=(kind, defanged(value)), seen=seen)

    return make_page(found, row, offset=query.offset, columns=("Kind", "Indicator"))


def indicators_text(report: Report, query: Query, *, seen: bool) -> str:
    """All that *query* asks for, a line each: as they were *seen*, or defanged.

    Also as seen, none has a control character or a line's end: they are pasted into programs.
    """
    lines = (
        clean(value, LONGEST) if seen else KINDS[field][1](value) for field, value in _chosen(report, query)
    )
    return "".join(f"{line}\n" for line in lines)


def _chosen(report: Report, query: Query) -> Iterator[tuple[str, str]]:
    needle = query.needle
    for field, (kind, _) in KINDS.items():
        if query.kind in ("", kind):
            for value in getattr(report.indicators, field):
                if matches(needle, (value,)):
                    yield field, value
