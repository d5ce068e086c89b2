"""What waits outside the ledger: Karton's queues of our identity, and the lines of places that are full."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import redis

from drakcelery.ledger.keys import DUE, INFLIGHT, TWINS_WAITING, WAITING, line_key, queue_keys
from drakcelery.model.analysis import Place, Priority
from drakcelery.model.records import Line

URGENCY = {Priority.HIGH: 1, Priority.NORMAL: 2, Priority.LOW: 3}
"""Places of Karton's queues in their order; 0 is the queue of producers that know no priorities."""
RANK = 1e13
"""A task's score in a line is its urgency times this, plus the time in ms."""
_LOWS = tuple(urgency * RANK for urgency in URGENCY.values())
_NUMBER = re.compile(r"-?[0-9]{1,18}")
NAMED = 2000
"""How many tasks of all lines together are named, however many lines there are."""


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Consecutive tasks of one urgency, in a line or on Karton's queue."""

    urgency: int
    """As in :data:`URGENCY`."""
    place: Place | None = None
    """Whose line it is; None on Karton's queue, whose tasks nobody has looked at yet."""
    named: tuple[str, ...]
    """Karton uids of the first tasks."""
    length: int


class Lines:
    """Reads them."""

    def __init__(self, client: redis.Redis, *, identity: str) -> None:
        """*client* answers in text (:func:`drakcelery.ledger.connect`)."""
        self._redis = client
        self.identity = identity
        self._queues = queue_keys(identity)

    def has_work(self) -> bool:
        """Whether anything waits, or is to be sent now or later. One command: ingress asks all the time."""
        return bool(self._redis.exists(*self._queues, WAITING, DUE, TWINS_WAITING))

    def queue_lengths(self) -> list[int]:
        """How many tasks wait on each of Karton's queues, the most urgent first."""
        return [int(self._redis.llen(queue)) for queue in self._queues]

    def queue_heads(self) -> list[tuple[str | None, int]]:
        """(the first task, how many wait) of each of Karton's queues, the most urgent first."""
        return [
            (cast("str | None", self._redis.lindex(queue, 0)), int(self._redis.llen(queue)))
            for queue in self._queues
        ]

    def queued(self, *, stretch: int) -> Iterator[list[str]]:
        """Everything on Karton's queues, read in pieces.

        Read from the end: what is pushed or popped meanwhile moves the others to where they are read again,
        never to where they were not.
        """
        for queue in self._queues:
            end = -1
            while uids := cast("list[str]", self._redis.lrange(queue, end - stretch + 1, end)):
                yield uids
                end -= stretch

    def counts(self) -> tuple[dict[Place, int], list[Place]]:
        """(how many live analyses each place has, the places that have a line)."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.hgetall(INFLIGHT)
            pipe.smembers(WAITING)
            counts, places = pipe.execute()
        return _counts(counts), self._sound(_places(places))

    def places(self) -> list[Place]:
        """Those that have a line."""
        return self._sound(_places(self._redis.smembers(WAITING)))

    def _sound(self, places: list[Place]) -> list[Place]:
        """Those of *places* whose line has the right type; a key of another type must not affect other
        places."""
        if not places:  # nearly always
            return []
        with self._redis.pipeline(transaction=False) as pipe:
            for place in places:
                pipe.type(line_key(place))
            types = pipe.execute()
        return [place for place, kind in zip(places, types, strict=True) if kind in ("zset", "none")]

    def lines(self) -> list[Line]:
        """Every line: how many wait, and since when the oldest does."""
        places = self.places()
        with self._redis.pipeline(transaction=False) as pipe:
            for key in map(line_key, places):
                pipe.zcard(key)
                for low in _LOWS:
                    pipe.zrangebyscore(key, low, low + RANK - 1, start=0, num=1, withscores=True)
            answers = pipe.execute()
        step = 1 + len(_LOWS)
        found = []
        for number, place in enumerate(places):
            length, *heads = answers[number * step : (number + 1) * step]
            ages = [age for low, head in zip(_LOWS, heads, strict=True) for _, age in _aged(head, low)]
            if ages:  # if not, it was emptied meanwhile
                found.append(Line(place=place, length=length, since=min(ages)))
        return found

    def waiting(self, place: Place, *, before: float | None = None, most: int = -1) -> list[str]:
        """Karton uids of the tasks in the line of *place*, all of them by default.

        *before*: only those that Karton had before that time; *most*: at most so many of each urgency.
        """
        found: list[Any] = []
        for low in _LOWS:
            high = low + before * 1000 if before is not None else low + RANK - 1
            found += self._redis.zrangebyscore(line_key(place), low, high, start=0, num=most)
        return cast("list[str]", found)

    def backlog(self, *, most: int) -> list[Stretch]:
        """All that waits outside the ledger, the most urgent first, and of the same urgency lines first.

        Of each stretch it names *most* tasks, and of all lines together :data:`NAMED`; it counts the rest.
        """
        places = self.places()
        few = max(1, min(most, NAMED // max(1, len(places))))
        with self._redis.pipeline(transaction=False) as pipe:
            for urgency, queue in enumerate(self._queues):
                low = urgency * RANK
                for key in map(line_key, places):
                    pipe.zcount(key, low, low + RANK - 1)
                    pipe.zrangebyscore(key, low, low + RANK - 1, start=0, num=few)
                pipe.llen(queue)
                pipe.lrange(queue, 0, most - 1)
            answers = iter(pipe.execute())
        found = []
        for urgency in range(len(self._queues)):
            for place in (*places, None):
                length, named = next(answers), tuple(cast("list[str]", next(answers)))
                # The two were asked for one after the other
                length = max(length, len(named))
                found.append(Stretch(urgency=urgency, place=place, named=named, length=length))
        return [stretch for stretch in found if stretch.length]

    def in_flight(self) -> dict[Place, int]:
        """How many live analyses each place has."""
        return _counts(self._redis.hgetall(INFLIGHT))


def _places(names: Any) -> list[Place]:
    """Places from Redis' set of their names."""
    return [place for text in sorted(cast("set[str]", names)) if (place := _place_of(text)) is not None]


def _counts(fields: Any) -> dict[Place, int]:
    """Counts from Redis' hash."""
    found: dict[Place, int] = {}
    for name, count in cast("dict[str, str]", fields).items():
        place = _place_of(name)
        if place is not None and _NUMBER.fullmatch(count):
            found[place] = int(count)
    return found


def _place_of(name: str) -> Place | None:
    """None for a place of another version that this one does not know."""
    try:
        return Place.parse(name)
    except ValueError:
        return None


def _aged(head: Iterable[tuple[str, float]], low: float) -> list[tuple[str, float]]:
    """(Karton uid, since when it waits) of those of one urgency."""
    return [(uid, (score - low) / 1000) for uid, score in head]
