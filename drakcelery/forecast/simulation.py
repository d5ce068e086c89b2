"""When waiting analyses will start and be over, by a simulation of the slots with learned durations. Pure.

Each round of the simulation draws how long everything takes from what published analyses took, and gives the
slots to those that wait, in order. The range of an estimate holds eight of ten rounds, so it is as wide as
the lengths of the runs are uncertain. Unpredictable events are not in it, such as a host that goes away, or
samples of a higher priority that are still to come. The same situation and seed give the same estimates.
"""

from __future__ import annotations

import heapq
import math
import random
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from drakcelery.forecast.learning import Learned, durations
from drakcelery.model.analysis import Place, State, Value

ROUNDS = 200
FEWEST_ROUNDS = 20
STEPS = 40_000
"""How many analyses are simulated in all; with many that wait or are at work there are fewer rounds."""


class Range(Value):
    """UNIX times by Redis' clock: one of ten rounds was earlier than *low*, one later than *high*."""

    low: float
    middle: float
    high: float


class Estimate(Value):
    """When an analysis will start and be over."""

    start: Range | None
    """When it gets its slot; None if it has one, or had one."""
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


@dataclass(frozen=True, kw_only=True)
class Wait:
    """An analysis that has no slot yet."""

    uid: str
    """Empty for many alike that get no estimates of their own."""
    place: Place
    timeout: int
    not_before: float = 0.0
    """Seconds that have to go by first."""
    count: int = 1
    is_probe: bool = False
    """It is no sample and takes no slot, but shows how long a sample would wait that came now."""


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


def estimate(situation: Situation, *, seed: int = 0) -> dict[str, Estimate]:
    """Estimates by uid; none for analyses that wait for a place without a slot in use or free."""
    rounds = max(FEWEST_ROUNDS, min(ROUNDS, STEPS // max(1, len(situation.waiting) + len(situation.at_work))))
    play = _Play(situation, random.Random(seed))  # noqa: S311 a simulation, no secret
    for _ in range(rounds):
        play.round()
    profiles = {one.uid: one.profile for one in situation.at_work}
    profiles |= {one.uid: one.place.profile for one in situation.waiting}
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
    if work.state is not State.RUNNING or work.since >= work.timeout:
        return soon
    left = work.timeout - work.since
    return [*(min(one, left) for one in soon), left]


class _Slots:
    """When each slot is free in one round. They are kept in a heap, since there may be thousands."""

    def __init__(self, slots: Sequence[KnownSlot], choices: Mapping[Place, Sequence[int]]) -> None:
        """*choices*: the numbers of the slots of each place."""
        self.free = [0.0] * len(slots)
        self._slots = slots
        self._choices = choices
        self._heaps: dict[Place, list[tuple[float, int]]] = {}

    def first(self, place: Place) -> int:
        """The slot of *place* that is free first."""
        heap = self._heaps.get(place)
        if heap is None:
            heap = self._heaps[place] = [(self.free[number], number) for number in self._choices[place]]
            heapq.heapify(heap)
        while heap[0][0] != self.free[heap[0][1]]:
            heapq.heappop(heap)  # it was taken since
        return heap[0][1]

    def occupy(self, number: int, until: float) -> None:
        """A slot is free at another time."""
        self.free[number] = until
        place = self._slots[number].place
        for within in (place, Place(profile=place.profile)):
            if within in self._heaps:
                heapq.heappush(self._heaps[within], (until, number))

    def occupy_all(self, until: Iterable[tuple[int, float]]) -> None:
        """As :meth:`occupy`, for many."""
        for number, at in until:
            self.free[number] = at
        self._heaps.clear()


@dataclass
class _Play:
    """The rounds of one simulation. All times are seconds from now."""

    situation: Situation
    chance: random.Random
    starts: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    finishes: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        situation = self.situation
        self._choices: dict[Place, list[int]] = defaultdict(list)
        for number, slot in enumerate(situation.slots):
            for place in (slot.place, Place(profile=slot.place.profile)):
                self._choices[place].append(number)
        self._held = {slot.uid: number for number, slot in enumerate(situation.slots) if slot.uid}
        profiles = {one.profile for one in situation.at_work} | {
            one.place.profile for one in situation.waiting
        }
        self._durations = {profile: durations(situation.learned, profile) for profile in profiles}
        placed = [one for one in situation.waiting if one.place in self._choices]
        self._waiting = sorted(
            (one for one in placed if not one.not_before), key=lambda one: one.uid not in self._held
        )
        self._late = sorted((one for one in placed if one.not_before), key=lambda one: -one.not_before)
        self._left = [self._left_of(one) for one in situation.at_work]

    def round(self) -> None:
        """Simulate one round."""
        # A profile whose few durations are all short may still have long runs to come: each round learns from
        # another draw of the durations, so that little knowledge makes wide ranges
        self._pools = {
            name: self.chance.choices(known, k=len(known)) for name, known in self._durations.items()
        }
        slots = _Slots(self.situation.slots, self._choices)
        for work, left in zip(self.situation.at_work, self._left, strict=True):
            leaves, ends = self._remaining(work, left)
            if work.uid in self._held:
                slots.occupy(self._held[work.uid], leaves)
            self.finishes[work.uid].append(ends)
        late = list(self._late)
        for wait in self._waiting:
            while late and late[-1].not_before <= slots.free[slots.first(wait.place)]:
                self._assign(late.pop(), slots)
            self._assign(wait, slots)
        while late:
            self._assign(late.pop(), slots)

    def _left_of(self, work: Work) -> list[float]:
        """How long its stage may still take, by the learned durations that are longer than it has taken so
        far."""
        known = self._durations[work.profile]
        if work.state is State.PREPARING:
            takes = [one.prepare for one in known]
        elif work.state is State.RUNNING:
            takes = [one.run_within(work.timeout) for one in known]
        else:
            takes = [one.rest for one in known]
        return [one - work.since for one in takes if one > work.since] or _overdue(work)

    def _remaining(self, work: Work, left: Sequence[float]) -> tuple[float, float]:
        """(when it leaves its slot, when it is over)."""
        first = self.chance.choice(left)
        following = self.chance.choice(self._pools[work.profile])
        if work.state is State.PREPARING:
            leaves = first + following.run_within(work.timeout)
            return leaves, leaves + following.rest
        if work.state is State.RUNNING:
            return first, first + following.rest
        return 0.0, first

    def _assign(self, wait: Wait, slots: _Slots) -> None:
        """Give *wait* the slot that is free first; it may have claimed one already."""
        pool = self._pools[wait.place.profile]
        if not wait.uid:
            self._flood(wait, pool, slots)
            return
        number = self._held.get(wait.uid, -1)
        if number < 0:
            number = slots.first(wait.place)
        start = max(slots.free[number], wait.not_before)
        takes = self.chance.choice(pool)
        leaves = start + takes.prepare + takes.run_within(wait.timeout)
        self.starts[wait.uid].append(start)
        self.finishes[wait.uid].append(leaves + takes.rest)
        if not wait.is_probe:
            slots.occupy(number, leaves)

    def _flood(self, wait: Wait, pool: Sequence[Learned], slots: _Slots) -> None:
        """Spread the work of many over the slots, always on those that are free first."""
        takes = [one.prepare + one.run_within(wait.timeout) for one in pool]
        mean, deviation = statistics.fmean(takes), statistics.pstdev(takes)
        work = max(0.0, self.chance.gauss(wait.count * mean, math.sqrt(wait.count) * deviation))
        free = slots.free
        order = sorted(self._choices[wait.place], key=free.__getitem__)
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
