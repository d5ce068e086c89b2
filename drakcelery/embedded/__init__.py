"""The embedded stack: everything that drakcelery needs, on one machine, on loopback.

======================  ==============================================================================
:mod:`.stack`           the whole: servers, configuration file, the Procfile's processes; one at a time
:mod:`.background`      a stack in a process of its own, for the demo and the tests
:mod:`.services`        the two servers, Valkey and SeaweedFS
:mod:`.configuration`   ``drakcelery.ini``, which the stack's processes read
:mod:`.state`           what a running stack says about itself
:mod:`.ports`           free ports on loopback
:mod:`.plan`            the ports and credentials that a data directory keeps
:mod:`.formation`       the Procfile's processes (honcho's library)
:mod:`.layout`          where the Procfile lies
:mod:`.supervision`     starting, watching and ending processes so that none is left
:mod:`.keeper`          ends what a killed stack left behind
:mod:`.lock`            one stack for each data directory
======================  ==============================================================================
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from drakcelery.errors import StackError
from drakcelery.telemetry import logs

if TYPE_CHECKING:
    from drakcelery.embedded.stack import Stack


def run(data_dir: Path) -> int:
    """``drakcelery up``: the stack of *data_dir* on this terminal until Ctrl-C; the exit status.

    Raises:
        StackError: it does not start, runs already, or a part of it ended by itself.
    """

    def announce(addresses: Mapping[str, str]) -> None:
        width = max(map(len, addresses))
        lines = (f"  {name:{width}}  {address}" for name, address in addresses.items())
        click.echo("\n".join(("drakcelery is up.", *lines, f"  {'Data':{width}}  {data_dir.absolute()}")))
        click.echo("Ctrl-C stops it.")

    logs.configure(level="info", style="console")
    stack_class()(data_dir, terminal=sys.stdout).run(announce)
    click.echo("drakcelery is down.")
    return 0


def stack_class() -> type[Stack]:
    """:class:`~drakcelery.embedded.stack.Stack`, imported only now: it needs an extra that hosts lack.

    Raises:
        StackError: the extra is not installed.
    """
    try:
        from drakcelery.embedded.stack import Stack
    except ModuleNotFoundError as error:
        if error.name != "honcho":
            raise
        raise StackError(
            f"the embedded stack needs {error.name}; install it with: pip install 'drakcelery[embedded]'"
        ) from None
    return Stack
