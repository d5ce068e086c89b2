"""What one analysis saw and another did not. Pure.

Only what the samples did is compared. Things whose names differ by nothing but what runs choose by chance
(:mod:`drakcelery.behaviour.alike`) are compared together: what was done to them, which programs they are, and
roughly how many there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, get_args

from drakcelery.behaviour import alike
from drakcelery.behaviour.doings import Doing, Doings, Kind
from drakcelery.behaviour.report import Observed, Report
from drakcelery.model.analysis import Value

KINDS: tuple[Kind, ...] = get_args(Kind)
DIFFERENCE = "difference.json"
"""The difference of a second look from the first one, beside its report."""
NOT_LASTING: frozenset[Kind] = frozenset({"mutexes", "calls", "capabilities"})
"""What a sample does before it has done anything."""
UNKNOWN: frozenset[Observed] = frozenset({"broke_off", "not_executed", "not_seen", "no_log"})
"""Of an analysis that says nothing about its sample."""
MANY_TIMES, MORE = 2, 3
"""One analysis has many more things of one name than the other: more than so many times as many, and at least
so many more. Less may be the speed of the machine."""
MOST_SAID = 8
"""What is said of one side of a difference."""


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
    """The name. Where several have one that differs only by chance, ``<*>`` stands for that."""
    first: tuple[str, ...] = ()
    """Of one that has changed: what only the first analysis says of it."""
    second: tuple[str, ...] = ()

    @property
    def is_news(self) -> bool:
        """Whether the second analysis shows something that lasts and that the first one did not."""
        return self.kind not in NOT_LASTING and (self.what == "new" or bool(self.second))


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
    """False if one of the reports says that lists were full, that its run broke off, or that nothing can be
    said about its sample."""

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
        is_whole=all(map(_is_whole, (first, second))),
    )


def _is_whole(report: Report) -> bool:
    ending = report.ending
    return ending.observed not in UNKNOWN and ending.complete is not False and not report.left_out


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
        ours, theirs = _by_pattern(self._first), _by_pattern(self._second)
        for pattern in {**ours, **theirs}:
            yield from self._grouped(ours.get(pattern, []), theirs.get(pattern, []))

    def _compared(self, one: Doing, other: Doing) -> Iterator[Change]:
        """The difference of two things of one name."""
        first, second = _only_of([one], [other]), _only_of([other], [one])
        if first or second:
            yield Change(
                kind=one.kind, what="changed", shown=one.shown, first=_cut(first), second=_cut(second)
            )
        elif one.says == other.says:
            self.same[one.kind] += 1
        else:
            self.alike[one.kind] += 1

    def _grouped(self, ours: list[Doing], theirs: list[Doing]) -> Iterator[Change]:
        """The differences of things whose names differ by chance; those of one name are compared already."""
        alone = [one for one in ours if one.name not in self._second.all]
        alone += [one for one in theirs if one.name not in self._first.all]
        if not ours or not theirs:
            what: Literal["missing", "new"] = "missing" if ours else "new"
            yield from (Change(kind=one.kind, what=what, shown=one.shown) for one in alone)
        elif alone:
            kind, shown = alone[0].kind, alike.pattern(alone[0].shown)
            self.alike[kind] += len(alone)
            first, second = _only_of(ours, theirs), _only_of(theirs, ours)
            if _is_many_more(len(ours), len(theirs)):
                first, second = [f"{len(ours)} of them", *first], [f"{len(theirs)} of them", *second]
            if first or second:
                yield Change(kind=kind, what="changed", shown=shown, first=_cut(first), second=_cut(second))


def _by_pattern(these: Doings) -> dict[tuple[str, ...], list[Doing]]:
    found: dict[tuple[str, ...], list[Doing]] = {}
    for one in these.all.values():
        found.setdefault(one.pattern, []).append(one)
    return found


def _only_of(these: Sequence[Doing], those: Sequence[Doing]) -> list[str]:
    """What is said of *these* and not of *those*, in order. Contents are, if some of both are known."""
    known = {alike.pattern(text) for one in those for text in one.says}
    only = sorted({text for one in these for text in one.says if alike.pattern(text) not in known})
    mine, others = ({text for one in some for text in one.contents} for some in (these, those))
    return only + [f"content {text}" for text in sorted(mine - others) if others]


def _cut(says: Sequence[str]) -> tuple[str, ...]:
    left = len(says) - MOST_SAID
    return (*says[:MOST_SAID], *((f"and {left} more",) if left > 0 else ()))


def _is_many_more(one: int, other: int) -> bool:
    few, many = sorted((one, other))
    return many > MANY_TIMES * few and many - few >= MORE
