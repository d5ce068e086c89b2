"""Waits for several analyses at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from karton.core.task import Task

from drakcelery.errors import StackError
from drakcelery.forecast.forecast import make_forecast
from drakcelery.ledger import Ledger
from drakcelery.model.analysis import State
from drakcelery.model.names import is_uid
from drakcelery.model.records import Record
from drakcelery.operators import analyses, finding
from drakcelery.settings import Settings

POLL_SECONDS = 0.25
PER_RECORD = 0.005
"""Seconds between two looks for each analysis that is waited for: Redis has others to serve."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """What the ledger says at one moment."""

    now: float
    """UNIX time by Redis' clock."""
    records: Mapping[str, Record]
    """By uid; without those that wait in Karton."""
    changed: tuple[str, ...]
    """The uids of those that are not as they were."""
    left: int
    """How many are not over."""
    twins: Mapping[str, str] = field(default_factory=dict)
    """By uid of those that wait in Karton for another analysis's result: which one it is."""


def looks(
    ledger: Ledger, uids: Sequence[str], *, pause: Callable[[float], object] = time.sleep
) -> Iterator[Look]:
    """Look again and again, until all analyses are over; the last look shows that."""
    records: dict[str, Record] = {}
    seen: dict[str, tuple[object, ...]] = {}
    left = list(dict.fromkeys(uids))
    while True:
        for record in ledger.records(left):
            records[record.uid] = record
        twins = _twins(ledger, [uid for uid in left if uid not in records])
        steps = {uid: _step(records.get(uid), twins.get(uid)) for uid in left}
        changed = tuple(uid for uid in left if uid not in seen or seen[uid] != steps[uid])
        seen.update(steps)
        left = [uid for uid in left if uid not in records or not records[uid].state.is_over]
        yield Look(now=ledger.now(), records=dict(records), changed=changed, left=len(left), twins=twins)
        if not left:
            return
        pause(max(POLL_SECONDS, PER_RECORD * len(left)))


def _twins(ledger: Ledger, uids: Sequence[str]) -> dict[str, str]:
    """Which of these wait for a twin, by the uid that `submit` gives a task and its analysis."""
    if not uids:
        return {}
    waiting = {Task.fquid_to_uid(one.task_uid): one.waits_for for one in ledger.inbox().twins.waiting()}
    return {uid: twin for uid in uids if (twin := waiting.get(uid)) is not None}


def _step(record: Record | None, twin: str | None) -> tuple[object, ...]:
    return (twin,) if record is None else (record.state, record.attempts, record.slot)


def resolve(settings: Settings, ledger: Ledger, uid: str) -> str:
    """The whole uid of an analysis, or of a sample that waits in Karton for one, from what somebody types.

    Raises:
        StackError: there is none, or several begin so.
    """
    record = finding.record_of(ledger, uid)
    if record is not None:
        return record.uid
    own = f"{{{uid}}}:{uid}"
    if is_uid(uid) and ledger.karton_task(own) is not None:
        return uid  # `submit` makes them so; the forecast knows the first ones only
    queued = make_forecast(settings, ledger, ledger.inbox()).find(uid)
    return queued.uid if queued is not None else analyses.find_record(ledger, uid).uid


def unpublished(look: Look) -> list[Record]:
    """The analyses that are over and have no result."""
    return [one for one in look.records.values() if one.state.is_over and one.state is not State.PUBLISHED]


def require_some(uids: Sequence[str]) -> None:
    """Raise :class:`StackError` if there is nothing to wait for."""
    if not uids:
        raise StackError("no uid was given: `drakcelery submit` prints them, `drakcelery find` finds them")
