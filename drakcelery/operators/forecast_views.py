"""How the forecast of what waits outside the ledger looks on a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table

from drakcelery.forecast.backlog import Queued
from drakcelery.forecast.forecast import Forecast
from drakcelery.operators.views import add_estimate, expected, safe, span


def queued_view(queued: Queued, forecast: Forecast) -> RenderableType:
    """A sample that is not in the ledger yet."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("analysis", safe(queued.uid))
    table.add_row("state", "waits in Karton")
    table.add_row("Karton task", safe(queued.task_uid))
    table.add_row("root", safe(queued.root_uid))
    if queued.position:
        table.add_row("position", str(queued.position))
        table.add_row("waits for", safe(queued.place))
    if queued.twin is not None:
        table.add_row("waits for", safe(twin_words(queued.twin, forecast)))
    elif queued.reuses:
        table.add_row("is to get", "the result of an earlier analysis, without a run")
    if queued.estimate is not None:
        add_estimate(table, queued.estimate, forecast.now)
    elif not queued.reuses:
        table.add_row("should start", safe(f"once {queued.place} is online"))
    return table


def twin_words(twin: str, forecast: Forecast) -> str:
    """For which analysis a sample waits, and what is to be expected of that one."""
    queued = next((one for one in forecast.queued if one.uid == twin), None)
    estimate = queued.estimate if queued is not None else forecast.estimates.get(twin)
    when = f", which is expected to {_what(expected(estimate, forecast.now))}" if estimate else ""
    return f"analysis {twin}{when}, and gets its result"


def _what(words: str) -> str:
    return f"be {words}" if words.startswith("over") else words


def forecast_lines(forecast: Forecast) -> Iterator[str]:
    """What waits outside the ledger, and what a sample could expect that came now."""
    waiting = len(forecast.queued) + forecast.behind
    if waiting:
        twins = sum(one.twin is not None for one in forecast.queued)
        results = f", {twins} of them for the result of another analysis" if twins else ""
        yield f"{waiting} more wait in Karton{results}."
    for profile, estimate in forecast.newcomers.items():
        if estimate.start is not None and estimate.start.high - forecast.now >= 1:
            yield f"A sample for {profile} that came now would start in {span(estimate.start, forecast.now)}."
