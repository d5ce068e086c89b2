"""Waiting for analyses on a terminal or in a script: the command, and what others have of it.

What a command works with is imported when it runs: neither its help nor the shell's completion needs it.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from drakcelery.cli.completion import uids
from drakcelery.cli.options import json_option, read_settings, with_settings
from drakcelery.errors import DrakceleryError

if TYPE_CHECKING:
    from rich.console import Console

    from drakcelery.forecast.forecast import Forecast
    from drakcelery.ledger import Ledger
    from drakcelery.operators.waiting import Look
    from drakcelery.settings import Settings

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""
FORECAST_SECONDS = 5.0
"""How old what is expected may be: a forecast takes the processor for a moment."""
NAMED = 5
"""How many uids a hint repeats."""


@click.command(
    epilog="\b\nExamples:\n"
    "  drakcelery wait 6f2c5a0e\n"
    "  drakcelery submit ./samples > uids && drakcelery wait - < uids"
)
@click.argument("wanted", metavar="UID...", nargs=-1, required=True, shell_complete=uids)
@json_option
@with_settings
def wait(wanted: tuple[str, ...], as_json: bool, config: Path | None, data_dir: Path | None) -> None:
    """Wait until the analyses are over, whoever asked for them; `-` reads uids from standard input.

    Exits with 1 if one of them was not published.
    """
    from drakcelery.operators.waiting import require_some, resolve
    from drakcelery.wiring import make_ledger

    ours = read_settings(config, data_dir)
    ledger = make_ledger(ours)
    named = list(_words(wanted))
    require_some(named)
    known = list(dict.fromkeys(resolve(ours, ledger, uid) for uid in named))
    look = follow(ours, known)
    if as_json:
        shown = [look.records[uid].model_dump(mode="json") for uid in known]
        click.echo(json.dumps({"analyses": shown}, indent=2))
    end(ours, look, known)


def _words(wanted: Sequence[str]) -> Iterator[str]:
    """The uids; where a hyphen is, those on standard input."""
    for word in wanted:
        if word == "-":
            yield from sys.stdin.read().split()
        else:
            yield word


def watch(ours: Settings, uids: Sequence[str], names: Mapping[str, str] | None = None) -> None:
    """Show progress on standard error until the analyses are over, and why those failed that have.

    Of a single one also what the sample did, on a terminal. Raises :class:`DrakceleryError` if one of them
    was not published.
    """
    end(ours, follow(ours, uids, names), uids, names)


def follow(ours: Settings, uids: Sequence[str], names: Mapping[str, str] | None = None) -> Look:
    """Show progress on standard error until the analyses are over. After Ctrl-C it says how to look again."""
    from rich.console import Console

    from drakcelery.operators.waiting_table import sum_line
    from drakcelery.wiring import make_ledger

    console, ledger = Console(stderr=True, emoji=False), make_ledger(ours)
    show = _Table(ours, ledger, console) if console.is_terminal else _Lines(ours, ledger, console)
    try:
        look = show.until_over(ledger, uids, names or {})
    except KeyboardInterrupt:
        click.echo(hint(uids, show.left), err=True)
        raise click.exceptions.Exit(INTERRUPTED) from None
    if look is None:
        raise DrakceleryError("there is nothing to wait for")
    if len(uids) > 1:
        console.print(sum_line(look, uids), markup=False, highlight=False)
    return look


def hint(uids: Sequence[str], left: int | None = None) -> str:
    """What goes on after Ctrl-C, and how to look again."""
    if not uids:
        return "\nNothing was handed in"
    left = len(uids) if left is None else left
    goes_on = "The analysis goes on" if left == 1 else f"{left} analyses go on"
    options = _same_settings()
    wait, where = f"wait {' '.join(uids)}{options}", ""
    if len(uids) > NAMED:
        wait, where = f"wait -{options} < FILE", " (FILE has the uids that were printed)"
    return f"\n{goes_on}. Look again with{where}\n  drakcelery {wait}\n  drakcelery status {uids[0]}{options}"


def _same_settings() -> str:
    """The options that say where the settings are, as they were typed."""
    given = click.get_current_context().params
    names = {"config": "--config", "data_dir": "--data-dir"}
    return "".join(
        f" {option} {shlex.quote(str(given[name]))}" for name, option in names.items() if given.get(name)
    )


class _Forecast:
    """What is expected."""

    def __init__(self, ours: Settings, ledger: Ledger) -> None:
        self._ours, self._ledger = ours, ledger
        self._last: Forecast | None = None
        self._made = -FORECAST_SECONDS

    def get(self) -> Forecast:
        """Not older than :data:`FORECAST_SECONDS`."""
        from drakcelery.forecast.forecast import make_forecast

        if self._last is None or time.monotonic() - self._made >= FORECAST_SECONDS:
            self._last = make_forecast(self._ours, self._ledger, self._ledger.inbox())
            self._made = time.monotonic()
        return self._last


class _Lines:
    """Progress where no terminal is: a line for each change."""

    def __init__(self, ours: Settings, ledger: Ledger, console: Console) -> None:
        self._console = console
        self._forecast = _Forecast(ours, ledger)
        self.left: int | None = None

    def until_over(self, ledger: Ledger, uids: Sequence[str], names: Mapping[str, str]) -> Look | None:
        """Returns the last look."""
        from drakcelery.operators import waiting, waiting_table

        look = None
        for look in waiting.looks(ledger, uids):
            self.left = look.left
            expected = self._forecast.get() if look.twins.keys() & set(look.changed) else None
            for uid in look.changed:
                line = waiting_table.line(look, uid, names, alone=len(uids) == 1, forecast=expected)
                self._console.print(line, soft_wrap=True)
        return look


class _Table:
    """Progress on a terminal: one table that changes."""

    def __init__(self, ours: Settings, ledger: Ledger, console: Console) -> None:
        self._console = console
        self._forecast = _Forecast(ours, ledger)
        self.left: int | None = None

    def until_over(self, ledger: Ledger, uids: Sequence[str], names: Mapping[str, str]) -> Look | None:
        """Returns the last look."""
        from rich.console import Group
        from rich.live import Live
        from rich.text import Text

        from drakcelery.operators import waiting, waiting_table

        look = None
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            for look in waiting.looks(ledger, uids):
                self.left = look.left
                table = waiting_table.waiting_table(
                    look,
                    uids,
                    names,
                    forecast=self._forecast.get() if look.left else None,
                    lines=self._console.height,
                    columns=self._console.width,
                )
                live.update(Group(table, Text(waiting_table.sum_line(look, uids))), refresh=True)
        if look is not None:
            self._console.print(waiting_table.waiting_table(look, uids, names, columns=self._console.width))
        return look


def end(ours: Settings, look: Look, uids: Sequence[str], names: Mapping[str, str] | None = None) -> None:
    """What is said once all are over. Raises :class:`DrakceleryError` if one was not published."""
    from rich.console import Console

    from drakcelery.model.text import printable
    from drakcelery.operators import analyses
    from drakcelery.operators.waiting import unpublished

    if len(uids) > 1:
        lost = unpublished(look)
        for record in lost:
            name = (names or {}).get(record.uid)
            about = f" ({name})" if name else ""
            reason = record.error or "no reason given"
            click.echo(printable(f"{record.uid}{about} {record.state.value}: {reason}"), err=True)
        if lost:
            raise DrakceleryError(f"{len(lost)} of {len(uids)} analyses were not published")
        return
    record = look.records[uids[0]]
    analyses.require_published(record)
    console = Console(stderr=True, emoji=False)
    if console.is_terminal:
        from drakcelery.operators.report import stored
        from drakcelery.operators.report.summary import print_summary

        print_summary(console, partial(stored.of_record, ours, record), where=record.uid)
