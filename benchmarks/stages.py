"""Processor time of each stage of an analysis of nothing: its own code, in one process, without Celery.

The log goes nowhere, in the form that a worker's has. The other process that works is S3 or Redis, and is not
counted. Each figure is the least of all runs: what others do at the same time only adds to it.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import structlog

from benchmarks.measuring import Result
from drakcelery.embedded.services import Services
from drakcelery.ledger.connection import connect
from drakcelery.model.analysis import Stage
from drakcelery.stages.perform import perform
from drakcelery.telemetry import logs
from tests.bench import HOST, Bench, bench_in

RUNS = {True: 30, False: 200}
"""By ``quick``."""
FIRST = 10
"""Runs that are not counted: connections, scripts."""


def measure(*, quick: bool) -> list[Result]:
    """Milliseconds of each stage, and of all five."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        _quiet_log(),
        Services(Path(scratch) / "servers") as servers,
        connect(servers.redis) as client,
        bench_in(Path(scratch) / "host", servers, client) as bench,
    ):
        spent = _spent(bench, RUNS[quick])
    least = {stage: min(found) * 1000 for stage, found in spent.items()}
    return [
        *(_row(f"processor time of the stage {stage}", ours, RUNS[quick]) for stage, ours in least.items()),
        _row("processor time of all stages", sum(least.values()), RUNS[quick]),
    ]


def _row(name: str, ours: float, runs: int) -> Result:
    return Result(name=name, unit="ms", ours=ours, runs=runs, less_is_better=True)


def _spent(bench: Bench, runs: int) -> Mapping[Stage, Sequence[float]]:
    """Seconds of this process for each stage, in each of so many runs."""
    found: dict[Stage, list[float]] = defaultdict(list)
    for number in range(FIRST + runs):
        uid = f"a-{number}"
        bench.open(uid)
        for stage in Stage:
            step = bench.step(uid)
            if stage is Stage.PREPARE:
                bench.context.slots.claim("win10", uid, step.attempt)
            begun = time.process_time()
            perform(bench.context, stage, step)
            if number >= FIRST:
                found[stage].append(time.process_time() - begun)
    return found


@contextmanager
def _quiet_log() -> Iterator[None]:
    """As in a worker, but into nothing; undone after the block."""
    root, config = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    logs.configure(level="info", style="json", host=HOST)
    with Path(os.devnull).open("w", encoding="utf-8") as nothing:
        for handler in root.handlers:
            if isinstance(handler, logging.StreamHandler):
                handler.setStream(nothing)
        yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**config)
