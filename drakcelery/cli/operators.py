"""Commands for those who keep the hosts busy."""

from __future__ import annotations

import json
from pathlib import Path

import click

from drakcelery import views
from drakcelery.celery import make_ledger
from drakcelery.cli.options import json_option, read_settings, with_settings


@click.command()
@json_option
@with_settings
def slots(as_json: bool, config: Path | None, data_dir: Path | None) -> None:
    """Show the VM slots of every host that is alive."""
    ledger = make_ledger(read_settings(config, data_dir))
    hosts = ledger.hosts()
    if as_json:
        click.echo(json.dumps([host.model_dump(mode="json") for host in hosts], indent=2))
    elif hosts:
        views.console().print(views.hosts_table(hosts, now=ledger.now()))
    else:
        click.echo(
            "No host is alive. Start one with `drakcelery worker vm`, or everything with `drakcelery up`."
        )
