"""What each benchmark should reach on two cores, and the words for it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from benchmarks.measuring import Result


@dataclass(frozen=True, kw_only=True)
class Target:
    """A bound on our figure, or on its ratio to the peer's."""

    name: str
    """A pattern for the names of results."""
    peer_name: str | None = None
    """The peer that counts; None: any, or none."""
    least: float | None = None
    most: float | None = None
    of_ratio: bool = False

    def words(self, unit: str) -> str:
        """``≥ 500 MB/s``, ``≤ 30 ms``, ``≥ 50 % of the peer``."""
        sign, bound = ("≥", self.least) if self.least is not None else ("≤", self.most)
        if self.of_ratio:
            return f"{sign} {(bound or 0) * 100:.0f} % of the peer"
        return f"{sign} {bound:g} {unit}"

    def is_for(self, result: Result) -> bool:
        """Whether it says something of *result*."""
        return self.peer_name in (None, result.peer_name) and bool(re.fullmatch(self.name, result.name))

    def is_reached(self, result: Result) -> bool:
        """Whether *result* is within the bound."""
        value = result.ratio if self.of_ratio else result.ours
        if value is None:
            return False
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)


TARGETS = (
    Target(name="log split", least=500),
    Target(name="log split, (broken|empty) lines", least=100),
    Target(name="log split with the report", peer_name="the split alone", least=350),
    Target(name="false differences, .*", most=5),
    Target(name="real differences that are told", least=100),
    Target(name="evaders whose second look shows more", least=90),
    Target(name="other programs that run twice", most=10),
    Target(name="slot time for second looks, .*", most=15),
    Target(name="dumps to zip", least=700),
    Target(name="dumps, size left", most=40),
    Target(name="collect, more memory for .*", most=10),
    Target(name="upload of .*", peer_name="boto3 transfer manager", least=0.9, of_ratio=True),
    Target(name="upload of .*", peer_name="rclone", least=0.9, of_ratio=True),
    Target(name="slot turnaround, samples of .* p50", most=30),
    Target(name="slot turnaround, samples of .* p99", most=150),
    Target(name="processor time per analysis in dom0, .*", most=0.3),
    Target(name="prepare and destroy beyond xl, .*", most=1.5),
    Target(name="slot turnaround, (simulated|real toolchain's cost), p50", most=100),
    Target(name="slot utilisation, 31 s .*", least=99),
    Target(name="slot utilisation, 4 s .*", least=95),
    Target(name="bridge rate", peer_name="trivial Karton consumer", least=0.4, of_ratio=True),
    Target(name="processor time per analysis of nothing, all our processes", most=35),
    Target(name="bridge added latency p50", most=100),
    Target(name="idle CPU, .*", most=2),
    Target(name="idle Redis commands of a host", most=10),
    Target(name="killed worker's analysis runs again, default", most=60),
    Target(name="killed worker's analysis runs again, shortest lease", most=10),
    Target(name="memory growth of .*", most=10),
    Target(name="analyses for each slot and day, all", least=2.5, of_ratio=True),
    Target(name="facts kept, .*", least=98),
    Target(name="reuses across visibility", most=0),
    Target(name="demo, second time, to the result", most=20),
    Target(name="help of .*", most=0.25),
    Target(name="Tab for .*", most=0.15),
    Target(name="(status|top, first screen), many records", most=0.5),
    Target(name=".*, page usable", most=1),
)


def target_of(result: Result) -> Target | None:
    """What *result* should reach; None if nothing is asked."""
    return next((target for target in TARGETS if target.is_for(result)), None)
