"""``python -m tests.simulation``: run schedules; those that fail are cut down, and kept."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

from tests.simulation.faults import schedule_of
from tests.simulation.schedule import Schedule
from tests.simulation.scheduler import simulate, smallest
from tests.simulation.valkey import Valkey

TOLD_EVERY = 250
"""Schedules between two lines that say how far it is."""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1, help="of the first schedule")
    parser.add_argument("--steps", type=int, default=600, help="of each, while things go wrong")
    parser.add_argument("--schedules", type=int, default=1, help="how many, one seed after the other")
    parser.add_argument("--file", type=Path, help="a schedule that was kept, in place of those of seeds")
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


def main() -> int:
    """Run what the command line says; 1 where a schedule failed."""
    given = _arguments()
    failed = steps = 0
    with Valkey() as valkey:
        begun, schedules = time.perf_counter(), _schedules(given)
        for number, schedule in enumerate(schedules):
            if number and number % TOLD_EVERY == 0:
                print(f"{number} schedules, {failed} failed so far", flush=True)  # noqa: T201
            result = simulate(schedule, valkey, trace=given.trace)
            steps += result.steps
            for line in result.trace:
                print(line)  # noqa: T201 it is a command
            if result.broken:
                failed += 1
                print(f"seed {schedule.seed}: {result.broken[0]}", flush=True)  # noqa: T201
                if given.keep:
                    _keep(schedule, result.broken[0], valkey, given.keep)
        seconds = time.perf_counter() - begun
    print(  # noqa: T201
        f"{len(schedules)} schedules, {failed} failed, {steps} steps in {seconds:.1f} s: "
        f"{steps / seconds:.0f} steps/s, {len(schedules) / seconds:.1f} schedules/s"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
