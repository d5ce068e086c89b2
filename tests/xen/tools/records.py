"""What the state files of a host hold, as types: no program imports this when it runs."""

from __future__ import annotations

from typing import Any, TypedDict


class Guest(TypedDict):
    """A domain, as its file has it."""

    name: str
    domid: int
    started: float
    """Seconds, UNIX time."""
    memory: int
    """MiB."""
    restoring: bool
    """The domain exists, its memory is not there yet."""
    dying: bool
    files: dict[str, str]
    """Path in the guest -> SHA-256."""
    commands: list[str]
    """What drakshell ran in it."""


class Order(TypedDict):
    """A failure that was ordered."""

    tool: str
    how: str
    vm: str | None
    times: int | None
    details: dict[str, Any]
