"""What the newest watched runs showed, and when, by profile and quality, as texts;
:mod:`drakcelery.forecast.news` knows their format."""

from __future__ import annotations

from typing import cast

import redis

from drakcelery.ledger.away import unless_odd
from drakcelery.ledger.keys import NEWS, news_key, stops_key
from drakcelery.model.names import is_name

KEPT = 1000
"""How many measured runs of each profile and quality are remembered,"""
KEPT_STOPS = 2000
"""and how many of the others, which are short."""
LONGEST = 8192
"""Bytes of one run; longer ones are left out. A run of ours is never as long."""
PAIRS = 32
"""Of how many profiles and qualities; tasks name qualities, so more may come."""
OTHER = "other"
"""Stands for the qualities for which there is no room, one for each profile: as many have room for these."""
MEMORY = 90 * 24 * 3600
"""Seconds after the last run of a profile and quality until all is forgotten."""

Pair = tuple[str, str]
"""A profile, and a quality."""


class NewsStore:
    """Two lists for each profile and quality, newest first: of measured runs, and of the others."""

    def __init__(self, client: redis.Redis) -> None:
        """*client* answers in text (:func:`drakcelery.ledger.connect`)."""
        self._redis = client

    def add(self, pair: Pair, text: str, *, is_measured: bool, at: float) -> bool:
        """Remember a run that ended at *at* (Redis' time). False if it has no room.

        Raises :class:`redis.RedisError`.
        """
        if len(text.encode()) > LONGEST or not self._has_room(pair, at):
            return False
        key, kept = (news_key(*pair), KEPT) if is_measured else (stops_key(*pair), KEPT_STOPS)
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.zadd(NEWS, {"/".join(pair): at})
            pipe.expire(NEWS, MEMORY)
            pipe.lpush(key, text)
            pipe.ltrim(key, 0, kept - 1)
            pipe.expire(key, MEMORY)
            pipe.execute()
        return True

    def _has_room(self, pair: Pair, at: float) -> bool:
        """Whether *pair* is known, or may become so. Processes at the same time may exceed the limit a
        little."""
        most = 2 * PAIRS if pair[1] == OTHER else PAIRS
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.zremrangebyscore(NEWS, "-inf", at - MEMORY)
            pipe.zscore(NEWS, "/".join(pair))
            pipe.zcard(NEWS)
            _, known, count = pipe.execute()
        return known is not None or count < most

    def pairs(self) -> list[Pair]:
        """Those that something is remembered of, in the order of the alphabet; none if the key has another
        type. What no task could have brought is left out: it would be shown to people.

        Raises :class:`redis.RedisError`.
        """
        none: list[str] = []
        found = unless_odd(lambda: cast("list[str]", self._redis.zrange(NEWS, 0, 2 * PAIRS - 1)), none)
        split = [name.partition("/")[::2] for name in found]
        return sorted(
            (profile, quality) for profile, quality in split if all(map(is_name, (profile, quality)))
        )

    def measured(self, pair: Pair) -> list[str]:
        """The measured runs, newest first; none if the key has another type. Raises
        :class:`redis.RedisError`."""
        return self._texts(news_key(*pair), KEPT)

    def others(self, pair: Pair) -> list[str]:
        """The runs that tell of time only; as :meth:`measured`."""
        return self._texts(stops_key(*pair), KEPT_STOPS)

    def _texts(self, key: str, most: int) -> list[str]:
        none: list[str] = []
        return unless_odd(lambda: cast("list[str]", self._redis.lrange(key, 0, most - 1)), none)
