"""What a quiet stop would buy: slot time saved against facts lost, from runs that nobody stopped. Pure.

A *measured* run ran to its end whether it was quiet or not: in shadow mode each does, in active mode a random
share. Only these say what a stop loses. A run that was stopped says nothing of what would have come, and one
that was never quiet enough is no fair sample of all: both count for time only.

How sure a loss is, is said as if each run lost all of its facts or none (Wilson's bound): a loss in parts is
surer than that. A run with many facts weighs more, so that few of them count as fewer runs (Kish).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Self

from pydantic import Field

from drakcelery.model.analysis import Value
from drakcelery.model.news import Lull, News, WatchRules, first_stop

MIN_SECONDS = (10, 20, 30, 60, 90, 120, 180, 240, 300)
QUIET_SECONDS = (10, 20, 30, 45, 60, 90, 120, 180)
GRID = tuple(
    WatchRules(min_seconds=low, quiet_seconds=quiet) for low, quiet in product(MIN_SECONDS, QUIET_SECONDS)
)
"""The rules that are tried."""
CERTAINTY = 1.6449
"""Standard deviations: in 19 of 20 cases the loss is below the bound."""


class WatchedRun(Value):
    """A run that was watched for news, as it is remembered."""

    seconds: float = Field(ge=0, le=10**6)
    """How long it lasted."""
    timeout: int = Field(ge=0, le=10**6)
    """How long it would have been watched at most, without a stop."""
    quiet: bool = False
    """Whether a quiet stop ended it."""
    news: News | None = None
    """What it showed, if it is a measured one."""


class Trial(Value):
    """What rules would have done to the measured runs."""

    rules: WatchRules
    stopped: int = Field(description="runs that they would have ended")
    losing: int = Field(description="runs that would have lost a fact")
    saved: float = Field(description="share of the watched time that they would have saved")
    lost: float = Field(description="share of the facts that they would have lost")
    lost_at_most: float = Field(description="the same, in 19 of 20 cases, for as many runs as there are")


class Curve(Value):
    """What quiet stops would buy in one profile and quality, or in all together."""

    profile: str | None = Field(description="null: of all profiles and qualities")
    quality: str | None
    runs: int = Field(description="measured runs")
    weight: int = Field(description="how many runs with equally many facts would say as much")
    facts: int = Field(description="facts of the measured runs")
    seconds: float = Field(description="seconds for which these were watched")
    stopped: int = Field(description="runs that were really stopped, of the newest that are remembered")
    saved_seconds: float = Field(description="seconds that these would have lasted longer, at most")
    current: Trial | None = Field(description="what the rules in the settings do; null without settings")
    trials: tuple[Trial, ...] = Field(
        description="the best rules: for each, no other that was tried saves more and loses no more"
    )
    recommended: Trial | None = Field(description="those that save most and keep enough of the facts")
    missing_runs: int | None = Field(
        description="about how many more measured runs a recommendation needs at least; null if no runs are"
        " missing"
    )


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """A measured run, ready to be tried."""

    seconds: float
    facts: int
    lulls: tuple[Lull, ...]


@dataclass(frozen=True, kw_only=True)
class _Sums:
    """What rules would have done to some runs; sums of several groups of runs add up."""

    stopped: int = 0
    losing: int = 0
    saved: float = 0
    lost: int = 0

    @classmethod
    def of(cls, runs: Iterable[_Measured], rules: WatchRules) -> Self:
        stopped = losing = lost = 0
        saved = 0.0
        for run in runs:
            end = first_stop(run.lulls, rules)
            if end is not None:
                stopped += 1
                saved += run.seconds - end[0]
                lost += run.facts - end[1]
                losing += run.facts > end[1]
        return cls(stopped=stopped, losing=losing, saved=saved, lost=lost)

    def __add__(self, other: _Sums) -> _Sums:
        return _Sums(
            stopped=self.stopped + other.stopped,
            losing=self.losing + other.losing,
            saved=self.saved + other.saved,
            lost=self.lost + other.lost,
        )


@dataclass(frozen=True, kw_only=True)
class Group:
    """All that is known of some runs: of a profile and quality, or of several together."""

    runs: int = 0
    facts: int = 0
    squares: int = 0
    """Sum of the squares of the runs' facts."""
    seconds: float = 0
    stopped: int = 0
    saved_seconds: float = 0
    sums: tuple[_Sums, ...] = (_Sums(),) * len(GRID)
    """For each of :data:`GRID`."""
    current: _Sums = _Sums()
    """For the rules in the settings."""

    @classmethod
    def of(cls, runs: Iterable[WatchedRun], current: WatchRules | None = None) -> Self:
        """Try all rules on *runs*; *current* are those in the settings."""
        shortest = min(*QUIET_SECONDS, *([current.quiet_seconds] if current else []))
        measured: list[_Measured] = []
        stopped, saved = 0, 0.0
        for run in runs:
            if run.news is not None:
                news = run.news
                lulls = news.lulls(longer_than=shortest)
                measured.append(_Measured(seconds=news.seconds, facts=news.total, lulls=lulls))
            elif run.quiet:
                stopped += 1
                saved += max(0.0, run.timeout - run.seconds)
        return cls(
            runs=len(measured),
            facts=sum(run.facts for run in measured),
            squares=sum(run.facts**2 for run in measured),
            seconds=sum(run.seconds for run in measured),
            stopped=stopped,
            saved_seconds=saved,
            sums=tuple(_Sums.of(measured, rules) for rules in GRID),
            current=_Sums.of(measured, current) if current else _Sums(),
        )

    def __add__(self, other: Group) -> Group:
        return Group(
            runs=self.runs + other.runs,
            facts=self.facts + other.facts,
            squares=self.squares + other.squares,
            seconds=self.seconds + other.seconds,
            stopped=self.stopped + other.stopped,
            saved_seconds=self.saved_seconds + other.saved_seconds,
            sums=tuple(one + more for one, more in zip(self.sums, other.sums, strict=True)),
            current=self.current + other.current,
        )

    @property
    def weight(self) -> float:
        """How many runs with equally many facts would say as much as these."""
        return self.facts**2 / self.squares if self.squares else 0.0

    def _trial(self, rules: WatchRules, sums: _Sums) -> Trial:
        lost = sums.lost / self.facts if self.facts else 0.0
        return Trial(
            rules=rules,
            stopped=sums.stopped,
            losing=sums.losing,
            saved=sums.saved / self.seconds if self.seconds else 0.0,
            lost=lost,
            lost_at_most=at_most(lost, self.weight),
        )

    def curve(
        self,
        *,
        keep: float,
        current: WatchRules | None = None,
        profile: str | None = None,
        quality: str | None = None,
    ) -> Curve:
        """What they buy, and which rules keep that share of the facts; *current* as for :meth:`of`."""
        trials = [self._trial(rules, sums) for rules, sums in zip(GRID, self.sums, strict=True)]
        recommended = recommend(trials, keep=keep)
        return Curve(
            profile=profile,
            quality=quality,
            runs=self.runs,
            weight=int(self.weight),
            facts=self.facts,
            seconds=self.seconds,
            stopped=self.stopped,
            saved_seconds=self.saved_seconds,
            current=self._trial(current, self.current) if current and self.runs else None,
            trials=best(trials) if self.runs else (),
            recommended=recommended,
            missing_runs=None if recommended else self._missing(keep),
        )

    def _missing(self, keep: float) -> int | None:
        """How many runs a recommendation lacks, even if they lose nothing; None if there are enough."""
        needed = runs_needed(keep)
        if self.weight >= needed:
            return None
        each = self.runs / self.weight if self.weight else 1.0
        return max(1, math.ceil(needed * each) - self.runs)


