"""How good the estimates of waiting are: ``python benchmarks/waiting.py [--samples N] [--json FILE]``.

Replays runs of random length (log-normal, cut off by random timeouts) on two profiles, with samples of all
priorities that come in bursts. Again and again it asks for the forecast and writes down what it promised; in
the end the ledger says what came true. Prints a table, and the same as JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from drakcelery import settings
from drakcelery.embedded.background import background
from drakcelery.forecast.forecast import Forecast, make_forecast
from drakcelery.forecast.simulation import Range
from drakcelery.karton import submit
from drakcelery.karton.kept import Wishes
from drakcelery.model.analysis import Priority, State
from drakcelery.model.records import Record
from drakcelery.operators import analyses
from drakcelery.wiring import make_ledger

SLOTS = {"vm-1": "win10", "vm-2": "win10", "vm-3": "win10", "vm-4": "win7"}
RUN_SECONDS, SPREAD = 5.0, 0.7
TIMEOUTS = (5, 10, 20)
SHARES = {"win10": 0.75, "win7": 0.25}
PRIORITIES = {Priority.HIGH: 1, Priority.NORMAL: 8, Priority.LOW: 1}
BURST = 20
SEED = 5
ASK_SECONDS = 1.0
LEAST_WAIT = 1.0
"""What is to start sooner is no wait, and any error is large relative to it."""


@dataclass(frozen=True, kw_only=True)
class Push:
    """When a sample was sent, by Redis' clock, and how urgent it is: 0 comes first."""

    at: float
    rank: int


