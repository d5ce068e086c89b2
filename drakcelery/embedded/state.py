"""What a running stack says about itself in its data directory, for those who look for it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from drakcelery.embedded import lock
from drakcelery.embedded.configuration import NAME as CONFIG_NAME
from drakcelery.embedded.plan import write_private
from drakcelery.model.analysis import Value

NAME = "running.json"


class Running(Value):
    """A stack whose servers are up and whose processes are started."""

    pid: int
    config: Path
    addresses: dict[str, str]
    """By name; no credentials."""


def write(data_dir: Path, addresses: Mapping[str, str]) -> None:
    """Say that this process runs the stack of *data_dir*."""
    running = Running(pid=os.getpid(), config=data_dir / CONFIG_NAME, addresses=dict(addresses))
    write_private(data_dir / NAME, running.model_dump_json(indent=2))


def remove(data_dir: Path) -> None:
    """Say that it no longer does."""
    (data_dir / NAME).unlink(missing_ok=True)


def running(data_dir: Path) -> Running | None:
    """The stack that runs in *data_dir*; None if there is none, or it is not up yet, or stopping."""
    holder = lock.holder(data_dir)
    try:
        found = Running.model_validate_json((data_dir / NAME).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValidationError):
        return None
    return found if found.pid == holder else None
