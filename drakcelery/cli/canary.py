"""The command that has slots tried by a canary, and shows what the last ones found.

What it works with is imported when it runs: neither its help nor the shell's completion needs it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from drakcelery.cli.completion import hosts
from drakcelery.cli.options import json_option, read_settings, with_settings
from drakcelery.cli.steer import asker, targets
from drakcelery.errors import StackError

if TYPE_CHECKING:
    from drakcelery.ledger import Ledger
    from drakcelery.model.records import HostStatus, SlotStatus
    from drakcelery.operators import steering

LOOK_SECONDS = 1.0
"""Seconds between two looks whether the canaries are over."""


@dataclass(frozen=True, kw_only=True)
class _Line:
    """What the command says about a slot."""

    host: str
    slot: SlotStatus
    words: str | None


@click.command()
@click.argument("wanted", metavar="[HOST[/SLOT]]...", nargs=-1, callback=targets, shell_complete=hosts)
@click.option("--wait", is_flag=True, help="Wait for the results; fail unless all are good.")
@json_option
@with_settings
def canary(
    wanted: tuple[tuple[str, str | None], ...],
    wait: bool,
    as_json: bool,
    config: Path | None,
    data_dir: Path | None,
) -> None:
    """Test slots with a known harmless sample. Without arguments, show the last result of each slot."""
    if wait and not wanted:
        raise click.UsageError("--wait needs a HOST or HOST/SLOT to test")
    from drakcelery.operators import steering
    from drakcelery.wiring import make_client, make_ledger

    ours = read_settings(config, data_dir)
    ledger = make_ledger(ours)
    if not wanted:
        _show(_last(ledger.fleet.hosts()), ledger, as_json=as_json)
        return
    client = make_client(ours)
    asked = [steering.canary(client, host, slot=slot, by=asker()) for host, slot in dict.fromkeys(wanted)]
    lines = [line for one in asked for line in (_found(ledger, one) if wait else _due(one))]
    _show(lines, ledger, as_json=as_json)
    if wait and any(line.words != "good" for line in lines):
        raise SystemExit(1)


def _last(statuses: Iterable[HostStatus]) -> Iterator[_Line]:
    for status in statuses:
        for slot in status.slots:
            yield _Line(host=status.host, slot=slot, words=slot.canary.words)


def _due(asked: steering.Asked) -> Iterator[_Line]:
    for slot in asked.host.slots:
        if slot.name in asked.calls:
            yield _Line(host=asked.host.host, slot=slot, words="due")


def heard_seconds() -> float:
    """After so many seconds each host's report is newer than the call."""
    from drakcelery.model.timeouts import LONGEST, timeouts_of

    return 2 * timeouts_of(LONGEST).host


def _found(ledger: Ledger, asked: steering.Asked) -> list[_Line]:
    """Wait for the canaries of a host. Raises :class:`StackError` if the host, or a slot, goes away
    meanwhile."""
    from drakcelery.operators import steering

    heard = heard_seconds()
    host, began = asked.host.host, time.monotonic()
    while True:
        is_heard = time.monotonic() - began > heard  # the present report was made after the call
        now = next((status for status in ledger.fleet.hosts() if status.host == host), None)
        slots = {slot.name: slot for slot in now.slots} if now else {}
        if lost := [name for name in asked.calls if name not in slots]:
            raise StackError(f"{host} is gone, or {', '.join(lost)} of it: what a canary found is not known")
        if is_heard and any(slots[name].canary.called < call for name, call in asked.calls.items()):
            raise StackError(
                f"{host} knows nothing of the call any more: its slots.sqlite was removed. Ask again"
            )
        found = {name: steering.canary_found(slots[name], call) for name, call in asked.calls.items()}
        if None not in found.values():
            return [_Line(host=host, slot=slots[name], words=words) for name, words in found.items()]
        time.sleep(LOOK_SECONDS)


def _show(lines: Iterable[_Line], ledger: Ledger, *, as_json: bool) -> None:
    if as_json:
        rows = [
            {"host": line.host, **line.slot.model_dump(mode="json"), "verdict": line.words} for line in lines
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    from drakcelery.cli.slot_table import canaries_view
    from drakcelery.operators import views

    found = ((line.host, line.slot, line.words) for line in lines)
    views.console().print(canaries_view(found, now=ledger.now()))