@dataclass(frozen=True, kw_only=True)
class Promise:
    """What was said once of one sample."""

    uid: str
    at: float
    where: str
    """``ledger`` or ``Karton``: where it waited."""
    learned: int
    start: Range
    finish: Range


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=120)
    parser.add_argument("--json", type=Path, help="where to write the figures too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        (directory / "recorded").mkdir()
        (directory / "recorded" / "drakmon.log").write_text('{"Plugin": "procmon", "TimeStamp": "1.0"}\n')
        overrides = {
            "drakcelery": {"engine": "replay", "default_profile": "win10"},
            "replay": {
                "run_dir": str(directory / "recorded"),
                "restore_seconds": "0.3",
                "run_seconds": str(RUN_SECONDS),
                "run_spread": str(SPREAD),
            },
        }
        with background(directory / "stack", slots=SLOTS, overrides=overrides) as stack:
            figures = measure(settings.load(stack.config), directory, arguments.samples)
    print_table(figures)
    text = json.dumps(figures, indent=2)
    print(text)
    if arguments.json:
        arguments.json.write_text(f"{text}\n", encoding="utf-8")


def measure(ours: settings.Settings, directory: Path, samples: int) -> dict[str, object]:
    """Push the samples, ask for the forecast until the last is over, and compare."""
    ledger = make_ledger(ours)
    inbox = ledger.inbox()
    while not (ledger.fleet.hosts() and ledger.bound()):
        time.sleep(analyses.POLL_SECONDS)
    chance = random.Random(SEED)  # noqa: S311 a load, no secret
    sample = directory / "sample.bat"
    sample.write_text("exit")
    promises: list[Promise] = []
    costs: list[float] = []
    pushed: dict[str, Push] = {}
    while len(done := list(ledger.done(newest=samples))) < samples:
        if len(pushed) < samples and len(pushed) - len(done) < 2 * BURST:
            for _ in range(min(BURST, samples - len(pushed))):
                uid, priority = push(ours, sample, chance)
                pushed[uid] = Push(at=ledger.now(), rank=list(PRIORITIES).index(priority))
        before = time.perf_counter()
        forecast = make_forecast(ours, ledger, inbox)
        costs.append(time.perf_counter() - before)
        promises += promises_of(forecast)
        time.sleep(ASK_SECONDS)
    return compare(promises, {record.uid: record for record in done}, pushed, costs)


def promises_of(forecast: Forecast) -> list[Promise]:
    """What a forecast says about all that waits."""
    said = [("ledger", uid, one) for uid, one in forecast.estimates.items()]
    said += [("Karton", one.uid, one.estimate) for one in forecast.queued if one.estimate is not None]
    return [
        Promise(
            uid=uid, at=forecast.now, where=where, learned=one.learned, start=one.start, finish=one.finish
        )
        for where, uid, one in said
        if one.start is not None
    ]


def push(ours: settings.Settings, sample: Path, chance: random.Random) -> tuple[str, Priority]:
    """A sample of random priority, profile and timeout; its uid."""
    (profile,) = chance.choices(list(SHARES), list(SHARES.values()))
    (priority,) = chance.choices(list(PRIORITIES), list(PRIORITIES.values()))
    timeout = chance.choice(TIMEOUTS)
    task = submit.sample_task(sample, Wishes(timeout=timeout, priority=priority, profile=profile))
    return submit.push(ours, task), priority


def compare(
    promises: Sequence[Promise],
    records: dict[str, Record],
    pushed: dict[str, Push],
    costs: Sequence[float],
) -> dict[str, object]:
    """The figures, for all promises of a wait and for some kinds of them."""

    def started(one: Promise) -> float:
        return records[one.uid].entered[State.PREPARING]

    def ended(one: Promise) -> float:
        return records[one.uid].finished or 0.0

    def ahead(one: Promise) -> float:
        # By what was promised: to sort promises by what came true would favour some of them
        return one.start.middle - one.at

    def is_overtaken(one: Promise) -> bool:
        return any(
            other.at > one.at
            and other.rank < pushed[one.uid].rank
            # Those of the other profile take nothing from it
            and records[uid].place == records[one.uid].place
            and records[uid].entered[State.PREPARING] < started(one)
            for uid, other in pushed.items()
        )

    known = [one for one in promises if ahead(one) >= LEAST_WAIT]
    kinds: dict[str, Callable[[Promise], bool]] = {
        "all": lambda _: True,
        "nobody overtook it": lambda one: not is_overtaken(one),
        "waits in Karton": lambda one: one.where == "Karton",
        "waits for a slot": lambda one: one.where == "ledger",
        "fewer than 10 learned": lambda one: one.learned < 10,
        "10 to 39 learned": lambda one: 10 <= one.learned < 40,
        "40 learned or more": lambda one: one.learned >= 40,
        "promised within 5 s": lambda one: ahead(one) < 5,
        "promised after 20 s": lambda one: ahead(one) >= 20,
    }
    return {
        "samples": len(records),
        "slots": len(SLOTS),
        "published": sum(record.state is State.PUBLISHED for record in records.values()),
        "outlook_ms_median": round(statistics.median(costs) * 1000, 1),
        "outlook_ms_max": round(max(costs) * 1000, 1),
        "start": {
            name: figures([one for one in known if belongs(one)], lambda one: one.start, started)
            for name, belongs in kinds.items()
        },
        "finish": {"all": figures(known, lambda one: one.finish, ended)},
    }


def figures(
    promises: Sequence[Promise], promised: Callable[[Promise], Range], true: Callable[[Promise], float]
) -> dict[str, float]:
    """How many truths were in the range, how far off the middle was, how wide the range."""
    if not promises:
        return {"promises": 0}
    inside = sum(promised(one).low <= true(one) <= promised(one).high for one in promises)
    early = sum(true(one) < promised(one).low for one in promises)
    off = [abs(promised(one).middle - true(one)) for one in promises]
    waits = [max(0.1, true(one) - one.at) for one in promises]
    relative = [error / wait for error, wait in zip(off, waits, strict=True)]
    ranges = [promised(one) for one in promises]
    width = [(one.high - one.low) / wait for one, wait in zip(ranges, waits, strict=True)]
    return {
        "promises": len(promises),
        "inside": round(inside / len(promises), 3),
        "earlier": round(early / len(promises), 3),
        "median_error_s": round(statistics.median(off), 2),
        "median_error_of_wait": round(statistics.median(relative), 3),
        "median_width_of_wait": round(statistics.median(width), 3),
    }


def print_table(found: dict[str, object]) -> None:
    """For people."""
    print(f"{found['samples']} samples on {found['slots']} slots, {found['published']} published;", end=" ")
    print(f"an outlook took {found['outlook_ms_median']} ms (at most {found['outlook_ms_max']} ms)")
    print(f"{'':30}{'promises':>9}{'inside':>8}{'earlier':>9}{'error':>8}{'of wait':>9}{'width':>8}")
    for what in ("start", "finish"):
        for name, row in cast("dict[str, dict[str, float]]", found[what]).items():
            print(f"{what}, {name:24}", *(f"{value:>8}" for value in row.values()))


if __name__ == "__main__":
    main()
