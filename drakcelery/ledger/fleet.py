"""The fleet: which hosts are alive, what their slots do, and which places it has had lately."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable
from typing import cast

import redis

from drakcelery.ledger import clock, turns
from drakcelery.ledger.keys import FLEET, host_key, io_key, judging_key
from drakcelery.ledger.scripts import Scripts
from drakcelery.model import timeouts
from drakcelery.model.analysis import Place
from drakcelery.model.capacity import Capacity
from drakcelery.model.records import HostStatus
from drakcelery.model.timeouts import Watch

MEMORY = 7 * 24 * 3600
"""Seconds for which a host or profile that is not seen any more is still known."""
JUDGING_SECONDS = 60.0
"""Seconds until another host may put slots of a profile aside: the others see what one host did only in its
report, once the slot was given back."""
SIGHT_SECONDS = 1.0
"""How old an ingress' view of the slots may be, in seconds; what is in flight it counts anew each time."""


class Fleet:
    """What vm workers report, in Karton's Redis. Times are UNIX times by Redis' clock."""

    def __init__(self, client: redis.Redis, *, odd: Callable[[str, Exception], None] | None = None) -> None:
        """*client* answers in text (:func:`drakcelery.ledger.connect`).

        *odd* is told of each host whose report cannot be read.
        """
        self._redis = client
        self._scripts = Scripts(client, "report")
        self._odd = odd

    def report(self, status: HostStatus, *, lasts: float = timeouts.DEFAULT.host) -> None:
        """Say that a host is alive, and what its slots do; after *lasts* seconds it counts as gone."""
        places = sorted({str(Place(profile=slot.profile, host=status.host)) for slot in status.slots})
        self._scripts(
            "report",
            {"host": host_key(status.host)},
            status=status.model_dump_json(),
            lasts=int(lasts * 1000),
            memory=MEMORY,
            places=places,
        )

    def retire(self, host: str) -> None:
        """A host's vm worker stops."""
        self._redis.delete(host_key(host))

    def show_io(self, host: str, *, lasts: float = timeouts.DEFAULT.host) -> None:
        """A host's io worker is alive; after *lasts* seconds without another sign it counts as dead."""
        self._redis.set(io_key(host), 1, px=int(lasts * 1000))

    def retire_io(self, host: str) -> None:
        """A host's io worker stops."""
        self._redis.delete(io_key(host))

    def io_shows_life(self, host: str) -> bool:
        """Whether the io worker of *host* is alive."""
        return self._redis.exists(io_key(host)) == 1

    def io_hosts(self) -> frozenset[str]:
        """The hosts whose io worker is alive, with or without their vm worker.

        If one of the two has a version without that sign, the io worker counts as alive with the other.
        """
        names = sorted({str(place.host) for place in self.places()})
        signs = cast("list[str | None]", self._redis.mget(map(io_key, names))) if names else []
        unknowing = {status.host for status in self.hosts() if status.io_alive is None}
        return frozenset({name for name, sign in zip(names, signs, strict=True) if sign} | unknowing)

    def hosts(self) -> list[HostStatus]:
        """Every host with slots that is not gone, by name."""
        now = clock.now(self._redis)
        # This may include hosts that are gone: only the key that expires says whether a host is alive
        names = sorted({str(place.host) for place in self._seen(since=now - 2 * timeouts.DEFAULT.host)})
        texts = cast("list[str | None]", self._redis.mget(map(host_key, names))) if names else []
        statuses = []
        for name, text in zip(names, texts, strict=True):
            try:
                statuses += [HostStatus.model_validate_json(text)] if text is not None else []
            except ValueError as error:  # of another version, perhaps; the other hosts are alive all the same
                if self._odd is not None:
                    self._odd(name, error)
        return statuses

    def may_judge(self, profile: str, host: str) -> bool:
        """Whether *host* may put slots of *profile* aside by their score: one host at a time."""
        key = judging_key(profile)
        return turns.acquire(self._redis, key, host, seconds=JUDGING_SECONDS) or turns.keep(
            self._redis, key, host, seconds=JUDGING_SECONDS
        )

    def places(self) -> dict[Place, float]:
        """Every place of a host that the fleet has had lately, alive or not, and when it was last seen."""
        return self._seen(since=clock.now(self._redis) - MEMORY)

    def _seen(self, *, since: float) -> dict[Place, float]:
        members = self._redis.zrangebyscore(FLEET, since, "+inf", withscores=True)
        places = {}
        for name, seen in cast("list[tuple[str, float]]", members):
            with contextlib.suppress(ValueError):
                if math.isfinite(seen):  # if not, it is no time of ours
                    places[Place.parse(name)] = seen
        return places

    def offline(self, place: Place, watch: Watch) -> float:
        """For how many seconds of *watch* nobody has had *place*; 0 while a host may have it.

        At most :data:`MEMORY`. Time that nobody watched does not count, nor does time when no host could
        report.
        """
        return self.silences([place], watch)[place]

    def silences(self, wanted: Iterable[Place], watch: Watch) -> dict[Place, float]:
        """As :meth:`offline`, for many places."""
        gone = timeouts.DEFAULT.host
        if watch.lasts <= gone:  # a host that was cut off like us may be about to report
            return dict.fromkeys(wanted, 0.0)
        seen: dict[Place, float] = {}
        for place, at in self.places().items():
            for within in (place, Place(profile=place.profile)):
                seen[within] = max(at, seen.get(within, 0.0))
        silent = {place: watch.watched(seen.get(place, 0.0)) for place in wanted}
        return {place: min(since, MEMORY) if since > gone else 0.0 for place, since in silent.items()}


class Sight:
    """The fleet as it was a moment ago: with hundreds of hosts there is too much to read at each poll."""

    def __init__(self, fleet: Fleet, *, look_ahead: int) -> None:
        self._fleet = fleet
        self._look_ahead = look_ahead
        self._read = -SIGHT_SECONDS
        self._capacity = Capacity.of([], {}, look_ahead=look_ahead)

    def capacity(self) -> Capacity:
        """The slots of the hosts that are alive, with nothing in flight."""
        if time.monotonic() - self._read >= SIGHT_SECONDS:
            self._capacity = Capacity.of(self._fleet.hosts(), {}, look_ahead=self._look_ahead)
            self._read = time.monotonic()
        return self._capacity

    def forget(self) -> None:
        """Something has changed: read the hosts again at the next question."""
        self._read = -SIGHT_SECONDS


def _words(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} seconds"
    return f"{minutes} minutes" if minutes < 120 else f"{round(minutes / 60)} hours"


def nobody_came(place: Place, seconds: float) -> str:
    """Why a sample is given up that waited for *place* while no host had it."""
    where = f"host {place.host}" if place.host else "any host"
    return (
        f"no VM of the profile {place.profile!r} on {where} has been online for {_words(seconds)}, "
        "longer than [drakcelery] offline_patience; start its vm worker, then retry the task"
    )
