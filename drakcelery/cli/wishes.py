"""The options that say how a sample is run, for all commands that have one run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar, get_args

import click

from drakcelery.model.plugins import KNOWN_PLUGINS
from drakcelery.model.states import StartMethod, WatchMode

F = TypeVar("F", bound=Callable[..., Any])
Option = Callable[[F], F]


def with_wishes(default: str | None = None) -> Callable[[F], F]:
    """The options, which become one argument of the command each.

    *default*: what holds for each that is not given, in words, if it is the same for all.
    """

    def text(what: str, own: str) -> str:
        return f"{what}  [default: {default or own}]"

    def decorated(command: F) -> F:
        for option in reversed([*_what(text), *_how(text), *_whether(text), *_where(text)]):
            command = option(command)
        return command

    return decorated


def _what(text: Callable[[str, str], str]) -> Iterator[Option[Any]]:
    yield click.option(
        "--timeout", type=click.IntRange(min=1), help=text("Seconds to watch.", "the server's")
    )
    yield click.option(
        "--plugin",
        "plugins",
        multiple=True,
        type=click.Choice(sorted(KNOWN_PLUGINS)),
        metavar="PLUGIN",
        help=text("DRAKVUF plugin to run; may be given again.", "the server's list"),
    )


def _how(text: Callable[[str, str], str]) -> Iterator[Option[Any]]:
    yield click.option(
        "--start-command", help=text("Command in the guest; %f is the sample's path.", "by type")
    )
    yield click.option(
        "--start-method",
        type=click.Choice(get_args(StartMethod)),
        help=text("How Windows starts it; runas: as administrator. DRAKVUF only.", "the engine's choice"),
    )
    yield click.option(
        "--guest-working-directory",
        "working_directory",
        metavar="DIR",
        help=text("Directory in the guest to start it in. DRAKVUF only.", "the sample's"),
    )
    yield click.option(
        "--net-enable/--net-disable",
        "net_enable",
        default=None,
        help=text("Let the guest reach the Internet, where the host allows it, or not.", "as the host"),
    )


def _whether(text: Callable[[str, str], str]) -> Iterator[Option[Any]]:
    yield click.option(
        "--watch",
        type=click.Choice(get_args(WatchMode)),
        help=text("Stop it when nothing new comes (active), or only note when (shadow).", "the server's"),
    )
    yield click.option(
        "--variants",
        type=click.IntRange(min=0),
        metavar="N",
        help=text("At most so many second looks, if it seems to evade; 0: none.", "the server's"),
    )


def _where(text: Callable[[str, str], str]) -> Iterator[Option[Any]]:
    yield click.option("--profile", metavar="NAME", help=text("VM profile to run on.", "by the rules"))
    yield click.option("--host", metavar="NAME", help=text("Host to run on.", "any"))
