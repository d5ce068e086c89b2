"""The Lua scripts of the ledger: how they are read, and how they are called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any

import redis

NOTIFYING = frozenset({"cancel", "fail", "publish", "refuse"})
"""Scripts that end an analysis."""

Script = Callable[[Sequence[str], Sequence[str | int | float]], Any]
"""Keys and arguments of a Lua script."""


def load_scripts(client: redis.Redis, *names: str) -> dict[str, Script]:
    """The scripts of ``lua/`` by their names; ``notify.lua`` stands before those that end an analysis."""
    directory = resources.files("drakcelery.ledger") / "lua"

    def text(name: str) -> str:
        before = text("notify") if name in NOTIFYING else ""
        return before + (directory / f"{name}.lua").read_text()

    return {name: client.register_script(text(name)) for name in names}
