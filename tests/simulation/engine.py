"""A small engine: its guests are the simulation's to count, its output tells which attempt made it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from drakcelery.engines import Detonation
from drakcelery.errors import EngineError
from drakcelery.model.analysis import Execution, Outcome, Snapshot
from tests.simulation.theatre import Theatre


@dataclass(eq=False)
class Guest:
    """A VM that runs."""

    host: str
    slot: str
    uid: str
    workspace: str
    """Name of the directory that its attempt has."""


@dataclass(eq=False)
class Guests:
    """Those of all hosts; they outlive whoever watches them."""

    running: dict[tuple[str, str], Guest] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    """What may never happen, and did."""
    detonations: list[tuple[str, str]] = field(default_factory=list)
    """(uid, workspace) of each run that began."""

    def lose_power(self, host: str) -> None:
        """Those of a host are gone."""
        for key in [key for key in self.running if key[0] == host]:
            del self.running[key]


class SimulatedEngine:
    """The engine of one host."""

    def __init__(
        self,
        theatre: Theatre,
        guests: Guests,
        host: str,
        chance: random.Random,
        seconds: Callable[[str], float],
        *,
        evaded: bool = False,
    ) -> None:
        """*seconds* that the run of a sample takes; *evaded*: each sample ends at once, and is seen to."""
        self._theatre = theatre
        self._guests = guests
        self._host = host
        self._chance = chance
        self._seconds = seconds
        self._evaded = evaded

    def version(self) -> str:
        """As every engine's; what hides it is a plugin of DRAKVUF's."""
        return "drakvuf simulated"

    def lacks(self) -> Sequence[str]:
        """Nothing."""
        return ()

    def snapshot_id(self) -> str | None:
        """None."""
        return None

    def obstacle(self, *, fresh: bool = False) -> str | None:  # noqa: ARG002 the protocol's
        """Nothing: its guests share no network."""
        return None

    def attend(self) -> None:
        """Nothing."""

    def accept(self, job: Detonation) -> None:
        """Anything goes."""

    def prepare(self, job: Detonation) -> Snapshot:
        """Start the slot's guest."""
        self._theatre.cut("engine.prepare")
        key = (self._host, job.slot)
        if key in self._guests.running:
            raise EngineError(f"slot {job.slot} holds a guest already; it must be destroyed first")
        self._theatre.sleep(self._chance.choice((0.01, 1.5)) * self._chance.random())
        if key in self._guests.running:
            self._guests.broken.append(f"two guests in {job.slot} of {self._host}")
        self._guests.running[key] = Guest(self._host, job.slot, job.uid, job.raw.parent.name)
        self._theatre.sleep(self._chance.uniform(0.2, 2))
        self._own(job)
        return Snapshot(version=1, sha256="0" * 64)

    def run(self, job: Detonation) -> Outcome:
        """Let the guest run; its output is written as it ends, and not synced."""
        guest = self._own(job)
        self._theatre.cut("engine.run")
        self._guests.detonations.append((job.uid, guest.workspace))
        started = self._theatre.wall_clock()
        gone = self._theatre.wait(
            lambda: self._guests.running.get((self._host, job.slot)) is not guest, self._seconds(job.uid)
        )
        if gone:
            raise EngineError(f"the guest in slot {job.slot} is gone")
        job.raw.mkdir(parents=True, exist_ok=True)
        job.log.write_text(self._log(guest))
        job.dumps.mkdir(exist_ok=True)
        (job.dumps / "400000_0123456789abcdef").write_text(guest.workspace)
        self._theatre.cut("engine.ran")
        return Outcome(
            engine=self.version(),
            snapshot=Snapshot(version=1, sha256="0" * 64),
            started=int(started),
            finished=int(self._theatre.wall_clock()),
            execution=Execution.EXECUTED,
            complete=True,
        )

    def _log(self, guest: Guest) -> str:
        line = {"Plugin": "procmon", "Attempt": guest.workspace}
        if not self._evaded:
            return f"{json.dumps(line)}\n" * 3
        name, at = "C:\\malwar.exe", "1700000000.5"
        started = {"Plugin": "inject", "TimeStamp": at, "Method": "CreateProc", "Status": "Success"}
        seen = {**line, "TimeStamp": at, "PID": 200, "PPID": 100, "RunningProcess": name}
        lines = ({**started, "ProcessName": name, "InjectedPid": 200}, seen, line, line)
        return "".join(f"{json.dumps(one)}\n" for one in lines)

    def destroy(self, slot: str) -> None:
        """End the slot's guest."""
        self._theatre.cut("engine.destroy")
        if self._guests.running.pop((self._host, slot), None) is not None:
            self._theatre.sleep(self._chance.uniform(0.05, 1))

    def _own(self, job: Detonation) -> Guest:
        guest = self._guests.running.get((self._host, job.slot))
        if guest is None or guest.workspace != job.raw.parent.name:
            raise EngineError(f"the guest in slot {job.slot} is gone")
        return guest
