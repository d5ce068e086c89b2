"""The ``drakcelery`` command. Thin: each command reads settings, calls one function and prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
from redis.exceptions import RedisError

from drakcelery import __version__
from drakcelery.cli import analysts, bucket, doctor, machine, operators, roles, setup
from drakcelery.errors import DrakceleryError

COMMANDS = (
    *(analysts.submit, analysts.status, analysts.fetch, analysts.cancel),
    *(operators.slots, operators.hosts, operators.profiles),
    *(setup.init, doctor.doctor, bucket.bucket),
    *(machine.up, machine.demo_command),
    *(roles.ingress, roles.worker, roles.beat, roles.flower, roles.system),
)


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


for _command in COMMANDS:
    cli.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the console script and of ``workers/``."""
    cli(args=arguments, prog_name="drakcelery")
