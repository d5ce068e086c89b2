"""Notices of analyses that are over, on their way to the webhook: a queue in Karton's Redis.

A notice is queued by the script that ends an analysis (``lua/prelude/notify.lua``), while an ingress wants
notices. A sender claims it for a while, and it leaves the queue only once it is settled, so it is sent at
least once even if a sender dies.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from typing import Self, cast

import redis
from pydantic import ValidationError

from drakcelery.ledger import keytypes
from drakcelery.ledger.away import unless_odd
from drakcelery.ledger.keys import DEAD, NOTICE_COUNTS, NOTICES, NOTICES_WANTED
from drakcelery.ledger.scripts import Scripts
from drakcelery.model.analysis import State, Value
from drakcelery.model.records import Record, parse

MOST_DIGITS = 19
"""Redis counts no further."""
WANTED_TTL = 24 * 3600
"""Seconds for which notices are still queued after an ingress last asked for them."""


class Notice(Value):
    """One notice: what the record said when its analysis ended."""

    record: Record
    tries: int
    """How often it was tried without success."""
    text: str
    """As Redis has it."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what ``lua/prelude/notify.lua`` wrote. Raises ValueError for what another version wrote."""
        try:
            content = json.loads(text)
            return cls(record=parse(content["fields"]), tries=content["tries"], text=text)
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise ValueError(f"a notice of another version: {type(error).__name__}") from None

    def again(self) -> str:
        """The notice after another try."""
        return json.dumps({**json.loads(self.text), "tries": self.tries + 1})


class Dead(Value):
    """A notice that was given up."""

    uid: str
    task_uid: str
    state: str
    tries: int
    error: str
    at: float
    """UNIX time."""


class OutboxCounts(Value):
    """What became of notices, since counting began in this Redis."""

    waiting: int
    """To be sent, or to be tried again."""
    sent: int
    retried: int
    """Tries that failed."""
    given_up: int
    dropped: int
    """Not even queued: the queue was full."""


class Outbox:
    """The queue. Times are by Redis' clock."""

    def __init__(self, client: redis.Redis) -> None:
        """*client* answers in text (:func:`drakcelery.ledger.connect`)."""
        self._redis = client
        self._scripts = Scripts(client, "claim_notice", "settle_notice")

    def describe(self, error: BaseException) -> str:
        """As :func:`drakcelery.ledger.keytypes.describe`."""
        return keytypes.describe(self._redis, error)

    def want(self, states: Iterable[State]) -> None:
        """Have notices queued of analyses that end in these states, for a day from now."""
        with self._redis.pipeline() as pipe:
            pipe.delete(NOTICES_WANTED)
            for state in states:
                pipe.sadd(NOTICES_WANTED, state.value)
            pipe.expire(NOTICES_WANTED, WANTED_TTL)
            pipe.execute()

    def claim(self, *, seconds: float) -> str | None:
        """Claim a notice that is due; unless it is settled within *seconds*, another sender gets it too."""
        return cast("str | None", self._scripts("claim_notice", seconds=seconds))

    def sent(self, text: str) -> bool:
        """The notice was taken. False if another sender has settled it."""
        return self._settle(text, "sent")

    def retry(self, notice: Notice, *, delay: float) -> bool:
        """Have it tried again in *delay* seconds. False as for :meth:`sent`."""
        return self._settle(notice.text, "retried", notice.again(), delay)

    def give_up(self, text: str, dead: Dead) -> bool:
        """Give the notice up. False as for :meth:`sent`."""
        return self._settle(text, "given_up", dead.model_dump_json())

    def _settle(self, text: str, what: str, following: str = "", delay: float = 0) -> bool:
        return bool(self._scripts("settle_notice", notice=text, what=what, following=following, delay=delay))

    def counts(self) -> OutboxCounts:
        """How many wait, and what became of the others."""
        none: dict[str, str] = {}
        counted = unless_odd(lambda: cast("dict[str, str]", self._redis.hgetall(NOTICE_COUNTS)), none)
        numbers = {name: _count(counted.get(name, "")) for name in ("sent", "retried", "given_up", "dropped")}
        return OutboxCounts(waiting=unless_odd(lambda: int(self._redis.zcard(NOTICES)), 0), **numbers)

    def dead(self, *, newest: int) -> list[Dead]:
        """The notices that were given up last."""
        found: list[Dead] = []
        none: list[str] = []
        texts = unless_odd(lambda: cast("list[str]", self._redis.lrange(DEAD, 0, newest - 1)), none)
        for text in texts:
            with contextlib.suppress(ValidationError):  # of another version
                found.append(Dead.model_validate_json(text))
        return found


def _count(text: str) -> int:
    """The count, or 0 if the text is none."""
    return int(text) if text.isdecimal() and len(text) < MOST_DIGITS else 0
