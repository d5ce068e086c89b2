"""The quarantine: items that could not be dealt with, each with its error and when it is tried again."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import cast

import redis
import structlog

from drakcelery.ledger import clock, keytypes
from drakcelery.ledger.away import concerns_all, unless_odd
from drakcelery.ledger.clock import number
from drakcelery.ledger.keys import QUARANTINE, entry_key
from drakcelery.ledger.scripts import Scripts

log = structlog.get_logger(__name__)

MOST_DELAY = 300
"""Seconds between two tries, at most; the first are 1, 2, 4, … apart."""
MEMORY = 3 * MOST_DELAY
"""Seconds after which an item that is due but not tried is dropped: it has been dealt with elsewhere."""
MOST_TEXT = 500
"""Characters of an error that are kept."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An item in quarantine. Times are UNIX times by Redis' clock."""

    where: str
    """The loop that could not deal with it: ``inbox``, ``reconcile``, …"""
    uid: str
    """Of the analysis, or of the Karton task where there is no analysis."""
    error: str
    count: int
    """How often it was tried without success."""
    first: float
    next: float
    """When it is tried again."""


class Quarantine:
    """The quarantine in Redis; loops use it by :class:`drakcelery.recovery.isolation.Isolation`."""

    def __init__(self, client: redis.Redis) -> None:
        """*client* answers in text (:func:`drakcelery.ledger.connect`)."""
        self._redis = client
        self._scripts = Scripts(client, "quarantine")

    def explained(self, error: redis.ResponseError) -> redis.ResponseError:
        """As :func:`drakcelery.ledger.keytypes.explained`."""
        return keytypes.explained(self._redis, error)

    def put(self, where: str, uid: str, error: str) -> int:
        """Note that *uid* could not be dealt with; returns how often that has happened."""
        text = error.encode("utf-8", "replace").decode()[:MOST_TEXT]
        try:
            count = self._scripts(
                "quarantine",
                {"entry": entry_key(where, uid)},
                where=where,
                uid=uid,
                error=text,
                most=MOST_DELAY,
                memory=MEMORY,
            )
            return int(count)
        except redis.ResponseError as refused:
            if concerns_all(refused):
                raise
            log.error("quarantine_unusable", uid=uid, where=where, error=str(refused))
            return 1

    def saw(self, where: str, uid: str, error: BaseException) -> None:
        """Note that *uid* cannot be read, as :meth:`put` does, but not before its next try is due."""
        _, waiting = self.uids(where)
        if uid not in waiting:
            text = f"{type(error).__name__}: {error}"
            count = self.put(where, uid, text)
            log.warning("quarantined", uid=uid, where=where, count=count, error=text)

    def uids(self, where: str) -> tuple[frozenset[str], frozenset[str]]:
        """(all that *where* has in quarantine, those of them whose time has not come)."""
        entries = self._members()
        if not entries:  # nearly always
            return frozenset(), frozenset()
        now, prefix = clock.now(self._redis), f"{where} "
        ours = {name.removeprefix(prefix): at for name, at in entries if name.startswith(prefix)}
        return frozenset(ours), frozenset(uid for uid, at in ours.items() if at > now)

    def all(self) -> list[Entry]:
        """Everything in quarantine, the longest there first. What has expired leaves it."""
        names = [(name, *_parts(name), at) for name, at in self._members()]
        with self._redis.pipeline(transaction=False) as pipe:
            for _, where, uid, _ in names:
                pipe.hgetall(entry_key(where, uid))
            found = cast("list[dict[str, str] | Exception]", pipe.execute(raise_on_error=False))
        entries: list[Entry] = []
        expired: list[str] = []
        for (name, where, uid, at), fields in zip(names, found, strict=True):
            if isinstance(fields, Exception):
                if concerns_all(fields):
                    raise fields
                fields = {"error": f"what is known of it cannot be read: {fields}"}
            if not fields:
                expired.append(name)
                continue
            entries.append(
                Entry(
                    where=where,
                    uid=uid,
                    error=fields.get("error", ""),
                    count=int(number(fields.get("count", ""))),
                    first=number(fields.get("first", "")),
                    next=at if math.isfinite(at) else 0.0,
                )
            )
        if expired:
            self._redis.zrem(QUARANTINE, *expired)
        return sorted(entries, key=lambda entry: entry.first)

    def counts(self) -> dict[str, int]:
        """How many items each loop has in quarantine."""
        return dict(Counter(entry.where for entry in self.all()))

    def release(self, uid: str) -> int:
        """Have *uid* tried again at once, wherever it is; returns in how many places it was."""
        names = self._named([uid])
        if names:
            self._redis.zadd(QUARANTINE, dict.fromkeys(names, 0.0), xx=True)
        return len(names)

    def remove(self, uid: str, *, where: str | None = None) -> int:
        """Take *uid* out of quarantine (of the loop *where* only); returns of how many places."""
        names = [name for name in self._named([uid]) if where in (None, name.partition(" ")[0])]
        if names:
            self._redis.zrem(QUARANTINE, *names)
            self._redis.delete(*(entry_key(*_parts(name)) for name in names))
        return len(names)

    def _named(self, uids: Collection[str]) -> list[str]:
        return [name for name, _ in self._members() if name.partition(" ")[2] in uids]

    def _members(self) -> list[tuple[str, float]]:
        """None if the key has another type: no loop may stop because the quarantine is unusable."""

        def ask() -> list[tuple[str, float]]:
            found = self._redis.zrange(QUARANTINE, 0, -1, withscores=True)
            return cast("list[tuple[str, float]]", found)

        return unless_odd(ask, [])


def _parts(name: str) -> tuple[str, str]:
    where, _, uid = name.partition(" ")
    return where, uid
