"""A fleet with a broken slot, in virtual time, for :mod:`benchmarks.broken_slots`.

Real: ingress, gate, slot tables, stages, janitors, reconcile, and the ledger in a real Valkey, as actors of
the simulator (``tests/simulation``). Simulated: the broker, S3, and the guests, which behave as a slot that
is broken in a certain way makes them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drakcelery.engines import Detonation
from drakcelery.errors import Blame, EngineError
from drakcelery.host.slot import SlotState
from drakcelery.host.slots import SlotTable
from drakcelery.ledger.keys import DONE, record_key
from drakcelery.model.analysis import Outcome, Snapshot
from drakcelery.settings import Settings
from drakcelery.stages.context import HostContext
from tests.simulation import patches
from tests.simulation.engine import SimulatedEngine
from tests.simulation.patches import installed
from tests.simulation.schedule import Sample, Schedule
from tests.simulation.scheduler import Scheduler
from tests.simulation.valkey import Valkey
from tests.simulation.world import World

RUN_SECONDS = (8.0, 16.0)
"""How long the runs of samples take, at least and at most."""
RESTORE_SECONDS = (2.5, 3.5)
"""How long a healthy restore takes, beside what the simulated engine adds."""
SLOWER = 5.0
"""A slow slot takes so many times as long to restore."""
BACKLOG = 3
"""So many samples for each slot are under way or wait."""
LOOK_SECONDS = 1.0
"""How often the slot tables are looked at."""
POLL_SECONDS = 5.0
"""How often those look that look all the time: what is idle costs the most in virtual time."""
RETURN_SECONDS = 600.0
"""So long it is looked whether a slot that was fixed comes back, once all samples are over."""
STEP_SECONDS = 0.002
"""What a side effect takes."""
PCAP = bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000") + bytes(60)
OTHER = Snapshot(version=2, sha256="1" * 64)


class Break(enum.StrEnum):
    """A way of being broken."""

    RESTORE = "restore fails"
    INJECTION = "injection times out"
    DEFENDER = "Defender removes the sample"
    EMPTY_LOG = "log stays empty"
    NO_PCAP = "no pcap"
    SLOW = "five times slower"
    SNAPSHOT = "other snapshot"


Place = tuple[str, str]
"""Host and slot."""


@dataclass(frozen=True, kw_only=True)
class Guest:
    """A guest that a slot was to have."""

    at: float
    place: Place
    uid: str


@dataclass(kw_only=True)
class Ward:
    """What is broken, and what became of it."""

    ill: dict[Place, Break]
    bad: frozenset[str]
    """Samples that fail in every slot."""
    silent: frozenset[str] = frozenset()
    """Samples of which no slot's log has a line."""
    mend_at: float = float("inf")
    """So many seconds after the beginning all is fixed, whatever became of the samples."""
    guests: list[Guest] = field(default_factory=list)
    spoiled: dict[str, bool] = field(default_factory=dict)
    """uid -> whether the last run of it that left something left what a broken slot leaves."""
    aside: set[Place] = field(default_factory=set)
    """Those that are out of use."""
    put_aside: list[tuple[float, Place]] = field(default_factory=list)
    """When slots were."""
    taken_back: list[tuple[float, Place]] = field(default_factory=list)
    """When they came back into use."""
    mended: float | None = None

    def is_canary(self, guest: Guest) -> bool:
        """Whether it was none of a sample's."""
        return not guest.uid.startswith("s-")


class Engine(SimulatedEngine):
    """As the simulator's, with slots that are broken."""

    ward: Ward

    def prepare(self, job: Detonation) -> Snapshot:
        """Restore, as well as the slot can."""
        how, begun = self._how(job), self._theatre.now
        self.ward.guests.append(Guest(at=begun, place=(self._host, job.slot), uid=job.uid))
        self._theatre.sleep(self._chance.uniform(*RESTORE_SECONDS))
        if how is Break.RESTORE:
            raise EngineError("drakrun vm-start failed: xl restore: no such device")
        restored = super().prepare(job)
        if how is Break.SLOW:
            self._theatre.sleep((SLOWER - 1) * (self._theatre.now - begun))
        return OTHER if how is Break.SNAPSHOT else restored

    def run(self, job: Detonation) -> Outcome:
        """Detonate, as well as the slot can."""
        how = self._how(job)
        if how is Break.INJECTION:
            self._theatre.sleep(30)
            raise EngineError("the injection into the guest took too long: drakvuf ended with code 2")
        if how is Break.DEFENDER:
            self._theatre.sleep(5)
            raise EngineError("the snapshot does not let samples start", blames=Blame.SNAPSHOT, code=225)
        outcome = super().run(job)
        if job.uid in self.ward.bad:
            raise EngineError("DRAKVUF crashed: drakvuf ended with signal 11")
        if how is not Break.NO_PCAP:
            job.pcap.write_bytes(PCAP)
        if how is Break.EMPTY_LOG or job.uid in self.ward.silent:
            job.log.write_bytes(b"")
        self.ward.spoiled[job.uid] = how is not None and how is not Break.SLOW
        return outcome.model_copy(update={"snapshot": OTHER}) if how is Break.SNAPSHOT else outcome

    def _how(self, job: Detonation) -> Break | None:
        return self.ward.ill.get((self._host, job.slot))


