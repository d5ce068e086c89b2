"""A turn: a key that says who may do something, one at a time, for a while by Redis' clock."""

from __future__ import annotations

import redis


def acquire(client: redis.Redis, key: str, name: str, *, seconds: float) -> bool:
    """Take the turn for *name* if nobody has it. False if somebody has."""
    return bool(client.set(key, name, nx=True, px=int(seconds * 1000)))


def keep(client: redis.Redis, key: str, name: str, *, seconds: float) -> bool:
    """Keep the turn for longer. False if it is somebody else's by now."""
    return client.get(key) == name and bool(client.pexpire(key, int(seconds * 1000)))
