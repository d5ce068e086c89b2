"""How long the newest analyses of each profile took, as texts; :mod:`drakcelery.forecast` knows their
format."""

from __future__ import annotations

from collections.abc import Collection
from typing import cast

import redis

from drakcelery.ledger.away import concerns_all
from drakcelery.ledger.keys import durations_key

KEPT = 256
"""How many analyses of each profile are remembered: few enough that a change soon shows."""
MEMORY = 30 * 24 * 3600
"""Seconds after the last analysis of a profile until all is forgotten."""


class DurationStore:
    """A list for each profile, newest first."""

    def __init__(self, client: redis.Redis) -> None:
        """*client* answers in text (:func:`drakcelery.ledger.connect`)."""
        self._redis = client

    def add(self, profile: str, text: str) -> None:
        """Remember one."""
        key = durations_key(profile)
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.lpush(key, text)
            pipe.ltrim(key, 0, KEPT - 1)
            pipe.expire(key, MEMORY)
            pipe.execute()

    def all(self, profiles: Collection[str]) -> list[list[str]]:
        """Those of each profile; none if the key has another type, since they are for display only."""
        with self._redis.pipeline(transaction=False) as pipe:
            for profile in profiles:
                pipe.lrange(durations_key(profile), 0, -1)
            answers = cast("list[list[str] | Exception]", pipe.execute(raise_on_error=False))
        return [_sound(answer) for answer in answers]


def _sound(answer: list[str] | Exception) -> list[str]:
    if not isinstance(answer, Exception):
        return answer
    if concerns_all(answer):
        raise answer
    return []
