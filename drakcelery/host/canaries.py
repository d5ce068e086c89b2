"""Which slots are due for a canary. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from drakcelery.host.history import Run
from drakcelery.host.slot import Slot, SlotState
from drakcelery.host.slots import CLOCK_SECONDS
from drakcelery.settings import Settings

IDLE_SECONDS = 60.0
"""Seconds for which a slot must have been free, so that nothing waits for it. A new slot takes samples at
once."""
SHARE = 0.01
"""Share of a slot's time for canaries that are not necessary."""
HOUR = 3600.0


@dataclass(frozen=True, kw_only=True)
class Due:
    """A slot that a canary is due in."""

    slot: str
    why: str
    """``quarantine``, ``score``, ``asked``, ``undrain``, ``start`` or ``idle``."""


def due(
    slots: Sequence[Slot],
    runs: Iterable[Run],
    *,
    asked: Collection[str],
    settings: Settings,
    began: float,
    now: float,
) -> list[Due]:
    """The slots to try now; of slots that seem to work, only one at a time.

    Args:
        asked: slots to try as soon as they are free.
        began: when this worker began.
        now: UNIX time, like all times here.
    """
    if not settings.canary.enabled:
        return []
    last = {run.slot: run for run in runs if run.kind.is_canary and not _is_ahead(run.at, now)}
    patience = settings.drakcelery.quarantine_seconds
    reasons = [(slot.name, _reason(slot, patience, now)) for slot in slots if slot.drain is None]
    found = [Due(slot=name, why=why) for name, why in reasons if why is not None]
    if settings.engine == "replay" or any(slot.is_canary for slot in slots):
        return found
    return found + list(_unasked(slots, last, asked, settings.canary.idle_hours * HOUR, began, now))[:1]


def _reason(slot: Slot, patience: float, now: float) -> str | None:
    """Why a slot that no operator has closed needs a canary; None if it does not."""
    if slot.state is SlotState.FREE and slot.calls.is_due:
        return slot.calls.why
    if slot.state is not SlotState.QUARANTINED:
        return None
    if slot.calls.is_due and slot.calls.why == "asked":
        return "asked"
    return "quarantine" if _lasts(slot, patience, now) else None


def is_rested(runs: Iterable[Run], name: str, *, now: float) -> bool:
    """Whether another canary would stay within its :data:`SHARE` of the slot's time."""
    last = [run for run in runs if run.slot == name and run.kind.is_canary and not _is_ahead(run.at, now)]
    return not last or _is_rested(last[-1], now)


def _is_rested(run: Run, now: float) -> bool:
    return now - run.at >= run.facts.seconds / SHARE


def _unasked(
    slots: Iterable[Slot],
    last: dict[str, Run],
    asked: Collection[str],
    every: float,
    began: float,
    now: float,
) -> Iterator[Due]:
    for slot in slots:
        if not slot.is_vacant or slot.calls.is_due:
            continue
        if slot.name in asked:
            yield Due(slot=slot.name, why="undrain")
            continue
        run = last.get(slot.name)
        if (run is not None and not _is_rested(run, now)) or not _lasts(slot, IDLE_SECONDS, now):
            continue
        if run is None or (run.at < began and not _is_ahead(began, now)):
            yield Due(slot=slot.name, why="start")
        elif every and now - run.at >= every:
            yield Due(slot=slot.name, why="idle")


def _lasts(slot: Slot, seconds: float, now: float) -> bool:
    return now - slot.since >= seconds or _is_ahead(slot.since, now)


def _is_ahead(then: float, now: float) -> bool:
    """Whether a time is in the future, since the clock was set back; then it says nothing."""
    return then - now > CLOCK_SECONDS
