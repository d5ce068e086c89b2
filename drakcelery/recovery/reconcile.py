"""What is done every few seconds: the ledger compared with Karton and with what shows life.

Idempotent, and safe in two places at once: whatever it does is claimed in the ledger first. It asks no
broker what it holds: a step is lost when it shows no life though nothing keeps it from being taken up.

Silence is what was heard while somebody listened (:mod:`drakcelery.ledger.watch`): that of a host or a claim
counts from when Redis was last away or replaced, that of a message from when the broker was, too.
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
from drakcelery.stages.failures import end_attempt, failure_of
from drakcelery.telemetry import metrics, tracing
from drakcelery.telemetry.logs import about

log = structlog.get_logger(__name__)

QUEUED_SECONDS = 30
"""After that long in its host's queue a step's message is lost, or its host. It may as well wait for others,
with a finished run that is not to be done again: so this goes by no lease, and is longer with each resend."""
LEASE_OF_SILENCE = 1.5
"""The lease of who made a claim, by the silence that he promised to keep within."""
MOST_RESENDS = 5
"""So often a step is sent again before its attempt is given up."""
RENEWAL_SECONDS = 600
"""How old a live task's ``last_update`` may get; Karton's collector drops STARTED tasks after 24 h."""

Send = Callable[[Record], None]
"""Send the current attempt of a record on its way, from the stage that comes next."""


AskBroker = Callable[[], ServerId]
"""Ask the broker for a sign of life. Raises :class:`kombu.exceptions.OperationalError` where it is away."""


@dataclass(kw_only=True)
class Reconciler:
    """One run over the ledger; :meth:`run` says what it does."""

    ledger: Ledger
    settings: Settings
    send: Send
    ask_broker: AskBroker
    keep_turn: Callable[[], bool] = lambda: True
    """Asked again and again: False ends the run."""
    watch: Watch = field(default_factory=lambda: Watch(now=0, since=math.inf))
    """Of Redis."""
    broker_since: float = math.inf
    """When the watch of the broker began; infinite while it is away."""
    done: dict[str, int] = field(default_factory=dict)
    offline: dict[Place, float] = field(default_factory=dict)
    """For how long nobody has had a place, of those that were asked for in this run."""

    @property
    def is_cut_off(self) -> bool:
        """Whether the broker was away when it was needed last."""
        return self.broker_since == math.inf

    def run(self) -> dict[str, int]:
        """Mend what is amiss; returns how often each thing was done.

        * *cancelled*: Karton says that nobody waits any more; so does the ledger then.
        * *renewed*: the Karton task of a live analysis is kept fresh, so that Karton's collector spares it.
        * *sent*: an attempt that was begun and never sent, or whose message is lost, is followed by another.
        * *resent*: a later step whose message is lost is sent again.
        * *ended*: an attempt whose host or process fell silent is over.
        * *forgotten*: uids of expired records.
        * *recounted*: places of which the ledger had another number of live analyses than there are.
        """
        self._count("forgotten", self.ledger.forget())
        self._count("recounted", self.ledger.recount())
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
        """End an analysis that cannot be looked after. False if it is over already."""
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
        """Nothing is sent in this run any more, nor taken for lost for lack of being sent."""
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
            is_there = record.host in alive.hosts  # and only its io worker is gone
            gone = f"the io worker of {record.host}" if is_there else f"host {record.host}"
            self._end(record, f"{gone} went away", late=late)
        elif record.following is Stage.PREPARE:
            silent = self._is_silent(record, after=times.silence, message=not record.busy)
            self._end(record, f"its worker on {record.host} fell silent", late=silent)
        else:
            after = times.lost if record.busy else QUEUED_SECONDS * (record.resends + 1)
            self._resend(record, late=self._is_silent(record, after=after, message=not record.busy))

    def _is_silent(self, record: Record, *, after: float, message: bool = False) -> bool:
        """Whether nothing was heard for that long, while it could have been.

        *message*: it is the broker whose turn it is to say something, by delivering a message.
        """
        since = max(self.watch.since, self.broker_since) if message else self.watch.since
        return record.is_silent(self.watch.now, after=after, heard_since=since)

    def _is_left(self, record: Record, place: Place, alive: Alive) -> bool:
        """Whether to wait no longer for a host that is gone.

        Not before that can be known by its own lease. Where nobody else could do the work, it waits for the
        host, which may still have a finished run, for as long as a sample does that was not begun.
        """
        if str(place) not in alive.places:
            patience = self.settings.drakcelery.offline_patience
            return self.watch.watched(record.last_sign) > max(patience, self.ledger.timeouts.lost)
        waits = not record.busy and record.following in WITH_FILES
        after = QUEUED_SECONDS if waits else self.ledger.timeouts.lost
        is_known = self.watch.lasts > record.silence * LEASE_OF_SILENCE
        return is_known and self._is_silent(record, after=after)

    def _check_message(self, record: Record, place: Place, alive: Alive) -> None:
        """An analysis that waits for a slot, as far as its message goes."""
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
        """Send a step to its host again. The host knows whether it can still be done there."""
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
        """Whether the broker was there a moment ago: if not, no attempt and no resend is used up."""
        return self.broker_since < math.inf

    def _send(self, uid: str, what: str) -> None:
        """Only the sending fails where the broker is away; another run does it again."""
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
