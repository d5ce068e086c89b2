"""What canaries are known to do, for the whole fleet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import redis
from pydantic import Field, ValidationError

from drakcelery.ledger.keys import canary_key
from drakcelery.model.analysis import Value

KEPT_SECONDS = 90 * 24 * 3600
"""Seconds for which it is known, after the last good canary of a profile."""


class Known(Value):
    """What good canaries of a profile, a snapshot and an engine's version did."""

    runs: tuple[frozenset[str], ...] = ()
    """The features of the first ones."""
    restore: Mapping[str, float] = Field(default_factory=dict)
    """The fastest restore on each host, seconds."""


class Canaries:
    """Reads and writes what canaries are known to do. If it is lost, it is learned again."""

    def __init__(self, client: redis.Redis) -> None:
        """*client* answers in text."""
        self._redis = client

    def get(self, profile: str, kind: str) -> Known:
        """What is known of *kind*: engine and snapshot. Raises :class:`redis.RedisError`."""
        text = cast("str | None", self._redis.hget(canary_key(profile), kind))
        try:
            return Known.model_validate_json(text) if text else Known()
        except ValidationError:  # another version's
            return Known()

    def has(self, profile: str) -> bool:
        """Whether a canary was ever good in *profile*. Raises :class:`redis.RedisError`."""
        return bool(self._redis.exists(canary_key(profile)))

    def put(self, profile: str, kind: str, known: Known) -> None:
        """Replace it. Raises :class:`redis.RedisError`."""
        with self._redis.pipeline() as pipe:
            pipe.hset(canary_key(profile), kind, known.model_dump_json())
            pipe.expire(canary_key(profile), KEPT_SECONDS)
            pipe.execute()
