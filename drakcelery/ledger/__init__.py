"""The ledger: the record of every analysis, in Karton's Redis. Celery is transport, this is the truth.

Each state change is one Lua script (``lua/``), fenced by attempt; the keys it owns stand on top of it. Time
is Redis' own, so a host's wrong clock changes nothing.

Whatever ends an analysis queues a notice in the same script, where an ingress wants such
(:mod:`drakcelery.notifications.outbox`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import redis
from karton.core import Task

from drakcelery.karton import reading
from drakcelery.ledger.attempts import Attempts
from drakcelery.ledger.away import unless_odd
from drakcelery.ledger.connection import connect
from drakcelery.ledger.endings import Endings
from drakcelery.ledger.fleet import Fleet
from drakcelery.ledger.keys import BINDS, BROKER_WATCH, DONE, WATCH, gaps_key, record_key, task_key
from drakcelery.ledger.records import Records, Standing
from drakcelery.ledger.watch import MEMORY, MOST_GAPS, ServerId, watch_of
from drakcelery.model import timeouts
from drakcelery.model.timeouts import Times, Watch

__all__ = ["Ledger", "Standing", "connect"]


class Ledger(Attempts, Endings, Records):
    """Every write is a script that compares the attempt inside Redis."""

    def __init__(
        self, client: redis.Redis, *, identity: str, record_ttl: int, times: Times = timeouts.DEFAULT
    ) -> None:
        """*record_ttl*: seconds that a finished analysis stays in the ledger. *times*: what claims go by."""
        super().__init__(client, identity=identity, record_ttl=record_ttl, times=times)
        self.fleet = Fleet(client, odd=self._odd_host)

    def watch(self) -> Watch:
        """Note that Redis is heard, and since when; to be called by all who judge by silence."""
        return self._watch(WATCH, ServerId.of(self.redis))

    def watch_broker(self, server: ServerId) -> Watch:
        """Note that the broker, which is *server*, answers; to be called by who reconciles."""
        return self._watch(BROKER_WATCH, server)

    def _watch(self, key: str, server: ServerId) -> Watch:
        answer = self._scripts(
            "watch",
            {"watch": key, "gaps": gaps_key(key)},
            pause=self.times.pause,
            run_id=server.run_id,
            role=server.role,
            memory=MEMORY,
            most=MOST_GAPS,
        )
        return watch_of(answer)

    def forget(self) -> int:
        """Drop the uids of expired records from the list of finished analyses; returns how many."""
        now = self.now()
        return unless_odd(lambda: self.redis.zremrangebyscore(DONE, "-inf", now - self._ttl), 0)

    def recount(self) -> int:
        """Count the live analyses of each place anew; returns how many counts were wrong."""
        prefix, suffix = record_key("\0").split("\0")
        return int(self._scripts("recount", prefix=prefix, suffix=suffix))

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

    def bind(self, serialized: str) -> None:
        """Have karton-system route to our identity what *serialized* says."""
        self.redis.hset(BINDS, self.identity, serialized)

    def bound(self, identity: str = "") -> str | None:
        """What karton-system routes to *identity*, ours by default, as Karton has it; None: nobody bound it.

        karton-system drops what nobody has bound.
        """
        return cast("str | None", self.redis.hget(BINDS, identity or self.identity))

    def _odd_host(self, host: str, error: Exception) -> None:
        self.quarantine.saw("hosts", host, error)
