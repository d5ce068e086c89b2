"""Reconcile: every few seconds the ledger is compared with Karton and with the signs of life.

Idempotent, and safe in two places at once: whatever it does is claimed in the ledger first. It does not ask
the broker what is in its queues: a step is lost if it shows no life although nothing keeps a worker from
taking it up.

Silence counts only while somebody listened (:mod:`drakcelery.ledger.watch`): for a host or a claim, since
Redis was last away or replaced; for a message, also since the broker was.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
from karton.core.task import TaskState
from kombu.exceptions import OperationalError

from drakcelery.errors import Superseded
from drakcelery.ledger import Ledger
from drakcelery.ledger.fleet import nobody_came
from drakcelery.ledger.records import AT_ONCE
from drakcelery.ledger.watch import ServerId
from drakcelery.model.analysis import WITH_FILES, Fault, Place, Stage, State
from drakcelery.model.records import Record
from drakcelery.model.timeouts import Watch
from drakcelery.recovery.alive import Alive
from drakcelery.recovery.deaths import died
from drakcelery.recovery.isolation import Isolation
from drakcelery.recovery.karton_side import Beside
from drakcelery.settings import Settings
from drakcelery.stages.cancellation import cancel_as_karton
from drakcelery.stages.dispatch import Send
from drakcelery.stages.failures import end_attempt, failure_of
from drakcelery.telemetry import metrics, tracing
from drakcelery.telemetry.logs import about

log = structlog.get_logger(__name__)

QUEUED_SECONDS = 30
"""After so many seconds in its host's queue a step's message counts as lost, or its host does. But the step
may only be waiting behind others, with a finished run that should not be repeated. So this does not depend on
a lease, and grows with each resend."""
LEASE_OF_SILENCE = 1.5
"""A claim's lease, as a multiple of the longest silence that its holder promised."""
MOST_RESENDS = 5
"""How often a step is sent again before its attempt is given up."""
RENEWAL_SECONDS = 600
"""How old a live task's ``last_update`` may get; Karton's collector drops STARTED tasks after 24 h."""


AskBroker = Callable[[], ServerId]
"""Ask the broker for a sign of life. Raises :class:`kombu.exceptions.OperationalError` if it is away."""


