"""The embedded stack: everything that drakcelery needs, on one machine, on loopback.

======================  ==============================================================================
:mod:`.stack`           the whole: servers, configuration file, the Procfile's processes; one at a time
:mod:`.background`      a stack in a process of its own: for the demo and the tests, or detached
:mod:`.stopping`        stopping a stack from outside
:mod:`.directory`       the data directory: whose it is, and how it is emptied
:mod:`.readiness`       whether a sample that is pushed now is sure to be analysed
:mod:`.size`            how many slots fit this machine
:mod:`.onlooker`        who is told what a stack does:
:mod:`.lines`           line by line, or
:mod:`.screen`          on a terminal;
:mod:`.changes`         which analyses have changed, and
:mod:`.problems`        what is wrong, from the processes' log lines
:mod:`.typed`           the commands that work with a stack, fit to be pasted
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

import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from drakcelery.errors import StackError
from drakcelery.telemetry import logs

if TYPE_CHECKING:
    from drakcelery.embedded.configuration import Overrides
    from drakcelery.embedded.stack import Stack


def run(data_dir: Path, *, slots: Mapping[str, str], overrides: Overrides, verbose: bool = False) -> int:
    """``drakcelery up``: the stack of *data_dir* on this terminal until Ctrl-C; the exit status.

    With *verbose*, all that its processes log is shown.

    Raises:
        StackError: it does not start, runs already, or a part of it ended by itself.
    """
    make = stack_class()
    from rich.console import Console

    from drakcelery.embedded.lines import Lines
    from drakcelery.embedded.screen import Screen

    data_dir = data_dir.absolute()
    logs.configure(level="info" if verbose else "error", style="console")
    console = Console(highlight=False, markup=False, emoji=False)
    with contextlib.ExitStack() as shown:
        if verbose or not console.is_terminal or console.is_dumb_terminal:
            onlooker: Lines | Screen = Lines(click.echo, data_dir, only_addresses=verbose)
        else:
            onlooker = shown.enter_context(Screen(console, data_dir))
        terminal = sys.stdout if verbose else None
        make(data_dir, slots=slots, overrides=overrides, terminal=terminal, onlooker=onlooker).run()
    click.echo("drakcelery is down.")
    return 0


def start(data_dir: Path, *, slots: Mapping[str, str], overrides: Overrides) -> None:
    """``drakcelery up --detach``: start the stack of *data_dir*, and return when it is up.

    Raises:
        StackError: it does not start, or runs already.
    """
    stack_class()
    from drakcelery.embedded.background import LOG_NAME, detach
    from drakcelery.embedded.lines import head
    from drakcelery.embedded.typed import command
    from drakcelery.settings import load

    stack = detach(data_dir, slots=slots, overrides=overrides)
    for line in head(load(stack.config), stack.addresses, data_dir):
        click.echo(line)
    click.echo(f"{command('down', data_dir)} stops it; {data_dir / 'log' / LOG_NAME} says what it does.")


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
