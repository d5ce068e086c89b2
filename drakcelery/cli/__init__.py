"""The ``drakcelery`` command. Thin: each command reads settings, calls one function and prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
from redis.exceptions import RedisError

from drakcelery import __version__
from drakcelery.cli import analysts, bucket, doctor, machine, operators, roles, setup, steer
from drakcelery.errors import DrakceleryError

SECTIONS = {
    "Samples and analyses": (
        *(analysts.submit, analysts.status, steer.logs, analysts.fetch, analysts.cancel, steer.retry),
    ),
    "Hosts and slots": (
        *(steer.top_command, operators.slots, operators.hosts, operators.profiles),
        *(steer.drain, steer.undrain, steer.quarantine, steer.release),
    ),
    "Installation": (setup.init, doctor.doctor, bucket.bucket),
    "Processes": (roles.ingress, roles.worker, roles.beat, roles.flower, roles.system),
    "One machine without Xen": (machine.demo_command, machine.up),
}
"""The commands, as the help lists them."""


class Sentences(click.Group):
    """A group in sections, whose commands end with a sentence instead of a traceback."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """As click's, section by section."""
        width = max(len(name) for name in self.list_commands(ctx))
        for title, commands in SECTIONS.items():
            rows = [
                (str(one.name).ljust(width), one.get_short_help_str(limit=formatter.width - width - 6))
                for one in commands
            ]
            with formatter.section(title):
                formatter.write_dl(rows)

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


for _commands in SECTIONS.values():
    for _command in _commands:
        cli.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the console script and of ``workers/``."""
    cli(args=arguments, prog_name="drakcelery")
