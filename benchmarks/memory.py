"""Whether a process grows with what it has done: memory of each after some analyses, and after many.

Replays a recorded run of nothing on an embedded stack. The first analyses fill what is filled once (pools,
caches, the heap); after them, and again after all, everything is at rest and each process is looked at: its
resident memory (RSS), and the part of it that is its own alone (USS). What counts is the process of each kind
that grew most. What a single huge analysis needs is another question.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.measuring import MB, Result
from drakcelery import settings
from drakcelery.embedded.background import background
from drakcelery.embedded.supervision import marked
from drakcelery.karton import submit
from drakcelery.ledger import Ledger
from drakcelery.ledger.keys import DONE
from drakcelery.operators import analyses
from drakcelery.settings import Settings
from drakcelery.wiring import make_ledger

SLOTS = {f"vm-{number}": "default" for number in range(1, 5)}
ANALYSES, WARM_UP = 500, 100
QUICK_ANALYSES, QUICK_WARM_UP = 60, 20
AHEAD = 20
"""How many samples wait in Karton at most, so that no queue is part of what is measured."""
KINDS = {"vm": "vm@", "io": "io@", "ingress": "ingress.py"}
"""The kinds of processes that work, and what the command of each holds. Flower keeps tasks, by intent."""
FIGURES = ("rss", "uss")

Memory = dict[tuple[str, int], dict[str, float]]
"""MB of each figure, by kind and pid."""


def measure(*, quick: bool) -> list[Result]:
    """The growth of the process of each kind that grew most."""
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        recorded = directory / "recorded"
        recorded.mkdir()
        (recorded / "drakmon.log").write_text('{"Plugin": "procmon", "TimeStamp": "1.0"}\n')
        overrides = {"drakcelery": {"engine": "replay"}, "replay": {"run_dir": str(recorded)}}
        with background(directory / "stack", slots=SLOTS, overrides=overrides) as stack:
            ours = settings.load(stack.config)
            sample = directory / "sample.bat"
            sample.write_text("exit")
            first, last = (QUICK_WARM_UP, QUICK_ANALYSES) if quick else (WARM_UP, ANALYSES)
            before = after_analyses(ours, sample, directory / "stack", 0, first)
            after = after_analyses(ours, sample, directory / "stack", first, last)
    return [
        Result(
            name=f"memory growth of {kind} ({figure.upper()})",
            unit="MB",
            ours=round(most, 2),
            runs=last - first,
            less_is_better=True,
        )
        for figure in FIGURES
        for kind, most in growth(before, after, figure).items()
    ]


def after_analyses(ours: Settings, sample: Path, stack: Path, done: int, wanted: int) -> Memory:
    """Have samples analysed until *wanted* are over, *done* of them before; the memory of all then."""
    ledger = make_ledger(ours)
    while not (ledger.fleet.hosts() and ledger.bound()):
        time.sleep(analyses.POLL_SECONDS)
    pushed = done
    while (over := number_done(ledger)) < wanted:
        while pushed < min(wanted, over + AHEAD):
            submit.push(ours, submit.sample_task(sample))
            pushed += 1
        time.sleep(analyses.POLL_SECONDS)
    return memory(stack.absolute())


def number_done(ledger: Ledger) -> int:
    """How many analyses are over."""
    return ledger._redis.zcard(DONE)  # noqa: SLF001 what a benchmark counts


def memory(stack: Path) -> Memory:
    """The memory of each of our processes of *stack*."""
    found: Memory = {}
    for process in marked(str(stack)):
        kind = kind_of(process)
        if kind is not None:
            used = process.memory_full_info()
            found[kind, process.pid] = {name: getattr(used, name) / MB for name in FIGURES}
    return found


def kind_of(process: psutil.Process) -> str | None:
    """The kind of a process of ours, ``vm pool`` for a pool process of the vm worker; None for others'."""

    def named(one: psutil.Process | None) -> str | None:
        words = one.cmdline() if one is not None else []
        return next((kind for kind, mark in KINDS.items() if any(mark in word for word in words)), None)

    kind = named(process)
    return f"{kind} pool" if kind in ("vm", "io") and named(process.parent()) == kind else kind


def growth(before: Memory, after: Memory, figure: str) -> dict[str, float]:
    """MB by which the process of each kind grew that grew most; those that are new count as a whole."""
    most: dict[str, float] = {}
    for (kind, pid), used in after.items():
        grown = used[figure] - before.get((kind, pid), {}).get(figure, 0.0)
        most[kind] = max(most.get(kind, grown), grown)
    return most
