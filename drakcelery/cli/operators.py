"""Commands for those who keep the hosts busy.

What a command works with is imported when it runs: neither its help nor the shell's completion needs it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from drakcelery.cli.options import json_option, ledger_of, read_settings, with_settings

if TYPE_CHECKING:
    from pydantic import BaseModel

NOBODY = "No host is alive. Start one with `drakcelery worker vm`, or everything with `drakcelery up`."


def print_json(values: Iterable[BaseModel]) -> None:
    """For a script."""
    click.echo(json.dumps([value.model_dump(mode="json") for value in values], indent=2))


@click.command()
@json_option
@with_settings
def slots(as_json: bool, config: Path | None, data_dir: Path | None) -> None:
    """Show the VM slots of every live host."""
    ledger = ledger_of(read_settings(config, data_dir))

    from drakcelery.cli.slot_table import slots_view
    from drakcelery.operators import views

    hosts = ledger.fleet.hosts()
    if as_json:
        print_json(hosts)
    elif hosts:
        views.console().print(slots_view(hosts, now=ledger.now()))
    else:
        click.echo(NOBODY)


@click.command()
@json_option
@with_settings
def hosts(as_json: bool, config: Path | None, data_dir: Path | None) -> None:
    """List the hosts of the last week, and the samples that wait for one of them."""
    ledger = ledger_of(read_settings(config, data_dir))

    from drakcelery.operators import fleet_views, overview, views

    found = overview.host_overviews(ledger.fleet.hosts(), ledger.fleet.places(), ledger.inbox().lines())
    if as_json:
        print_json(found)
    elif found:
        views.console().print(fleet_views.host_overviews_table(found, now=ledger.now()))
    else:
        click.echo(NOBODY)


@click.command()
@json_option
@with_settings
def profiles(as_json: bool, config: Path | None, data_dir: Path | None) -> None:
    """List the VM profiles: slots, running samples, and samples that wait for a slot."""
    ledger = ledger_of(read_settings(config, data_dir))

    from drakcelery.operators import fleet_views, overview, views

    inbox = ledger.inbox()
    found = overview.profile_overviews(
        ledger.fleet.hosts(), ledger.fleet.places(), inbox.lines(), inbox.in_flight()
    )
    if as_json:
        print_json(found)
    elif found:
        views.console().print(fleet_views.profiles_table(found, now=ledger.now()))
    else:
        click.echo(NOBODY)
