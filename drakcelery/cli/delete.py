"""The command that deletes analyses.

What it works with is imported when it runs: neither its help nor the shell's completion needs it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from drakcelery.cli.completion import ended
from drakcelery.cli.find import Moment
from drakcelery.cli.options import json_option, read_settings, require_yes, with_settings, yes_option
from drakcelery.errors import StackError
from drakcelery.model.text import clean

if TYPE_CHECKING:
    from drakcelery.operators.deleting import Chosen, Deleted

SHOWN = 10
"""Analyses that are named before it asks."""


@click.command(
    epilog="\b\nExamples:\n"
    "  drakcelery delete 6f2c5a0e-9d7c-4f55-a3b1-7d0a4c1b2e90\n"
    "  drakcelery delete --older-than 90d --yes"
)
@click.argument("uids", nargs=-1, metavar="[UID]...", shell_complete=ended)
@click.option(
    "--older-than", type=Moment(), metavar="AGE", help="All that ended before: 30d, 12h, or a date."
)
@yes_option
@json_option
@with_settings
def delete(
    uids: Sequence[str],
    older_than: float | None,
    yes: bool,
    as_json: bool,
    config: Path | None,
    data_dir: Path | None,
) -> None:
    """Delete analyses that are over: artifacts, kept sample and record; nothing brings them back.

    It asks first, and says which consumers may still need them.
    """
    from drakcelery.operators import deleting
    from drakcelery.wiring import make_ledger, make_storage

    if bool(uids) == (older_than is not None):
        raise click.UsageError("name the analyses, or give --older-than: one of both")
    if older_than is not None and older_than > time.time():
        raise click.UsageError("--older-than lies in the future")
    ours = read_settings(config, data_dir)
    ledger, storage = make_ledger(ours), make_storage(ours)
    if older_than is not None:
        chosen = deleting.choose_older(ledger, older_than)
    else:
        chosen = deleting.choose(ours, ledger, storage, uids)
    _warn(chosen)
    if chosen and not yes:
        require_yes(_question(chosen))
    outcomes = deleting.delete(ours, ledger, storage, chosen)
    refused = _print_json(outcomes) if as_json else _print(outcomes)
    if not chosen and not as_json:
        click.echo("No analysis is that old.")
    sys.exit(1 if refused else 0)


def _print(outcomes: Iterable[Deleted | StackError]) -> bool:
    """Print each as it comes; whether one was refused."""
    refused = False
    for one in outcomes:
        if isinstance(one, StackError):
            refused = True
            click.echo(f"Error: {clean(one, 400)}", err=True)
        else:
            click.echo(f"deleted {clean(one.uid)} ({one.objects} objects, {_size(one.bytes)})")
    return refused


def _print_json(outcomes: Iterable[Deleted | StackError]) -> bool:
    """Print all, at the end; whether one was refused."""
    deleted, refused = [], []
    for one in outcomes:
        if isinstance(one, StackError):
            refused.append(str(one))
        else:
            deleted.append(one.model_dump())
    click.echo(json.dumps({"deleted": deleted, "refused": refused}, indent=2))
    return bool(refused)


def _size(number: int) -> str:
    from rich.filesize import decimal

    return decimal(number)


def _question(chosen: Sequence[Chosen]) -> str:
    """Which ones are to be deleted."""
    names = [
        f"{clean(one.uid)} ({_about(one)})" if one.record else f"{clean(one.uid)} (without a record)"
        for one in chosen[:SHOWN]
    ]
    more = f" and {len(chosen) - SHOWN} more" if len(chosen) > SHOWN else ""
    return f"Delete {', '.join(names)}{more}, with all artifacts and the kept samples?"


def _about(one: Chosen) -> str:
    if one.record is None:
        return ""
    name = clean(one.record.sample.name, 40) if one.record.sample else "no sample"
    return f"{name}, {one.record.state.value}"


def _warn(chosen: Sequence[Chosen]) -> None:
    """Say who may still need them."""
    for one in (one for one in chosen if one.consumers):
        names = ", ".join(clean(name, 80) for name in one.consumers)
        lost = "what they have not downloaded by now is lost to them"
        click.echo(f"{clean(one.uid)}: not done with it in Karton are {names}: {lost}", err=True)
