"""What people type to work with a stack: fit to be pasted, whichever directory it has."""

from __future__ import annotations

import shlex
from pathlib import Path

from drakcelery import settings
from drakcelery.errors import SettingsError


def option(data_dir: Path) -> str:
    """The option that means the stack of *data_dir*, a blank first; nothing for this user's own."""
    try:
        own = data_dir.absolute() == settings.user_data_dir().absolute()
    except SettingsError:  # this user has none
        own = False
    return "" if own else f" --data-dir {shlex.quote(str(data_dir))}"


def command(name: str, data_dir: Path) -> str:
    """The command, marked as code."""
    return f"`drakcelery {name}{option(data_dir)}`"
