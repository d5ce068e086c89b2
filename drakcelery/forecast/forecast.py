"""The forecast: estimates for everything that waits or is at work, from the present data in Redis.

It is computed on demand and not stored. It reads the ledger, the lines and the heads of Karton's queues;
tasks beyond the first :data:`LISTED` are only counted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import structlog
from karton.core import Task
from karton.core.task import TaskState

from drakcelery.errors import BadTask, StackError
from drakcelery.forecast.durations import Durations
from drakcelery.forecast.simulation import Estimate, KnownSlot, Situation, Wait, Work, estimate
from drakcelery.karton import contract, watch_field
from drakcelery.karton.contract import SampleFacts
from drakcelery.karton.policy import policy_of
from drakcelery.karton.reading import read_task as read_karton_task
from drakcelery.ledger import Ledger
from drakcelery.ledger.away import unless_odd
from drakcelery.ledger.inbox import Inbox
from drakcelery.ledger.lines import URGENCY, Stretch
from drakcelery.model.analysis import Analysis, Place, Priority, State, Value
from drakcelery.model.capacity import is_in_use
from drakcelery.model.names import SHORTEST_PREFIX
from drakcelery.model.records import HostStatus, Record
from drakcelery.settings import Settings

log = structlog.get_logger(__name__)

LISTED = 200
"""How many tasks of a line, or of one of Karton's queues, get an estimate of their own."""
KINDS = 8
"""How many kinds of samples, by place and timeout, are distinguished among those that are only counted."""

OVER = (TaskState.FINISHED, TaskState.CRASHED)
"""States of Karton tasks that wait for nothing, for example because they were cancelled."""

Read = Callable[[Task], Analysis]
"""What ingress would make of a Karton task. Raises :class:`BadTask` if it would refuse it."""


class Queued(Value):
    """A sample that waits outside the ledger: in line for its place, or on Karton's queue."""

    uid: str
    """The uid that its analysis will have."""
    task_uid: str
    root_uid: str
    position: int
    """1 for the next, among all that wait outside the ledger."""
    place: str
    """Profile, and host if one was asked for; on Karton's queue as far as the task alone tells."""
    estimate: Estimate | None
    """None if nothing of its place is online."""


class Forecast(Value):
    """Estimates for everything that is not over, by Redis' clock."""

    now: float
    estimates: Mapping[str, Estimate]
    """Estimates of the analyses in the ledger, by uid."""
    queued: tuple[Queued, ...]
    """Samples that are not in the ledger, the next one first; at most :data:`LISTED` of each line and
    queue."""
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
    backlog = _Backlog.of(inbox, inbox.backlog(most=LISTED), _reader(settings))
    probes = _probes(hosts, _usual_bound(settings))
    waiting = [*_waiting(ledger, records, now), *backlog.waiting(probes)]
    profiles = {one.place.profile for one in waiting}
    profiles |= {record.analysis.profile for record in records if record.analysis}
    situation = Situation(
        now=now,
        slots=_slots(hosts),
        at_work=[one for record in records if (one := _work(record, now)) is not None],
        waiting=waiting,
        learned=Durations(ledger.durations).all(profiles),
    )
    found = estimate(situation, seed=seed)
    return Forecast(
        now=now,
        estimates={record.uid: found[record.uid] for record in records if record.uid in found},
        queued=backlog.queued(found),
        behind=backlog.behind,
        newcomers={one.place.profile: found[one.uid] for one in probes if one.uid in found},
    )


def _reader(settings: Settings) -> Read:
    """Reads a task as ingress does, without the facts that only the sample's content shows."""
    policy, unseen = policy_of(settings), SampleFacts(size=1, magic="")
    return lambda task: contract.read_task(task, unseen, policy)


def _usual_bound(settings: Settings) -> int:
    """After how many seconds the run of a task without wishes ends in any case."""
    timeout = settings.drakrun.analysis_timeout
    plan = watch_field.plan(lambda _: None, settings.watch, uid="", quality=contract.DEFAULT_QUALITY)
    return timeout if plan is None else plan.longest(timeout)


def _slots(hosts: Iterable[HostStatus]) -> list[KnownSlot]:
    return [
        KnownSlot(place=Place(profile=slot.profile, host=status.host), uid=slot.uid)
        for status in hosts
        for slot in status.slots
        if is_in_use(status, slot)
    ]


def _probes(hosts: Iterable[HostStatus], timeout: int) -> list[Wait]:
    """One probe for each profile that is online; no uid of an analysis begins with a question mark."""
    profiles = sorted({slot.profile for status in hosts for slot in status.slots})
    return [
        Wait(uid=f"?{name}", place=Place(profile=name), timeout=timeout, is_probe=True) for name in profiles
    ]