@dataclass(kw_only=True)
class Reconciler:
    """One run over the ledger; :meth:`run` says what it does."""

    ledger: Ledger
    settings: Settings
    send: Send
    ask_broker: AskBroker
    keep_turn: Callable[[], bool] = lambda: True
    """Called again and again; False ends the run."""
    watch: Watch = field(default_factory=lambda: Watch(now=0, since=math.inf))
    """The watch of Redis."""
    broker_since: float = math.inf
    """When the watch of the broker began; infinite while it is away."""
    done: dict[str, int] = field(default_factory=dict)
    offline: dict[Place, float] = field(default_factory=dict)
    """Seconds for which no host has had a place, for the places that this run has asked for."""

    @property
    def is_cut_off(self) -> bool:
        """Whether the broker was away when it was needed last."""
        return self.broker_since == math.inf

    def run(self) -> dict[str, int]:
        """Repair what is wrong; returns how often each thing was done.

        * *cancelled*: the Karton task was cancelled, so the analysis is cancelled in the ledger, too.
        * *renewed*: the Karton task of a live analysis is kept fresh, so that Karton's collector spares it.
        * *sent*: an attempt that was begun and never sent, or whose message is lost, is followed by another.
        * *resent*: a later step whose message is lost is sent again.
        * *ended*: an attempt whose host or process fell silent is over.
        * *forgotten*: uids of expired records.
        * *indexed*: analyses that were over before there was an index to find them by.
        * *recounted*: places for which the ledger's count of live analyses was wrong.
        """
        self._count("forgotten", self.ledger.forget())
        self._count("recounted", self.ledger.recount())
        self._count("indexed", self.ledger.index.keep())
        self._listen()
        isolation = Isolation(self.ledger.quarantine, where="reconcile", give_up=self._give_up)
        isolation.begin()
        live = self.ledger.live()
        while (some := list(itertools.islice(live, AT_ONCE))) and self.keep_turn():
            self.watch = self.ledger.watch()
            fleet = self.ledger.fleet
            alive = Alive.of(fleet.hosts(), io_hosts=fleet.io_hosts())
            for record, (text, due) in zip(some, self.ledger.beside(some), strict=True):
                if not isolation.skips(record.uid) and not record.is_foreign:
                    with about(**record.log_fields), isolation.item(record.uid):
                        self._check(record, Beside.of(record, text, due), alive)
        metrics.reconcile_done()
        if self.done:
            log.info("reconciled", **self.done)
        return self.done

    def _give_up(self, uid: str, reason: str) -> bool:
        """End an analysis that reconcile failed to deal with. False if it is over already."""
        record = self.ledger.get(uid)
        if record is None or record.state.is_over:
            return False
        self._end(record, reason, late=True, final=True)
        return True

    def _listen(self) -> None:
        self.watch = self.ledger.watch()
        try:
            self.broker_since = self.ledger.watch_broker(self.ask_broker()).since
        except OperationalError as error:
            self._broker_away(error)

    def _broker_away(self, error: OperationalError) -> None:
        """From now on this run sends nothing, and takes nothing for lost because it was not sent."""
        if self.broker_since < math.inf:
            log.warning("broker_away", error=str(error))
        self.broker_since = math.inf

    def _check(self, record: Record, beside: Beside, alive: Alive) -> None:
        now = self.watch.now
        try:
            if cancel_as_karton(self.ledger, record, beside.status):
                self._count("cancelled")
            else:
                if beside.status is TaskState.STARTED and now - beside.last_update >= RENEWAL_SECONDS:
                    self._refresh(record.task_uid, now)
                if not beside.is_due_later:
                    self._revive(record, alive)
        except Superseded as error:
            log.info("nothing_amiss", reason=str(error))

    def _count(self, what: str, number: int = 1) -> None:
        if number:
            self.done[what] = self.done.get(what, 0) + number
            metrics.reconciled(what, number)

    def _revive(self, record: Record, alive: Alive) -> None:
        if record.analysis is None:
            return
        times = self.ledger.timeouts
        if record.is_unsent:
            self._send_anew(record, lost=False, late=self._is_silent(record, after=times.unsent))
        elif record.state is State.QUEUED:
            self._check_message(record, record.analysis.place, alive)
        elif record.host not in (alive.io_hosts if record.following in WITH_FILES else alive.hosts):
            late = self._is_left(record, record.analysis.place, alive)
            is_there = record.host in alive.hosts  # if so, only its io worker is gone
            gone = f"the io worker of {record.host}" if is_there else f"host {record.host}"
            self._end(record, f"{gone} went away", late=late)
        elif record.following is Stage.PREPARE:
            silent = self._is_silent(record, after=times.silence, message=not record.busy)
            self._end(record, f"its worker on {record.host} fell silent", late=silent)
        else:
            after = times.lost if record.busy else QUEUED_SECONDS * (record.resends + 1)
            self._resend(record, late=self._is_silent(record, after=after, message=not record.busy))

    def _is_silent(self, record: Record, *, after: float, message: bool = False) -> bool:
        """Whether nothing was heard for so many seconds although it could have been.

        *message*: the broker has to deliver a message next, so its absence does not count either.
        """
        since = max(self.watch.since, self.broker_since) if message else self.watch.since
        return record.is_silent(self.watch.now, after=after, heard_since=since)

    def _is_left(self, record: Record, place: Place, alive: Alive) -> bool:
        """Whether to wait no longer for a host that is gone.

        Not before the host's own lease is over. If no other host could do the work, the analysis waits for
        this one, which may still have a finished run, for as long as a sample waits that was not begun.
        """
        if str(place) not in alive.places:
            patience = self.settings.drakcelery.offline_patience
            return self.watch.watched(record.last_sign) > max(patience, self.ledger.timeouts.lost)
        waits = not record.busy and record.following in WITH_FILES
        after = QUEUED_SECONDS if waits else self.ledger.timeouts.lost
        is_known = self.watch.lasts > record.silence * LEASE_OF_SILENCE
        return is_known and self._is_silent(record, after=after)

    def _check_message(self, record: Record, place: Place, alive: Alive) -> None:
        """Check the message of an analysis that waits for a slot."""
        patience = self.settings.drakcelery.offline_patience
        if alive.takes(place, record.uid):
            # A free slot takes a waiting message within a second. One that was claimed for it, without its
            # prepare having begun, belongs to a message that its worker dropped with a lost connection
            late = self._is_silent(record, after=self.ledger.timeouts.lost, message=True)
            self._send_anew(record, lost=True, late=late)
        elif record.last_sign < self.watch.ago(patience) and (offline := self._offline(place)) > patience:
            self._end(record, nobody_came(place, offline), late=True, final=True)

    def _offline(self, place: Place) -> float:
        if place not in self.offline:
            self.offline[place] = self.ledger.fleet.offline(place, self.watch)
        return self.offline[place]

    def _send_anew(self, record: Record, *, lost: bool, late: bool) -> None:
        if late and self._can_send():
            self.ledger.begin_attempt(record.uid, after=record.attempt, lost=lost)
            why = "its message was lost" if lost else "it was not sent"
            tracing.attempt_replaced(record, why, lambda: self.ledger.get(record.uid))
            self._send(record.uid, "sent")

    def _resend(self, record: Record, *, late: bool) -> None:
        """Send a step to its host again. The host knows whether the step can still be done there."""
        if not late or not self._can_send():
            return
        if record.resends >= MOST_RESENDS:
            self._end(record, f"{record.host} did not take up its next step", late=True)
            return
        deaths = self.ledger.resend(record)
        if not self._is_poison(record, deaths):
            self._send(record.uid, "resent")

    def _is_poison(self, record: Record, deaths: int) -> bool:
        """Whether the step that fell silent has cost so many processes that the analysis ends here."""
        stage = record.following
        if stage is None or not died(
            self.ledger,
            record,
            stage,
            Fault.GONE,
            deaths=deaths,
            last=f"its worker on {record.host} fell silent",
            host=record.host,
            settings=self.settings,
        ):
            return False
        self._count("ended")
        return True

    def _can_send(self) -> bool:
        """Whether the broker answers: if not, no attempt and no resend is used up."""
        return self.broker_since < math.inf

    def _send(self, uid: str, what: str) -> None:
        """Send the current attempt. If the broker is away, only that fails, and a later run does it again."""
        record = self.ledger.get(uid)
        if record is None:
            return
        log.warning("sent_late", uid=uid, attempt=record.attempt, stage=record.following)
        try:
            self.send(record)
        except OperationalError as error:
            self._broker_away(error)
        else:
            self._count(what)

    def _end(self, record: Record, reason: str, *, late: bool, final: bool = False) -> None:
        if not late:
            return
        failure = failure_of(record, reason, Fault.GONE, host=record.host, slot=record.slot)
        end_attempt(self.ledger, record, failure, settings=self.settings, final=final)
        self._count("ended")

    def _refresh(self, task_uid: str, now: float) -> None:
        """Set ``last_update`` to *now* unless the task changed meanwhile.

        ``set_task_status`` with the same status writes nothing (``karton.core.backend``), so the task's JSON
        is changed here; not in Lua, whose JSON library turns empty lists into objects.
        """
        if self.ledger.renew_task(task_uid, now=now, older_than=RENEWAL_SECONDS):
            self._count("renewed")
