"""A day of a fleet's slots, played without a process, for :mod:`benchmarks.watching`. Pure.

Which run ends when, which task is given an earlier analysis and which sample is run twice is decided by the
product's own rules; what is simulated is that time passes.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from benchmarks.published import TIMEOUT, Submission
from drakcelery.model.news import WatchRules

SLOTS = 24
"""Three hosts with eight slots."""
OVERHEAD = 10.0
"""Seconds of a slot beside a run, to restore and to destroy its VM."""
LOW = 2
"""The urgency of a second look."""


@dataclass(frozen=True, kw_only=True)
class SecondLooks:
    """How well evaders are told, as measured on the corpus, and how many second looks may be made."""

    told: float
    """The share of evaders that get a second look."""
    mistaken: float
    """The share of the others that get one."""
    max_share: float
    """Of the slot time of first looks: ``[variants] max_share``."""


@dataclass(frozen=True, kw_only=True)
class Means:
    """What is switched on."""

    rules: WatchRules | None = None
    reuse: bool = False
    second_looks: SecondLooks | None = None
    by_urgency: bool = True
    """Otherwise the oldest goes first, second looks among the others, so that all are paid for."""


@dataclass
class Day:
    """What came of it."""

    published: int = 0
    reused: int = 0
    second_looks: int = 0
    across_visibility: int = 0
    facts: int = 0
    """All that a full run of each sample shows."""
    facts_seen: int = 0
    seconds_first: float = 0.0
    """Of slots, with first looks."""
    seconds_second: float = 0.0
    waits: dict[int, list[float]] = field(default_factory=dict)
    """By urgency, of those that waited for a slot."""

    def per_slot(self) -> float:
        """Analyses for each slot, if a day was played."""
        return self.published / SLOTS

    @property
    def kept(self) -> float:
        """The share of facts that was seen."""
        return self.facts_seen / self.facts if self.facts else 1.0


@dataclass(order=True)
class _Job:
    urgency: int
    at: float
    number: int
    submission: Submission = field(compare=False)
    is_second: bool = field(compare=False, default=False)


class _Play:
    def __init__(self, submissions: Sequence[Submission], means: Means, until: float) -> None:
        self.means = means
        self.until = until
        self.day = Day()
        self._coming = [
            _Job(one.urgency if means.by_urgency else 0, one.at, number, one)
            for number, one in enumerate(submissions)
        ]
        self._coming.reverse()
        self._waiting: list[_Job] = []
        self._published: dict[tuple[int, bool | None], float] = {}
        self._number = len(submissions)
        self._granted = 0.0
        """Seconds of second looks that were declared."""

    def play(self) -> Day:
        slots = [0.0] * SLOTS
        while slots[0] < self.until:
            now = slots[0]
            self._arrive(now)
            if not self._waiting:
                if not self._coming:
                    break
                heapq.heapreplace(slots, max(now, self._coming[-1].at))
                continue
            job = heapq.heappop(self._waiting)
            heapq.heapreplace(slots, now + self._run(job, now))
        return self.day

    def _arrive(self, now: float) -> None:
        while self._coming and self._coming[-1].at <= now:
            heapq.heappush(self._waiting, self._coming.pop())

    def _run(self, job: _Job, now: float) -> float:
        """Seconds that its slot is taken."""
        one, day = job.submission, self.day
        key = (one.sample, one.shared)
        seen_at = self._published.get(key)
        if self.means.reuse and not job.is_second and seen_at is not None:
            day.published += 1
            day.reused += 1
            return 0.0
        day.waits.setdefault(job.urgency, []).append(now - job.at)
        end = self._end(one)
        taken = end + OVERHEAD
        if job.is_second:
            day.second_looks += 1
            day.seconds_second += taken
            return taken
        day.published += 1
        day.seconds_first += taken
        day.facts += one.news.total
        day.facts_seen += one.news.seen_by(end)
        self._published[key] = now + taken
        self._look_again(one)
        return taken

    def _end(self, one: Submission) -> float:
        stop = one.news.stop_second(self.means.rules) if self.means.rules is not None else None
        return float(TIMEOUT if stop is None else stop)

    def _look_again(self, one: Submission) -> None:
        wanted = self.means.second_looks
        if wanted is None:
            return
        share = wanted.told if one.evades else wanted.mistaken
        # One in so many, in turn: no chance of the simulation's own between two ways of watching
        if (one.sample * 0.6180339887498949) % 1.0 >= share:
            return
        expected = self._end(one) + OVERHEAD
        if self._granted + expected > wanted.max_share * self.day.seconds_first:
            return
        self._granted += expected
        heapq.heappush(
            self._waiting,
            _Job(LOW if self.means.by_urgency else 0, one.at, self._number, one, is_second=True),
        )
        self._number += 1


def play(submissions: Iterable[Submission], means: Means, *, seconds: float = 86_400) -> Day:
    """Give the slots to the submissions until the day is over, the most urgent and oldest first."""
    return _Play(list(submissions), means, seconds).play()
