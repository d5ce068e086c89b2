"""A schedule that fails is cut down to what it takes to fail in the same way."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from tests.simulation.schedule import Schedule

Broken = Callable[[Schedule], str | None]
"""Runs a schedule; what it broke first, None if it passed."""
FEWEST_STEPS = 200


def kind_of(broken: str) -> str:
    """What two failures have in common that differ in names and numbers only."""
    return re.sub(r"[0-9.]+", "#", re.sub(r"s-\d+", "s", broken))[:60]


def shrunk(schedule: Schedule, broken: str, run: Broken) -> Schedule:
    """The smallest schedule found that breaks what *schedule* breaks, which is *broken*."""
    kind, smaller = kind_of(broken), True
    while smaller:
        smaller = False
        for candidate in (*_less_happens(schedule), *_less_is_there(schedule), *_less_is_odd(schedule)):
            found = run(candidate)
            if found is not None and kind_of(found) == kind:
                schedule, smaller = candidate, True
                break
    return schedule


def _less_happens(schedule: Schedule) -> Iterator[Schedule]:
    """Fewer faults, the largest cuts first; fewer samples; fewer steps."""
    size = len(schedule.faults)
    while size:
        for begin in range(0, len(schedule.faults), size):
            yield schedule.without(faults=frozenset(range(begin, begin + size)))
        size //= 2
    if len(schedule.samples) > 1:
        for place in range(len(schedule.samples)):
            yield schedule.without(samples=frozenset({place}))
    if schedule.steps > FEWEST_STEPS:
        yield replace(schedule, steps=schedule.steps // 2)


def _less_is_there(schedule: Schedule) -> Iterator[Schedule]:
    """Fewer machines. One has to be whole where another is not permanently."""
    some_are_lost = any(fault.kind == "unit down" for fault in schedule.faults)
    if schedule.hosts > 1 + some_are_lost:
        yield replace(schedule, hosts=schedule.hosts - 1)
    if schedule.slots > 1:
        yield replace(schedule, slots=1)
    if schedule.twin:
        yield replace(schedule, twin=False)
    if schedule.ingresses > 1:
        yield replace(schedule, ingresses=1)


def _less_is_odd(schedule: Schedule) -> Iterator[Schedule]:
    for place, sample in enumerate(schedule.samples):
        for simpler in (replace(sample, content="plain"), replace(sample, kills_at=None)):
            if simpler != sample:
                yield replace(
                    schedule, samples=(*schedule.samples[:place], simpler, *schedule.samples[place + 1 :])
                )