def at_most(share: float, runs: float) -> float:
    """The loss that in 19 of 20 cases is not exceeded where *share* was lost in so many runs."""
    if runs <= 0:
        return 1.0
    square = CERTAINTY**2 / runs
    spread = CERTAINTY * math.sqrt(share * (1 - share) / runs + square / (4 * runs))
    return min(1.0, (share + square / 2 + spread) / (1 + square))


def runs_needed(keep: float) -> int:
    """How many runs without any loss show that rules keep that share of the facts."""
    return math.ceil(CERTAINTY**2 * keep / (1 - keep))


def recommend(trials: Iterable[Trial], *, keep: float) -> Trial | None:
    """The rules that save most, of those that surely keep so much; of equals, those that lose less, then the
    more patient. None if none do, or none save anything."""
    sure = [one for one in trials if one.lost_at_most <= 1 - keep and one.saved > 0]
    return max(sure, key=_merit, default=None)


def best(trials: Sequence[Trial]) -> tuple[Trial, ...]:
    """Those of which no other saves as much and loses less, or saves more and loses as little; by what they
    save."""
    found: list[Trial] = []
    for one in sorted(trials, key=_merit, reverse=True):
        if not found or one.lost < found[-1].lost:
            found.append(one)
    return tuple(reversed(found))


def _merit(one: Trial) -> tuple[float, float, int, int]:
    return one.saved, -one.lost, one.rules.quiet_seconds, one.rules.min_seconds
