"""What of a report is handed to others: what the sample did, and at most 1000 entries of a list. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from drakcelery.behaviour.report import FileActivity, RegistryActivity, Report, Seen
from drakcelery.operators.exchange import values
from drakcelery.operators.report.lists import is_telling
from drakcelery.operators.report.processes import Cast

MOST = 1000
"""Entries of a list that are taken."""
S = TypeVar("S", bound=Seen)


class Selection:
    """Picks them.

    Attributes:
        cast: the processes of the report.
        left_out: by list: entries of the sample's beyond the first 1000, or that the other form has none for.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self.cast = Cast(report)
        self.left_out: Counter[str] = Counter()

    def each(self, name: str, rows: Iterable[S], add: Callable[[S], object]) -> None:
        """Have *add* take each of *rows*; it returns None for one that it cannot take."""
        taken = 0
        for one in rows:
            if not self.cast.is_own(one):
                continue
            if taken < MOST and add(one) is not None:
                taken += 1
            else:
                self.left_out[name] += 1

    def files(self) -> list[FileActivity]:
        """All files; those that can be run, or that Windows starts, come first."""
        return sorted(self._report.files, key=lambda one: not is_telling(one))

    def registry(self) -> list[RegistryActivity]:
        """All values; those by which Windows starts something come first."""
        return sorted(self._report.registry, key=lambda one: not is_telling(one))

    def processes(self) -> list[int]:
        """The sample's processes by their numbers, in their order."""
        own = self.cast.own
        real = [number for number in own if 0 <= self.cast.all[number].pid <= values.MOST_PID]
        taken = sorted(real, key=self.cast.order)[:MOST]
        self.left_out["processes"] += len(own) - len(taken)
        return taken

    def sentences(self) -> Iterator[str]:
        """How the analysis ended, and what is missing."""
        yield values.line(self._report.ending.summary) or self._report.ending.observed
        for name, count in self.left_out.items():
            if count:
                yield f"Left out of the list {name} of report.json: {count}."
        if self._report.left_out:
            yield "Some lists of report.json were full, so they are not the whole."