def _work(record: Record, now: float) -> Work | None:
    if record.analysis is None or record.state is State.QUEUED or record.is_foreign:
        return None
    return Work(
        uid=record.uid,
        profile=record.analysis.profile,
        timeout=record.analysis.longest,
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
            timeout=one.analysis.longest,
            not_before=max(0.0, due.get(one.uid, 0.0) - now),
        )
        for one in sorted(waiting, key=lambda one: one.entered.get(State.QUEUED, one.received))
        if one.analysis is not None
    ]


def _due(ledger: Ledger) -> list[tuple[str, float]]:
    return [(uid, at) for uid, at in ledger.due_times() if math.isfinite(at)]


@dataclass(frozen=True, kw_only=True)
class _Backlog:
    """All that waits outside the ledger, read as far as it is listed."""

    stretches: Sequence[Stretch]
    tasks: Mapping[str, tuple[Task, Analysis]]
    """By Karton uid; without those that ingress will refuse, and of :attr:`over`."""
    over: frozenset[str]
    """Karton uids of tasks that wait for nothing any more: cancelled, or dropped by Karton."""

    @classmethod
    def of(cls, inbox: Inbox, stretches: Sequence[Stretch], read: Read) -> _Backlog:
        named = [uid for stretch in stretches for uid in stretch.named]
        texts = inbox.tasks(named)
        tasks, over = {}, set()
        for uid, text in zip(named, texts, strict=True):
            if text is None:
                over.add(uid)
            else:
                try:
                    task = read_karton_task(text, uid)
                    if task.status in OVER:
                        over.add(uid)
                    else:
                        tasks[uid] = (task, read(task))
                except BadTask:
                    continue  # its turn will be short
                except Exception as error:  # noqa: BLE001 one odd task hides no other's estimate
                    log.warning("task_not_estimated", task=uid, error=str(error))
        return cls(stretches=stretches, tasks=tasks, over=frozenset(over))

    @property
    def behind(self) -> int:
        """How many are only counted."""
        return sum(stretch.length - len(stretch.named) for stretch in self.stretches)

    def waiting(self, probes: Sequence[Wait]) -> list[Wait]:
        """All of them in their order, with *probes* where a new task of normal priority would stand."""
        usual = Counter((analysis.place, analysis.longest) for _, analysis in self.tasks.values())
        before: list[Wait] = []
        after: list[Wait] = []
        for stretch in self.stretches:
            part = after if stretch.urgency > URGENCY[Priority.NORMAL] else before
            part += [self._wait(uid, stretch.place) for uid in stretch.named if uid in self.tasks]
            rest = stretch.length - len(stretch.named)
            part += _bulk(rest, _of_place(usual, stretch.place))
        return [*before, *probes, *after]

    def _wait(self, uid: str, place: Place | None) -> Wait:
        analysis = self.tasks[uid][1]
        return Wait(uid=uid, place=place or analysis.place, timeout=analysis.longest)

    def queued(self, found: Mapping[str, Estimate]) -> tuple[Queued, ...]:
        """Those that are listed, with what was *found* for them."""
        listed, ahead = [], 0
        for stretch in self.stretches:
            waiting = [uid for uid in stretch.named if uid not in self.over]
            for number, uid in enumerate(waiting, ahead + 1):
                if uid not in self.tasks:
                    continue
                task, analysis = self.tasks[uid]
                listed.append(
                    Queued(
                        uid=analysis.uid,
                        task_uid=task.uid,
                        root_uid=task.root_uid,
                        position=number,
                        place=str(stretch.place or analysis.place),
                        estimate=found.get(uid),
                    )
                )
            ahead += stretch.length - len(stretch.named) + len(waiting)
        return tuple(listed)


def _of_place(usual: Counter[tuple[Place, int]], place: Place | None) -> Mapping[tuple[Place, int], int]:
    if place is None:
        return usual
    return {(place, timeout): count for (_, timeout), count in usual.items()}


def _bulk(count: int, usual: Mapping[tuple[Place, int], int]) -> list[Wait]:
    """Estimated tasks in place of those that were only counted: they count as like those before them."""
    kinds = Counter(usual).most_common(KINDS)
    total = sum(part for _, part in kinds)
    shares = [(place, timeout, round(count * part / total)) for (place, timeout), part in kinds]
    return [
        Wait(uid="", place=place, timeout=timeout, count=share) for place, timeout, share in shares if share
    ]
