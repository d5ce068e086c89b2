"""The options that commands share, and what is made of them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from drakcelery.ledger import Ledger
    from drakcelery.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])

DATA_DIR_HELP = "Directory of the embedded stack.  [default: one place per user]"


def read_settings(config: Path | None, data_dir: Path | None) -> Settings:
    """Read the settings from where the options, the environment or the usual paths say."""
    from drakcelery import settings

    ours = settings.load(settings.find(config, data_dir=data_dir))
    context = click.get_current_context(silent=True)
    if context is not None:  # used to explain errors of Redis
        context.find_root().obj = ours
    return ours


def ledger_of(ours: Settings, *, hurried: bool = False) -> Ledger:
    """As :func:`drakcelery.wiring.make_ledger`; *hurried*: somebody waits at the prompt."""
    from drakcelery.ledger import Patience
    from drakcelery.wiring import make_ledger

    return make_ledger(ours, patience=Patience.NONE if hurried else Patience.SHORT)


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


def chosen_form(form: str, *, as_json: bool) -> str:
    """What ``--format`` and ``--json`` ask for. Raises :class:`click.UsageError` if they contradict."""
    if not as_json:
        return form
    source = click.get_current_context().get_parameter_source("form")
    if form != "json" and source is not ParameterSource.DEFAULT:
        raise click.UsageError(f"--json asks for another form than --format {form}")
    return "json"


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
"""The option for output that scripts read."""


yes_option = click.option("--yes", is_flag=True, help="Do not ask.")
"""The option of commands that ask before they remove something."""


def require_yes(question: str) -> None:
    """Ask before something is removed. Raises :class:`click.Abort` for a no, and an error where nobody can
    answer."""
    if not sys.stdin.isatty():
        raise click.UsageError(f"nobody can be asked here: {question} If so, give --yes")
    click.confirm(question, abort=True, err=True)
