"""Reads the records of analyses. One that cannot be read goes into quarantine, and stops no other."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from typing import cast

import redis

from drakcelery.errors import UnreadableRecord
from drakcelery.ledger.away import concerns_all, unless_odd
from drakcelery.ledger.connection import Connected
from drakcelery.ledger.keys import DONE, LIVE, record_key
from drakcelery.model.analysis import State
from drakcelery.model.records import Record, parse

UNREAD = "ledger"
"""The name in the quarantine under which records stand that cannot be read."""
UNREADABLE = (ValueError, LookupError, TypeError, RecursionError)
"""What reading raises for a record that another version, or somebody else, wrote."""
AT_ONCE = 100
"""How many records are read in one round trip."""


class Standing(enum.Enum):
    """What the ledger knows of an attempt."""

    CURRENT = enum.auto()
    STALE = enum.auto()
    """The analysis is over, or at another attempt."""
    UNKNOWN = enum.auto()
    """There is no record: Redis lost its data, or is another, or the analysis was over long ago."""


class Records(Connected):
    """Reads what the ledger knows of analyses."""

    def get(self, uid: str) -> Record | None:
        """The record of *uid*, if there is one. Raises :class:`UnreadableRecord`."""
        try:
            fields = cast("dict[str, str]", self._redis.hgetall(record_key(uid)))
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
        """As :meth:`is_current`, but a missing record means UNKNOWN, not STALE."""
        number, state = self._number_and_state(uid)
        if number is None or state is None:
            return Standing.UNKNOWN
        is_current = number == str(attempt) and not State(state).is_over
        return Standing.CURRENT if is_current else Standing.STALE

    def _number_and_state(self, uid: str) -> tuple[str | None, str | None]:
        values = self._redis.hmget(record_key(uid), ["attempt", "state"])
        return cast("tuple[str | None, str | None]", tuple(values))

    def owner(self, uid: str) -> str | None:
        """The Karton uid that the record of *uid* has; None if it has none, or there is no record."""
        return cast("str | None", self._redis.hget(record_key(uid), "task_uid"))

    def owners(self, uids: Sequence[str]) -> list[str | Exception | None]:
        """As :meth:`owner`, for many; what cannot be read is an error."""
        with self._redis.pipeline(transaction=False) as pipe:
            for uid in uids:
                pipe.hget(record_key(uid), "task_uid")
            return cast("list[str | Exception | None]", pipe.execute(raise_on_error=False))

    def uids(self, *, newest: int) -> list[str]:
        """Uids of all live analyses, and of the *newest* that are over."""
        found = [*self._redis.zrange(LIVE, 0, -1), *self._redis.zrevrange(DONE, 0, newest - 1)]
        return cast("list[str]", found)

    def live_uids(self) -> list[str]:
        """Uids of all analyses that are not over, oldest first."""
        return cast("list[str]", self._redis.zrange(LIVE, 0, -1))

    def ended_since(self, time: float, *, most: int) -> list[tuple[str, float]]:
        """(uid, when it ended) of the first *most* that ended after *time*."""
        found = self._redis.zrangebyscore(DONE, f"({time!r}", "+inf", start=0, num=most, withscores=True)
        return cast("list[tuple[str, float]]", found)

    def live(self) -> Iterator[Record]:
        """Records of all analyses that are not over, oldest first."""
        return self.records(self.live_uids())

    def done(self, *, newest: int) -> Iterator[Record]:
        """Records of the *newest* analyses that are over, newest first."""
        none: list[str] = []
        return self.records(
            unless_odd(lambda: cast("list[str]", self._redis.zrevrange(DONE, 0, newest - 1)), none)
        )

    def records(self, uids: Sequence[str]) -> Iterator[Record]:
        """The records of *uids*, as far as there are any; each is read a moment before it is given.

        One that cannot be read is left out, and is in quarantine.
        """
        odd, _ = self.quarantine.uids(UNREAD) if uids else ((), ())
        for begin in range(0, len(uids), AT_ONCE):
            with self._redis.pipeline(transaction=False) as pipe:
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
        """Redis' answer as a record; None if there is none, or it cannot be read."""
        try:
            if isinstance(fields, Exception):
                raise fields
            return parse(fields) if fields else None
        except (redis.RedisError, *UNREADABLE) as error:
            if concerns_all(error):
                raise
            self.quarantine.saw(UNREAD, uid, error)
            return None


def record_of(flat: Sequence[str]) -> Record:
    """A record as scripts return it: field, value, field, value, …"""
    return parse(dict(zip(flat[::2], flat[1::2], strict=True)))
