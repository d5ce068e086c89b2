"""Commands that watch the fleet and act on it.

What a command works with is imported when it runs: neither its help nor the shell's completion needs it.
"""

from __future__ import annotations

import getpass
import json
import re
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from drakcelery.cli.completion import hosts, slots, uids
from drakcelery.cli.options import json_option, ledger_of, read_settings, with_settings
from drakcelery.model.text import clean

if TYPE_CHECKING:
    from rich.text import Text

    from drakcelery.model.records import HostStatus
    from drakcelery.operators.tail import Event

SLOT = "HOST/SLOT"
_LEVELS = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}
_SAID = frozenset({"created", "timestamp", "levelname", "level", "action", "message", "uid"})
"""Fields that each log line has anyway, or that would be shown twice."""
_WHERE = frozenset({"attempt", "host", "slot", "stage"})
"""Fields that are shown once, when the attempt begins there."""


def asker() -> str:
    """The name of the user who gives the command."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def _target(_context: click.Context, parameter: click.Parameter, text: str) -> tuple[str, str | None]:
    """Reads ``HOST`` and ``HOST/SLOT``, as far as the argument allows it."""
    from drakcelery.model.names import NAME_PATTERN

    name = NAME_PATTERN[1:-1]
    found = re.fullmatch(rf"({name})(?:/({name}))?", text)
    if found is None or (found[2] is None and parameter.metavar == SLOT):
        raise click.BadParameter(f"expected {parameter.metavar}, such as rack-1/vm-1")
    return found[1], found[2]


def targets(
    context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]
) -> tuple[tuple[str, str | None], ...]:
    """Reads any number of ``HOST`` and ``HOST/SLOT``."""
    return tuple(_target(context, parameter, text) for text in texts)


_host_argument = click.argument("target", metavar="HOST[/SLOT]", callback=_target, shell_complete=hosts)
_slot_argument = click.argument("target", metavar=SLOT, callback=_target, shell_complete=slots)


def _steer(
    command: str,
    target: tuple[str, str | None],
    as_json: bool,
    config: Path | None,
    data_dir: Path | None,
) -> None:
    """Have the host's vm worker do something, and show the host afterwards."""
    from drakcelery.cli.slot_table import slots_view
    from drakcelery.operators import steering, views
    from drakcelery.wiring import make_client, make_ledger

    act: Callable[..., HostStatus] = getattr(steering, command)
    ours = read_settings(config, data_dir)
    host, slot = target
    status = act(make_client(ours), host, slot=slot, by=asker())
    if as_json:
        click.echo(json.dumps(status.model_dump(mode="json"), indent=2))
    else:
        views.console().print(slots_view([status], now=make_ledger(ours).now()))


@click.command()
@_host_argument
@json_option
@with_settings
def drain(**options: Any) -> None:
    """Let nothing new begin on a host, or in one slot; what runs there finishes."""
    _steer("drain", **options)


@click.command()
@_host_argument
@json_option
@with_settings
def undrain(**options: Any) -> None:
    """Let a drained host, or slot, take samples again."""
    _steer("undrain", **options)


@click.command()
@_slot_argument
@json_option
@with_settings
def quarantine(**options: Any) -> None:
    """Take a suspect slot out of use; what runs in it finishes."""
    _steer("quarantine", **options)


@click.command()
@_slot_argument
@json_option
@with_settings
def release(**options: Any) -> None:
    """End the quarantine of a slot, whoever began it."""
    _steer("release", **options)


@click.command(name="top")
@click.option("--once", is_flag=True, help="Print one frame and end.  [default: unless on a terminal]")
@with_settings
def top_command(once: bool, config: Path | None, data_dir: Path | None) -> None:
    """Watch the fleet: slots, queues, rates, recent ends. Press q to end."""
    ledger = ledger_of(read_settings(config, data_dir))

    from drakcelery.operators import top, views

    watch = top.Watch(ledger, ledger.inbox())
    if once or not (sys.stdout.isatty() and sys.stdin.isatty()):
        top.show_once(watch, views.console())
    else:
        top.show(watch, views.console())


@click.command()
@click.argument("uid", shell_complete=uids)
@click.option("-f", "--follow", is_flag=True, help="Continue until the analysis is over.")
@json_option
@with_settings
def logs(uid: str, follow: bool, as_json: bool, config: Path | None, data_dir: Path | None) -> None:
    """Show the log of the analysis UID, wherever it runs."""
    from drakcelery.model.names import is_uid
    from drakcelery.operators import analyses, finding, views
    from drakcelery.operators.tail import Tail
    from drakcelery.telemetry.logs import configure
    from drakcelery.wiring import make_client, make_ledger, make_storage

    ours = read_settings(config, data_dir)
    configure(level="error", style="console")
    ledger = make_ledger(ours)
    # One that still waits in Karton has no record, but may be followed
    waits = follow and is_uid(uid) and finding.record_of(ledger, uid) is None
    known = uid if waits else analyses.find_record(ledger, uid).uid
    tail = Tail(settings=ours, ledger=ledger, app=make_client(ours), storage=make_storage(ours), uid=known)
    console = views.console()
    for event in tail.events(follow=follow):
        if as_json:
            click.echo(json.dumps(event))
        else:
            console.print(_line(event), soft_wrap=True)


def _line(event: Event) -> Text:
    """A line of a log, or a change in the ledger, for the terminal. Its content is untrusted."""
    from rich.text import Text

    from drakcelery.operators import views

    level, created, stage = str(event.get("levelname")), event.get("created"), event.get("stage")
    at = views.moment(created)[11:] if isinstance(created, int | float) and created else "-"
    left_out = _SAID | _WHERE if stage else _SAID
    more = " ".join(f"{name}={value}" for name, value in event.items() if name not in left_out)
    return Text.assemble(
        (f"{at:8} {clean(str(stage or ''), 12):8} ", "dim"),
        (clean(str(event.get("action"))), _LEVELS.get(level, "bold")),
        f" {clean(more, 2000)}",
    )