class Hospital(World):
    """A fleet with a ward."""

    ward: Ward

    def _settings(self, name: str, state_dir: Path) -> Settings:
        ours = super()._settings(name, state_dir)
        # The simulated engine stands for DRAKVUF, whose slots are judged by what their runs leave
        section = ours.drakcelery.model_copy(update={"engine": "drakvuf"})
        return ours.model_copy(update={"drakcelery": section})

    def context(self, host: str, *, patient: bool, worker: Any) -> HostContext:
        """As the fleet's, with an engine of the ward."""
        engine = Engine(self.theatre, self.guests, host, self.chance, self._seconds)
        engine.ward = self.ward
        return dataclasses.replace(super().context(host, patient=patient, worker=worker), engine=engine)

    def _seconds(self, uid: str) -> float:
        return self.samples[uid].seconds if uid in self.samples else 10.0


class Stay(Scheduler):
    """One run: samples come in as others end, until *samples* are over; on the way the slot is fixed."""

    def __init__(self, hospital: Hospital, *, samples: int, mend_after: int) -> None:
        super().__init__(hospital)
        self._hospital = hospital
        self._samples = samples
        self._mend_after = mend_after
        self._submitted = 0
        self._next_look = 0.0
        self._began = hospital.theatre.now
        schedule = hospital.schedule
        self._backlog = BACKLOG * schedule.hosts * schedule.slots
        self._tables = [
            (host.name, SlotTable(host.state_dir, quarantine_after=host.settings.drakcelery.quarantine_after))
            for host in hospital.hosts.values()
        ]

    def observe(self) -> dict[str, str]:
        """The state of each sample in the end."""
        hospital, client = self._hospital, self._hospital.valkey.client
        hospital.valkey.begin(hospital.theatre.now)
        with _seldom(), installed(hospital):
            try:
                while not hospital.broken and not self._is_over():
                    self._advance()
                uids = [f"s-{number}" for number in range(self._samples)]
                return {uid: str(client.hget(record_key(uid), "state")) for uid in uids}
            finally:
                hospital.theatre.close()
                shutil.rmtree(hospital.directory, ignore_errors=True)
                hospital.pool.disconnect()

    def _advance(self) -> None:
        """One side effect; no fault but those of the ward happens, and nothing is looked for after each."""
        theatre = self._hospital.theatre
        self._start_units()
        ready = theatre.ready()
        if not ready:
            self._skip()
            return
        theatre.now += STEP_SECONDS
        theatre.step(ready[int(self._hospital.chance.random() * len(ready))])

    def _is_over(self) -> bool:
        now = self._hospital.theatre.now
        if now < self._next_look:
            return False
        self._next_look = now + LOOK_SECONDS
        over = self._hospital.valkey.client.zcard(DONE)
        while self._submitted < self._samples and self._submitted - over < self._backlog:
            seconds = self._hospital.chance.uniform(*RUN_SECONDS)
            self._hospital.submit(self._submitted, Sample(at=0, seconds=seconds))
            self._submitted += 1
        self._look_at_slots(now)
        ward = self._hospital.ward
        is_time = over >= self._mend_after or now - self._began >= ward.mend_at
        if is_time and ward.mended is None:
            ward.mended = now
            ward.ill.clear()
        # Whatever is out of use has its time to come back
        is_waiting = ward.aside and ward.mended is not None and now - ward.mended < RETURN_SECONDS
        return over >= self._samples and not is_waiting

    def _look_at_slots(self, now: float) -> None:
        ward = self._hospital.ward
        aside = set()
        for host, table in self._tables:
            for slot in table.all():
                place = (host, slot.name)
                # A canary that tries it does not end that
                if slot.state is SlotState.QUARANTINED or (slot.is_canary and place in ward.aside):
                    aside.add(place)
        ward.put_aside += [(now, place) for place in sorted(aside - ward.aside)]
        ward.taken_back += [(now, place) for place in sorted(ward.aside - aside)]
        ward.aside = aside


@contextlib.contextmanager
def _seldom() -> Iterator[None]:
    """Who looks all the time looks seldom: a free slot rings all the same."""
    before, patches.POLL = patches.POLL, POLL_SECONDS
    try:
        yield
    finally:
        patches.POLL = before


def stay(valkey: Valkey, schedule: Schedule, ward: Ward, *, samples: int, mend_after: int) -> dict[str, str]:
    """What became of each of *samples* in a fleet with *ward*, whose slots are fixed after so many ends.

    Raises:
        RuntimeError: the simulation found that something may not be.
    """
    hospital = Hospital(schedule, valkey)
    hospital.ward = ward
    states = Stay(hospital, samples=samples, mend_after=mend_after).observe()
    if hospital.broken:
        raise RuntimeError(hospital.broken[0])
    return states
