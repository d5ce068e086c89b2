"""When a run showed something new, and when a quiet stop would have ended it. Pure.

A *fact* is one feature of a sample's behaviour: a file written, a key set, a host looked up, each without what
runs choose by chance. The first time that a run shows a fact is *news*. Seconds count from the start of the
sample.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from pydantic import Field

from drakcelery.model.value import Value

MOST_ENTRIES = 240
"""Seconds with news, and periods, of a run that are kept; later ones are joined to the last."""

WatchMode = Literal["off", "shadow", "active"]
"""``shadow``: nothing is stopped, and it is noted when a run would have been. ``active``: it is stopped."""


class WatchRules(Value):
    """When a run may end before its time is over."""

    min_seconds: int = Field(ge=1)
    """No run is stopped earlier."""
    quiet_seconds: int = Field(ge=1)
    """How long nothing new must have come."""


class News(Value):
    """What a run showed, by second, so that any :class:`WatchRules` can be tried on it afterwards."""

    seconds: float
    """How long the run was watched."""
    facts: tuple[tuple[int, int], ...] = ()
    """(second, facts first seen in it), in order; a second without any is left out."""
    held: tuple[tuple[int, int], ...] = ()
    """(first second, last second) of periods in which something forbade a stop: a pending sleep, a live
    connection, a process that had just started, a scheduled task. In order, and apart."""

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
        news = [(at, at) for at, _ in self.facts]
        busy = sorted([(0, 0), *news, *self.held])
        last = 0
        for (_, end), (begin, _) in pairwise([*busy, (int(self.seconds) + 1, 0)]):
            last = max(last, end)
            stop = max(rules.min_seconds, last + rules.quiet_seconds)
            if stop < begin:
                return stop if stop < self.seconds else None
        return None
