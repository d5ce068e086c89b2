"""What each benchmark should reach on two cores, and the words for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.measuring import Result


@dataclass(frozen=True, kw_only=True)
class Target:
    """A bound on our figure, or on its ratio to the peer's."""

    least: float | None = None
    most: float | None = None
    of_ratio: bool = False

    def words(self, unit: str) -> str:
        """``≥ 500 MB/s``, ``≤ 30 ms``, ``≥ 50 % of the peer``."""
        sign, bound = ("≥", self.least) if self.least is not None else ("≤", self.most)
        if self.of_ratio:
            return f"{sign} {(bound or 0) * 100:.0f} % of the peer"
        return f"{sign} {bound:g} {unit}"

    def is_reached(self, result: Result) -> bool:
        """Whether *result* is within the bound."""
        value = result.ratio if self.of_ratio else result.ours
        if value is None:
            return False
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)


TARGETS: Mapping[tuple[str, str | None], Target] = {}
"""By a result's name and the peer that it is to be compared with; None: whatever the peer."""


def target_of(result: Result) -> Target | None:
    """What *result* should reach; None where nothing is asked."""
    return TARGETS.get((result.name, result.peer_name)) or TARGETS.get((result.name, None))
