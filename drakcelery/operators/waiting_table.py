"""How several analyses look on a terminal while somebody waits for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from drakcelery.forecast.forecast import Forecast
from drakcelery.forecast.simulation import Estimate
from drakcelery.model.analysis import State
from drakcelery.model.records import Record
from drakcelery.model.text import clean
from drakcelery.operators import views
from drakcelery.operators.forecast_views import twin_words
from drakcelery.operators.waiting import Look

BESIDE = 5
"""Lines of a terminal that are not for rows: the head, what is left out, the sum, and where people typed."""
WIDE = 120
"""Columns of a terminal that has room for a whole uid."""


def waiting_table(
    look: Look,
    uids: Sequence[str],
    names: Mapping[str, str],
    *,
    forecast: Forecast | None = None,
    lines: int | None = None,
    columns: int = 80,
) -> Table:
    """A row for each analysis, in at most *lines* lines; if not all fit, those that are at work."""
    rows = list(uids)
    if lines is not None and len(rows) > (room := max(1, lines - BESIDE)):
        rows = sorted(uids, key=lambda uid: _urgency(look.records.get(uid)))[:room]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("UID", no_wrap=True)
    table.add_column("SAMPLE", no_wrap=True, overflow="ellipsis", min_width=8)
    table.add_column("PROGRESS", no_wrap=True, min_width=len("██████ COLLECTING"))
    table.add_column("ELAPSED", no_wrap=True, justify="right")
    if look.left:
        table.add_column("EXPECTED", no_wrap=True, min_width=len("start in 0:00-00:00"))
    for uid in rows:
        record = look.records.get(uid)
        shown = uid if columns >= WIDE else uid[: views.SHORT]
        table.add_row(
            escape(clean(shown)),
            escape(clean(names.get(uid) or _name(record), 60)),
            views.progress(record, look.twins.get(uid)),
            _elapsed(record, look.now),
            *((_expected(uid, record, forecast),) if look.left else ()),
        )
    if len(rows) < len(uids):
        table.add_row("…", f"{len(uids) - len(rows)} more")
    return table


def sum_line(look: Look, uids: Sequence[str]) -> str:
    """How many have come how far: ``3 of 5 published, 1 failed, 1 under way``."""
    states = Counter(look.records[uid].state for uid in uids if uid in look.records)
    words = [f"{states[State.PUBLISHED]} of {len(uids)} published"]
    words += [f"{states[one]} {one.value.lower()}" for one in (State.FAILED, State.CANCELLED) if states[one]]
    if under_way := sum(count for state, count in states.items() if not state.is_over):
        words.append(f"{under_way} under way")
    if look.twins:
        words.append(f"{len(look.twins)} waiting for another's result")
    if waiting := len(uids) - states.total() - len(look.twins):
        words.append(f"{waiting} waiting in Karton")
    return ", ".join(words)


def _urgency(record: Record | None) -> int:
    if record is None or record.state is State.QUEUED:
        return 1
    return 2 if record.state.is_over else 0


def _name(record: Record | None) -> str:
    return record.sample.name if record is not None and record.sample is not None else "-"


def _elapsed(record: Record | None, now: float) -> str:
    return "-" if record is None else views.duration((record.finished or now) - record.received)


def _expected(uid: str, record: Record | None, forecast: Forecast | None) -> Text:
    if record is not None and record.state.is_over:
        return Text("")
    estimate: Estimate | None = None
    if forecast is not None:
        estimate = forecast.estimates.get(uid)
        if record is None:
            estimate = next((one.estimate for one in forecast.queued if one.uid == uid), None)
    return Text(views.expected(estimate, forecast.now if forecast is not None else 0.0))


def line(
    look: Look, uid: str, names: Mapping[str, str], *, alone: bool, forecast: Forecast | None = None
) -> Text:
    """A change of one analysis, in a line; which one, unless it is *alone*.

    *forecast*: for one that waits for another's result.
    """
    record, twin = look.records.get(uid), look.twins.get(uid)
    if record is None and twin is not None and forecast is not None:
        progress = Text(f"waits for {clean(twin_words(twin, forecast))}", style="dim")
    else:
        progress = views.progress_line(record)
    if alone:
        return progress
    name = clean(names.get(uid) or _name(record), 60)
    return Text.assemble(f"{clean(uid)} {name}: ", progress)
