"""``python -m tests.simulation``: run schedules; those that fail are cut down, and kept."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from tests.simulation.faults import schedule_of
from tests.simulation.schedule import Schedule
from tests.simulation.scheduler import Result, simulate, smallest
from tests.simulation.valkey import Valkey

TOLD_EVERY = 250
"""Schedules between two lines that say how far it is."""


@dataclass(kw_only=True)
class Tally:
    """What came of a number of schedules."""

    first_seed: int
    steps_each: int
    schedules: int = 0
    failed: list[int] = field(default_factory=list)
    """Their seeds."""
    steps: int = 0
    virtual_seconds: float = 0.0
    seconds: float = 0.0
    drawn: Counter[str] = field(default_factory=Counter)

    def add(self, schedule: Schedule, result: Result) -> None:
        """One more."""
        self.schedules += 1
        self.steps += result.steps
        self.virtual_seconds += result.seconds
        self.drawn.update(kind for kind in result.drawn if kind != "plain")
        if result.broken:
            self.failed.append(schedule.seed)

    def __str__(self) -> str:
        drawn = ", ".join(f"{kind} {count}" for kind, count in self.drawn.most_common())
        speed = f"{self.steps / self.seconds:.0f} steps/s, {self.schedules / self.seconds:.1f} schedules/s"
        ended = f"{self.schedules} schedules, {len(self.failed)} failed"
        return f"{drawn}\n{ended}, {self.steps} steps in {self.seconds:.1f} s: {speed}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1, help="of the first schedule")
    parser.add_argument("--steps", type=int, default=600, help="of each, while things go wrong")
    parser.add_argument("--schedules", type=int, default=1, help="how many, one seed after the other")
    parser.add_argument("--file", type=Path, help="a schedule that was kept, in place of those of seeds")
    parser.add_argument("--report", type=Path, help="file for the figures, as JSON")
    parser.add_argument("--keep", type=Path, help="directory for those that fail, cut down")
    parser.add_argument("--without", default="", help="kinds of faults to leave out, with commas between")
    parser.add_argument("--plain", action="store_true", help="nothing odd in the samples")
    parser.add_argument("--trace", action="store_true", help="print each step")
    return parser.parse_args()


def _schedules(given: argparse.Namespace) -> list[Schedule]:
    if given.file:
        kept = Schedule.read(given.file)
        return [replace(kept, seed=kept.seed + number) for number in range(given.schedules)]
    without = frozenset(filter(None, given.without.split(",")))
    return [
        schedule_of(given.seed + number, steps=given.steps, without=without, odd=not given.plain)
        for number in range(given.schedules)
    ]


def _keep(schedule: Schedule, broken: str, valkey: Valkey, directory: Path) -> None:
    small = smallest(schedule, broken, valkey)
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"found": broken, **asdict(small)}, indent=1)
    (directory / f"seed-{schedule.seed}.json").write_text(text + "\n", encoding="utf-8")


def _report(tally: Tally, path: Path | None) -> None:
    """Also on the way: what is interrupted has shown something."""
    if path:
        path.write_text(json.dumps(vars(tally), indent=1) + "\n", encoding="utf-8")


def main() -> int:
    """Run what the command line says; 1 where a schedule failed."""
    given = _arguments()
    with Valkey() as valkey:
        begun, schedules = time.perf_counter(), _schedules(given)
        tally = Tally(first_seed=schedules[0].seed, steps_each=schedules[0].steps)
        for schedule in schedules:
            result = simulate(schedule, valkey, trace=given.trace)
            tally.add(schedule, result)
            for line in result.trace:
                print(line)  # noqa: T201 it is a command
            if result.broken:
                print(f"seed {schedule.seed}: {result.broken[0]}", flush=True)  # noqa: T201
                if given.keep:
                    _keep(schedule, result.broken[0], valkey, given.keep)
            tally.seconds = time.perf_counter() - begun
            if tally.schedules % TOLD_EVERY == 0:
                print(f"{tally.schedules} schedules, {len(tally.failed)} failed so far", flush=True)  # noqa: T201
                _report(tally, given.report)
    print(tally)  # noqa: T201
    _report(tally, given.report)
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
