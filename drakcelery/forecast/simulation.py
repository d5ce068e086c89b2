"""When waiting analyses will start and be over, by a simulation of the slots with learned durations. Pure.

Each round of the simulation draws how long everything takes from what published analyses took, and gives the
slots to those that wait, in order. The range of an estimate holds eight of ten rounds, so it is as wide as
the lengths of the runs are uncertain. Unpredictable events are not in it, such as a host that goes away, or
samples of a higher priority that are still to come. The same situation and seed give the same estimates.
"""

from __future__ import annotations

import math
import random
import statistics
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from drakcelery.forecast.learning import Learned, drawn_from, stage_durations
from drakcelery.forecast.simulated_slots import Layout, SimulatedSlots
from drakcelery.model.analysis import Place, State, Value
from drakcelery.model.news import WatchPlan

ROUNDS = 200
FEWEST_ROUNDS = 20
STEPS = 40_000
"""How many analyses are simulated in all; with many that wait or are at work there are fewer rounds."""
MOMENTS = (0.3, 0.6, 1.0, 2.0)
"""Seconds that it takes to give a task an earlier analysis's result."""


class Range(Value):
    """UNIX times by Redis' clock: one of ten rounds was earlier than *low*, one later than *high*."""

    low: float
    middle: float
    high: float


class Estimate(Value):
    """When an analysis will start and be over."""

    start: Range | None
    """When it gets its slot; None if it has one, had one, or needs none."""
    finish: Range
    learned: int
    """On how many published analyses of its profile this rests; with none it is a guess."""


@dataclass(frozen=True, kw_only=True)
class KnownSlot:
    """A slot that is in use or free."""

    place: Place
    """Profile and host."""
    uid: str | None = None
    """The uid of the analysis that has it."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """An analysis that is prepared, runs, or has done so."""

    uid: str
    profile: str
    timeout: int
    state: State
    since: float
    """Seconds that it has been in this state."""
    watch: WatchPlan | None = None

    @property
    def longest(self) -> int:
        """The seconds after which its run ends in any case."""
        return self.timeout if self.watch is None else self.watch.longest(self.timeout)


@dataclass(frozen=True, kw_only=True)
class Wait:
    """An analysis that has no slot yet."""

    uid: str
    """Empty for many alike that get no estimates of their own."""
    place: Place
    timeout: int
    watch: WatchPlan | None = None
    not_before: float = 0.0
    """Seconds that have to go by first."""
    count: int = 1
    is_probe: bool = False
    """It is no sample and takes no slot, but shows how long a sample would wait that came now."""
    is_reuse: bool = False
    """It takes no slot: when its turn comes it gets the result of another analysis."""
    twin: str | None = None
    """The uid of that one, if it is not over yet."""


@dataclass(frozen=True, kw_only=True)
class Situation:
    """The fleet as it is."""

    now: float
    """UNIX time by Redis' clock."""
    slots: Sequence[KnownSlot]
    at_work: Sequence[Work]
    waiting: Sequence[Wait]
    """In the order in which they get slots; who has claimed one comes first in any case."""
    learned: Mapping[str, Sequence[Learned]]
    """By profile."""
    twins: Sequence[Wait] = ()
    """Those whose turn has come, and that wait for their twins; the one that has waited longest first."""
    look_ahead: int = 0
    """How many places before its slot a task's turn comes."""


