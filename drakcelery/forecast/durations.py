"""How long published analyses took: what :mod:`drakcelery.forecast.simulation` plays forward."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import redis

from drakcelery.forecast.learning import Learned, learned_of
from drakcelery.ledger.away import concerns_all
from drakcelery.ledger.keys import durations_key
from drakcelery.model.records import Record

KEPT = 256
"""So many analyses of each profile are remembered. Old ones make room: a change of habit shows soon."""
MEMORY = 30 * 24 * 3600
"""Seconds after the last analysis of a profile until all is forgotten."""


class Durations:
    """How long analyses took, by VM profile."""

    def __init__(self, client: redis.Redis) -> None:
        """*client* answers in text (:func:`drakcelery.ledger.connect`)."""
        self._redis = client

    def learn(self, record: Record) -> bool:
        """Remember how long a published analysis took. False where its record does not say."""
        learned = learned_of(record)
        if learned is None or record.analysis is None:
            return False
        key = durations_key(record.analysis.profile)
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.lpush(key, learned.model_dump_json())
            pipe.ltrim(key, 0, KEPT - 1)
            pipe.expire(key, MEMORY)
            pipe.execute()
        return True

    def of(self, profile: str) -> list[Learned]:
        """What is known of a profile, newest first."""
        return self.all([profile])[profile]

    def all(self, profiles: Iterable[str]) -> dict[str, list[Learned]]:
        """As :meth:`of`, for several."""
        names = sorted(set(profiles))
        with self._redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.lrange(durations_key(name), 0, -1)
            answers = cast("list[list[str] | Exception]", pipe.execute(raise_on_error=False))
        return {name: _known(texts) for name, texts in zip(names, answers, strict=True)}


def _known(texts: list[str] | Exception) -> list[Learned]:
    """What was learned; nothing where the key is of another type: it is for show."""
    if isinstance(texts, Exception):
        if concerns_all(texts):
            raise texts
        return []
    return [one for text in texts if (one := _read(text)) is not None]


def _read(text: str) -> Learned | None:
    """What an analysis taught; None where another version wrote what this one cannot read."""
    try:
        learned = Learned.model_validate_json(text)
    except ValueError:
        return None
    seconds = (learned.timeout, learned.prepare, learned.run, learned.rest)
    return learned if all(0 <= one <= MEMORY for one in seconds) else None
