"""When a run showed something new, and when a quiet stop ends it, or would have ended it. Pure.

A *fact* is one feature of a sample's behaviour: a file written, a key set, a host looked up, each without
what runs choose by chance. The first time that a run shows a fact is *news*. Seconds count from the start of
the sample.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Literal, NamedTuple, Self

from pydantic import Field

from drakcelery.model.states import WatchMode as WatchMode
from drakcelery.model.value import Value

MOST_ENTRIES = 240
"""Seconds with news, and periods, of a run that are kept; :meth:`News.of` joins later ones to the last."""

EndedBy = Literal["quiet", "timeout", "itself"]
"""What ended a run: nothing new came; its time was over; or the sample, its guest or the engine did."""


class WatchRules(Value):
    """When a run may end before its time is over."""

    min_seconds: int = Field(ge=1)
    """No run is stopped earlier."""
    quiet_seconds: int = Field(ge=1)
    """How long nothing new must have come."""


class WatchPlan(WatchRules):
    """How one analysis is watched, as it was decided when it came in."""

    mode: Literal["shadow", "active"]
    extend_to: int | None = Field(default=None, ge=1)
    """A run that is busy when its timeout is over goes on until then, seconds; None: it does not."""
    measures: bool = False
    """It is one of those that ``active`` does not stop, so that they show what is lost."""

    @property
    def stops(self) -> bool:
        """Whether the run is stopped when nothing new comes."""
        return self.mode == "active" and not self.measures

    def earliest(self, timeout: int) -> int:
        """The second from which on the run may end, if its sample does not end it."""
        return min(self.min_seconds, timeout) if self.stops else timeout

    def longest(self, timeout: int) -> int:
        """The seconds after which the run ends in any case."""
        return max(timeout, self.extend_to or 0)


class Lull(NamedTuple):
    """A stretch of a run in which nothing new came, and nothing forbade a stop."""

    since: int
    """The last second before it that was no part of it."""
    until: int
    """The first second after it."""
    seen: int
    """Facts that were seen before it."""
    run_seconds: float
    """How long the run was watched."""


class News(Value):
    """What a run showed, by second, so that any :class:`WatchRules` can be tried on it afterwards."""

    seconds: float
    """How long the run was watched."""
    facts: tuple[tuple[int, int], ...] = ()
    """(second, facts first seen in it), in order; a second without any is left out."""
    held: tuple[tuple[int, int], ...] = ()
    """(first second, last second) of periods in which something forbade a stop: a pending sleep, a live
    connection, a process that had just started, a scheduled task, or that not everything could be counted.
    In order, and apart. The last one may end after the run."""

    @classmethod
    def of(cls, seconds: float, facts: Mapping[int, int], held: Iterable[tuple[int, int]]) -> Self:
        """Of all *facts* by second, and of all periods, which may overlap.

        Where there are too many, the later ones become one: their facts are those of its first second, and a
        stop is forbidden in it, so that no rules find an earlier stop than by all of them, or another number
        of facts that were seen by then.
        """
        kept, periods = sorted(facts.items()), list(held)
        if len(kept) > MOST_ENTRIES:
            later = kept[MOST_ENTRIES - 1 :]
            kept[MOST_ENTRIES - 1 :] = [(later[0][0], sum(count for _, count in later))]
            periods.append((later[0][0], later[-1][0]))
        joined = merged(periods)
        if len(joined) > MOST_ENTRIES:
            joined[MOST_ENTRIES - 1 :] = [(joined[MOST_ENTRIES - 1][0], joined[-1][1])]
        return cls(seconds=seconds, facts=tuple(kept), held=tuple(joined))

    @property
    def total(self) -> int:
        """All facts of the run."""
        return sum(count for _, count in self.facts)

    def seen_by(self, second: float) -> int:
        """How many of the facts were seen by then."""
        return sum(count for at, count in self.facts if at <= second)

    def stop_second(self, rules: WatchRules) -> int | None:
        """When these rules would have ended the run; None if it ran to its end.

        That is the first second, from ``min_seconds`` on, before which nothing new came and nothing forbade a
        stop for ``quiet_seconds``.
        """
        lull = first_stop(self.lulls(), rules)
        return None if lull is None else lull[0]

    def lulls(self, longer_than: int = 0) -> tuple[Lull, ...]:
        """The stretches of more than so many seconds without news, and without anything that forbids a stop,
        in order."""
        busy = sorted(
            [(0, 0, 0), *((at, at, count) for at, count in self.facts), *((*held, 0) for held in self.held)]
        )
        last = seen = 0
        found = []
        for (_, end, count), (begin, _, _) in pairwise([*busy, (int(self.seconds) + 1, 0, 0)]):
            last, seen = max(last, end), seen + count
            if last + longer_than < begin:
                found.append(Lull(last, begin, seen, self.seconds))
        return tuple(found)


def first_stop(lulls: Iterable[Lull], rules: WatchRules) -> tuple[int, int] | None:
    """When *rules* would have ended the run of these *lulls*, and how many facts were seen until then; None
    if it ran to its end."""
    for lull in lulls:
        stop = max(rules.min_seconds, lull.since + rules.quiet_seconds)
        if stop < lull.until:
            return (stop, lull.seen) if stop < lull.run_seconds else None
    return None


def merged(periods: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same seconds as periods in order, of which none touches the next."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(periods):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found


class WatchRun(Value):
    """What became of a run that was watched by a :class:`WatchPlan`."""

    plan: WatchPlan
    ended: EndedBy
    seconds: int
    """How long it was watched."""
    stop_second: int | None = None
    """When it was stopped, or would have been; None if it never was quiet enough."""
    facts: int
    """Those that were seen until then."""
    later: int = 0
    """Those that came after that."""
    trouble: str | None = None
    """Why it may not have been stopped although nothing new came: not everything could be counted."""

    @property
    def words(self) -> str:
        """The end and the stop, in a sentence without its full stop."""
        quiet = f"nothing new had come for {self.plan.quiet_seconds} s"
        if self.ended == "quiet":
            return f"stopped after {self.seconds} s, since {quiet}"
        watched = f"watched for {self.seconds} s"
        if self.stop_second is None:
            why = f" ({self.trouble})" if self.trouble else ""
            return f"{watched}; a quiet stop would not have come before{why}"
        missed = f"{self.later} of {self.facts + self.later} facts came after that"
        return f"{watched}; a quiet stop would have come after {self.stop_second} s: {missed}"


def is_of_share(uid: str, share: float) -> bool:
    """Whether the analysis *uid* is of a random *share* (0 to 1) of all: the same at each attempt."""
    drawn = int.from_bytes(hashlib.sha256(f"watch:{uid}".encode()).digest()[:6], "big")
    return drawn < share * 2**48
