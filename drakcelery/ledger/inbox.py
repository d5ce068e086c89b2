"""Intake: Karton tasks on their way into the ledger, and those that wait for a place that is full.

At any instant a task is on one of Karton's queues, in the inbox, in the line of a place, or in the ledger
(I1); each move from one to the next is one Lua script.

A task stays on Karton's queue until it may start. Only where the most urgent one waits for a place that is
full while another profile has room, it is put in line, so that those behind it are seen. Karton takes it for
SPAWNED there too: karton-dashboard shows it among those that wait.

Keys:
    ``drak:inbox``           zset of Karton task uids that an ingress has taken and not yet dealt with
    ``drak:aside``           zset of those that could not be dealt with, until their next try
    ``drak:waiting``         set of the places that have a line
    ``drak:waiting:<place>`` zset, the line: Karton task uids, the most urgent and the oldest first
    ``drak:inflight``        hash, place -> number of live analyses
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import redis
from karton.core import Task
from karton.core.backend import KartonBackendBase, KartonMetrics
from karton.core.task import TaskPriority

from drakcelery.errors import BadTask, Changed, Superseded
from drakcelery.ledger import record_of
from drakcelery.ledger.clock import now
from drakcelery.ledger.keys import (
    ASIDE,
    DONE,
    DUE,
    INBOX,
    INFLIGHT,
    LIVE,
    NOTICE_KEYS,
    WAITING,
    host_key,
    line_key,
    record_key,
    task_key,
)
from drakcelery.ledger.scripts import Script, load_scripts
from drakcelery.model.analysis import Analysis, Place, State
from drakcelery.model.records import Line, Record

SCRIPTS = ("accept", "wait", "open", "refuse", "expire", "move", "pull")
URGENCY = {TaskPriority.HIGH: 1, TaskPriority.NORMAL: 2, TaskPriority.LOW: 3}
"""Places of Karton's queues in their order; 0 is the queue of producers that know no priorities."""
RANK = 1e13
"""Score of a line: urgency times this, and the time in ms."""
_LOWS = tuple(urgency * RANK for urgency in URGENCY.values())
NOBODYS = 0.0
"""Since when a task is in the inbox that no ingress has put there."""
_NUMBER = re.compile(r"-?[0-9]{1,18}")
NAMED = 2000
"""So many tasks of all lines together are named, however many lines there are."""


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Tasks of one urgency that wait one behind the other, in a line or on Karton's queue."""

    urgency: int
    """As in :data:`URGENCY`."""
    place: Place | None = None
    """Whose line it is; None on Karton's queue, where nobody has looked at them yet."""
    named: tuple[str, ...]
    """Karton uids of the first."""
    length: int


