"""Machines, what systemd keeps alive on them, and the ways between them and the services."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drakcelery.host.slots import SlotTable
from drakcelery.settings import Settings
from tests.simulation.theatre import Process, Theatre

SERVICES = ("redis", "broker", "s3")


@dataclass(eq=False)
class Cuts:
    """What does not get through, or only slowly."""

    theatre: Theatre
    until: dict[tuple[str, str], float] = field(default_factory=dict)
    """(machine, or ``*`` for all; service) -> when it gets through again."""
    slow_until: float = 0.0
    slowness: float = 0.0
    """Seconds that S3 takes for an answer meanwhile."""

    def mend(self) -> None:
        """All is well."""
        self.until.clear()
        self.slow_until = 0.0

    def ends(self) -> list[float]:
        """When things get better by themselves."""
        return [*self.until.values(), self.slow_until]


@dataclass(eq=False)
class Wire:
    """The way from a machine to a service."""

    cuts: Cuts
    machine: str
    service: str

    def is_cut(self) -> bool:
        """Whether nothing gets through just now."""
        until = self.cuts.until
        if not until:
            return False
        now = self.cuts.theatre.now
        return any(until.get((machine, self.service), 0.0) > now for machine in ("*", self.machine))

    @property
    def seconds(self) -> float:
        """How long an answer takes."""
        is_slow = self.service == "s3" and self.cuts.slow_until > self.cuts.theatre.now
        return self.cuts.slowness if is_slow else 0.0


@dataclass(eq=False)
class Host:
    """A machine with slots."""

    name: str
    """In the simulation."""
    state_dir: Path
    settings: Settings
    off_until: float = 0.0
    off_since: float = 0.0
    boots: int = 1

    @property
    def called(self) -> str:
        """The host name in its settings: another's, where somebody has copied an image."""
        return self.settings.drakcelery.host

    @property
    def is_lost(self) -> bool:
        """Whether it never comes back."""
        return self.off_until == float("inf")


@dataclass(eq=False)
class Unit:
    """What systemd keeps alive."""

    name: str
    host: Host | None
    role: str
    start: Callable[[Process], Callable[[], None]]
    """The body of its main process."""
    process: Process | None = None
    restart_at: float = 0.0
    is_down: bool = False
    """Dead permanently."""
    restarts: int = 0


class QuietSlots(SlotTable):
    """The slot table; each change of it is a step."""

    theatre: Theatre

    def _transaction(self, *, writes: bool = True) -> Any:
        theatre = getattr(self, "theatre", None)
        if theatre is not None and writes:
            theatre.cut("slots")
        return super()._transaction(writes=writes)
