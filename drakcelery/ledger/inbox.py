"""The inbox: Karton tasks on their way into the ledger, and those that wait for a place that is full.

At any instant a task is on one of Karton's queues, in the inbox, in the line of a place, or in the ledger
(I1); each move from one to the next is one Lua script.

A task stays on Karton's queue until it may start. Only if the most urgent one waits for a full place while
another profile has room, it is put in line, so that the tasks behind it are seen. Karton takes it for SPAWNED
there too: karton-dashboard shows it among those that wait.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import redis

from drakcelery.ledger.away import concerns_all
from drakcelery.ledger.clock import now
from drakcelery.ledger.keys import (
    ASIDE,
    INBOX,
    TWINS_WAITING,
    WAITING,
    host_key,
    line_key,
    making_key,
    record_key,
    task_key,
)
from drakcelery.ledger.lines import RANK, URGENCY, Lines, Stretch
from drakcelery.ledger.scripts import Scripts
from drakcelery.ledger.twins import Twins, opened
from drakcelery.model.analysis import Analysis, ObjectRef, Place, Priority, State
from drakcelery.model.records import Record

if TYPE_CHECKING:
    from karton.core.task import Task  # the shell's completion needs no Karton

SCRIPTS = ("accept", "wait", "open", "refuse", "expire", "move", "pull")
NOBODYS = 0.0
"""The time noted for a task in the inbox that no ingress has put there."""


class Inbox(Lines):
    """Moves tasks until their analysis begins."""

    def __init__(self, client: redis.Redis, *, identity: str, record_ttl: int) -> None:
        """*record_ttl*: seconds that a refused task stays in the ledger."""
        super().__init__(client, identity=identity)
        self._ttl = record_ttl
        self._scripts = Scripts(client, *SCRIPTS)
        self.twins = Twins(client, identity=identity, record_ttl=record_ttl)

    def accept(self, *, limit: int, places: Mapping[Place, int], most: int) -> list[str]:
        """Move the most urgent waiting tasks into the inbox, at most *most*; returns their Karton uids.

        *limit*: how many analyses may be live or in the inbox. *places*: the places that have a line, with
        how many more each takes; other lines are left alone.
        """
        taken = self._scripts(
            "accept",
            {"sources": [*self._queues, *map(line_key, places)]},
            limit=limit,
            most=most,
            queues=len(self._queues),
            rank=RANK,
            capacity=list(places.values()),
        )
        return cast("list[str]", taken)

    def tasks(self, task_uids: Sequence[str]) -> list[str | None]:
        """The Karton tasks as JSON; None if Karton has dropped one."""
        if not task_uids:
            return []
        return cast("list[str | None]", self._redis.mget([task_key(uid) for uid in task_uids]))

    def wait(self, task: Task, place: Place) -> None:
        """Put an accepted task in line for *place*, by its priority and age."""
        since = task.last_update or now(self._redis)
        score = f"{URGENCY[Priority(task.priority.value)] * RANK + since * 1000:.0f}"
        self._scripts("wait", {"line": line_key(place)}, task=task.uid, score=score, place=str(place))

    def expire(self, task_uid: str, place: Place) -> bool:
        """Take a task out of a line and into the inbox, where it is refused. False if it has left it."""
        return bool(self._scripts("expire", {"line": line_key(place)}, task=task_uid, place=str(place)))

    def accepted(self, *, before: float = math.inf) -> list[str]:
        """Karton uids of accepted tasks that nobody has dealt with since *before* (by Redis' clock)."""
        return cast("list[str]", self._redis.zrangebyscore(INBOX, "-inf", before))

    def adopt(self, task_uid: str) -> None:
        """Put an orphaned task into the inbox, where it counts as left there long ago."""
        self._redis.zadd(INBOX, {task_uid: NOBODYS}, nx=True)

    def set_back(self, task_uid: str) -> bool:
        """Move a task to the end of the inbox, as if it were taken now. False if it has left it."""
        pipe = self._redis.pipeline()
        pipe.zadd(INBOX, {task_uid: now(self._redis)}, xx=True)
        pipe.zscore(INBOX, task_uid)
        return pipe.execute()[1] is not None

    def drop(self, task_uid: str) -> None:
        """Forget a task of the inbox, or one that was set aside, that nobody wants any more."""
        with self._redis.pipeline() as pipe:
            pipe.zrem(INBOX, task_uid)
            pipe.zrem(ASIDE, task_uid)
            pipe.execute()
        self.twins.forget(task_uid)

    def set_aside(self, task_uid: str) -> bool:
        """Take a task out of the inbox until it is tried again. False if it has left it."""
        return bool(self._scripts("move", {"from": INBOX, "to": ASIDE}, task=task_uid))

    def put_back(self, task_uid: str) -> bool:
        """Put a task that was set aside into the inbox. False if somebody else did."""
        return bool(self._scripts("move", {"from": ASIDE, "to": INBOX}, task=task_uid))

    def aside(self) -> list[str]:
        """Karton uids of the tasks that were set aside, the longest there first."""
        return cast("list[str]", self._redis.zrange(ASIDE, 0, -1))

    def taken(self, task_uids: Sequence[str]) -> list[bool]:
        """Which of these were, at one instant, in the inbox, set aside, in a line, or waited for a twin."""
        while True:
            # All lines, including those of what this version does not know as a place
            places = sorted(cast("set[str]", self._redis.smembers(WAITING)))
            with self._redis.pipeline() as pipe:
                for key in (INBOX, ASIDE, *map(line_key, places)):
                    pipe.zmscore(key, list(task_uids))
                pipe.hmget(TWINS_WAITING, list(task_uids))
                pipe.smembers(WAITING)
                *answers, twins, lines = (_known(answer) for answer in pipe.execute(raise_on_error=False))
            if set(lines) <= set(places):  # if not, a new line has begun meanwhile
                break
        answers.append([text if text and " " in text else None for text in twins or [None] * len(task_uids)])
        scores = zip(*([None] * len(task_uids), *(answer for answer in answers if answer)), strict=True)
        return [any(score is not None for score in ones) for ones in scores]

    def pull(self, task_uid: str, stretch: Stretch) -> bool:
        """Take a task that waits out of its line or queue, and into the inbox. False if it has left it."""
        if stretch.place is not None:
            return self.expire(task_uid, stretch.place)
        return bool(self._scripts("pull", {"queue": self._queues[stretch.urgency]}, task=task_uid))

    def open(
        self, analysis: Analysis, started: Task, *, limit: int, read: str = "", waits: bool = False
    ) -> Record | None:
        """Begin a record and its first attempt; *started* is its Karton task, which says STARTED.

        *limit*: how many live analyses its place takes. *read*: the task's JSON as it was read; "" if Karton
        had none. *waits*: not while there is a live analysis under the same conditions. Returns the record,
        whose attempt is to be sent; None if others have filled the place or its host is gone, so that the
        task has to :meth:`wait`.

        Raises:
            BadTask: another live analysis has this uid.
            Changed: Karton's task is not what was *read* any more, or there is an analysis to wait for.
            Superseded: somebody else has opened this task and gone on with it, or its analysis is over.
        """
        uid, task_uid, place = analysis.uid, analysis.task_uid, str(analysis.place)
        host = analysis.target_host
        keys = {"record": record_key(uid), "task": task_key(task_uid), "making": making_key(uid)}
        answer = self._scripts(
            "open",
            {**keys, "host": host_key(host)} if host else keys,
            uid=uid,
            task=task_uid,
            root=analysis.root_uid,
            analysis=analysis.model_dump_json(),
            place=place,
            started=started.serialize(),
            limit=limit,
            conditions=analysis.reuse.conditions or "",
            waits=int(waits),
            read=read,
        )
        return opened(answer, uid=uid, task_uid=task_uid)

    def refuse(
        self,
        uid: str,
        *,
        task_uid: str,
        root_uid: str,
        reason: str,
        crashed: str,
        sample: ObjectRef | None = None,
    ) -> None:
        """End a task that cannot become an analysis; *crashed* is the Karton task as JSON.

        *sample* is kept in the record, for people who look for it.

        A task that somebody else has opened or refused meanwhile is left alone.
        """
        self._end(uid, task_uid, root_uid, reason, State.FAILED, crashed, sample)

    def withdraw(
        self, uid: str, *, task_uid: str, root_uid: str, reason: str, sample: ObjectRef | None = None
    ) -> None:
        """Note in the ledger that a task was cancelled before it became an analysis."""
        self._end(uid, task_uid, root_uid, reason, State.CANCELLED, "", sample)

    def _end(
        self,
        uid: str,
        task_uid: str,
        root_uid: str,
        reason: str,
        state: State,
        crashed: str,
        sample: ObjectRef | None,
    ) -> None:
        self._scripts(
            "refuse",
            {"record": record_key(uid), "task": task_key(task_uid)},
            uid=uid,
            task=task_uid,
            root=root_uid,
            reason=reason,
            sample=sample.model_dump_json(exclude_none=True) if sample is not None else "",
            crashed=crashed,
            ttl=self._ttl,
            identity=self.identity,
            state=state.value,
        )


def _known(answer: Any) -> Any:
    """Nothing if a key has another type: then no task is in it."""
    if not isinstance(answer, Exception):
        return answer
    if concerns_all(answer):
        raise answer
    return ()
