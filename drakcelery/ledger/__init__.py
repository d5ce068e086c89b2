"""The ledger: the record of every analysis, in Karton's Redis. Celery is transport, this is the truth.

Each state change is one Lua script (``lua/``), fenced by attempt; the keys it owns stand on top of it. Time
is Redis' own, so a host's wrong clock changes nothing.

Keys:
    ``drak:analysis:{<uid>}``  hash, the record of one analysis
    ``drak:live``              zset of the uids of analyses that are not over
    ``drak:done``              zset of the uids of analyses that are over and not yet forgotten
    ``drak:due``               zset of the uids of analyses to be sent later, by the time to send them
    ``drak:inflight``          hash, place -> number of analyses that are not over

Whatever ends an analysis queues a notice in the same script, where an ingress wants such
(:mod:`drakcelery.notifications.outbox`).
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from typing import Any, cast

import redis
import structlog
from karton.core import Task
from karton.core.backend import KARTON_TASKS_QUEUE, KartonMetrics
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

from drakcelery.errors import Astray, NeedsSolitude, Superseded, UnderWay, UnreadableRecord
from drakcelery.karton import reading
from drakcelery.ledger import clock
from drakcelery.ledger.away import ANSWERED, concerns_all, unless_odd
from drakcelery.ledger.fleet import Fleet
from drakcelery.ledger.keys import (
    BROKER_WATCH,
    DONE,
    DUE,
    INFLIGHT,
    LIVE,
    NOTICE_KEYS,
    WATCH,
    gaps_key,
    record_key,
    task_key,
)
from drakcelery.ledger.quarantine import Quarantine
from drakcelery.ledger.scripts import load_scripts
from drakcelery.ledger.watch import MEMORY, MOST_GAPS, ServerId, watch_of
from drakcelery.model import timeouts
from drakcelery.model.analysis import Failure, Stage, State
from drakcelery.model.records import STAGES, Record, parse
from drakcelery.model.timeouts import Times, Watch
from drakcelery.settings import RedisSection

log = structlog.get_logger(__name__)

UNREAD = "ledger"
"""Where in the quarantine records stand that cannot be read."""
UNREADABLE = (ValueError, LookupError, TypeError, RecursionError)
"""What reading raises of what another version, or somebody else, wrote."""
AT_ONCE = 100
"""So many records are read in one round trip."""

CONNECT_SECONDS = 5
"""A host that was cut off finds its way back that soon."""
PATIENT_RETRIES = 2000
"""Of ten seconds each at the most, by default: some five hours."""

_STATES = {
    Stage.PREPARE: State.PREPARING,
    Stage.RUN: State.RUNNING,
    Stage.COLLECT: State.COLLECTING,
    Stage.UPLOAD: State.UPLOADING,
    Stage.PUBLISH: State.UPLOADING,
}
"""The state of an analysis whose stage is under way."""
_AFTER = {**_STATES, Stage.RUN: State.COLLECTING}
"""The state of an analysis whose stage is done. After run no guest runs, whoever else may be waited for."""
SCRIPTS = (
    *("begin", "sent", "due", "advance", "renew", "complete", "alike", "abandon", "postpone", "resend"),
    "defer",
    *("cancel", "fail", "publish", "linger", "watch", "recount"),
)


def connect(
    section: RedisSection,
    *,
    name: str | None = None,
    patient: bool = False,
    pause: float = timeouts.DEFAULT.retry,
) -> redis.Redis:
    """A client of Karton's Redis that answers in text.

    *name* is how Redis lists its connections. A *patient* client waits for a Redis that is away, for hours,
    with pauses of up to *pause* seconds between two tries; the scripts may be sent again after a lost answer,
    since each does its work once.
    """
    return redis.Redis.from_url(
        section.address(),
        decode_responses=True,
        encoding_errors="surrogateescape",  # what others put there need not be UTF-8, and is theirs
        socket_timeout=section.socket_timeout or None,
        socket_connect_timeout=CONNECT_SECONDS,
        health_check_interval=30,
        client_name=name,
        retry=Retry(ExponentialWithJitterBackoff(base=0.2, cap=pause), PATIENT_RETRIES if patient else 3),
        retry_on_error=list(ANSWERED),
    )


class Standing(enum.Enum):
    """What the ledger knows of an attempt."""

    CURRENT = enum.auto()
    STALE = enum.auto()
    """The analysis is over, or at another attempt."""
    UNKNOWN = enum.auto()
    """There is no record: Redis lost its data, or is another, or the analysis was over long ago."""


class Ledger:
    """Every write is a script that compares the attempt inside Redis."""

    def __init__(
        self, client: redis.Redis, *, identity: str, record_ttl: int, times: Times = timeouts.DEFAULT
    ) -> None:
        """*record_ttl*: seconds that a finished analysis stays in the ledger. *times*: what claims go by."""
        self.redis = client
        self.identity = identity
        self.times = times
        self.fleet = Fleet(client, odd=self._odd_host)
        self.quarantine = Quarantine(client)
        self._ttl = record_ttl
        self._scripts = load_scripts(client, *SCRIPTS)

    def _call(self, script: str, keys: Sequence[str], args: Sequence[str | int]) -> Any:
        return self._scripts[script](keys, args)

    def now(self) -> float:
        """UNIX time by Redis' clock."""
        return clock.now(self.redis)

    def watch(self) -> Watch:
        """Note that Redis is heard, and since when; to be called by all who judge by silence."""
        return self._watch(WATCH, ServerId.of(self.redis))

    def watch_broker(self, server: ServerId) -> Watch:
        """Note that the broker, which is *server*, answers; to be called by who reconciles."""
        return self._watch(BROKER_WATCH, server)

    def _watch(self, key: str, server: ServerId) -> Watch:
        args: list[str | int] = [str(self.times.pause), server.run_id, server.role, MEMORY, MOST_GAPS]
        return watch_of(self._call("watch", [key, gaps_key(key)], args))

    # The life of an attempt

    def begin_attempt(self, uid: str, *, after: int, lost: bool = False) -> int:
        """Number of an attempt that is to be sent now.

        *lost*: the message of the current attempt is known to be gone.
        Raises :class:`Superseded` where *after* is not the current attempt, or it was sent.
        """
        attempt = self._call("begin", [record_key(uid)], [after, int(lost)])
        if attempt is None:
            raise Superseded(f"analysis {uid} has been started already")
        return int(attempt)

    def sent(self, uid: str, attempt: int) -> None:
        """Note that the chain of an attempt is with the broker."""
        self._call("sent", [record_key(uid)], [attempt])

    def due(self) -> str | None:
        """Take an analysis whose next attempt, or postponed stage, is to be sent now."""
        return cast("str | None", self._call("due", [DUE], []))

    def is_due_later(self, uid: str) -> bool:
        """Whether the analysis waits for its time to be sent."""
        return self.redis.zscore(DUE, uid) is not None

    def advance(
        self,
        uid: str,
        attempt: int,
        stage: Stage,
        *,
        host: str,
        slot: str,
        token: str,
        beside_others: bool = False,
        machine: str = "",
        has_files: bool = False,
    ) -> tuple[Record, float]:
        """Enter *stage*; *token* names this delivery of its message.

        *beside_others*: a process that dies may take other work down with it.
        *machine*: the key of this machine; *has_files*: whether what the attempt has made so far is here.
        Returns the record as it was before, and when the stage was entered.

        Raises:
            UnderWay: another delivery is at work on it.
            NeedsSolitude: it may not be at work *beside_others*. Nothing was changed.
            Superseded: the attempt is stale, the stage is done, or the analysis is over; or the attempt is
                on another machine with this host name.
            Astray: it is on such a machine, and its message has come here once more since.
        """
        args: list[str | int] = [attempt, _before(stage), _STATES[stage].value, host, slot, token]
        args += [str(self.times.silence), stage.value, int(not beside_others), machine, int(has_files)]
        answer = self._call("advance", [record_key(uid)], args)
        if answer in (4, 5):
            error = Superseded if answer == 4 else Astray
            raise error(
                f"analysis {uid}: attempt {attempt} is on another machine that has, or had, the name {host}"
            )
        if answer == 3:
            raise NeedsSolitude(f"analysis {uid}: {stage.value} has cost a process; it has to be alone")
        if answer == 2:
            raise UnderWay(
                f"analysis {uid}: {stage.value} of attempt {attempt} is under way; delivered twice"
            )
        if not answer:
            raise Superseded(f"analysis {uid}: attempt {attempt} may not enter {stage.value} any more")
        entered, before = answer
        return record_of(before), float(entered)

    def renew(self, uid: str, attempt: int, *, token: str) -> bool:
        """Show that a delivery is alive. False where it is stale: it should stop what it does.

        Where there is no record, nothing is known: a Redis that lost its data may get it back.
        """
        return bool(self._call("renew", [record_key(uid)], [attempt, token]))

    def linger(self, uid: str, attempt: int, stage: Stage) -> None:
        """Show that a delivery waits to begin *stage*. Raises :class:`Superseded` where that is in vain."""
        if not self._call("linger", [record_key(uid)], [attempt, _before(stage)]):
            raise Superseded(f"analysis {uid}: attempt {attempt} need not wait for {stage.value} any more")

    def complete(self, uid: str, attempt: int, stage: Stage, *, token: str) -> None:
        """The stage is done. Raises :class:`Superseded` where the delivery is stale."""
        args: list[str | int] = [attempt, token, stage.value, _AFTER[stage].value]
        if not self._call("complete", [record_key(uid)], args):
            raise Superseded(f"analysis {uid}: attempt {attempt} was taken over during {stage.value}")

    def note_alike(self, uid: str, attempt: int) -> None:
        """What the attempt's run did not leave is missing in an earlier one's, too."""
        self._call("alike", [record_key(uid)], [attempt])

    def abandon(self, uid: str, attempt: int, stage: Stage) -> int:
        """The process that worked on *stage* is dead; its message may be taken up at once.

        Returns how many processes the stage has cost by now; 0 where nobody was at work on it.
        """
        return int(self._call("abandon", [record_key(uid)], [attempt, _before(stage), stage.value]))

    def defer(self, uid: str, attempt: int, *, delay: float) -> bool:
        """Send an attempt again in *delay* seconds. False where it is stale, or somebody has begun it."""
        return bool(self._call("defer", [record_key(uid), DUE], [uid, attempt, str(delay)]))

    def postpone(self, uid: str, attempt: int, *, token: str, delay: float, patience: float = 1e9) -> float:
        """Have the current stage sent again in *delay* seconds; returns for how many it has been waiting.

        Where that is *patience* or more, nothing is changed. Raises :class:`Superseded` where the delivery is
        stale.
        """
        args: list[str | int] = [uid, attempt, token, str(delay), str(patience)]
        waiting = self._call("postpone", [record_key(uid), DUE], args)
        if waiting is None:
            raise Superseded(f"analysis {uid}: attempt {attempt} is stale")
        return float(waiting)

    def resend(self, record: Record) -> int:
        """Claim to send the next stage again, as *record* shows it.

        Returns how many processes the stage has cost by now, with the one that fell silent; 0 where nobody
        was at work on it.

        Raises :class:`Superseded` where something has happened since.
        """
        seen = [record.done.value if record.done else "", record.updated_text, record.beat_text]
        seen.append(record.following.value if record.following else "")
        answer = self._call("resend", [record_key(record.uid)], [record.attempt, *seen])
        if answer is None:
            raise Superseded(f"analysis {record.uid} is not lost")
        _, deaths = answer
        return int(deaths)

    def cancel(self, record: Record, *, reason: str, crashed: str | None) -> bool:
        """End a live analysis. False where it is over already.

        *crashed* is Karton's task as JSON, None to leave it as it is. Whoever works on the analysis sees it
        at the next :meth:`renew`.
        """
        keys = [record_key(record.uid), LIVE, DONE, DUE, task_key(record.task_uid), INFLIGHT]
        keys += NOTICE_KEYS
        return bool(self._call("cancel", keys, [record.uid, reason, crashed or "", self._ttl]))

    def fail(
        self,
        uid: str,
        attempt: int,
        failure: Failure,
        *,
        task_uid: str,
        final: bool,
        crashed: str | None,
        delay: float = 0,
        token: str = "",
    ) -> int:
        """Note the failure; where it is *final* the analysis is over and Karton's task becomes *crashed*.

        *crashed* is the CRASHED task as JSON, None where Karton has dropped it. *token* names the delivery
        that failed; without it somebody ends the attempt from outside.
        Returns the number of the attempt that is due in *delay* seconds, 0 where the analysis is over.
        Raises :class:`Superseded` where the attempt is stale.
        """
        answer = self._call(
            "fail",
            [
                record_key(uid),
                LIVE,
                DONE,
                DUE,
                task_key(task_uid),
                KartonMetrics.TASK_CONSUMED.value,
                KartonMetrics.TASK_CRASHED.value,
                INFLIGHT,
                *NOTICE_KEYS,
            ],
            [
                uid,
                attempt,
                failure.model_dump_json(),
                int(final),
                crashed or "",
                self._ttl,
                self.identity,
                str(delay),
                token,
            ],
        )
        if answer is None:
            raise Superseded(f"analysis {uid}: attempt {attempt} is stale")
        return int(answer)

    def publish(
        self,
        uid: str,
        attempt: int,
        *,
        task_uid: str,
        finished: str,
        analysis_task: str,
        analysis_task_uid: str,
    ) -> Record:
        """Publish in one transaction; the tasks are JSON. Returns the record. Raises :class:`Superseded`."""
        answer = self._call(
            "publish",
            [
                record_key(uid),
                LIVE,
                DONE,
                task_key(task_uid),
                task_key(analysis_task_uid),
                KARTON_TASKS_QUEUE,
                KartonMetrics.TASK_CONSUMED.value,
                KartonMetrics.TASK_PRODUCED.value,
                DUE,
                INFLIGHT,
                *NOTICE_KEYS,
            ],
            [uid, attempt, finished, analysis_task, analysis_task_uid, self._ttl, self.identity],
        )
        if not answer:
            raise Superseded(f"analysis {uid}: attempt {attempt} may not publish")
        return record_of(answer)

    # Karton's own records

    def karton_task(self, task_uid: str) -> Task | None:
        """The Karton task, if Karton still has it. Its resources are not bound to any storage.

        Raises :class:`~drakcelery.errors.Unreadable` for what is no task.
        """
        text = cast("str | None", self.redis.get(task_key(task_uid)))
        return None if text is None else reading.read_task(text, task_uid)

    def last_word(self, task_uid: str, reasons: Sequence[str]) -> str | None:
        """The Karton task as CRASHED with *reasons*, as JSON, whatever it was.

        None where Karton has dropped it.
        """
        text = cast("str | None", self.redis.get(task_key(task_uid)))
        return reading.last_word(text, task_uid, reasons, now=self.now())

    def declare(self, task: Task) -> None:
        """Let Karton know of *task* without sending it: its collector spares what the task refers to."""
        self.redis.set(task_key(task.uid), task.serialize())

    def remove(self, uid: str, *, reason: str) -> bool:
        """End an analysis whose record nobody can read. False where it is not live.

        Its Karton task is left as it is: who it belongs to is not known.
        """
        if self.redis.type(record_key(uid)) not in ("hash", "none"):
            self.redis.delete(record_key(uid))
        keys = [record_key(uid), LIVE, DONE, DUE, task_key(""), INFLIGHT, *NOTICE_KEYS]
        ended = bool(self._call("cancel", keys, [uid, reason, "", self._ttl]))
        with self.redis.pipeline() as pipe:
            pipe.delete(record_key(uid))
            pipe.zrem(DONE, uid)
            pipe.execute()
        return ended

    # Reading

    def get(self, uid: str) -> Record | None:
        """The record of *uid*, if there is one. Raises :class:`UnreadableRecord`."""
        try:
            fields = cast("dict[str, str]", self.redis.hgetall(record_key(uid)))
            return parse(fields) if fields else None
        except (redis.RedisError, *UNREADABLE) as error:
            if concerns_all(error):
                raise
            self.quarantine.saw(UNREAD, uid, error)
            raise UnreadableRecord(
                f"this version cannot read the record of analysis {uid}: {type(error).__name__}; see "
                "`drakcelery isolated list`"
            ) from None

    def is_current(self, uid: str, attempt: int) -> bool:
        """Whether *attempt* is what the analysis is at, and the analysis is not over."""
        return self.standing(uid, attempt) is Standing.CURRENT

    def standing(self, uid: str, attempt: int) -> Standing:
        """As :meth:`is_current`, but a record that is not there says nothing."""
        number, state = self._number_and_state(uid)
        if number is None or state is None:
            return Standing.UNKNOWN
        is_current = number == str(attempt) and not State(state).is_over
        return Standing.CURRENT if is_current else Standing.STALE

    def _number_and_state(self, uid: str) -> tuple[str | None, str | None]:
        values = self.redis.hmget(record_key(uid), ["attempt", "state"])
        return cast("tuple[str | None, str | None]", tuple(values))

    def live(self) -> Iterator[Record]:
        """Records of all analyses that are not over, oldest first."""
        return self.records(cast("list[str]", self.redis.zrange(LIVE, 0, -1)))

    def done(self, *, newest: int) -> Iterator[Record]:
        """Records of the *newest* analyses that are over, newest first."""
        none: list[str] = []
        return self.records(
            unless_odd(lambda: cast("list[str]", self.redis.zrevrange(DONE, 0, newest - 1)), none)
        )

    def forget(self) -> int:
        """Drop the uids of expired records from the list of finished analyses; returns how many."""
        now = self.now()
        return unless_odd(lambda: self.redis.zremrangebyscore(DONE, "-inf", now - self._ttl), 0)

    def recount(self) -> int:
        """Count the live analyses of each place anew; returns how many counts were wrong."""
        return int(self._call("recount", [LIVE, INFLIGHT], record_key("\0").split("\0")))

    def records(self, uids: Sequence[str]) -> Iterator[Record]:
        """The records of *uids*, as far as there are any; each is read a moment before it is given.

        One that cannot be read is left out, and is in quarantine.
        """
        odd, _ = self.quarantine.uids(UNREAD) if uids else ((), ())
        for begin in range(0, len(uids), AT_ONCE):
            with self.redis.pipeline(transaction=False) as pipe:
                for uid in uids[begin : begin + AT_ONCE]:
                    pipe.hgetall(record_key(uid))
                found = pipe.execute(raise_on_error=False)
            for uid, fields in zip(uids[begin : begin + AT_ONCE], found, strict=True):
                record = self._read(uid, fields)
                if record is not None:
                    yield record
                if uid in odd and (record is not None or not fields):
                    self.quarantine.remove(uid, where=UNREAD)

    def _read(self, uid: str, fields: dict[str, str] | Exception) -> Record | None:
        """What Redis answered as a record; None where there is none, or none that can be read."""
        try:
            if isinstance(fields, Exception):
                raise fields
            return parse(fields) if fields else None
        except (redis.RedisError, *UNREADABLE) as error:
            if concerns_all(error):
                raise
            self.quarantine.saw(UNREAD, uid, error)
            return None

    def _odd_host(self, host: str, error: Exception) -> None:
        self.quarantine.saw("hosts", host, error)


def record_of(flat: Sequence[str]) -> Record:
    """A record as scripts return it: field, value, field, value, …"""
    return parse(dict(zip(flat[::2], flat[1::2], strict=True)))


def _before(stage: Stage) -> str:
    """The stage before *stage*, as the scripts name it."""
    place = STAGES.index(stage)
    return STAGES[place - 1].value if place else ""