def estimate(situation: Situation, *, seed: int = 0) -> dict[str, Estimate]:
    """Estimates by uid; none for analyses that wait for a place without a slot in use or free."""
    rounds = max(FEWEST_ROUNDS, min(ROUNDS, STEPS // max(1, len(situation.waiting) + len(situation.at_work))))
    play = _Play(situation, random.Random(seed))  # noqa: S311 a simulation, no secret
    for _ in range(rounds):
        play.round()
    profiles = {one.uid: one.profile for one in situation.at_work}
    profiles |= {one.uid: one.place.profile for one in (*situation.waiting, *situation.twins)}
    return {
        uid: Estimate(
            start=_range(situation.now, play.starts[uid]) if uid in play.starts else None,
            finish=_range(situation.now, finishes),
            learned=len(situation.learned.get(profiles[uid], ())),
        )
        for uid, finishes in play.finishes.items()
    }


def _range(now: float, values: list[float]) -> Range:
    values.sort()
    last = len(values) - 1
    low, middle, high = (now + values[round(part * last)] for part in (0.1, 0.5, 0.9))
    return Range(low=low, middle=middle, high=high)


def _overdue(work: Work) -> list[float]:
    """How long a stage may still take that has taken longer than all that is known: a run, to its timeout."""
    soon = [0.0, 0.1 * work.since, 0.3 * work.since]
    if work.state is not State.RUNNING or work.since >= work.longest:
        return soon
    left = work.longest - work.since
    return [*(min(one, left) for one in soon), left]


def _kind(profile: str, watch: WatchPlan | None) -> tuple[str, bool]:
    """What durations are drawn for: a profile, and whether a quiet stop may end the runs."""
    return profile, watch is not None and watch.stops


@dataclass
class _Play:
    """The rounds of one simulation. All times are seconds from now."""

    situation: Situation
    chance: random.Random
    starts: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    finishes: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        situation = self.situation
        self._layout = Layout.of(slot.place for slot in situation.slots)
        self._held = {slot.uid: number for number, slot in enumerate(situation.slots) if slot.uid}
        kinds = {_kind(one.profile, one.watch) for one in situation.at_work} | {
            _kind(one.place.profile, one.watch) for one in situation.waiting
        }
        self._durations = {kind: drawn_from(situation.learned, *kind) for kind in sorted(kinds)}
        known = self._layout.numbers
        placed = [(one, known[one.place]) for one in situation.waiting if one.place in known]
        self._waiting = sorted(
            (one for one in placed if not one[0].not_before), key=lambda one: one[0].uid not in self._held
        )
        self._late = sorted((one for one in placed if one[0].not_before), key=lambda one: -one[0].not_before)
        self._round = -1
        self._takes: dict[tuple[object, ...], list[float]] = {}
        self._left = [self._left_of(one) for one in situation.at_work]

    def round(self) -> None:
        """Simulate one round."""
        # A profile whose few durations are all short may still have long runs to come: each round learns from
        # another draw of the durations, so that little knowledge makes wide ranges
        self._round += 1
        self._pools = {
            kind: self.chance.choices(known := lists[self._round % len(lists)], k=len(known))
            for kind, lists in self._durations.items()
        }
        slots = SimulatedSlots(self._layout)
        self._begun: list[float] = []
        self._over: dict[str, float] = {}
        self._turns: dict[str, float] = {}
        self._followers: list[Wait] = []
        for work, left in zip(self.situation.at_work, self._left, strict=True):
            leaves, ends = self._remaining(work, left)
            if work.uid in self._held:
                slots.occupy(self._held[work.uid], leaves)
            self._end(work.uid, ends)
        late = list(self._late)
        for wait, place in self._waiting:
            while late and late[-1][0].not_before <= slots.free[slots.first(place)]:
                self._assign(*late.pop(), slots)
            self._assign(wait, place, slots)
        while late:
            self._assign(*late.pop(), slots)
        for wait in (*self.situation.twins, *self._followers):
            self._follow(wait)

    def _end(self, uid: str, at: float) -> None:
        self._over[uid] = at
        self.finishes[uid].append(at)

    def _follow(self, wait: Wait) -> None:
        """Give *wait* the result of its twin. Those of one twin get it one after the other."""
        if wait.twin is None or wait.twin not in self._over:
            return
        ready = max(self._over[wait.twin], self._turns.get(wait.uid, 0.0)) + self.chance.choice(MOMENTS)
        self._over[wait.twin] = ready
        self.finishes[wait.uid].append(ready)

    def _left_of(self, work: Work) -> list[float]:
        """How long its stage may still take, by the learned durations that are longer than it has taken so
        far."""
        takes = self._stage_takes(work)
        longer = takes[bisect_right(takes, work.since) :]
        return [one - work.since for one in longer] or _overdue(work)

    def _stage_takes(self, work: Work) -> list[float]:
        key = (work.profile, work.state, work.timeout, work.watch)
        if key not in self._takes:  # many are alike
            lists = self._durations[_kind(work.profile, work.watch)]
            self._takes[key] = stage_durations(lists, work.state, work.timeout, work.watch)
        return self._takes[key]

    def _remaining(self, work: Work, left: Sequence[float]) -> tuple[float, float]:
        """(when it leaves its slot, when it is over)."""
        first = self.chance.choice(left)
        following = self.chance.choice(self._pools[_kind(work.profile, work.watch)])
        if work.state is State.PREPARING:
            leaves = first + following.run_within(work.timeout, work.watch)
            return leaves, leaves + following.rest
        if work.state is State.RUNNING:
            return first, first + following.rest
        return 0.0, first

    def _assign(self, wait: Wait, place: int, slots: SimulatedSlots) -> None:
        """Give *wait* the slot of its *place* that is free first; it may have claimed one already."""
        pool = self._pools[_kind(wait.place.profile, wait.watch)]
        if wait.is_reuse:
            self._reuse(wait, place, slots)
            return
        if not wait.uid:
            self._flood(wait, place, pool, slots)
            return
        number = self._held.get(wait.uid, -1)
        if number < 0:
            number = slots.first(place)
        start = max(slots.free[number], wait.not_before)
        takes = self.chance.choice(pool)
        leaves = start + takes.prepare + takes.run_within(wait.timeout, wait.watch)
        self.starts[wait.uid].append(start)
        self._end(wait.uid, leaves + takes.rest)
        if not wait.is_probe:
            self._begun.append(start)
            slots.occupy(number, leaves)

    def _reuse(self, wait: Wait, place: int, slots: SimulatedSlots) -> None:
        """The turn of *wait* comes before it would have got a slot, and it needs none."""
        ahead = self.situation.look_ahead
        earliest = self._begun[-ahead] if 0 < ahead <= len(self._begun) else 0.0
        latest = slots.free[slots.first(place)]
        turn = self.chance.uniform(min(earliest, latest), latest)
        if wait.twin is None:
            self._end(wait.uid, turn + self.chance.choice(MOMENTS))
        else:
            self._followers.append(wait)
            self._turns[wait.uid] = turn

    def _flood(self, wait: Wait, place: int, pool: Sequence[Learned], slots: SimulatedSlots) -> None:
        """Spread the work of many over the slots, always on those that are free first."""
        takes = [one.prepare + one.run_within(wait.timeout, wait.watch) for one in pool]
        mean = statistics.fmean(takes)
        # As statistics.pstdev, which reckons in fractions and takes many times as long
        deviation = math.dist(takes, [mean] * len(takes)) / math.sqrt(len(takes))
        work = max(0.0, self.chance.gauss(wait.count * mean, math.sqrt(wait.count) * deviation))
        free = slots.free
        order = sorted(self._layout.slots[place], key=free.__getitem__)
        level = used = 0.0
        for count, number in enumerate(order, 1):
            used += free[number]
            level = (used + work) / count
            if count == len(order) or level <= free[order[count]]:
                break
        # Slots do not all come free at one instant
        slots.occupy_all(
            (number, max(free[number], level + self.chance.uniform(-mean / 2, mean / 2)))
            for number in order[:count]
        )
