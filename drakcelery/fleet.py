"""The fleet: which hosts are alive, what their slots do, and which places it has had lately.

Keys:
    ``drak:host:<host>``  string (JSON), what a host's vm worker last said of itself; expires
    ``drak:fleet``        zset of places (``<profile>@<host>``) by when they were last seen; expires
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import redis

from drakcelery import lifesigns, redistime
from drakcelery.analysis import Place
from drakcelery.records import HostStatus

FLEET = "drak:fleet"
MEMORY = 7 * 24 * 3600
"""Seconds for which a host or profile that is not seen any more is still known."""


class Fleet:
    """What vm workers report, in Karton's Redis. Times are UNIX times by Redis' clock."""

    def __init__(self, client: redis.Redis) -> None:
        """*client* answers in text (:func:`drakcelery.ledger.connect`)."""
        self._redis = client

    def report(self, status: HostStatus, *, lasts: float = lifesigns.DEFAULT.host) -> None:
        """Say that a host is alive, and what its slots do; after *lasts* seconds it counts as gone."""
        now = redistime.now(self._redis)
        seen = {str(Place(profile=slot.profile, host=status.host)): now for slot in status.slots}
        with self._redis.pipeline() as pipe:
            pipe.set(f"drak:host:{status.host}", status.model_dump_json(), px=int(lasts * 1000))
            if seen:
                pipe.zadd(FLEET, seen)
                pipe.expire(FLEET, MEMORY)
            pipe.execute()

    def retire(self, host: str) -> None:
        """A host's vm worker stops."""
        self._redis.delete(f"drak:host:{host}")

    def hosts(self) -> list[HostStatus]:
        """Every host that is not gone, by name."""
        keys = sorted(cast("Iterator[str]", self._redis.scan_iter(match="drak:host:*", count=1000)))
        texts = cast("list[str | None]", self._redis.mget(keys)) if keys else []
        return [HostStatus.model_validate_json(text) for text in texts if text is not None]

    def places(self) -> dict[Place, float]:
        """Every place of a host that the fleet has had lately, alive or not, and when it was last seen."""
        oldest = redistime.now(self._redis) - MEMORY
        members = self._redis.zrangebyscore(FLEET, oldest, "+inf", withscores=True)
        return {Place.parse(name): seen for name, seen in cast("list[tuple[str, float]]", members)}

    def offline(self, place: Place) -> float:
        """For how many seconds nobody has had *place*; 0 while a host may have it. At most :data:`MEMORY`."""
        seen = max((at for other, at in self.places().items() if _is_within(other, place)), default=0.0)
        silent = redistime.now(self._redis) - seen
        return min(silent, MEMORY) if silent > lifesigns.DEFAULT.host else 0.0


def _is_within(other: Place, place: Place) -> bool:
    return other.profile == place.profile and place.host in (None, other.host)


def _words(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} seconds"
    return f"{minutes} minutes" if minutes < 120 else f"{round(minutes / 60)} hours"


def nobody_came(place: Place, seconds: float) -> str:
    """Why a sample is given up that waited for *place* while nobody had it."""
    where = f"host {place.host}" if place.host else "any host"
    return (
        f"no VM of the profile {place.profile!r} on {where} has been online for {_words(seconds)}, "
        "longer than [drakcelery] offline_patience; start its vm worker, then retry the task"
    )
