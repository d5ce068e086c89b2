"""How much of a slot's time is a guest's, with samples waiting and much to do after each run.

Each run leaves 100 MB of log and 200 MB of dumps, which are split, packed and uploaded on the same machine
while the next guest runs. What counts is the time that a restore and a run take by themselves, against the
time from the first restore to the end of the last guest in the same slot: whatever else a slot does is waste.
No peer can be installed here; docs/scaling.md names what was measured of DRAKVUF Sandbox itself.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.dumps import write_dumps
from benchmarks.log_split import write_log
from benchmarks.measuring import MB, Result
from benchmarks.replaying import Guest, by_slot, guests, replaying

RESTORE_SECONDS = 1.0
LOG, DUMPS = 100 * MB, 200 * MB


@dataclass(frozen=True, kw_only=True)
class Load:
    """Analyses of one length."""

    run_seconds: float
    slots: int
    samples: int
    quick_samples: int

    @property
    def guest_seconds(self) -> float:
        """What a guest takes by itself."""
        return RESTORE_SECONDS + self.run_seconds

    @property
    def name(self) -> str:
        """In the table."""
        slots = "1 slot" if self.slots == 1 else f"{self.slots} slots"
        return f"slot utilisation, {self.guest_seconds:.0f} s analyses, {slots}"


LOADS = (
    Load(run_seconds=30, slots=2, samples=8, quick_samples=0),
    Load(run_seconds=3, slots=1, samples=20, quick_samples=4),
)


def measure(*, quick: bool) -> list[Result]:
    """The share of time in which a slot has what it is there for; quick: short analyses only."""
    with tempfile.TemporaryDirectory() as directory:
        recorded = Path(directory)
        write_log(recorded / "drakmon.log", LOG)
        write_dumps(recorded / "dumps", DUMPS)
        return [
            Result(
                name=load.name,
                unit="%",
                ours=100 * share(load, recorded, samples=samples),
                limit=100,
                runs=samples,
            )
            for load in LOADS
            if (samples := load.quick_samples if quick else load.samples)
        ]


def share(load: Load, recorded: Path, *, samples: int) -> float:
    """Of the slots' time, what belongs to guests."""
    with replaying(recorded, slots=load.slots, restore=RESTORE_SECONDS, run=load.run_seconds) as ours:
        found = guests(ours, samples=samples, timeout=round(load.run_seconds))
    return statistics.mean(_share(load, inside) for inside in by_slot(found).values())


def _share(load: Load, inside: Sequence[Guest]) -> float:
    return load.guest_seconds * len(inside) / (inside[-1].gone - inside[0].begun)
