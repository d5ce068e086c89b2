"""Measuring: results, and how two things are compared in one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

MB = 1000**2


@dataclass(frozen=True, kw_only=True)
class Result:
    """One line of ``build/bench.json``: medians over *runs* runs."""

    name: str
    """What was measured: ``log split``; the same in every run, for the history."""
    unit: str
    """``MB/s``, ``ms``, ``%``, …"""
    ours: float
    peer: float | None = None
    peer_name: str | None = None
    limit: float | None = None
    """What the machine, or the server, could do at best; measured in the same run, or known."""
    runs: int
    less_is_better: bool = False
    """Times and costs, against rates."""

    @property
    def is_missing(self) -> bool:
        """Whether its peer is not on this machine."""
        return self.peer_name is not None and self.peer is None

    @property
    def ratio(self) -> float | None:
        """Ours against the peer's; more is better. None if there is no peer, or nothing was measured."""
        if self.peer is None or not (self.peer and self.ours):
            return None
        return self.peer / self.ours if self.less_is_better else self.ours / self.peer


def seconds(work: Callable[[], object]) -> float:
    """How long *work* takes, in seconds."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def in_turn(measures: Mapping[str, Callable[[], float]], *, runs: int) -> dict[str, list[float]]:
    """Call each of *measures* once a run, A B C A B C …; all that they returned, by name."""
    found: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(runs):
        for name, measure in measures.items():
            found[name].append(measure())
    return found


def medians(found: Mapping[str, list[float]]) -> dict[str, float]:
    """The median of each."""
    return {name: statistics.median(values) for name, values in found.items()}