class Intake:
    """Everything before an analysis begins."""

    def __init__(self, client: redis.Redis, *, identity: str, record_ttl: int) -> None:
        """*record_ttl*: seconds that a refused task stays in the ledger."""
        self.redis = client
        self.identity = identity
        self._ttl = record_ttl
        self._queues = KartonBackendBase.get_queue_names(identity)
        self._scripts: dict[str, Script] = load_scripts(client, *SCRIPTS)

    def has_work(self) -> bool:
        """Whether anything waits, or is to be sent now or later. One command: ingress asks all the time."""
        return bool(self.redis.exists(*self._queues, WAITING, DUE))

    def look(self) -> tuple[dict[Place, int], list[Place]]:
        """(how many live analyses each place has, the places that have a line)."""
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.hgetall(INFLIGHT)
            pipe.smembers(WAITING)
            counts, places = pipe.execute()
        return _counts(counts), self._sound(_places(places))

    def accept(self, *, limit: int, places: Mapping[Place, int], most: int) -> list[str]:
        """Move the most urgent waiting tasks into the inbox, at most *most*; returns their Karton uids.

        *limit*: how many analyses may be live or in the inbox. *places*: those that have a line, with how
        many more each takes; the lines of others are left alone.
        """
        keys = [INBOX, WAITING, LIVE, *self._queues, *map(line_key, places)]
        args = [limit, most, len(self._queues), RANK, *places.values()]
        return cast("list[str]", self._scripts["accept"](keys, args))

    def tasks(self, task_uids: Sequence[str]) -> list[str | None]:
        """The Karton tasks as JSON; None where Karton has dropped one."""
        if not task_uids:
            return []
        return cast("list[str | None]", self.redis.mget([task_key(uid) for uid in task_uids]))

    def wait(self, task: Task, place: Place) -> None:
        """Put an accepted task in line for *place*, by its priority and age."""
        since = task.last_update or now(self.redis)
        score = f"{URGENCY[task.priority] * RANK + since * 1000:.0f}"
        self._scripts["wait"]([INBOX, WAITING, line_key(place)], [task.uid, score, str(place)])

    def places(self) -> list[Place]:
        """Those that have a line."""
        return self._sound(_places(self.redis.smembers(WAITING)))

    def _sound(self, places: list[Place]) -> list[Place]:
        """Those of *places* whose line is one: a key of another type stops no other place."""
        if not places:  # as nearly always
            return []
        with self.redis.pipeline(transaction=False) as pipe:
            for place in places:
                pipe.type(line_key(place))
            types = pipe.execute()
        return [place for place, kind in zip(places, types, strict=True) if kind in ("zset", "none")]

    def lines(self) -> list[Line]:
        """Every line: how many wait, and since when the oldest does."""
        places = self.places()
        with self.redis.pipeline(transaction=False) as pipe:
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
            if ages:  # else it was emptied meanwhile
                found.append(Line(place=place, length=length, since=min(ages)))
        return found

    def waiting(self, place: Place, *, before: float | None = None, most: int = -1) -> list[str]:
        """Karton uids of the tasks in the line of *place*, all of them by default.

        *before*: those that Karton had before that time; *most*: no more than these of each urgency.
        """
        found: list[Any] = []
        for low in _LOWS:
            high = low + before * 1000 if before is not None else low + RANK - 1
            found += self.redis.zrangebyscore(line_key(place), low, high, start=0, num=most)
        return cast("list[str]", found)

    def backlog(self, *, most: int) -> list[Stretch]:
        """All that waits outside the ledger, the most urgent first, and of the same urgency lines first.

        Of each stretch it names *most* tasks, and of all lines together :data:`NAMED`; it counts the rest.
        """
        places = self.places()
        few = max(1, min(most, NAMED // max(1, len(places))))
        with self.redis.pipeline(transaction=False) as pipe:
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

    def expire(self, task_uid: str, place: Place) -> bool:
        """Take a task out of a line and into the inbox, where it is refused. False where it has left it."""
        keys = [INBOX, WAITING, line_key(place)]
        return bool(self._scripts["expire"](keys, [task_uid, str(place)]))

    def in_flight(self) -> dict[Place, int]:
        """How many live analyses each place has."""
        return _counts(self.redis.hgetall(INFLIGHT))

    def inbox(self, *, before: float = math.inf) -> list[str]:
        """Karton uids of accepted tasks that nobody has dealt with since *before* (by Redis' clock)."""
        return cast("list[str]", self.redis.zrangebyscore(INBOX, "-inf", before))

    def adopt(self, task_uid: str) -> None:
        """Put a task that is in nobody's hands into the inbox, where it counts as left there long ago."""
        self.redis.zadd(INBOX, {task_uid: NOBODYS}, nx=True)

    def set_back(self, task_uid: str) -> None:
        """Look at a task in the inbox after all others there."""
        self.redis.zadd(INBOX, {task_uid: now(self.redis)}, xx=True)

    def drop(self, task_uid: str) -> None:
        """Take a task out of the inbox, or from where it is aside, that nobody wants any more."""
        with self.redis.pipeline() as pipe:
            pipe.zrem(INBOX, task_uid)
            pipe.zrem(ASIDE, task_uid)
            pipe.execute()

    def set_aside(self, task_uid: str) -> bool:
        """Take a task out of the inbox until it is tried again. False where it has left it."""
        return bool(self._scripts["move"]([INBOX, ASIDE], [task_uid]))

    def take_back(self, task_uid: str) -> bool:
        """Put a task that was set aside into the inbox. False where somebody else did."""
        return bool(self._scripts["move"]([ASIDE, INBOX], [task_uid]))

    def aside(self) -> list[str]:
        """Karton uids of the tasks that were set aside, the longest there first."""
        return cast("list[str]", self.redis.zrange(ASIDE, 0, -1))

    def pull(self, task_uid: str, stretch: Stretch) -> bool:
        """Take a task that waits out of its line or queue, and into the inbox. False where it has left it."""
        if stretch.place is not None:
            return self.expire(task_uid, stretch.place)
        return bool(self._scripts["pull"]([INBOX, self._queues[stretch.urgency]], [task_uid]))

    def open(self, analysis: Analysis, started: Task, *, limit: int, read: str = "") -> Record | None:
        """Begin a record and its first attempt; *started* is its Karton task, which says STARTED.

        *limit*: how many live analyses its place takes. *read*: the task's JSON as it was read; "" where
        Karton had none. Returns the record, whose attempt is to be sent; None where others have filled the
        place, or its host has gone, and it is to :meth:`wait`.

        Raises:
            BadTask: another live analysis has this uid.
            Changed: Karton's task is not what was *read* any more.
            Superseded: somebody else has opened this task and gone on with it, or its analysis is over.
        """
        uid, task_uid, place = analysis.uid, analysis.task_uid, str(analysis.place)
        host = analysis.target_host
        answer = self._scripts["open"](
            [
                record_key(uid),
                INBOX,
                LIVE,
                INFLIGHT,
                task_key(task_uid),
                *map(host_key, [host] if host else ()),
            ],
            [
                *(uid, task_uid, analysis.root_uid, analysis.model_dump_json(), place),
                *(started.serialize(), limit, read),
            ],
        )
        if answer == "changed":
            raise Changed(f"the Karton task {task_uid} has changed since it was read")
        if answer == "taken":
            raise BadTask(
                f"another analysis is under way under the uid {uid}; wait for it, or choose another"
            )
        if answer == "full":
            return None
        if not answer:
            raise Superseded(f"the Karton task {task_uid} is not in the inbox any more, or is over")
        return record_of(answer)

    def refuse(self, uid: str, *, task_uid: str, root_uid: str, reason: str, crashed: str) -> None:
        """End a task that cannot become an analysis; *crashed* is the Karton task as JSON.

        A task that somebody else has opened or refused meanwhile is left alone.
        """
        self._end(uid, task_uid, root_uid, reason, State.FAILED, crashed)

    def withdraw(self, uid: str, *, task_uid: str, root_uid: str, reason: str) -> None:
        """Have the ledger say that a task was cancelled before it became an analysis."""
        self._end(uid, task_uid, root_uid, reason, State.CANCELLED, "")

    def _end(self, uid: str, task_uid: str, root_uid: str, reason: str, state: State, crashed: str) -> None:
        self._scripts["refuse"](
            [
                record_key(uid),
                INBOX,
                DONE,
                task_key(task_uid),
                KartonMetrics.TASK_CONSUMED.value,
                KartonMetrics.TASK_CRASHED.value,
                *NOTICE_KEYS,
            ],
            [uid, task_uid, root_uid, reason, crashed, self._ttl, self.identity, state.value],
        )


def _places(names: Any) -> list[Place]:
    """Of Redis' set of their names."""
    return [place for text in sorted(cast("set[str]", names)) if (place := _place(text)) is not None]


def _counts(fields: Any) -> dict[Place, int]:
    """Of Redis' hash."""
    found: dict[Place, int] = {}
    for name, count in cast("dict[str, str]", fields).items():
        place = _place(name)
        if place is not None and _NUMBER.fullmatch(count):
            found[place] = int(count)
    return found


def _place(name: str) -> Place | None:
    """None for what another version calls a place, and this one does not know."""
    try:
        return Place.parse(name)
    except ValueError:
        return None


def _aged(head: Iterable[tuple[str, float]], low: float) -> list[tuple[str, float]]:
    """(Karton uid, since when it waits) of those of one urgency."""
    return [(uid, (score - low) / 1000) for uid, score in head]
