"""Twins: analyses of the same sample under the same conditions, of which one result may be enough.

Of what is live the conditions are noted, and of what was published as well: a task that agrees to reuse waits
for the one, and gets the result of the other. A task that waits is in no line and takes up no room.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import redis

from drakcelery.errors import BadTask, Changed, Superseded
from drakcelery.ledger.away import unless_odd
from drakcelery.ledger.clock import number
from drakcelery.ledger.keys import (
    LIVE,
    TWINS,
    TWINS_WAITING,
    making_key,
    record_key,
    reusable_key,
    task_key,
)
from drakcelery.ledger.records import record_of
from drakcelery.ledger.scripts import Scripts
from drakcelery.model.analysis import Analysis
from drakcelery.model.records import Record
from drakcelery.model.result import Result

SCRIPTS = ("await_twin", "resume_twin", "reuse", "claim_uid", "hold_uid")
MAKING_SECONDS = 600
"""After so long without an object a try to copy an earlier analysis counts as ended."""
MOST_WAITING = 1000
"""How many tasks wait for twins; more are run instead."""


@dataclass(frozen=True, kw_only=True)
class Twin:
    """A task that waits, or has waited, for a live analysis."""

    task_uid: str
    since: float
    """UNIX time by Redis' clock."""
    waits_for: str | None
    """The uid of the analysis; None if it waits for none."""
    is_left: bool = False
    """Whether it waits for somebody with the time to look for an earlier analysis."""

    @property
    def waits(self) -> bool:
        """Whether it waits for anything, and is not being dealt with."""
        return self.is_left or self.waits_for is not None


@dataclass(frozen=True, kw_only=True)
class Reused:
    """What is published for a task from an earlier analysis; the tasks are JSON."""

    analysis: Analysis
    read: str
    """The Karton task as it was read."""
    attempt: int
    """The number that the analysis' first attempt would have."""
    mark: str
    """Of the try that has copied the artifacts: as :meth:`Twins.claim` returned it."""
    origin: Record
    finished: str
    task: str
    task_uid: str
    result: Result


