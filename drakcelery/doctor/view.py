"""How findings look on a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from drakcelery.doctor.finding import LONGEST, Finding, Status
from drakcelery.model.text import clean

_STYLES = {Status.OK: "green", Status.WARNING: "yellow", Status.FAILED: "bold red", Status.SKIPPED: "dim"}


def findings_view(findings: Sequence[Finding]) -> RenderableType:
    """A line for each finding, below it how to fix it; at the end how many there are of each kind.

    What to type is in :func:`command_lines`.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("CHECK", no_wrap=True)
    table.add_column("RESULT", no_wrap=True)
    table.add_column("FOUND", overflow="fold")
    for finding in findings:
        style = _STYLES[finding.status]
        dim = "dim" if finding.status is Status.SKIPPED else ""
        found = Text(clean(finding.said, LONGEST), style=dim)
        table.add_row(finding.check, Text(finding.status.value, style=style), found)
        if finding.remedy:
            table.add_row("", "", Text(f"→ {clean(finding.remedy, LONGEST)}", style="cyan"))
    return Group(table, Text(), _summary(findings))


def _summary(findings: Sequence[Finding]) -> Text:
    counted = Counter(finding.status for finding in findings)
    parts = [(f"{counted[status]} {status.value}", _STYLES[status]) for status in Status if counted[status]]
    return Text(", ").join(Text(words, style=style) for words, style in parts)


def command_lines(findings: Sequence[Finding]) -> list[str]:
    """All commands, each below the name of its check, as a text that a shell takes: not to be wrapped."""
    lines = []
    for finding in findings:
        if finding.commands:
            lines += ["", f"# {finding.check}", *(clean(one, LONGEST) for one in finding.commands)]
    return lines
