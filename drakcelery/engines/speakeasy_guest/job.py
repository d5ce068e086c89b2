"""What the engine and its guest program tell each other: a job on stdin, states on stdout, all JSON lines."""

from __future__ import annotations

import dataclasses
import enum
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

from drakcelery.engines.speakeasy_guest.configuration import USUAL
from drakcelery.model.emulated_guest import EmulatedGuest
from drakcelery.model.text import clean

MAX_STATE = 32 * 1024
"""Bytes of a state line; the engine reads no more of one."""

MAX_DETAIL = 1000
"""Characters of a state's detail, which may quote the sample."""

MAX_MISSING = 64
"""So many functions the engine takes from a state line."""


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
    guest: EmulatedGuest = USUAL

    def to_json(self) -> bytes:
        """One line."""
        return json.dumps(dataclasses.asdict(self)).encode() + b"\n"

    def command_line(self) -> str:
        """What the program sees as its command line."""
        path = f"{self.guest.desktop}{Path(self.sample).name}"
        if not self.container:
            return f'"{path}" {self.arguments}'.rstrip()
        if self.container == "rundll32.exe":
            return f'{self.container} "{path}",{self.export} {self.arguments}'.rstrip()
        return " ".join(part for part in (self.container, self.arguments, f'"{path}"') if part)

    @classmethod
    def from_json(cls, line: bytes) -> Self:
        """Read :meth:`to_json`. Raises :class:`ValueError` or :class:`TypeError`."""
        values: dict[str, Any] = json.loads(line)
        guest = EmulatedGuest.from_json(values["guest"])
        return cls(**{**values, "plugins": tuple(values["plugins"]), "guest": guest})


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


@dataclass(frozen=True, kw_only=True)
class Missing:
    """A function that the program called and that is not imitated."""

    name: str
    """``dll.function``."""
    count: int
    guessed: bool = False
    """How many words it takes from the stack is not known either, so what came after may be wrong."""


@dataclass(frozen=True, kw_only=True)
class Account:
    """What a run came to, for its last state."""

    complete: bool = False
    """The program ended by itself, or ran until it was told to stop."""
    in_start_up: bool = False
    """It has called nothing but what a C runtime calls before ``main``."""
    calls: int = 0
    missing: tuple[Missing, ...] = ()
    """The most frequent first."""


class Told(NamedTuple):
    """A state, as the engine understood it."""

    state: State
    detail: str
    account: Account


def state_line(state: State, detail: str = "", account: Account | None = None) -> bytes:
    """A state, as it is written to stdout."""
    value: dict[str, Any] = {"state": state.value, "detail": detail[:MAX_DETAIL]}
    if account is not None:
        value["account"] = dataclasses.asdict(account)
    return json.dumps(value).encode() + b"\n"


def parse_state(line: bytes) -> Told | None:
    """Read a state; None for anything else: what writes it has run hostile code."""
    try:
        value = json.loads(line)
        account = value.get("account") or {}
        return Told(State(value["state"]), clean(str(value["detail"]), MAX_DETAIL), _account(account))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _account(value: dict[str, Any]) -> Account:
    return Account(
        complete=value.get("complete") is True,
        in_start_up=value.get("in_start_up") is True,
        calls=_count(value.get("calls", 0)),
        missing=tuple(
            Missing(
                name=clean(str(one["name"]), 100), count=_count(one["count"]), guessed=one["guessed"] is True
            )
            for one in list(value.get("missing", ()))[:MAX_MISSING]
        ),
    )


def _count(value: object) -> int:
    """A count as the ledger can keep it. Raises :class:`ValueError` for anything else."""
    if type(value) is not int or not 0 <= value < 2**53:
        raise ValueError(f"no count: {str(value)[:20]}")
    return value
