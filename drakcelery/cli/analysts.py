"""Commands for those who submit samples and wait."""

from __future__ import annotations

import getpass
import json
import socket
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console

from drakcelery import client, pipeline, settings, views
from drakcelery.analysis import Priority
from drakcelery.celery import make_ledger, make_storage
from drakcelery.cli.options import json_option, read_settings, with_settings
from drakcelery.plugins import KNOWN_PLUGINS


@click.command()
@click.argument("sample", type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path))
@click.option(
    "--platform",
    type=click.Choice(["win32", "win64", "auto"]),
    default="auto",
    show_default=True,
    help="Windows to run on; auto reads the PE header.",
)
@click.option("--timeout", type=click.IntRange(min=1), help="Seconds to watch.  [default: the server's]")
@click.option(
    "--plugin",
    "plugins",
    multiple=True,
    type=click.Choice(sorted(KNOWN_PLUGINS)),
    metavar="PLUGIN",
    help="DRAKVUF plugin to run; may be given again.  [default: the server's list]",
)
@click.option("--start-command", help="Command in the guest; %f is the sample's path.  [default: by type]")
@click.option(
    "--priority",
    type=click.Choice([one.value for one in Priority]),
    default=Priority.NORMAL.value,
    show_default=True,
    help="Karton's priority.",
)
@click.option("--profile", metavar="NAME", help="VM profile to run on.  [default: as the rules say]")
@click.option("--host", metavar="NAME", help="Host to run on.  [default: any]")
@click.option("--wait", is_flag=True, help="Show progress until the analysis is over; fail if it fails.")
@with_settings
def submit(
    sample: Path,
    platform: str,
    timeout: int | None,
    plugins: Sequence[str],
    start_command: str | None,
    priority: str,
    profile: str | None,
    host: str | None,
    wait: bool,
    config: Path | None,
    data_dir: Path | None,
) -> None:
    """Push SAMPLE into Karton and print the uid of its analysis."""
    ours = read_settings(config, data_dir)
    task = pipeline.sample_task(
        sample,
        platform=None if platform == "auto" else platform,
        timeout=timeout,
        plugins=plugins,
        start_command=start_command,
        priority=Priority(priority),
        profile=profile,
        host=host,
    )
    uid = pipeline.push(ours, task)
    click.echo(uid)
    if wait:
        watch(ours, uid)


def watch(ours: settings.Settings, uid: str) -> None:
    """Progress on standard error until the analysis is over. Raises where it was not published."""
    console = Console(stderr=True)
    record = None
    for record in client.follow(make_ledger(ours), uid):
        console.print(views.progress_line(record))
    if record is not None:
        client.require_published(record)


@click.command()
@click.argument("uid", required=False)
@json_option
@with_settings
def status(uid: str | None, as_json: bool, config: Path | None, data_dir: Path | None) -> None:
    """Show analyses: all that are live and the newest that are over, or the one with UID."""
    ledger = make_ledger(read_settings(config, data_dir))
    records = [client.find_record(ledger, uid)] if uid else client.overview(ledger)
    if as_json:
        shown = [record.model_dump(mode="json") for record in records]
        click.echo(json.dumps(shown[0] if uid else shown, indent=2))
    elif uid:
        views.console().print(views.record_view(records[0]))
    elif records:
        views.console().print(views.records_table(records, now=ledger.now()))
    else:
        click.echo("No analyses. Push a sample with `drakcelery submit FILE`.")


@click.command()
@click.argument("uid")
@click.option(
    "--to", "to", required=True, type=click.Path(file_okay=False, path_type=Path), help="Directory."
)
@with_settings
def fetch(uid: str, to: Path, config: Path | None, data_dir: Path | None) -> None:
    """Download the artifacts of the analysis UID."""
    ours = read_settings(config, data_dir)
    record = client.find_record(make_ledger(ours), uid)
    files = client.fetch(ours, make_storage(ours), record, to)
    views.console().print(views.files_table(files))


@click.command()
@click.argument("uid")
@with_settings
def cancel(uid: str, config: Path | None, data_dir: Path | None) -> None:
    """End the analysis UID, waiting or running; nothing will be published."""
    ledger = make_ledger(read_settings(config, data_dir))
    record = client.find_record(ledger, uid)
    client.cancel(ledger, record, by=f"{getpass.getuser()}@{socket.gethostname()}")
    click.echo(f"cancelled {record.uid}")
