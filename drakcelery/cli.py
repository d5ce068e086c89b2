"""The ``drakcelery`` command. Thin: each command reads settings, calls one function and prints."""

from __future__ import annotations

import getpass
import json
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from redis.exceptions import RedisError
from rich.console import Console

from drakcelery import __version__, client, embedded, pipeline, processes, settings, views
from drakcelery.analysis import Priority
from drakcelery.celery import make_ledger, make_storage
from drakcelery.errors import DrakceleryError
from drakcelery.plugins import KNOWN_PLUGINS

F = TypeVar("F", bound=Callable[..., Any])

EXIT_FAILED = 1
DATA_DIR_HELP = "Directory of the embedded stack.  [default: one place per user]"


def read_settings(config: Path | None, data_dir: Path | None) -> settings.Settings:
    """Settings as the options, the environment and the well-known places say."""
    return settings.load(settings.find(config, data_dir=data_dir))


def with_settings(command: F) -> F:
    """The options that say where the settings are."""
    for option in (
        click.option("--data-dir", type=click.Path(path_type=Path), help=DATA_DIR_HELP),
        click.option(
            "--config", type=click.Path(path_type=Path, dir_okay=False), help="Configuration file (INI)."
        ),
    ):
        command = option(command)
    return command


class Sentences(click.Group):
    """A group whose commands end with a sentence instead of a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """As click's, but our errors, and a Redis that is away, become click's."""
        try:
            return super().invoke(ctx)
        except DrakceleryError as error:
            raise click.ClickException(str(error)) from None
        except RedisError as error:
            raise click.ClickException(f"Karton's Redis does not answer: {error}") from None


@click.group(cls=Sentences, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="drakcelery")
def cli() -> None:
    """Karton in, Celery across the hosts, DRAKVUF in the VM slots, Karton out.

    Settings come from --config, the stack in --data-dir, $DRAKCELERY_CONFIG, ./drakcelery.ini,
    /etc/drakcelery/config.ini, /etc/drakrun/config.ini or this user's running stack: the first there is.
    """


# For analysts


@cli.command()
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
@click.option("--wait", is_flag=True, help="Show progress until the analysis is over; fail if it fails.")
@with_settings
def submit(
    sample: Path,
    platform: str,
    timeout: int | None,
    plugins: Sequence[str],
    start_command: str | None,
    priority: str,
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


@cli.command()
@click.argument("uid", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
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


@cli.command()
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


@cli.command()
@click.argument("uid")
@with_settings
def cancel(uid: str, config: Path | None, data_dir: Path | None) -> None:
    """End the analysis UID, waiting or running; nothing will be published."""
    ledger = make_ledger(read_settings(config, data_dir))
    record = client.find_record(ledger, uid)
    client.cancel(ledger, record, by=f"{getpass.getuser()}@{socket.gethostname()}")
    click.echo(f"cancelled {record.uid}")


# For operators


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
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


@cli.command()
@click.option("--data-dir", type=click.Path(file_okay=False, path_type=Path), help=DATA_DIR_HELP)
def up(data_dir: Path | None) -> None:
    """Run everything on this machine until Ctrl-C: Valkey, SeaweedFS, Karton, workers, Flower."""
    sys.exit(embedded.run(data_dir or settings.user_data_dir()))


@cli.command(name="demo")
@click.option(
    "--sample",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File to analyse.  [default: the behaviour sample that comes with drakcelery]",
)
@click.option(
    "--timeout", type=click.IntRange(min=1), default=60, show_default=True, help="Seconds to watch."
)
def demo_command(sample: Path | None, timeout: int) -> None:
    """Run one sample through a stack of its own, show what comes back, and stop everything again."""
    embedded.stack_class()  # says what to install where the extra is missing
    from drakcelery import demo  # needs the extra, which production hosts do not have

    demo.run(sample, timeout=timeout, to=Path("drakcelery-demo"), console=views.console())


# The processes


@cli.command()
@with_settings
def ingress(config: Path | None, data_dir: Path | None) -> None:
    """Take recognized samples from Karton and start their analyses."""
    processes.run_ingress(read_settings(config, data_dir))


@cli.group()
def worker() -> None:
    """Start a Celery worker of this host."""


@worker.command(name="vm")
@with_settings
def worker_vm(config: Path | None, data_dir: Path | None) -> None:
    """The worker that owns this host's VM slots: prepare and run."""
    processes.become_celery("vm", read_settings(config, data_dir))


@worker.command(name="io")
@with_settings
def worker_io(config: Path | None, data_dir: Path | None) -> None:
    """The worker that needs files only: collect, upload and publish."""
    processes.become_celery("io", read_settings(config, data_dir))


@cli.command()
@with_settings
def beat(config: Path | None, data_dir: Path | None) -> None:
    """Send reconcile every half minute."""
    processes.become_celery("beat", read_settings(config, data_dir))


@cli.command()
@with_settings
def flower(config: Path | None, data_dir: Path | None) -> None:
    """Serve Flower, where [flower] says."""
    processes.become_celery("flower", read_settings(config, data_dir))


@cli.command()
@with_settings
def system(config: Path | None, data_dir: Path | None) -> None:
    """Run karton-system, for a machine that has no Karton yet."""
    processes.run_system(read_settings(config, data_dir))


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the console script and of ``workers/``."""
    cli(args=arguments, prog_name="drakcelery")
