"""The tables in docs/guarantees.md, from what the fault suite wrote: ``python -m tests.faults.report``."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.pages import filled
from drakcelery.analysis import State
from drakcelery.faults import POINTS

REPOSITORY = Path(__file__).parents[2]
FAULTS = REPOSITORY / "build" / "faults.json"
CONTENTS = REPOSITORY / "build" / "contents.json"
CHAOS = REPOSITORY / "build" / "chaos.json"
PAGE = REPOSITORY / "docs" / "guarantees.md"
ACTIONS = {
    "child": "kill -9 of the pool process",
    "worker": "kill -9 of the worker",
    "exception": "exception",
    "sigterm": "SIGTERM to the worker",
}
"""Faults, and the words for them at the head of their column."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one case of the matrix ended."""

    point: str
    action: str
    state: str
    attempts: int
    reason: str | None
    """Why it was not published."""
    seconds: float
    """From the fault until the analysis was over and held nothing on any host any more."""


def matrix(outcomes: Sequence[Outcome]) -> str:
    """A row for each point, a column for each fault. Raises :class:`KeyError` where a case is missing."""
    cells = {(one.point, one.action): one for one in outcomes}
    rows = [[f"`{point}`", *(_cell(cells[point, action]) for action in ACTIONS)] for point in POINTS]
    table = [_row(["Fault point", *ACTIONS.values()]), _row(["---"] * (len(ACTIONS) + 1)), *map(_row, rows)]
    shown = [cells[point, action] for point in POINTS for action in ACTIONS]
    worst = max(one.seconds for one in shown)
    lines = [*table, "", f"{len(shown)} cases; the slowest took {worst:.0f} s."]
    if (away := cells.get(("run", "host"))) is not None:
        lines.append(
            f"A host that died in mid-run and stayed away: {away.state.lower()} by another host "
            f"after {away.seconds:.0f} s, in attempt {away.attempts}."
        )
    return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class Content:
    """What became of a task with an odd content at one place."""

    place: str
    content: str
    outcome: str


def contents(found: Sequence[Content]) -> str:
    """A row for each place: its outcomes, and which contents had each."""
    table = [_row(["Place", "Outcome", "Contents"]), _row(["---"] * 3)]
    for place in dict.fromkeys(one.place for one in found):
        here = [one for one in found if one.place == place]
        for outcome in sorted({one.outcome for one in here}):
            named = [one.content for one in here if one.outcome == outcome]
            table.append(_row([place, outcome, ", ".join(named)]))
    return "\n".join([*table, "", f"{len(found)} cases; the samples before and after each started."])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(outcome: Outcome) -> str:
    word = "CRASHED" if outcome.state == State.FAILED else outcome.state.lower()
    attempt = f", attempt {outcome.attempts}" if outcome.attempts > 1 else ""
    return f"{word}, {outcome.seconds:.1f} s{attempt}"


def storm(totals: Mapping[str, object]) -> str:
    """A row for each figure of the long storm, and how its odd tasks ended."""
    figures = {name: value for name, value in totals.items() if name != "contents"}
    rows = [f"| `{name}` | {'-' if value is None else value} |" for name, value in figures.items()]
    lines = ["| Figure | Value |", "| --- | ---: |", *rows]
    ended = totals.get("contents")
    if isinstance(ended, Mapping):
        lines += ["", _row(["Odd contents", "How they ended"]), _row(["---"] * 2)]
        lines += [_row([name, _counted(ends)]) for name, ends in ended.items()]
    return "\n".join(lines)


def _counted(ends: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {end}" for end, count in sorted(ends.items()))


def main() -> None:
    """Write the tables of the runs there are; what is missing stays as it is."""
    page = PAGE.read_text()
    if FAULTS.exists():
        page = filled(page, "matrix", matrix([Outcome(**one) for one in json.loads(FAULTS.read_text())]))
    if CHAOS.exists():
        page = filled(page, "storm", storm(json.loads(CHAOS.read_text())))
    if CONTENTS.exists():
        page = filled(
            page, "contents", contents([Content(**one) for one in json.loads(CONTENTS.read_text())])
        )
    PAGE.write_text(page)
    sys.stdout.write(f"{PAGE}\n")


if __name__ == "__main__":
    main()
