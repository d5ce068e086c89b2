"""The ``drakcelery`` command. Thin: each command reads settings, calls one function and prints."""

from __future__ import annotations

import errno
import importlib
import io
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from drakcelery import __version__, garbage, lean
from drakcelery.cli import ending, quiet
from drakcelery.errors import DrakceleryError, SettingsError, StorageError
from drakcelery.model.text import printable

if TYPE_CHECKING:
    from drakcelery.settings import Settings

SECTIONS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "Samples and analyses": {
        "submit": ("submit:submit", "Push samples into Karton and print their analyses' uids."),
        "wait": ("waiting:wait", "Wait until analyses are over."),
        "status": ("analysts:status", "Show live and recent analyses, or one of them."),
        "find": ("find:find", "Find analyses by uid, hash, name, state, host, reason or time."),
        "logs": ("steer:logs", "Show the log of an analysis, wherever it runs."),
        "report": ("report:report", "Show what a sample did."),
        "diff": ("difference:diff", "Show what two samples did differently."),
        "fetch": ("analysts:fetch", "Download the artifacts of an analysis, all or none."),
        "cancel": ("analysts:cancel", "End a waiting or running analysis."),
        "retry": ("retry:retry", "Analyse a sample again, in a new analysis."),
        "delete": ("delete:delete", "Delete analyses that are over, with all that is kept."),
        "republish": ("republish:republish", "Send a stored analysis to its consumers again."),
        "isolated": ("isolated:isolated", "Handle tasks and analyses that are in quarantine."),
    },
    "Hosts and slots": {
        "top": ("steer:top_command", "Watch the fleet: slots, queues, rates, recent ends."),
        "slots": ("operators:slots", "Show the VM slots of every live host."),
        "hosts": ("operators:hosts", "List the hosts of the last week and their state."),
        "profiles": ("operators:profiles", "List the VM profiles: slots, running and waiting samples."),
        "drain": ("steer:drain", "Let nothing new begin on a host, or in one slot."),
        "undrain": ("steer:undrain", "Let a drained host, or slot, take samples again."),
        "quarantine": ("steer:quarantine", "Take a suspect slot out of use."),
        "release": ("steer:release", "End the quarantine of a slot."),
        "canary": ("canary:canary", "Test slots with a known harmless sample."),
        "watch-report": ("watching:watch_report", "Show what quiet stops save in time and lose in facts."),
    },
    "Installation": {
        "init": ("setup:init", "Join a Karton: write this machine's configuration."),
        "doctor": ("doctor:doctor", "Check this installation and say how to fix problems."),
        "bucket": ("bucket:bucket", "Set who may read the analyses, and for how long."),
    },
    "Processes": {
        "ingress": ("karton_roles:ingress", "Take samples from Karton and start their analyses."),
        "worker": ("roles:worker", "Start a Celery worker of this host."),
        "flower": ("roles:flower", "Serve Flower on the address in [flower]."),
        "system": ("karton_roles:system", "Run karton-system if there is no Karton yet."),
    },
    "One machine without Xen": {
        "demo": ("machine:demo_command", "Analyse one sample with a temporary stack."),
        "up": ("machine:up", "Run everything on this machine."),
        "down": ("machine:down", "Stop what up has started."),
    },
}
"""The commands as the help lists them: where each is, and what it does, in a sentence that fits on a line.

A process of ours imports only what it needs, and neither the help nor the shell's completion needs a command.
"""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NOT_CONFIGURED = (
    "There is no configuration file: `drakcelery up` starts everything on this machine, "
    "--config names the file of an installation"
)
TROUBLED = ("diff",)
"""Commands that say something else than an error by the exit status 1."""
PLACES = {name: place for commands in SECTIONS.values() for name, (place, _) in commands.items()}


class Sentences(click.Group):
    """A group in sections, whose commands end with a sentence instead of a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 click's signature
        """Every command, as the help lists them."""
        return list(PLACES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 click's signature
        """Import a command. None if there is none of that name."""
        if cmd_name not in PLACES:
            return None
        module, _, attribute = PLACES[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(f"drakcelery.cli.{module}"), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 click's signature
        """As click does, but section by section."""
        width = max(map(len, PLACES))
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), says) for name, (_, says) in commands.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """As click does, but click would import every command for its sentence."""
        offers = [
            CompletionItem(name, help=says)
            for commands in SECTIONS.values()
            for name, (_, says) in commands.items()
            if name.startswith(incomplete)
        ]
        return [*offers, *click.Command.shell_complete(self, ctx, incomplete)]

    def invoke(self, ctx: click.Context) -> Any:
        """As click does, but turn our errors, the system's and those of Redis into click's."""
        try:
            return super().invoke(ctx)
        except DrakceleryError as error:
            raise _failed(ctx, printable(f"{error}{_unconfigured(error, ctx.obj)}")) from None
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # who reads the output has gone: click ends quietly
            raise _failed(ctx, printable(_of_system(error))) from None
        except Exception as error:
            redis = sys.modules.get("redis.exceptions")  # if not imported, it has raised nothing
            if redis is None or not isinstance(error, redis.RedisError):
                raise
            from drakcelery.cli import troubles

            raise _failed(
                ctx, printable(troubles.of_redis(error, ctx.obj, unconfigured=NOT_CONFIGURED))
            ) from None


class Trouble(click.ClickException):
    """An error of a command that says something else by the exit status 1."""

    exit_code = 2


def _failed(ctx: click.Context, sentence: str) -> click.ClickException:
    """What click prints and exits with."""
    return Trouble(sentence) if ctx.invoked_subcommand in TROUBLED else click.ClickException(sentence)


def _unconfigured(error: DrakceleryError, ours: Settings | None) -> str:
    """What to do where a setting is missing, or a server, as there is no configuration at all."""
    if ours is None or ours.source is not None or not isinstance(error, SettingsError | StorageError):
        return ""
    return f". {NOT_CONFIGURED}"


def _of_system(error: OSError) -> str:
    """What the system says, and of which file."""
    if error.strerror is None:
        return str(error) or type(error).__name__
    about = "the output" if error.errno in _NO_ROOM else None
    if isinstance(error.filename, str | bytes):
        about = os.fsdecode(error.filename)
    return f"{about}: {error.strerror}" if about else error.strerror


@click.group(cls=Sentences, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="drakcelery")
def cli() -> None:
    """Karton in, Celery across the hosts, DRAKVUF in the VM slots, Karton out.

    Settings come from --config, the stack in --data-dir, $DRAKCELERY_CONFIG, ./drakcelery.ini,
    /etc/drakcelery/config.ini, /etc/drakrun/config.ini or this user's running stack: the first there is.
    """


def _spare_letters() -> None:
    """Print what the terminal's encoding lacks as ``\\u0416``, as Python does for errors."""
    out = sys.stdout
    if isinstance(out, io.TextIOWrapper) and out.encoding.lower() not in ("utf-8", "utf8"):
        out.reconfigure(errors="backslashreplace")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the console script and of ``workers/``."""
    garbage.spare()
    lean.start()
    _spare_letters()
    quiet.install()
    with ending.cleared_away():
        cli(args=arguments, prog_name="drakcelery")
