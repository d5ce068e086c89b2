"""Run the benchmarks: ``python -m benchmarks [NAME …] [--quick]``; all of them: ``make bench``."""

from __future__ import annotations

import argparse
import ast
import importlib
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import structlog
from rich.console import Console
from rich.table import Table

from benchmarks import emulator, pages, watching
from benchmarks.measuring import Result

NAMES = (
    *("log_split", "report", "diff", "second_look", "dumps", "collect_memory", "upload"),
    *("turnaround", "utilisation", "toolchain", "toolchain_slots", "bridge", "stages", "redis_cost", "idle"),
    *("recovery", "memory", "fleet", "saturation", "fairness"),
    *("broken_slots", "emulator", "watching", "demo", "tools", "web"),
)
"""Modules of this package with a function ``measure``, in the order of the table."""


def run(names: Sequence[str], *, quick: bool) -> dict[str, list[Result]]:
    """Measure each of *names*, one after the other; what each found."""
    console = Console(stderr=True)
    results: dict[str, list[Result]] = {}
    for name in names:
        begun = time.monotonic()
        console.print(f"[bold]{name}[/bold] …")
        results[name] = importlib.import_module(f"benchmarks.{name}").measure(quick=quick)
        console.print(f"[bold]{name}[/bold] took {time.monotonic() - begun:.0f} s")
    return results


def write(results: Sequence[Result], *, quick: bool, root: Path = pages.REPOSITORY) -> None:
    """Write ``build/bench.json``, add to the history, fill the table in the docs, and draw the pictures."""
    from benchmarks import pictures  # matplotlib takes a second, and most runs draw nothing

    build, docs = root / "build", root / "docs"
    build.mkdir(exist_ok=True)
    (build / "bench.json").write_text(pages.as_json(results), encoding="utf-8")
    run_ = pages.Run.of(results, quick=quick)
    history = pages.remember(root / "benchmarks" / "history.jsonl", run_)
    page = docs / "benchmarks.md"
    command = f"make bench{' QUICK=1' if quick else ''}"
    text = f"`{command}`, {run_.date}, commit `{run_.commit}`:\n\n{pages.tables(results)}"
    page.write_text(pages.filled(page.read_text(encoding="utf-8"), "results", text), encoding="utf-8")
    pictures.draw_results(results, docs / "images" / "bench.png")
    pictures.draw_history(history, docs / "images" / "bench-history.png")


def show(results: Sequence[Result]) -> None:
    """Print the table."""
    table = Table(*pages.HEADS, box=None)
    for row in pages.rows(results):
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def _parser() -> argparse.ArgumentParser:
    lines = [f"  {name:<16} {_purpose(name)}" for name in NAMES]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Run the benchmarks that are named, or all; all of them write docs/benchmarks.md too.",
        epilog="\n".join(
            ["benchmarks:", *lines, "", "emulator --help: to run a part of it, and to compare two runs."]
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", metavar="NAME", nargs="*", help="one or more of those below")
    parser.add_argument("--quick", action="store_true", help="smaller and fewer runs")
    return parser


def _purpose(name: str) -> str:
    """What a benchmark's module says of itself, without importing it."""
    text = Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
    words = " ".join((ast.get_docstring(ast.parse(text)) or "").partition("\n\n")[0].split())
    return words.partition(":")[0].removesuffix(".").replace("``", "")


def main() -> None:
    """Run what was asked for; the documentation is written only where that is all there is."""
    if sys.argv[1:2] == ["emulator"]:
        emulator.main(sys.argv[2:])
        return
    parser = _parser()
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(NAMES):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    # What drakcelery says about each upload is not what is asked for here
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    found = run(arguments.names or NAMES, quick=arguments.quick)
    results = [result for rows in found.values() for result in rows]
    show(results)
    if "watching" in found and not arguments.quick:
        watching.write(found["watching"])
    if not arguments.names:
        write(results, quick=arguments.quick)


if __name__ == "__main__":
    main()
