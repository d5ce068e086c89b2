"""What one analysis saw and another did not. Pure.

Only what the samples did is compared. A thing that only one of them did is no difference if the other did one
that differs by nothing but what runs choose by chance (:mod:`drakcelery.behaviour.alike`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

from drakcelery.behaviour.doings import Doing, Doings, Kind
from drakcelery.behaviour.report import Report
from drakcelery.model.analysis import Value

KINDS: tuple[Kind, ...] = get_args(Kind)


class Side(Value):
    """One of the two analyses."""

    analysis_uid: str
    sha256: str
    name: str
    """The sample's in the guest."""
    engine: str
    observed: str
    """As in the report: whether what was seen is the whole."""
    summary: str


class Change(Value):
    """A difference."""

    kind: Kind
    what: Literal["missing", "new", "changed"]
    """``missing``: only the first analysis has it; ``new``: only the second one."""
    shown: str
    first: tuple[str, ...] = ()
    """Of one that has changed: what only the first analysis says of it."""
    second: tuple[str, ...] = ()


class Difference(Value):
    """The differences of two analyses."""

    version: Literal[1] = 1
    first: Side
    second: Side
    changes: tuple[Change, ...]
    same: dict[str, int]
    """By kind: things that both did."""
    alike: dict[str, int]
    """By kind: things of one, or of both, that differ only by what may be chance."""
    background: tuple[int, int]
    """How many of Windows' own files and registry values each has, which are not compared."""
    is_whole: bool
    """False if one of the reports says that lists were full, or that its run broke off."""

    @property
    def is_same(self) -> bool:
        """Whether there is no difference."""
        return not self.changes


def difference(first: Report, second: Report) -> Difference:
    """Compare two reports."""
    ours, theirs = Doings(first), Doings(second)
    comparison = _Comparison(ours, theirs)
    changes = tuple(comparison.changes())
    return Difference(
        first=_side(first),
        second=_side(second),
        changes=tuple(sorted(changes, key=lambda one: (KINDS.index(one.kind), one.what, one.shown))),
        same={kind: count for kind, count in comparison.same.items() if count},
        alike={kind: count for kind, count in comparison.alike.items() if count},
        background=(ours.background, theirs.background),
        is_whole=all(one.ending.complete is not False and not one.left_out for one in (first, second)),
    )


def _side(report: Report) -> Side:
    return Side(
        analysis_uid=report.analysis_uid,
        sha256=report.sample.sha256,
        name=report.sample.name,
        engine=report.run.engine,
        observed=report.ending.observed,
        summary=report.ending.summary,
    )


class _Comparison:
    """Compares, and counts what is no difference."""

    def __init__(self, first: Doings, second: Doings) -> None:
        self._first, self._second = first, second
        self.same: dict[Kind, int] = dict.fromkeys(KINDS, 0)
        self.alike: dict[Kind, int] = dict.fromkeys(KINDS, 0)

    def changes(self) -> Iterator[Change]:
        """What differs."""
        for key, one in self._first.all.items():
            other = self._second.all.get(key)
            if other is not None:
                yield from self._compared(one, other)
        yield from self._only(self._first, self._second, "missing")
        yield from self._only(self._second, self._first, "new")

    def _compared(self, one: Doing, other: Doing) -> Iterator[Change]:
        if one.says == other.says:
            self.same[one.kind] += 1
        elif one.meaning == other.meaning:
            self.alike[one.kind] += 1
        else:
            yield Change(
                kind=one.kind,
                what="changed",
                shown=one.shown,
                first=tuple(sorted(one.says - other.says)),
                second=tuple(sorted(other.says - one.says)),
            )

    def _only(self, these: Doings, those: Doings, what: Literal["missing", "new"]) -> Iterator[Change]:
        known = {one.pattern for one in those.all.values()}
        for key, one in these.all.items():
            if key in those.all:
                continue
            if one.pattern in known:
                self.alike[one.kind] += 1
            else:
                yield Change(kind=one.kind, what=what, shown=one.shown)
