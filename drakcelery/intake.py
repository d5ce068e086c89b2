"""Intake: Karton tasks on their way into the ledger, and those that wait for a place that is full.

At any instant a task is on one of Karton's queues, in the inbox, in the line of a place, or in the ledger
(I1); each move from one to the next is one Lua script.

A task stays on Karton's queue until it may start. Only where the most urgent one waits for a place that is
full while another profile has room, it is put in line, so that those behind it are seen. Karton takes it for
SPAWNED there too: karton-dashboard shows it among those that wait.

Keys:
    ``drak:inbox``           zset of Karton task uids that an ingress has taken and not yet dealt with
    ``drak:waiting``         set of the places that have a line
    ``drak:waiting:<place>`` zset, the line: Karton task uids, the most urgent and the oldest first
    ``drak:inflight``        hash, place -> number of live analyses
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import redis
from karton.core import Task
from karton.core.backend import KartonBackendBase, KartonMetrics
from karton.core.task import TaskPriority

from drakcelery import redistime
from drakcelery.analysis import Analysis, Place
from drakcelery.errors import Superseded
from drakcelery.ledger import DONE, INFLIGHT, LIVE, NOTICE_KEYS, Script, load_scripts, record_key, task_key
from drakcelery.records import Line

INBOX = "drak:inbox"
WAITING = "drak:waiting"
URGENCY = {TaskPriority.HIGH: 1, TaskPriority.NORMAL: 2, TaskPriority.LOW: 3}
"""Places of Karton's queues in their order; 0 is the queue of producers that know no priorities."""
RANK = 1e13
"""Score of a line: urgency times this, and the time in ms."""


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


def line_key(place: Place) -> str:
    """The line of a place."""
    return f"{WAITING}:{place}"


