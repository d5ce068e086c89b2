"""Tables of reports: of one run, and of two beside each other."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from benchmarks.corpus.running import COMPLETE, Report

MOST = 40
"""Rows of the rankings."""


def read(path: Path) -> list[Report]:
    """The reports that a run has written."""
    return [Report(**values) for values in json.loads(path.read_text(encoding="utf-8"))]


def counts(report: Report) -> bool:
    """Whether a report counts for the targets: an EXE file that Windows would start, and the engine takes."""
    return report.starts and not report.library and report.verdict not in ("refused", "not executed")


def line(report: Report) -> str:
    """One report on one line."""
    past = "past start-up" if report.past_start_up else "in start-up"
    amount = f"{report.seconds:5.1f} s {report.calls:>7} calls {report.events:>5} events"
    why = f": {report.reason} [{report.last_call}]" if report.reason else ""
    return f"{report.verdict:<12} {past:<13} {amount}  {report.name}{why}"


def page(reports: Sequence[Report]) -> str:
    """The table by kind, what broke off, and what was missing, in Markdown."""
    broken = [report for report in reports if report.verdict not in (*COMPLETE, "refused", "not executed")]
    missing: Counter[str] = Counter()
    problems: Counter[str] = Counter()
    for report in reports:
        missing.update(report.missing.keys())
        problems.update(report.problems.keys())
    parts = [
        _by_kind(reports),
        "Not complete:\n\n" + "".join(f"- {line(report)}\n" for report in broken),
        "Missing functions, by the programs that called them:\n\n" + _ranking(missing),
        "Functions whose imitation failed, likewise:\n\n" + _ranking(problems),
    ]
    if tracebacks := [report for report in reports if report.traceback]:
        parts.append("Tracebacks:\n\n" + "".join(f"- {one.name}: {one.traceback}\n" for one in tracebacks))
    return "\n".join(parts)


def _ranking(counted: Counter[str]) -> str:
    return "".join(f"- {number:>3} {name}\n" for name, number in counted.most_common(MOST))


HEADS = ("Kind", "Programs", "Past start-up", "Complete", "Ended", "Limit", "Broke off", "Hang, failed", "s")


def _by_kind(reports: Sequence[Report]) -> str:
    groups: dict[str, list[Report]] = defaultdict(list)
    for report in reports:
        if counts(report):
            groups[f"{report.kind}, {report.bits} bit"].append(report)
            groups["all EXE files"].append(report)
        elif report.verdict not in ("refused", "not executed"):
            groups["DLLs" if report.library else "EXE files without their DLLs"].append(report)
    rows = [" | ".join(HEADS), " | ".join("---" for _ in HEADS)]
    names = sorted(groups, key=lambda one: (one.startswith(("all", "DLL", "EXE")), one))
    rows += [" | ".join((name, *_cells(groups[name]))) for name in names]
    refused = sum(report.verdict in ("refused", "not executed") for report in reports)
    return "".join(f"| {row} |\n" for row in rows) + f"\nRefused or not executed: {refused}\n"


def _cells(group: Sequence[Report]) -> list[str]:
    def number(*verdicts: str) -> str:
        return str(sum(report.verdict in verdicts for report in group))

    def share(part: int) -> str:
        return f"{part} ({100 * part / len(group):.0f} %)"

    return [
        str(len(group)),
        share(sum(report.past_start_up for report in group)),
        share(sum(report.verdict in COMPLETE for report in group)),
        number("ended"),
        number("limit"),
        number("broke off"),
        number("hang", "failed"),
        f"{sum(report.seconds for report in group) / len(group):.1f}",
    ]


def compared(before: Sequence[Report], after: Sequence[Report]) -> str:
    """Both tables, and each program that became better or worse."""
    earlier = {report.name: report for report in before}
    changes = []
    for report in after:
        was = earlier.get(report.name)
        if was is None or (_rank(was), was.verdict) == (_rank(report), report.verdict):
            continue
        word = "better" if _rank(report) > _rank(was) else "WORSE" if _rank(report) < _rank(was) else "other"
        changes.append(f"- {word}: {report.name}: {was.verdict} -> {line(report)}\n")
    return f"Before:\n\n{_by_kind(before)}\nAfter:\n\n{_by_kind(after)}\n" + "".join(sorted(changes))


def _rank(report: Report) -> tuple[bool, bool]:
    return report.past_start_up, report.verdict in COMPLETE