class Twins:
    """What one analysis has to do with others of the same sample."""

    def __init__(self, client: redis.Redis, *, identity: str, record_ttl: int) -> None:
        """*client* answers in text. *record_ttl*: seconds that a finished analysis stays in the ledger."""
        self._redis = client
        self._identity = identity
        self._ttl = record_ttl
        self._scripts = Scripts(client, *SCRIPTS)

    def reusable(self, conditions: str) -> str | None:
        """The newest complete analysis under these conditions."""
        return _or_none(lambda: self._redis.get(reusable_key(conditions)))

    def live(self, conditions: str) -> str | None:
        """The live analysis under these conditions."""
        uid = _or_none(lambda: self._redis.hget(TWINS, conditions))
        return uid if uid is not None and self._redis.zscore(LIVE, uid) is not None else None

    def known(self, conditions: Sequence[str]) -> list[tuple[str | None, str | None]]:
        """(:meth:`live`, :meth:`reusable`) of each. For display: what cannot be read is none."""
        with self._redis.pipeline(transaction=False) as pipe:
            for one in conditions:
                pipe.hget(TWINS, one)
                pipe.get(reusable_key(one))
            answers = [one if isinstance(one, str) else None for one in pipe.execute(raise_on_error=False)]
        uids = sorted({uid for uid in answers[::2] if uid is not None})
        live = {uid for uid, is_live in zip(uids, self.are_live(uids), strict=True) if is_live}
        return [
            (uid if uid in live else None, reusable)
            for uid, reusable in zip(answers[::2], answers[1::2], strict=True)
        ]

    def since(self, task_uid: str) -> float | None:
        """Since when a task has waited for twins, with breaks; None if it never has."""
        known = _or_none(lambda: self._redis.hget(TWINS_WAITING, task_uid))
        return None if known is None else number(known.split(" ")[0])

    def wait(self, task_uid: str, twin: str) -> bool:
        """Let a task of the inbox wait until the analysis *twin* is over. False if it is, or too many wait.

        Raises :class:`Superseded` if the task has left the inbox.
        """
        answer = self._scripts("await_twin", task=task_uid, twin=twin, most=MOST_WAITING)
        if not answer:
            raise Superseded(f"the Karton task {task_uid} is not in the inbox any more")
        return bool(answer == 1)

    def leave(self, task_uid: str) -> bool:
        """Leave a task of the inbox to whoever has the time to look for an earlier analysis: its turn has
        come as if that for which it waits were over. False if too many wait.

        Raises as :meth:`wait`.
        """
        return self.wait(task_uid, task_uid)

    def resume(self, task_uid: str) -> bool:
        """Put a task that waits back into the inbox. False if somebody else did."""
        return bool(self._scripts("resume_twin", task=task_uid))

    def waiting(self) -> list[Twin]:
        """All tasks that wait, or have waited and did not come to anything yet."""
        found = []
        none: dict[str, str] = {}
        for task_uid, text in unless_odd(
            lambda: cast("dict[str, str]", self._redis.hgetall(TWINS_WAITING)), none
        ).items():
            since, _, twin = text.partition(" ")
            is_left = twin == task_uid
            waits_for = None if is_left else twin or None
            found.append(Twin(task_uid=task_uid, since=number(since), waits_for=waits_for, is_left=is_left))
        return found

    def count(self) -> int:
        """How many there are; as many as there may be if nobody can wait."""
        return unless_odd(lambda: int(self._redis.hlen(TWINS_WAITING)), MOST_WAITING)

    def are_live(self, uids: Sequence[str]) -> list[bool]:
        """Which of these analyses are not over."""
        scores = self._redis.zmscore(LIVE, list(uids)) if uids else []
        return [score is not None for score in scores]

    def forget(self, task_uid: str) -> None:
        """Nobody wants the task any more."""
        unless_odd(lambda: int(self._redis.hdel(TWINS_WAITING, task_uid)), 0)

    def claim(self, uid: str, task_uid: str) -> str | None:
        """Let this task alone copy an earlier analysis to *uid*. Returns the mark of the try.

        None if an analysis, or a copy of another task, is under way under that uid.
        Raises :class:`Superseded` if the task has left the inbox.
        """
        mark = uuid.uuid4().hex
        answer = self._scripts(
            "claim_uid", {"making": making_key(uid)}, uid=uid, task=task_uid, mark=mark, ttl=MAKING_SECONDS
        )
        if not answer:
            raise Superseded(f"the Karton task {task_uid} is not in the inbox any more")
        return mark if answer == 1 else None

    def hold(self, uid: str, task_uid: str, mark: str, *, ttl: int = MAKING_SECONDS) -> bool:
        """Go on with a try, which shows that the task is dealt with. False if task or uid are another's."""
        return bool(self._scripts("hold_uid", {"making": making_key(uid)}, task=task_uid, mark=mark, ttl=ttl))

    def release(self, uid: str, task_uid: str, mark: str) -> None:
        """End a try."""
        self.hold(uid, task_uid, mark, ttl=0)

    def publish(self, reused: Reused) -> Record | None:
        """Publish the result of an earlier analysis in one transaction. Returns the new record.

        None if the earlier analysis is not there any more.

        Raises:
            BadTask: another live analysis has this uid.
            Changed: Karton's task is not what was read any more.
            Superseded: somebody else has the task.
        """
        ours, origin = reused.analysis, reused.origin
        answer = self._scripts(
            "reuse",
            {
                "record": record_key(ours.uid),
                "making": making_key(ours.uid),
                "origin": record_key(origin.uid),
                "task": task_key(ours.task_uid),
                "analysis_task": task_key(reused.task_uid),
            },
            uid=ours.uid,
            task=ours.task_uid,
            root=ours.root_uid,
            analysis=ours.model_dump_json(),
            place=str(ours.place),
            attempt=reused.attempt,
            mark=reused.mark,
            origin_task=str(origin.analysis_task_uid),
            read=reused.read,
            finished=reused.finished,
            analysis_task=reused.task,
            analysis_uid=reused.task_uid,
            result=reused.result.model_dump_json(exclude_defaults=True),
            identity=self._identity,
            ttl=self._ttl,
        )
        return opened(answer, uid=ours.uid, task_uid=ours.task_uid)


def _or_none(read: Callable[[], Any]) -> str | None:
    """A text of Redis; None also if its key has another type, which must hold up no task."""
    return cast("str | None", unless_odd(read, None))


def opened(answer: Any, *, uid: str, task_uid: str) -> Record | None:
    """The record that a script has made of the task *task_uid*; None if there is no room, or no origin.

    Raises as :meth:`Twins.publish` and :meth:`drakcelery.ledger.inbox.Inbox.open`.
    """
    if answer == "twin":
        raise Changed(f"another analysis of the same sample as {task_uid} has just begun")
    if answer == "changed":
        raise Changed(f"the Karton task {task_uid} has changed since it was read")
    if answer == "taken":
        raise BadTask(f"another analysis is under way under the uid {uid}; wait for it, or choose another")
    if answer in ("full", "gone"):
        return None
    if not answer:
        raise Superseded(f"the Karton task {task_uid} is not in the inbox any more, or is over")
    return record_of(answer)
