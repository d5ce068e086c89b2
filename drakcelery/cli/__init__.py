"""The ``drakcelery`` command. Thin: each command reads settings, calls one function and prints."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import click
from redis.exceptions import RedisError

from drakcelery import __version__
from drakcelery.errors import DrakceleryError

SECTIONS: Mapping[str, Mapping[str, str]] = {
    "Samples and analyses": {
        "submit": "analysts:submit",
        "status": "analysts:status",
        "logs": "steer:logs",
        "fetch": "analysts:fetch",
        "cancel": "analysts:cancel",
        "retry": "steer:retry",
        "isolated": "isolated:isolated",
    },
    "Hosts and slots": {
        "top": "steer:top_command",
        "slots": "operators:slots",
        "hosts": "operators:hosts",
        "profiles": "operators:profiles",
        "drain": "steer:drain",
        "undrain": "steer:undrain",
        "quarantine": "steer:quarantine",
        "release": "steer:release",
    },
    "Installation": {"init": "setup:init", "doctor": "doctor:doctor", "bucket": "bucket:bucket"},
    "Processes": {
        "ingress": "karton_roles:ingress",
        "worker": "roles:worker",
        "flower": "roles:flower",
        "system": "karton_roles:system",
    },
    "One machine without Xen": {"demo": "machine:demo_command", "up": "machine:up"},
}
"""The commands, as the help lists them, and where they are: a process of ours imports only what it needs."""
PLACES = {name: place for commands in SECTIONS.values() for name, place in commands.items()}


class Sentences(click.Group):
    """A group in sections, whose commands end with a sentence instead of a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 click's signature
        """Every command, as the help lists them."""
        return list(PLACES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 click's signature
        """Import a command. None where there is none of that name."""
        if cmd_name not in PLACES:
            return None
        module, _, attribute = PLACES[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(f"drakcelery.cli.{module}"), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """As click's, section by section."""
        width = max(map(len, PLACES))
        for title, commands in SECTIONS.items():
            found = [(name, self.get_command(ctx, name)) for name in commands]
            limit = formatter.width - width - 6
            rows = [(name.ljust(width), one.get_short_help_str(limit=limit)) for name, one in found if one]
            with formatter.section(title):
                formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        """As click's, but our errors, and a Redis that is away, become click's."""
        try:
            return super().invoke(ctx)
        except DrakceleryError as error:
            raise click.ClickException(str(error)) from None
        except RedisError as error:
            from drakcelery.ledger.away import trouble

            raise click.ClickException(trouble(error)) from None


@click.group(cls=Sentences, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="drakcelery")
def cli() -> None:
    """Karton in, Celery across the hosts, DRAKVUF in the VM slots, Karton out.

    Settings come from --config, the stack in --data-dir, $DRAKCELERY_CONFIG, ./drakcelery.ini,
    /etc/drakcelery/config.ini, /etc/drakrun/config.ini or this user's running stack: the first there is.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the console script and of ``workers/``."""
    cli(args=arguments, prog_name="drakcelery")
