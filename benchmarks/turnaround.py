"""How long a slot stands empty between two guests, with samples waiting.

Replays a recorded run of nothing on two slots, so that all there is to measure is the road itself: from the
moment that a guest is gone until the next restore begins in the same slot, its sample fetched and checked.
No peer can be installed here; docs/scaling.md names what was measured of DRAKVUF Sandbox itself.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measuring import MB, Result
from benchmarks.replaying import Guest, by_slot, guests, replaying

SLOTS = 2
SPREAD = 0.2
"""So that the two slots do not keep in step."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """Samples of one size; they must come faster than they are analysed."""

    name: str
    size: int
    samples: int
    run_seconds: float
    timeout: int


LOADS = (
    Load(name="1 KB", size=1000, samples=120, run_seconds=0.8, timeout=1),
    Load(name="50 MB", size=50 * MB, samples=24, run_seconds=3, timeout=4),
)


def measure(*, quick: bool) -> list[Result]:
    """The middle and the slowest of a hundred turnarounds; quick: of small samples only, and fewer."""
    if quick:
        return _of(LOADS[0], samples=LOADS[0].samples // 3)
    return [result for load in LOADS for result in _of(load, samples=load.samples)]


def _of(load: Load, *, samples: int) -> list[Result]:
    with tempfile.TemporaryDirectory() as directory:
        recorded = Path(directory)
        (recorded / "drakmon.log").write_text('{"Plugin": "procmon", "TimeStamp": "1.0"}\n')
        with replaying(recorded, slots=SLOTS, run=load.run_seconds, spread=SPREAD) as ours:
            found = guests(ours, samples=samples, timeout=load.timeout, size=load.size)
    gaps = sorted(turnarounds(found))
    percentiles = {"p50": statistics.median(gaps), "p99": gaps[len(gaps) * 99 // 100]}
    return [
        Result(
            name=f"slot turnaround, samples of {load.name}, {name}",
            unit="ms",
            ours=1000 * value,
            runs=len(gaps),
            less_is_better=True,
        )
        for name, value in percentiles.items()
    ]


def turnarounds(found: Sequence[Guest]) -> list[float]:
    """Seconds from the end of a guest to the begin of the next, wherever that one's sample waited."""
    pairs = (pair for inside in by_slot(found).values() for pair in itertools.pairwise(inside))
    return [after.begun - before.gone for before, after in pairs if after.queued < before.gone]
