"""Reads the logs of a run that shows little once more, for its clues: a busy run costs nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from drakcelery.behaviour import evasion
from drakcelery.behaviour.events import Event
from drakcelery.behaviour.probes import PLUGINS, Probes
from drakcelery.behaviour.report import Report
from drakcelery.model.analysis import Outcome
from drakcelery.model.clues import Clue

MOST_BYTES = 32 * 1024**2
"""Of each log: who evades does it soon."""
MOST_LINE = 64 * 1024
"""Bytes of a line; longer ones are left out."""


def find_clues(out: Path, report: Report, outcome: Outcome) -> tuple[Clue, ...]:
    """The clues of the run of *report*, whose logs are in the directory *out*. Raises :class:`OSError`."""
    if not evasion.may_have_clues(report):
        return evasion.clues(report, None)
    probes = Probes(own=evasion.own_pids(report), sample=report.sample.name)
    for plugin in PLUGINS:
        path = out / f"{plugin}.log"
        if path.is_file():
            for event in _events(path):
                probes.add(plugin, event)
    was_stopped = outcome.watch is not None and outcome.watch.ended == "quiet"
    return evasion.clues(report, probes, was_stopped=was_stopped)


def _events(path: Path) -> Iterator[Event]:
    left = MOST_BYTES
    with path.open("rb") as file:
        while left > 0 and (line := file.readline(MOST_LINE)):
            left -= len(line)
            event = Event.parse(line)  # none of a line that was cut
            if event is not None:
                yield event
