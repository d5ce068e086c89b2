"""What the engine and its guest program tell each other: a job on stdin, states on stdout, all JSON lines."""

from __future__ import annotations

import dataclasses
import enum
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from drakcelery.engines.speakeasy_guest.configuration import FOLDER

MAX_STATE = 8192
"""Bytes of a state line; the engine reads no more of one."""


@dataclass(frozen=True, kw_only=True)
class GuestJob:
    """One run, as the guest program needs it. Paths are strings; sizes are bytes."""

    parent: int
    """Process id of the engine: the guest dies with it."""
    sample: str
    log: str
    dumps: str
    pcap: str
    plugins: tuple[str, ...]
    container: str
    """The Windows program that loads a DLL; empty for an EXE."""
    export: str
    """Export to call after ``DllMain``; empty for none, ``#n`` for an ordinal."""
    arguments: str
    hooks: str | None
    """DRAKVUF hook list that says which functions apimon writes; None: all."""
    memory_limit: int
    file_limit: int
    cpu_limit: int
    """Seconds of processor time."""
    max_instructions: int
    dump_limit: int
    dumps_limit: int

    def to_json(self) -> bytes:
        """One line."""
        return json.dumps(dataclasses.asdict(self)).encode() + b"\n"

    def command_line(self) -> str:
        """What the program sees as its command line."""
        path = f"{FOLDER}{Path(self.sample).name}"
        if not self.container:
            return f'"{path}" {self.arguments}'.rstrip()
        if self.container == "rundll32.exe":
            return f'{self.container} "{path}",{self.export} {self.arguments}'.rstrip()
        return " ".join(part for part in (self.container, self.arguments, f'"{path}"') if part)

    @classmethod
    def from_json(cls, line: bytes) -> Self:
        """Read :meth:`to_json`. Raises :class:`ValueError` or :class:`TypeError`."""
        values: dict[str, Any] = json.loads(line)
        return cls(**{**values, "plugins": tuple(values["plugins"])})


class State(enum.StrEnum):
    """How far the guest program is; each line is ``{"state": …, "detail": …}``."""

    READY = "ready"
    """Confined, Speakeasy imported; detail: what this machine lacks to confine it, or empty."""
    STARTED = "started"
    """The sample is loaded and its first instruction is next: the timeout counts from here."""
    FINISHED = "finished"
    """Emulation is over and everything is written; detail: why it ended early, or empty."""
    REJECTED = "rejected"
    """The sample could not be loaded; detail: why."""
    BROKEN = "broken"
    """Something on our side failed; detail: what."""


def state_line(state: State, detail: str = "") -> bytes:
    """A state, as it is written to stdout."""
    return json.dumps({"state": state.value, "detail": detail[:1000]}).encode() + b"\n"


def parse_state(line: bytes) -> tuple[State, str] | None:
    """Read a state; None for anything else: what writes it has run hostile code."""
    try:
        value = json.loads(line)
        return State(value["state"]), str(value["detail"])[:1000]
    except (ValueError, KeyError, TypeError):
        return None
