"""What a broken slot costs: seven ways of being broken, in fleets of two and of eight slots.

The fleet of :mod:`benchmarks.ward`, in virtual time, with bad samples among the others. From the start one
slot is broken; three quarters of the samples later it is fixed. Good samples count as published where what
was published is not what a broken slot left: an analysis with an empty log is none.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from benchmarks import pages
from benchmarks.measuring import Result
from benchmarks.ward import Break, Place, Ward, stay
from drakcelery.model.analysis import State
from tests.simulation.schedule import Schedule
from tests.simulation.valkey import Valkey

FLEETS = {2: (1, 2), 8: (2, 4)}
"""Slots in all: hosts, and slots of each."""
SAMPLES = {2: 60, 8: 96}
BAD = 0.05
"""Of the samples, which fail in every slot."""
ILL: Place = ("rack-1", "vm-1")
MENDED = 0.75
"""After such a share of the samples is over."""
TRIED_AGAIN = 60
"""``[drakcelery] quarantine_seconds``."""
HEALTHY = (4, 8)
"""Hosts, and slots of each, of a fleet without a broken slot."""
HEALTHY_RUNS = 1_000
HEALTHY_FLEETS = 11
"""Fleets, each from a seed of its own; in one of 10,000 runs, what is kept of each slows down the rest."""
HEADS = (
    *("Broken", "Slots", "Good samples published", "Spoiled", "Its samples until out of use", "Until mended"),
    *("Back after the mend", "Healthy slots put aside"),
)
PAGE = pages.REPOSITORY / "docs" / "guarantees.md"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What was seen of one fleet."""

    how: Break | None
    slots: int
    good: int
    """Samples that are not bad."""
    published: int
    """Of those: published, and by a slot that worked."""
    spoiled: int
    """Of those: published, with what a broken slot left."""
    runs: int
    """Guests of samples, in all slots."""
    until_aside: int | None
    """Guests of samples that the broken slot had until it was out of use; None if it never was."""
    in_all: int
    """Guests of samples that it had until it was fixed."""
    canaries: int | None
    """How many began in it from then until it was back in use; None if that was not seen."""
    back: float | None
    """Seconds until that."""
    innocent: int
    """How often a slot was put aside that was not broken, or had come back after the fix."""

    @property
    def share(self) -> float:
        """Of the good samples, those that were published as they should, in per cent."""
        return 100 * self.published / self.good


def measure(*, quick: bool) -> list[Result]:
    """All ways and fleets, and a fleet without a broken slot; the table is written unless *quick*."""
    with Valkey() as valkey:
        if quick:
            cells = [_cell(valkey, how, 2, samples=24) for how in (Break.INJECTION, Break.EMPTY_LOG)]
            healthy = _healthy(valkey, runs=100, seeds=range(1, 2))
        else:
            cells = [_cell(valkey, how, slots, samples=SAMPLES[slots]) for slots in FLEETS for how in Break]
            healthy = _healthy(valkey, runs=HEALTHY_RUNS, seeds=range(1, HEALTHY_FLEETS + 1))
            page = PAGE.read_text(encoding="utf-8")
            PAGE.write_text(pages.filled(page, "broken slots", table(cells, healthy)), encoding="utf-8")
    runs = [cell.in_all if cell.until_aside is None else cell.until_aside for cell in cells]
    rate = 10_000 * healthy.innocent / healthy.runs
    return [
        _result("broken slots, good samples published, worst", "%", min(cell.share for cell in cells)),
        _result("broken slots, runs until out of use, worst", "runs", max(runs), less=True),
        _result("broken slots, healthy ones put aside in 10,000 runs", "slots", rate, less=True),
    ]


def _result(name: str, unit: str, ours: float, *, less: bool = False) -> Result:
    return Result(name=name, unit=unit, ours=ours, runs=1, less_is_better=less)


