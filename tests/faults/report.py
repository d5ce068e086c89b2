"""The tables in docs/guarantees.md, from what the fault suite wrote: ``python -m tests.faults.report``."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.pages import filled
from drakcelery.failpoints import POINTS
from drakcelery.model.analysis import State

REPOSITORY = Path(__file__).parents[2]
FAULTS = REPOSITORY / "build" / "faults.json"
CONTENTS = REPOSITORY / "build" / "contents.json"
OUTAGES = REPOSITORY / "build" / "outages.json"
SIMULATION = REPOSITORY / "build" / "simulation.json"
CHAOS = REPOSITORY / "build" / "chaos.json"
PAGE = REPOSITORY / "docs" / "guarantees.md"
ACTIONS = {
    "child": "kill -9 of the pool process",
    "worker": "kill -9 of the worker",
    "exception": "exception",
    "sigterm": "SIGTERM to the worker",
}
"""Faults, and the words for them at the head of their column."""
AWAY = {
    "redis": "Redis with the broker on it",
    "broker": "a broker apart",
    "both": "Redis and a broker apart",
    "power": "power, everywhere",
}
"""Outages, and the words for them."""
FIRST = ("ingress", "vm", "io")


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
    table = [_row(["Failpoint", *ACTIONS.values()]), _row(["---"] * (len(ACTIONS) + 1)), *map(_row, rows)]
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


@dataclass(frozen=True, kw_only=True)
class Outage:
    """An outage, who is back first, and how that ended where it was run."""

    what: str
    """One of :data:`AWAY`."""
    leases: int
    """How long it lasts."""
    first: str
    """``ingress``, ``vm`` or ``io``."""
    guest_attempts: int | None = None
    innocent_ended: int | None = None
    """Attempts that ended though nothing had happened to them."""
    detonated_again: int | None = None
    found_seconds: float | None = None
    """How soon a vm worker that died afterwards, and stayed away, was found to be gone."""

    @property
    def name(self) -> str:
        """Of the case."""
        return f"{self.what}-{self.leases}-{self.first}"


CASES = (
    *(
        Outage(what=what, leases=leases, first=first)
        for what in ("redis", "power", "broker", "both")
        for leases in (1, 3)
        for first in FIRST
    ),
    Outage(what="power", leases=10, first="ingress"),
)
"""The whole matrix *outage x order of return*."""


def outages(found: Sequence[Outage]) -> str:
    """A row for each outage, a column for who is back first."""
    cells = {(one.what, one.leases, one.first): one for one in found}
    table = [_row(["Away", "Leases", *(f"first back: {one}" for one in FIRST)]), _row(["---"] * 5)]
    for what, words in AWAY.items():
        for leases in sorted({one.leases for one in found if one.what == what}):
            shown = [_after_outage(cells.get((what, leases, first))) for first in FIRST]
            table.append(_row([words, str(leases), *shown]))
    worst = max(one.found_seconds or 0.0 for one in found)
    return "\n".join(
        [
            *table,
            "",
            f"{len(found)} of {len(CASES)} cases were run; the real death was found within {worst:.0f} s.",
        ]
    )


def _after_outage(case: Outage | None) -> str:
    if case is None:
        return "-"
    wrong = f", {case.innocent_ended} ended" if case.innocent_ended else ""
    wrong += f", {case.detonated_again} detonated again" if case.detonated_again else ""
    return (
        f"all published, guest in attempt {case.guest_attempts}{wrong}; death found in {case.found_seconds} s"
    )


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


def simulation(tally: Mapping[str, Any]) -> str:
    """A row for each figure of a batch of schedules, and how often each thing went wrong in it."""
    first, count, seconds = tally["first_seed"], tally["schedules"], tally["seconds"]
    failed = ", ".join(map(str, tally["failed"])) or "none"
    rows = {
        "schedules": f"{count:,}",
        "seeds": f"{first} to {first + count - 1}, `STEPS={tally['steps_each']}`",
        "failed": failed,
        "steps": f"{tally['steps']:,}",
        "virtual time": f"{tally['virtual_seconds'] / 3600:,.0f} hours",
        "speed": f"{tally['steps'] / seconds:,.0f} steps/s, {count / seconds:.1f} schedules/s",
    }
    lines = ["| Figure | Value |", "| --- | ---: |", *(_row([name, rows[name]]) for name in rows)]
    drawn = sorted(tally["drawn"].items(), key=lambda one: (-one[1], one[0]))
    said = ", ".join(f"{name} {times:,}" for name, times in drawn)
    return "\n".join([*lines, "", f"What went wrong, and how often: {said}."])


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
    if SIMULATION.exists():
        page = filled(page, "simulation", simulation(json.loads(SIMULATION.read_text())))
    if OUTAGES.exists():
        run = [Outage(**one) for one in json.loads(OUTAGES.read_text())]
        page = filled(page, "outages", outages(run))
    PAGE.write_text(page)
    sys.stdout.write(f"{PAGE}\n")


if __name__ == "__main__":
    main()
