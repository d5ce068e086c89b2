"""How a report on watching looks on a terminal: a table, a curve of letters, settings to paste."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.table import Table

from drakcelery.forecast.curve import Curve, Trial
from drakcelery.model.text import clean
from drakcelery.operators import output
from drakcelery.operators.views import safe
from drakcelery.operators.watch_report import WatchReport, percent, rules_words, settings_lines

WIDTH, HEIGHT = 60, 9
"""Of the curve, in letters."""
TIMES = 4
"""How many times the bound the curve shows at most."""
SPARE = ("STOPPED", "LOSING RUNS", "RUNS")
HOUR = 3600


def watch_table(report: WatchReport, width: int) -> Table:
    """A line for each profile and quality, with its best settings; the last is all of them together."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("PROFILE", "QUALITY"):
        table.add_column(column, no_wrap=True)
    for column in ("RUNS", "MIN", "QUIET", "SAVES", "LOSES", "AT MOST", "LOSING RUNS", "STOPPED"):
        table.add_column(column, justify="right", no_wrap=True)
    for curve in report.curves:
        table.add_row(safe(curve.profile or "-"), safe(curve.quality or "-"), *_cells(curve))
    if len(report.curves) > 1:
        table.add_row("all", "", *_cells(report.all), style="bold")
    return output.fitted(table, width, spare=SPARE)


def _cells(curve: Curve) -> tuple[str, ...]:
    stopped = f"{curve.stopped} ({curve.saved_seconds / HOUR:.1f} h)" if curve.stopped else "0"
    best = curve.recommended
    if best is None:
        return (str(curve.runs), *"------", stopped)
    numbers = (str(best.rules.min_seconds), str(best.rules.quiet_seconds))
    shares = (percent(best.saved), percent(best.lost), percent(best.lost_at_most))
    return (str(curve.runs), *numbers, *shares, percent(best.losing / curve.runs), stopped)


def lines(report: WatchReport) -> Iterator[str]:
    """What stands below the table: what it says, the curve, what to paste, what the settings do now."""
    named = [(f"{curve.profile} {curve.quality}", curve) for curve in report.curves]
    for name, curve in [*named, *([("all together", report.all)] if len(named) > 1 else [])]:
        yield f"{clean(name)}: {curve.says}."
    yield ""
    if report.all.trials:
        yield from _curve(report.all, 1 - report.keep)
        yield ""
    if report.all.current is not None and report.rules is not None:
        now, runs = report.all.current, report.all.runs
        yield (
            f"Now, in {report.mode} mode, {rules_words(report.rules)}: {percent(now.saved)} of the time, "
            f"{percent(now.lost)} of the facts (at most {percent(now.lost_at_most)}), "
            f"{now.losing} of {runs} runs lose any."
        )
    if report.all.recommended is not None:
        yield f"To keep {percent(report.keep)} of the facts:"
        yield ""
        yield from settings_lines(report.all.recommended.rules)


def _curve(curve: Curve, bound: float) -> Iterator[str]:
    """Facts lost, upwards, against time saved: ``*`` for each of the best rules, ``R`` for the recommended,
    ``N`` for those in the settings, at the top if they lose still more."""
    top = TIMES * bound
    rows = [[" "] * (WIDTH + 1) for _ in range(HEIGHT)]
    limit = _row(bound, top)
    rows[limit] = list("- " * (WIDTH // 2) + "-")
    marked = [("*", curve.trials), ("N", _some(curve.current)), ("R", _some(curve.recommended))]
    for letter, trials in marked:
        for one in trials:
            if one.lost <= top or letter == "N":
                rows[_row(min(one.lost, top), top)][round(one.saved * WIDTH)] = letter
    yield "facts lost"
    for number, row in enumerate(rows):
        share = {0: percent(top), limit: percent(bound), HEIGHT - 1: "0 %"}.get(number, "")
        yield f"{share:>7} |{''.join(row).rstrip()}"
    yield f"{'':7} +{'-' * (WIDTH + 1)}"
    yield f"{'':8} 0 %{'slot time saved':^{WIDTH - 7}}100 %"
    yield f"{'':8} * best rules   R recommended   N now   - the bound"


def _some(trial: Trial | None) -> Sequence[Trial]:
    return () if trial is None else (trial,)


def _row(share: float, top: float) -> int:
    """The row of a loss, from the top."""
    return HEIGHT - 1 - round(share / top * (HEIGHT - 1))
