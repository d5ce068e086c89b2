"""What the emulator makes of real programs: the corpus, each program once.

``python -m benchmarks emulator`` runs it all and writes ``build/emulator.json``; with ``--help`` it says how
to run a part, and how to compare two such files.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import structlog

from benchmarks.corpus import fetching, reports
from benchmarks.corpus.programs import KINDS, Program, read, select
from benchmarks.corpus.running import COMPLETE, Report, Runner, Stderr
from benchmarks.measuring import Result
from benchmarks.pages import REPOSITORY

TIMEOUT = 30
"""Seconds that a program has."""
PARALLEL = 2


def run(
    programs: Sequence[Program], directory: Path, *, timeout: int = TIMEOUT, parallel: int = PARALLEL
) -> list[Report]:
    """Run each of *programs* from the cache in *directory*, *parallel* at a time."""
    stderr = Stderr()
    structlog.configure(processors=[stderr], logger_factory=structlog.ReturnLoggerFactory())
    runner = Runner(timeout=timeout, stderr=stderr)
    slots: SimpleQueue[str] = SimpleQueue()
    for number in range(parallel):
        slots.put(f"vm-{number + 1}")
    said = threading.Lock()

    def one(program: Program) -> Report:
        slot = slots.get()
        try:
            report = runner.run(program, fetching.path_of(program, directory), slot)
        finally:
            slots.put(slot)
        with said:
            sys.stderr.write(f"{reports.line(report)}\n")
        return report

    try:
        with ThreadPoolExecutor(parallel) as pool:
            return list(pool.map(one, programs))
    finally:
        runner.close()
        structlog.reset_defaults()


def obtain(programs: Iterable[Program], directory: Path) -> list[Program]:
    """Those of *programs* that are there, after the rest was fetched; what cannot be had is said."""
    wanted = list(programs)
    lacking = fetching.fetch(wanted, directory)
    for name, why in lacking.items():
        sys.stderr.write(f"not to be had: {name}: {why}\n")
    return [program for program in wanted if program.name not in lacking]


def measure(*, quick: bool) -> list[Result]:
    """Per cent of the EXE files that get past their start-up, and that end complete; seconds of one."""
    programs = obtain(select(read(), quick=quick), fetching.cache())
    found = [report for report in run(programs, fetching.cache()) if reports.counts(report)]
    if not found:
        return []

    def share(name: str, holds: Callable[[Report], bool]) -> Result:
        part = 100 * sum(map(holds, found)) / len(found)
        return Result(name=name, unit="%", ours=part, runs=len(found))

    return [
        share("emulated programs past their start-up", lambda report: report.past_start_up),
        share("emulated programs complete", lambda report: report.verdict in COMPLETE),
        Result(
            name="emulated program",
            unit="s",
            ours=sum(report.seconds for report in found) / len(found),
            runs=len(found),
            less_is_better=True,
        ),
    ]


def main(arguments: Sequence[str]) -> None:
    """The command line of this benchmark alone."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks emulator", description=__doc__)
    parser.add_argument("names", nargs="*", help="only programs with this in their name, or matching it")
    parser.add_argument("--kind", action="append", default=[], choices=KINDS, help="only these kinds")
    parser.add_argument("--bits", type=int, choices=(32, 64))
    parser.add_argument("--quick", action="store_true", help="two of each kind")
    parser.add_argument("--cache", type=Path, default=fetching.cache(), help="where the programs are kept")
    parser.add_argument("--json", type=Path, default=REPOSITORY / "build" / "emulator.json")
    parser.add_argument("--timeout", type=int, default=TIMEOUT, help="seconds that a program has")
    parser.add_argument("--parallel", type=int, default=PARALLEL)
    parser.add_argument("--list", action="store_true", help="say which programs these are, and run none")
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("BEFORE", "AFTER"), help="two JSON files")
    given = parser.parse_args(arguments)
    if given.compare:
        before, after = (reports.read(path) for path in given.compare)
        sys.stdout.write(reports.compared(before, after))
        return
    programs = select(read(), kinds=given.kind, names=given.names, quick=given.quick)
    programs = [program for program in programs if given.bits in (None, program.bits)]
    if given.list:
        sys.stdout.writelines(f"{program.kind}\t{program.bits}\t{program.name}\n" for program in programs)
        return
    found = run(obtain(programs, given.cache), given.cache, timeout=given.timeout, parallel=given.parallel)
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps([report.to_json() for report in found], indent=1), encoding="utf-8")
    sys.stdout.write(reports.page(found))