def _cell(valkey: Valkey, how: Break, slots: int, *, samples: int) -> Cell:
    hosts, each = FLEETS[slots]
    schedule = Schedule(seed=slots, hosts=hosts, slots=each, options={"quarantine_seconds": TRIED_AGAIN})
    ward = Ward(ill={ILL: how}, bad=_bad(samples))
    states = stay(valkey, schedule, ward, samples=samples, mend_after=int(MENDED * samples))
    return seen(how, slots, ward, states)


def _healthy(valkey: Valkey, *, runs: int, seeds: range) -> Cell:
    cells = [_healthy_fleet(valkey, runs=runs, seed=seed) for seed in seeds]
    return replace(
        cells[0],
        good=sum(cell.good for cell in cells),
        published=sum(cell.published for cell in cells),
        runs=sum(cell.runs for cell in cells),
        innocent=sum(cell.innocent for cell in cells),
    )


def _healthy_fleet(valkey: Valkey, *, runs: int, seed: int) -> Cell:
    hosts, each = HEALTHY
    samples = int(runs / (1 + 2 * BAD))  # a bad one has three attempts
    ward = Ward(ill={}, bad=_bad(samples))
    schedule = Schedule(seed=seed, hosts=hosts, slots=each)
    states = stay(valkey, schedule, ward, samples=samples, mend_after=samples)
    return seen(None, hosts * each, ward, states)


def _bad(samples: int) -> frozenset[str]:
    chance = random.Random(1)  # noqa: S311 it guards nothing
    return frozenset(f"s-{number}" for number in chance.sample(range(samples), round(BAD * samples)))


def seen(how: Break | None, slots: int, ward: Ward, states: dict[str, str]) -> Cell:
    """What *ward* and the samples' *states* say."""
    done = {uid for uid, state in states.items() if state == State.PUBLISHED and uid not in ward.bad}
    spoiled = {uid for uid in done if ward.spoiled.get(uid)}
    mended = float("inf") if ward.mended is None else ward.mended
    mine = [guest for guest in ward.guests if guest.place == ILL] if how else []
    ill = [guest for guest in mine if guest.at < mended and not ward.is_canary(guest)]
    aside = next((at for at, place in ward.put_aside if place == ILL and at < mended), None)
    returned = next((at for at, place in ward.taken_back if place == ILL and at >= mended), float("inf"))
    canaries = sum(mended <= guest.at < returned and ward.is_canary(guest) for guest in mine)
    was_seen = returned < float("inf")
    return Cell(
        how=how,
        slots=slots,
        good=len(states) - len(ward.bad),
        published=len(done - spoiled),
        spoiled=len(spoiled),
        runs=sum(not ward.is_canary(guest) for guest in ward.guests),
        until_aside=None if aside is None or how is None else sum(guest.at < aside for guest in ill),
        in_all=len(ill),
        canaries=canaries if was_seen else None,
        back=returned - mended if was_seen else None,
        innocent=sum(place != ILL or how is None or at >= returned for at, place in ward.put_aside),
    )


def table(cells: Sequence[Cell], healthy: Cell) -> str:
    """As Markdown."""
    lines = ["`python -m benchmarks broken_slots`:", "", _line(HEADS), _line(["---"] * len(HEADS))]
    lines += [_line(_row(cell)) for cell in cells]
    share = f"{healthy.published:,} of {healthy.good:,} good samples were published"
    innocent = f"{healthy.innocent} times in {healthy.runs:,} runs a slot was put aside"
    return "\n".join([*lines, "", f"Without a broken slot, {healthy.slots} slots: {innocent}; {share}."])


def _line(cells: Iterable[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _row(cell: Cell) -> tuple[object, ...]:
    never = "never: nobody can say which of two is right" if cell.how is Break.SNAPSHOT else "never"
    until = never if cell.until_aside is None else cell.until_aside
    back = "it was never out" if cell.until_aside is None else "not seen"
    if cell.back is not None:
        back = f"{cell.canaries} canar{'y' if cell.canaries == 1 else 'ies'}, {cell.back:.0f} s"
    published = f"{cell.published} of {cell.good} ({cell.share:.1f} %)"
    innocent = f"{cell.innocent} in {cell.runs} runs"
    return cell.how, cell.slots, published, cell.spoiled, until, cell.in_all, back, innocent
