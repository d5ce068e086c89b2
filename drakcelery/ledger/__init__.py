"""The ledger: the record of every analysis, in Karton's Redis. Celery is transport, this is the truth.

Each state change is one Lua script (``lua/``), fenced by attempt; the keys it owns stand on top of it. Time
is Redis' own, so a host's wrong clock changes nothing.

Whatever ends an analysis queues a notice in the same script, if an ingress wants notices
(:mod:`drakcelery.ledger.outbox`).
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import redis
from redis.exceptions import ResponseError

from drakcelery.ledger import keytypes, turns
from drakcelery.ledger.attempts import Attempts
from drakcelery.ledger.away import unless_odd
from drakcelery.ledger.canaries import Canaries
from drakcelery.ledger.connection import Patience, connect
from drakcelery.ledger.deployment import Deployment
from drakcelery.ledger.durations import DurationStore
from drakcelery.ledger.endings import Endings
from drakcelery.ledger.fleet import Fleet
from drakcelery.ledger.inbox import Inbox
from drakcelery.ledger.index import Index
from drakcelery.ledger.karton_side import KartonSide
from drakcelery.ledger.keys import BROKER_WATCH, DONE, TURN, WATCH, gaps_key, record_key
from drakcelery.ledger.news import NewsStore
from drakcelery.ledger.outbox import Outbox
from drakcelery.ledger.records import Records, Standing
from drakcelery.ledger.removal import Removal
from drakcelery.ledger.second_looks import SecondLooks
from drakcelery.ledger.watch import MEMORY, MOST_GAPS, ServerId, watch_of
from drakcelery.model import timeouts
from drakcelery.model.timeouts import Timeouts, Watch

__all__ = ["Ledger", "Patience", "Standing", "connect"]


class Ledger(Attempts, Endings, Records, KartonSide):
    """Every write is a script that compares the attempt inside Redis."""

    def __init__(
        self, client: redis.Redis, *, identity: str, record_ttl: int, timeouts: Timeouts = timeouts.DEFAULT
    ) -> None:
        """*record_ttl*: seconds that a finished analysis stays in the ledger. *timeouts*: after which silence
        claims are lost."""
        super().__init__(client, identity=identity, record_ttl=record_ttl, timeouts=timeouts)
        self.fleet = Fleet(client, odd=self._odd_host)
        self.outbox = Outbox(client)
        self.canaries = Canaries(client)
        self.durations = DurationStore(client)
        self.news = NewsStore(client)
        self.index = Index(client, record_ttl=record_ttl)
        self.removal = Removal(client)
        self.second_looks = SecondLooks(client)
        self.deployment = Deployment(client, identity)

    def inbox(self) -> Inbox:
        """What comes before the ledger: Karton's queues, the inbox and the lines."""
        return Inbox(self._redis, identity=self.identity, record_ttl=self._ttl)

    def watch(self) -> Watch:
        """Note that Redis is heard, and since when; everything that judges by silence calls it."""
        return self._watch(WATCH, ServerId.of(self._redis))

    def watch_broker(self, server: ServerId) -> Watch:
        """Note that the broker, which is *server*, answers; reconcile calls it."""
        return self._watch(BROKER_WATCH, server)

    def _watch(self, key: str, server: ServerId) -> Watch:
        answer = self._scripts(
            "watch",
            {"watch": key, "gaps": gaps_key(key)},
            pause=self.timeouts.pause,
            run_id=server.run_id,
            role=server.role,
            memory=MEMORY,
            most=MOST_GAPS,
        )
        return watch_of(answer)

    def forget(self) -> int:
        """Drop the uids of expired records from the list of finished analyses; returns how many."""
        now = self.now()
        return unless_odd(lambda: self._redis.zremrangebyscore(DONE, "-inf", now - self._ttl), 0)

    def recount(self) -> int:
        """Count the live analyses of each place again; returns how many counts were wrong."""
        prefix, suffix = record_key("\0").split("\0")
        return int(self._scripts("recount", prefix=prefix, suffix=suffix))

    # Whose turn it is to reconcile

    def take_turn(self, name: str, *, seconds: float) -> bool:
        """Take the turn for *name*, for a while, if nobody has it. False if somebody has."""
        return turns.acquire(self._redis, TURN, name, seconds=seconds)

    def keep_turn(self, name: str, *, seconds: float) -> bool:
        """Keep the turn for longer. False if it is somebody else's by now."""
        return turns.keep(self._redis, TURN, name, seconds=seconds)

    # Errors of Redis, in words that name the key they are about

    def named(self) -> AbstractContextManager[None]:
        """As :func:`drakcelery.ledger.keytypes.named`."""
        return keytypes.named(self._redis)

    def describe(self, error: BaseException) -> str:
        """As :func:`drakcelery.ledger.keytypes.describe`."""
        return keytypes.describe(self._redis, error)

    def explained(self, error: ResponseError) -> ResponseError:
        """As :func:`drakcelery.ledger.keytypes.explained`."""
        return keytypes.explained(self._redis, error)

    def odd_keys(self) -> list[keytypes.OddKey]:
        """Those of our keys that have another type than they should."""
        return keytypes.odd_keys(self._redis)

    def odd_sentences(self) -> list[str]:
        """What to tell people about these keys."""
        return keytypes.sentences(self._redis)

    def _odd_host(self, host: str, error: Exception) -> None:
        self.quarantine.saw("hosts", host, error)
