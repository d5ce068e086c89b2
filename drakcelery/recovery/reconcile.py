"""What beat has done every few seconds: the ledger compared with Karton and with what shows life.

Idempotent, and safe in two places at once: whatever it does is claimed in the ledger first. It asks no
broker: a step is lost when it shows no life though nothing keeps it from being taken up.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Self

import structlog
from karton.core.task import TaskState
from redis.exceptions import WatchError

from drakcelery.analysis import Fault, Place, Stage, State
from drakcelery.attempts import end_attempt, failure_of
from drakcelery.errors import Superseded, Unreadable
from drakcelery.fleet import nobody_came
from drakcelery.karton import reading
from drakcelery.ledger import AT_ONCE, DUE, Ledger, task_key
from drakcelery.logs import about
from drakcelery.monitoring import metrics, tracing
from drakcelery.records import HostStatus, Record
from drakcelery.recovery.takeover import WITH_FILES
from drakcelery.settings import Settings

log = structlog.get_logger(__name__)

TURN = "drak:reconciled"
"""Set in Redis by a run, for a while: what beat, or a second one, asked for meanwhile is done already."""
TURN_SHARE = 0.8
"""For how much of the time between two runs."""
QUEUED_SECONDS = 30
"""After that long in its host's queue a step's message is lost, or its host. It may as well wait for others,
with a finished run that is not to be done anew: so this goes by no lease, and is longer with each resend."""
MOST_RESENDS = 5
"""So often a step is sent again before its attempt is given up."""
RENEWAL_SECONDS = 600
"""How old a live task's ``last_update`` may get; Karton's collector drops STARTED tasks after 24 h."""

Send = Callable[[Record], None]
"""Send the current attempt of a record on its way, from the stage that comes next."""


def take_turn(ledger: Ledger) -> bool:
    """Whether a run is due. False where one has begun just now.

    Requests pile up while nobody takes them. They do not expire: the worker's clock would be compared with
    beat's, so that a worker an hour ahead would do none at all.
    """
    return bool(ledger.redis.set(TURN, 1, nx=True, px=int(TURN_SHARE * ledger.times.reconcile * 1000)))


@dataclass(frozen=True, kw_only=True)
class Beside:
    """What else is known of a live analysis."""

    status: TaskState | None
    """Of its Karton task; None where a collector has removed it."""
    last_update: float
    is_due_later: bool
    """Whether it waits for its time to be sent."""


@dataclass(frozen=True, kw_only=True)
class Alive:
    """The hosts that are alive, for questions about thousands of analyses."""

    hosts: frozenset[str]
    free: frozenset[str]
    """Places of which a slot is free."""
    held: frozenset[tuple[str, str | None]]
    """(place, uid of the analysis that has a slot of it)."""

    @classmethod
    def of(cls, hosts: Iterable[HostStatus]) -> Self:
        """Index *hosts*."""
        slots = [
            (place, slot)
            for status in hosts
            for slot in status.slots
            for place in (slot.profile, f"{slot.profile}@{status.host}")
        ]
        return cls(
            hosts=frozenset(status.host for status in hosts),
            free=frozenset(place for place, slot in slots if slot.state == "free"),
            held=frozenset((place, slot.uid) for place, slot in slots),
        )

    def takes(self, place: Place, uid: str) -> bool:
        """Whether a slot of *place* is free, or was claimed for the analysis *uid*."""
        return str(place) in self.free or (str(place), uid) in self.held


@dataclass(frozen=True, kw_only=True)
class Reconciler:
    """One run over the ledger; :meth:`run` says what it does."""

    ledger: Ledger
    settings: Settings
    send: Send
    done: dict[str, int] = field(default_factory=dict)
    offline: dict[Place, float] = field(default_factory=dict)
    """For how long nobody has had a place, of those that were asked for in this run."""

    def run(self) -> dict[str, int]:
        """Mend what is amiss; returns how often each thing was done.

        * *cancelled*: Karton says that nobody waits any more; so does the ledger then.
        * *renewed*: the Karton task of a live analysis is kept fresh, so that Karton's collector spares it.
        * *sent*: an attempt that was begun and never sent, or whose message is lost, is followed by another.
        * *resent*: a later step whose message is lost is sent again.
        * *ended*: an attempt whose host or process fell silent is over.
        * *forgotten*: uids of expired records.
        """
        self._count("forgotten", self.ledger.forget())
        alive, now = Alive.of(self.ledger.fleet.hosts()), self.ledger.now()
        live = self.ledger.live()
        while some := list(itertools.islice(live, AT_ONCE)):
            for record, beside in zip(some, self._beside(some), strict=True):
                with about(**record.context):
                    self._look_at(record, beside, alive, now)
        metrics.reconcile_done()
        if self.done:
            log.info("reconciled", **self.done)
        return self.done

    def _beside(self, records: Sequence[Record]) -> Iterator[Beside]:
        """Read for all of them at once: there may be thousands, most of which need nothing."""
        with self.ledger.redis.pipeline(transaction=False) as pipe:
            pipe.mget([task_key(record.task_uid) for record in records])
            pipe.zmscore(DUE, [record.uid for record in records])
            texts, due = pipe.execute()
        for record, text, at in zip(records, texts, due, strict=True):
            status, last_update = _karton_side(record, text)
            yield Beside(status=status, last_update=last_update, is_due_later=at is not None)

    def _look_at(self, record: Record, beside: Beside, alive: Alive, now: float) -> None:
        try:
            if not self._cancel(record, beside.status):
                if beside.status is TaskState.STARTED and now - beside.last_update >= RENEWAL_SECONDS:
                    self._renew(record.task_uid, now)
                if not beside.is_due_later:
                    self._revive(record, alive, now)
        except Superseded as error:
            log.info("nothing_amiss", reason=str(error))

    def _count(self, what: str, number: int = 1) -> None:
        if number:
            self.done[what] = self.done.get(what, 0) + number
            metrics.reconciled(what, number)

    def _cancel(self, record: Record, status: TaskState | None) -> bool:
        """Karton-dashboard's cancel writes FINISHED; a collector may have removed the task."""
        if status in (TaskState.STARTED, TaskState.SPAWNED):
            return False
        reason = f"cancelled: its Karton task is {status.value if status else 'gone'}"
        if not self.ledger.cancel(record, reason=reason, crashed=None):
            return False
        log.warning("cancelled", reason=reason)
        tracing.cancelled(record, reason, lambda: self.ledger.get(record.uid))
        self._count("cancelled")
        return True

    def _revive(self, record: Record, alive: Alive, now: float) -> None:
        if record.analysis is None:
            return
        times = self.ledger.times
        waits = not record.busy and record.following in WITH_FILES
        if record.is_unsent:
            self._send_anew(record, lost=False, late=record.is_silent(now, after=times.unsent))
        elif record.state is State.QUEUED:
            self._look_for(record, record.analysis.place, alive, now)
        elif record.host not in alive.hosts:
            gone = record.is_silent(now, after=QUEUED_SECONDS if waits else times.lost)
            self._end(record, f"host {record.host} went away", late=gone)
        elif record.following is Stage.PREPARE:
            silent = record.is_silent(now, after=times.silence)
            self._end(record, f"its worker on {record.host} fell silent", late=silent)
        else:
            after = times.lost if record.busy else QUEUED_SECONDS * (record.resends + 1)
            self._resend(record, late=record.is_silent(now, after=after))

    def _look_for(self, record: Record, place: Place, alive: Alive, now: float) -> None:
        """An analysis that waits for a slot, as far as its message goes."""
        patience = self.settings.drakcelery.offline_patience
        if alive.takes(place, record.uid):
            # A free slot takes a waiting message within a second. One that was claimed for it, without its
            # prepare having begun, belongs to a message that its worker dropped with a lost connection
            self._send_anew(record, lost=True, late=record.is_silent(now, after=self.ledger.times.lost))
        elif record.is_silent(now, after=patience) and (offline := self._offline(place)) > patience:
            self._end(record, nobody_came(place, offline), late=True, final=True)

    def _offline(self, place: Place) -> float:
        if place not in self.offline:
            self.offline[place] = self.ledger.fleet.offline(place)
        return self.offline[place]

    def _send_anew(self, record: Record, *, lost: bool, late: bool) -> None:
        if late:
            self.ledger.begin_attempt(record.uid, after=record.attempt, lost=lost)
            why = "its message was lost" if lost else "it was not sent"
            tracing.attempt_replaced(record, why, lambda: self.ledger.get(record.uid))
            self._send(record.uid)
            self._count("sent")

    def _resend(self, record: Record, *, late: bool) -> None:
        """Send a step to its host again. The host knows whether it can still be done there."""
        if not late:
            return
        if record.resends >= MOST_RESENDS:
            self._end(record, f"{record.host} did not take up its next step", late=True)
            return
        self.ledger.resend(record)
        self._send(record.uid)
        self._count("resent")

    def _send(self, uid: str) -> None:
        record = self.ledger.get(uid)
        if record is not None:
            log.warning("sent_late", uid=uid, attempt=record.attempt, stage=record.following)
            self.send(record)

    def _end(self, record: Record, reason: str, *, late: bool, final: bool = False) -> None:
        if not late:
            return
        failure = failure_of(record, reason, Fault.GONE, host=record.host, slot=record.slot)
        end_attempt(self.ledger, record, failure, settings=self.settings, final=final)
        self._count("ended")

    def _renew(self, task_uid: str, now: float) -> None:
        """Set ``last_update`` to *now* unless the task changed meanwhile.

        ``set_task_status`` with the same status writes nothing (``karton.core.backend``), so the task's JSON
        is changed here; not in Lua, whose JSON library turns empty lists into objects.
        """
        key = task_key(task_uid)
        with self.ledger.redis.pipeline() as pipe:
            pipe.watch(key)  # type: ignore[no-untyped-call] # redis-py leaves this one untyped
            text = pipe.get(key)
            task = reading.read_task(str(text), task_uid) if text else None
            if task is None or task.status is not TaskState.STARTED:
                return
            if now - task.last_update < RENEWAL_SECONDS:
                return
            pipe.multi()
            pipe.set(key, reading.renewed(str(text), now))
            try:
                pipe.execute()
            except WatchError:
                return  # someone else wrote it: fresh enough, or over
        self._count("renewed")


def _karton_side(record: Record, text: str | None) -> tuple[TaskState | None, float]:
    """(status, last update) of a live analysis' Karton task, whose JSON is *text*.

    One that nobody can read any more is left alone: its analysis goes on, and ends by itself.
    """
    if text is None:
        return None, 0
    try:
        task = reading.read_task(text, record.task_uid)
    except Unreadable as error:
        log.warning("karton_task_unreadable", uid=record.uid, task=record.task_uid, error=str(error))
        return TaskState.STARTED, math.inf
    return task.status, task.last_update
