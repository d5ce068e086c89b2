"""The index of analyses that are over, by which people find them (docs/decisions/finding.md).

It only suggests: whoever asks reads the record of each candidate, and that decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import redis
import structlog

from drakcelery.ledger.away import is_away
from drakcelery.ledger.keys import DONE, INDEX, index_uids_key, record_key
from drakcelery.ledger.scripts import Scripts
from drakcelery.model.analysis import Value
from drakcelery.model.query import Query, needle

log = structlog.get_logger(__name__)

SCRIPTS = ("find_values", "find_prefix", "find_text", "index", "restore")
OLDER = "older"
"""The member that says down to which time older analyses were entered."""
AT_ONCE = 2000
"""Analyses that one script looks at, and"""
BYTES_AT_ONCE = 4 * 1024**2
"""bytes of text: a few milliseconds, in which Redis does nothing else."""
FOUND_AT_ONCE = 100
"""How many it finds before it stops."""
HASH_DIGITS = 16
"""Digits of a hash that the index has."""
ENTERED_AT_ONCE = 500
ALL = -1.0
"""The time that it says if all were."""


Place = tuple[str, str]
"""Where a search goes on: what it means is the script's affair."""
START: Place = ("", "")


class Piece(Value):
    """What one script has found: nothing perhaps, and yet there may be more."""

    found: tuple[tuple[str, Place], ...]
    """The uids of analyses that may be looked for, each with where to go on behind it."""
    following: Place | None
    """Where to go on behind all that this piece has looked at; None if it is the last."""


class Index:
    """Suggests which analyses might be looked for, piece by piece; between them Redis serves others."""

    def __init__(self, client: redis.Redis, *, record_ttl: int) -> None:
        """*record_ttl*: seconds that a record stays, and that an entry stays with it."""
        self._redis = client
        self._ttl = record_ttl
        self._scripts = Scripts(client, *SCRIPTS)

    def by_values(self, query: Query, place: Place = START) -> Iterator[Piece]:
        """By state, host, profile, engine and time alone, in the order in which they ended."""
        more: object = 1
        while more:
            time, after = place
            least: float | str = query.since
            most: float | str = query.until
            if time and query.newest_first:
                most = time
            elif time:
                least = time
            more, last, at, *flat = self._scripts(
                "find_values",
                newest=int(query.newest_first),
                least=least,
                most=most,
                after=after,
                limit=AT_ONCE,
                enough=FOUND_AT_ONCE,
                filters=_filters(query),
            )
            place = (at, last) if at else place
            found = zip(flat[::2], flat[1::2], strict=True)
            yield Piece(
                found=tuple((uid, (time, uid)) for uid, time in found), following=place if more else None
            )

    def by_prefix(self, kind: str, prefix: str, query: Query, place: Place = START) -> Iterator[Piece]:
        """By the beginning of a uid (*kind* u), a hash (s) or a uid in Karton (k).

        The newest six hours come first; in them the order is that of the uids, or hashes.
        """
        start = f"{kind}:{prefix[:HASH_DIGITS].lower() if kind == 's' else prefix}"
        more: object = 1
        while more:
            window, after = place
            more, *place_and_rest = self._scripts(
                "find_prefix",
                least=query.since,
                most=query.until,
                prefix=start,
                window=window,
                after=after,
                limit=FOUND_AT_ONCE,
                filters=_filters(query),
            )
            place, found = _triples(place_and_rest)
            yield Piece(found=found, following=place if more else None)

    def by_text(
        self, name: str | None, reason: str | None, query: Query, place: Place = START
    ) -> Iterator[Piece]:
        """By a part of the name, and of the reason, the newest first."""
        more: object = 1
        while more:
            window, at = place
            more, *place_and_rest = self._scripts(
                "find_text",
                least=query.since,
                most=query.until,
                name=needle(name),
                reason=needle(reason),
                window=window,
                place=at or "-1",
                limit=BYTES_AT_ONCE,
                enough=FOUND_AT_ONCE,
                filters=_filters(query),
            )
            place, found = _triples(place_and_rest)
            yield Piece(found=found, following=place if more else None)

    # Entries for records of before there was an index, or that were made again

    def enter(self, uids: Sequence[str]) -> int:
        """Enter analyses that are over; returns how many there are records of."""
        prefix, suffix = record_key("\0").split("\0")
        return int(self._scripts("index", ttl=self._ttl, prefix=prefix, suffix=suffix, uids=list(uids)))

    def restore(self, uid: str, fields: Mapping[str, str], *, at: float, left: int) -> bool:
        """Make the record of an analysis again that ended *at* a time; it stays for *left* seconds.

        False if there is one.
        """
        flat = [text for pair in fields.items() for text in pair]
        return bool(
            self._scripts(
                "restore",
                {"record": record_key(uid)},
                uid=uid,
                at=at,
                left=left,
                ttl=self._ttl,
                fields=flat,
            )
        )

    @property
    def is_complete(self) -> bool:
        """Whether analyses of before there was an index have been entered as well."""
        return self._redis.zscore(INDEX, OLDER) == ALL

    def enter_older(self) -> int:
        """Enter some more of the analyses of before there was an index; returns how many, 0 if all are in."""
        since = self._redis.zscore(INDEX, OLDER)
        if since == ALL:
            return 0
        most = "+inf" if since is None else f"({since!r}"
        some = cast(
            "list[tuple[str, float]]",
            self._redis.zrevrangebyscore(DONE, most, "-inf", start=0, num=ENTERED_AT_ONCE, withscores=True),
        )
        entered = self.enter([uid for uid, _ in reversed(some)])
        with self._redis.pipeline() as pipe:
            pipe.zadd(INDEX, {OLDER: some[-1][1] if len(some) == ENTERED_AT_ONCE else ALL})
            pipe.expire(INDEX, self._ttl)
            pipe.execute()
        return entered

    def keep(self) -> int:
        """What reconcile does: :meth:`forget`, and :meth:`enter_older`, whose answer is returned.

        Nothing depends on the index but what people look for: a key of another type, or a right that an
        earlier version did not need, must not keep reconcile from its work.
        """
        try:
            self.forget()
            return self.enter_older()
        except redis.ResponseError as error:
            if is_away(error):
                raise
            log.warning("not_indexed", error=str(error))
            return 0

    def forget(self) -> int:
        """Drop windows of which everything has expired; returns how many."""
        windows = [one for one in cast("list[str]", self._redis.zrange(INDEX, 0, -1)) if one != OLDER]
        with self._redis.pipeline(transaction=False) as pipe:
            for window in windows:
                pipe.exists(index_uids_key(window))
            gone = [window for window, there in zip(windows, pipe.execute(), strict=True) if not there]
        return int(self._redis.zrem(INDEX, *gone)) if gone else 0


def _filters(query: Query) -> list[str]:
    return [f"{field}:{value}" for field, value in query.filters]


def _triples(flat: Sequence[str]) -> tuple[Place, tuple[tuple[str, Place], ...]]:
    """What a script answers: where to go on, and what it has found."""
    rows = zip(flat[2::3], flat[3::3], flat[4::3], strict=True)
    return (flat[0], flat[1]), tuple((uid, (window, at)) for window, at, uid in rows)
