"""The forecast: estimates for everything that waits or is at work, from the present data in Redis.

It is computed on demand and not stored. It reads the ledger, the lines and the heads of Karton's queues;
tasks beyond the first :data:`~drakcelery.forecast.backlog.LISTED` are only counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from karton.core.task import Task

from drakcelery.errors import StackError
from drakcelery.forecast.backlog import Backlog, Queued
from drakcelery.forecast.durations import Durations
from drakcelery.forecast.simulation import Estimate, KnownSlot, Situation, Wait, Work, estimate
from drakcelery.karton import contract, watch_field
from drakcelery.ledger import Ledger
from drakcelery.ledger.away import unless_odd
from drakcelery.ledger.inbox import Inbox
from drakcelery.model.analysis import Place, State, Value
from drakcelery.model.capacity import is_in_use
from drakcelery.model.names import SHORTEST_PREFIX
from drakcelery.model.news import WatchPlan
from drakcelery.model.records import HostStatus, Record
from drakcelery.settings import Settings


class Forecast(Value):
    """Estimates for everything that is not over, by Redis' clock."""

    now: float
    estimates: Mapping[str, Estimate]
    """Estimates of the analyses in the ledger, by uid."""
    queued: tuple[Queued, ...]
    """Samples that are not in the ledger, the next one first, then those that wait for a twin; at most
    :data:`~drakcelery.forecast.backlog.LISTED` of each line and queue, and of these."""
    behind: int
    """How many more wait behind them."""
    newcomers: Mapping[str, Estimate]
    """By profile: the estimate for a sample of normal priority and usual timeout that came now."""

    def find(self, uid: str) -> Queued | None:
        """The waiting sample whose uid, or that of its Karton task or root, is *uid* or begins so.

        Raises :class:`StackError` if several begin so.
        """
        own = Task.fquid_to_uid(uid)
        exact = next((one for one in self.queued if own in _names(one)), None)
        if exact is not None or len(own) < SHORTEST_PREFIX:
            return exact
        begun = [one for one in self.queued if any(name.startswith(own) for name in _names(one))]
        if len(begun) > 1:
            uids = ", ".join(one.uid for one in begun[:10])
            raise StackError(
                f"{len(begun)} samples that wait in Karton begin with {own}: {uids}. Give more of the uid"
            )
        return begun[0] if begun else None


def _names(one: Queued) -> tuple[str, ...]:
    return one.uid, Task.fquid_to_uid(one.task_uid), Task.fquid_to_uid(one.root_uid)


def make_forecast(
    settings: Settings,
    ledger: Ledger,
    inbox: Inbox,
    *,
    live: Iterable[Record] | None = None,
    seed: int = 0,
) -> Forecast:
    """The forecast as of now. *live*: the ledger's live records, if the caller has read them already."""
    records = list(ledger.live() if live is None else live)
    now, hosts = ledger.now(), ledger.fleet.hosts()
    backlog = Backlog.of(settings, ledger, inbox)
    probes = _probes(hosts, settings)
    waiting = [*_waiting(ledger, records, now), *backlog.waiting(probes)]
    profiles = {one.place.profile for one in (*waiting, *backlog.followers)}
    profiles |= {record.analysis.profile for record in records if record.analysis}
    situation = Situation(
        now=now,
        slots=_slots(hosts),
        at_work=[one for record in records if (one := _work(record, now)) is not None],
        waiting=waiting,
        learned=Durations(ledger.durations).all(profiles),
        twins=backlog.followers,
        look_ahead=settings.drakcelery.look_ahead,
    )
    found = estimate(situation, seed=seed)
    return Forecast(
        now=now,
        estimates={record.uid: found[record.uid] for record in records if record.uid in found},
        queued=backlog.queued(found),
        behind=backlog.behind,
        newcomers={one.place.profile: found[one.uid] for one in probes if one.uid in found},
    )


def _usual_watch(settings: Settings) -> WatchPlan | None:
    """How the run of a task without wishes is watched: most are stopped, or most are measured."""
    plan = watch_field.plan(lambda _: None, settings.watch, uid="", quality=contract.DEFAULT_QUALITY)
    if plan is None or plan.mode != "active":
        return plan
    return plan.model_copy(update={"measures": settings.watch.measure_share > 0.5})


def _slots(hosts: Iterable[HostStatus]) -> list[KnownSlot]:
    return [
        KnownSlot(place=Place(profile=slot.profile, host=status.host), uid=slot.uid)
        for status in hosts
        for slot in status.slots
        if is_in_use(status, slot)
    ]


def _probes(hosts: Iterable[HostStatus], settings: Settings) -> list[Wait]:
    """One probe for each profile that is online; no uid of an analysis begins with a question mark."""
    profiles = sorted({slot.profile for status in hosts for slot in status.slots})
    timeout, watch = settings.drakrun.analysis_timeout, _usual_watch(settings)
    return [
        Wait(uid=f"?{name}", place=Place(profile=name), timeout=timeout, watch=watch, is_probe=True)
        for name in profiles
    ]


def _work(record: Record, now: float) -> Work | None:
    if record.analysis is None or record.state is State.QUEUED or record.is_foreign:
        return None
    return Work(
        uid=record.uid,
        profile=record.analysis.profile,
        timeout=record.analysis.timeout,
        watch=record.analysis.watch,
        state=(phase := _phase(record.state)),
        since=max(0.0, now - record.entered.get(phase, record.updated)),
    )


def _phase(state: State) -> State:
    """The phase of an analysis. Collecting and uploading are one, since only their total duration is
    known."""
    return State.COLLECTING if state is State.UPLOADING else state


def _waiting(ledger: Ledger, records: Iterable[Record], now: float) -> list[Wait]:
    """The analyses of the ledger that have no slot yet, in the order of their messages."""
    waiting = [one for one in records if one.analysis is not None and one.state is State.QUEUED]
    if not waiting:
        return []
    none: list[tuple[str, float]] = []
    due = dict(unless_odd(lambda: _due(ledger), none))
    return [
        Wait(
            uid=one.uid,
            place=one.analysis.place,
            timeout=one.analysis.timeout,
            watch=one.analysis.watch,
            not_before=max(0.0, due.get(one.uid, 0.0) - now),
        )
        for one in sorted(waiting, key=lambda one: one.entered.get(State.QUEUED, one.received))
        if one.analysis is not None
    ]


def _due(ledger: Ledger) -> list[tuple[str, float]]:
    return [(uid, at) for uid, at in ledger.due_times() if math.isfinite(at)]
