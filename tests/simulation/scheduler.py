"""Lets one thing happen a step, by the seed, and says what may not be."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.simulation.faults import FAULTS
from tests.simulation.invariants import Invariants, Standing
from tests.simulation.machines import Unit
from tests.simulation.patches import installed
from tests.simulation.schedule import Schedule
from tests.simulation.shrink import shrunk
from tests.simulation.theatre import Process
from tests.simulation.valkey import Valkey
from tests.simulation.world import RECOVERY, World

REST = 60.0
"""Virtual seconds within which nothing is left once all is over."""
MOST_STEPS = 15_000
"""Beside those of the schedule. More are a loop that gets nowhere."""
RESTART = 2.0
"""Seconds until a unit that ended is started again, as systemd does."""
AT_ONCE = 20
"""So many steps are taken before it is looked at whether all is over."""
KEEP = 0.1
"""How often, for each step that writes, a replica of Redis has caught up."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of a schedule."""

    broken: tuple[str, ...]
    """What may not be and was; empty if all is well."""
    steps: int
    seconds: float
    """Of virtual time."""
    states: dict[str, str]
    """Of the samples at the end."""
    trace: tuple[str, ...]
    drawn: tuple[str, ...]
    """Kinds of the faults that hit somebody, and what was odd about the samples."""


class Scheduler:
    """One run of a schedule."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._schedule = world.schedule
        self._theatre = world.theatre
        self._chance = world.chance
        self._invariants = Invariants(world)
        self._steps = 0
        self._drawn: list[str] = []

    def run(self) -> Result:
        """All of it."""
        world = self._world
        world.valkey.begin(self._theatre.now)
        began = self._theatre.now
        with installed(world):
            try:
                self._go_wrong()
                if not world.broken:
                    self._come_to_an_end()
                states = {one.uid: one.state or one.status for one in self._invariants.standings()}
            finally:
                self._theatre.close()
                shutil.rmtree(world.directory, ignore_errors=True)
                world.pool.disconnect()
        return Result(
            broken=tuple(world.broken),
            steps=self._steps,
            seconds=self._theatre.now - began,
            states=states,
            trace=tuple(world.trace or ()),
            drawn=(
                *self._drawn,
                *_given(self._schedule),
                *["reused"] * self._invariants.reused,
                *["second look"] * len(self._invariants.looks),
            ),
        )

    def _go_wrong(self) -> None:
        """Samples come in while faults happen, until the last of these is over."""
        world = self._world
        samples, faults = list(enumerate(self._schedule.samples)), list(self._schedule.faults)
        while not world.broken and (self._steps < self._schedule.steps or world.is_disturbed()):
            while samples and samples[0][1].at <= self._steps:
                world.submit(*samples.pop(0))
            while faults and faults[0].at <= self._steps:
                fault = faults.pop(0)
                hit = FAULTS[fault.kind](world, fault)
                if fault.kind != "slow s3":
                    until = self._theatre.now + fault.seconds * (fault.kind != "power")
                    world.disturbed = max(world.disturbed, until)
                self._drawn += [fault.kind] * hit
                world.note(f"FAULT {fault} {'' if hit else '(nothing to hit)'}")
            self._step()
        for sample in samples:
            world.submit(*sample)

    def _step(self) -> None:
        theatre, world = self._theatre, self._world
        self._steps += 1
        self._start_units()
        ready = theatre.ready()
        if not ready:
            self._skip()
            return
        if self._chance.random() < 0.15:
            theatre.now += self._chance.uniform(0.002, 0.03)
        actor = ready[int(self._chance.random() * len(ready))]
        label = actor.label
        theatre.step(actor)
        if label not in ("wait", "sleep"):
            world.note(f"{actor.name}: {label}")
        if world.network.written:
            world.network.written = False
            self._invariants.after_a_step()
            if not world.kept or self._chance.random() < KEEP:
                world.kept = True
                world.valkey.keep()

    def _start_units(self) -> None:
        for unit in self._world.units:
            if unit.process is not None and unit.process.alive:
                continue
            now = self._theatre.now
            if unit.process is not None:
                unit.process = None
                unit.restart_at = max(unit.restart_at, now + RESTART)
            has_power = unit.host is None or unit.host.off_until <= now
            if has_power and not unit.is_down and unit.restart_at <= now:
                host = unit.host.name if unit.host else None
                unit.process = Process(name=unit.name, host=host, role=unit.role)
                self._theatre.spawn(unit.name, unit.process, _body(unit, unit.process))

    def _skip(self) -> None:
        """Nobody has anything to do before a certain time."""
        times = [
            max(unit.restart_at, unit.host.off_until if unit.host else 0.0)
            for unit in self._world.units
            if not unit.is_down and (unit.process is None or not unit.process.alive)
        ]
        times += self._world.cuts.ends()
        if (wake := self._theatre.next_wake()) is not None:
            times.append(wake)
        later = [at for at in times if self._theatre.now < at < float("inf")]
        self._theatre.now = min(later, default=self._theatre.now + 1.0)

    def _come_to_an_end(self) -> None:
        """Nothing goes wrong any more: all has to be over in time, and then nothing may be left."""
        world = self._world
        self._heal()
        healed, first = self._theatre.now, self._steps
        while not world.broken and (waiting := self._waiting()):
            seconds = self._theatre.now - healed
            # A run may have to be done once more, on another host
            runs = 2 * sum(sample.seconds for sample in world.samples.values())
            if seconds > RECOVERY + runs or self._steps - first > MOST_STEPS:
                world.broken += [_too_late(one, seconds) for one in waiting]
                return
            self._some_steps()
        rest = self._theatre.now
        while not world.broken and (left := self._invariants.at_rest()):
            if self._theatre.now - rest > REST:
                world.broken += [f"left at rest: {one}" for one in left]
            self._some_steps()

    def _waiting(self) -> list[Standing]:
        return [one for one in self._invariants.standings() if not one.is_over and not one.quarantined]

    def _some_steps(self) -> None:
        for _ in range(AT_ONCE):
            if not self._world.broken:
                self._step()

    def _heal(self) -> None:
        world, now = self._world, self._theatre.now
        world.note("HEALED")
        world.cuts.mend()
        world.traps.clear()
        world.network.refuses = None
        for host in world.hosts.values():
            if not host.is_lost:
                host.off_until = min(host.off_until, now)
        for unit in world.units:
            unit.restart_at = min(unit.restart_at, now)
            if unit.process is not None:
                unit.process.frozen_until = 0.0


def _given(schedule: Schedule) -> Iterator[str]:
    """What is odd from the start, whatever befalls the fleet later on."""
    yield from (sample.content for sample in schedule.samples)
    yield from ("deadly sample" for sample in schedule.samples if sample.kills_at)
    if schedule.twin:
        yield "two machines of one name"


def _body(unit: Unit, process: Process) -> Callable[[], None]:
    return lambda: unit.start(process)()


def _too_late(one: Standing, seconds: float) -> str:
    return (
        f"{one.uid} is not over after {seconds:.0f} s: {one.state or 'no record'}, attempt {one.attempt}, "
        f"Karton says {one.status}"
    )


def simulate(schedule: Schedule, valkey: Valkey, *, trace: bool = False) -> Result:
    """Run *schedule* on an empty server."""
    return Scheduler(World(schedule, valkey, trace=trace)).run()


def smallest(schedule: Schedule, broken: str, valkey: Valkey) -> Schedule:
    """What is left of *schedule* when all is taken from it that it does not take to break the same."""

    def run(candidate: Schedule) -> str | None:
        return next(iter(simulate(candidate, valkey).broken), None)

    return shrunk(schedule, broken, run)