class Intake:
    """Everything before an analysis begins."""

    def __init__(self, client: redis.Redis, *, identity: str, record_ttl: int) -> None:
        """*record_ttl*: seconds that a refused task stays in the ledger."""
        self.redis = client
        self.identity = identity
        self._ttl = record_ttl
        self._scripts: dict[str, Script] = load_scripts(
            client, "accept", "wait", "open", "start", "refuse", "expire"
        )

    def accept(self, *, room: int, places: Iterable[Place]) -> str | None:
        """Move the most urgent waiting task into the inbox, if that holds fewer than *room*.

        *places* are those that have room: the lines of others are left alone. Returns its Karton uid.
        """
        queues = KartonBackendBase.get_queue_names(self.identity)
        lines = [line_key(place) for place in places]
        keys = [INBOX, WAITING, *queues, *lines]
        return cast("str | None", self._scripts["accept"](keys, [room, len(queues), RANK]))

    def wait(self, task: Task, place: Place) -> None:
        """Put an accepted task in line for *place*, by its priority and age."""
        since = task.last_update or redistime.now(self.redis)
        score = f"{URGENCY[task.priority] * RANK + since * 1000:.0f}"
        self._scripts["wait"]([INBOX, WAITING, line_key(place)], [task.uid, score, str(place)])

    def places(self) -> list[Place]:
        """Those that have a line."""
        return [Place.parse(text) for text in sorted(cast("set[str]", self.redis.smembers(WAITING)))]

    def lines(self) -> list[Line]:
        """Every line: how many wait, and since when the oldest does."""
        return [line for place in self.places() if (line := self._line(place)) is not None]

    def _line(self, place: Place) -> Line | None:
        key = line_key(place)
        oldest = [since for urgency in URGENCY.values() for _, since in self._aged(key, urgency, None, 1)]
        return Line(place=place, length=self.redis.zcard(key), since=min(oldest)) if oldest else None

    def waiting(self, place: Place, *, before: float | None = None, most: int = -1) -> list[str]:
        """Karton uids of the tasks in the line of *place*, all of them by default.

        *before*: those that Karton had before that time; *most*: no more than these of each urgency.
        """
        key = line_key(place)
        tasks = [task for urgency in URGENCY.values() for task in self._aged(key, urgency, before, most)]
        return [uid for uid, _ in tasks]

    def _aged(self, key: str, urgency: int, before: float | None, most: int) -> list[tuple[str, float]]:
        """(Karton uid, since when it waits) of those of one urgency, the oldest first."""
        low = urgency * RANK
        high = low + before * 1000 if before is not None else low + RANK - 1
        found = self.redis.zrangebyscore(key, low, high, start=0, num=most, withscores=True)
        return [(uid, (score - low) / 1000) for uid, score in cast("list[tuple[str, float]]", found)]

    def backlog(self, *, most: int) -> list[Stretch]:
        """All that waits outside the ledger, the most urgent first, and of the same urgency lines first.

        Of each stretch it names *most* tasks, and counts the rest.
        """
        found = []
        places = sorted(cast("set[str]", self.redis.smembers(WAITING)))
        for urgency, queue in enumerate(KartonBackendBase.get_queue_names(self.identity)):
            for name in places:
                place, low = Place.parse(name), urgency * RANK
                length = int(self.redis.zcount(line_key(place), low, low + RANK - 1))
                named = [uid for uid, _ in self._aged(line_key(place), urgency, None, most)] if length else []
                found.append(Stretch(urgency=urgency, place=place, named=tuple(named), length=length))
            named = cast("list[str]", self.redis.lrange(queue, 0, most - 1))
            found.append(
                Stretch(urgency=urgency, named=tuple(named), length=max(len(named), self.redis.llen(queue)))
            )
        return [stretch for stretch in found if stretch.length]

    def expire(self, task_uid: str, place: Place) -> bool:
        """Take a task out of a line and into the inbox, where it is refused. False where it has left it."""
        keys = [INBOX, WAITING, line_key(place)]
        return bool(self._scripts["expire"](keys, [task_uid, str(place)]))

    def in_flight(self) -> dict[Place, int]:
        """How many live analyses each place has."""
        counts = cast("dict[str, str]", self.redis.hgetall(INFLIGHT))
        return {Place.parse(name): int(count) for name, count in counts.items()}

    def inbox(self, *, older_than: float = 0) -> list[str]:
        """Karton uids of accepted tasks that nobody has dealt with for *older_than* seconds."""
        oldest = redistime.now(self.redis) - older_than
        return cast("list[str]", self.redis.zrangebyscore(INBOX, "-inf", oldest))

    def adopt(self, task_uid: str) -> None:
        """Put a task that is in nobody's hands into the inbox, where it counts as left there long ago."""
        self.redis.zadd(INBOX, {task_uid: 0}, nx=True)

    def drop(self, task_uid: str) -> None:
        """Take a task out of the inbox that Karton no longer knows, or that nobody wants any more."""
        self.redis.zrem(INBOX, task_uid)

    def start(self, task: Task) -> None:
        """Store *task*, which says STARTED, unless Karton has dropped it or somebody cancelled it there.

        Raises :class:`Superseded` where somebody else opened it meanwhile, or nobody wants it any more.
        """
        if not self._scripts["start"]([task_key(task.uid), INBOX], [task.uid, task.serialize()]):
            raise Superseded(f"the Karton task {task.uid} is not in the inbox any more, or was cancelled")

    def open(self, analysis: Analysis) -> int | None:
        """Begin a record. None where another live analysis has this uid.

        Returns the number of attempts that were begun under this uid, for ``Ledger.begin_attempt``.
        Raises :class:`Superseded` where somebody else opened this task, and it is over.
        """
        answer = self._scripts["open"](
            [record_key(analysis.uid), INBOX, LIVE, INFLIGHT],
            [
                analysis.uid,
                analysis.task_uid,
                analysis.root_uid,
                analysis.model_dump_json(),
                str(analysis.place),
            ],
        )
        if answer is None:
            raise Superseded(f"the Karton task {analysis.task_uid} is not in the inbox any more")
        return None if answer < 0 else int(answer)

    def refuse(self, uid: str, *, task_uid: str, root_uid: str, reason: str, crashed: str) -> None:
        """End a task that cannot become an analysis; *crashed* is the Karton task as JSON.

        A task that somebody else has opened or refused meanwhile is left alone.
        """
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
            [uid, task_uid, root_uid, reason, crashed, self._ttl, self.identity],
        )
