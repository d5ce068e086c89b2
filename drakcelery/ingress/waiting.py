"""Tasks that wait outside the ledger: which Karton has ended, and which wait for a twin that is over."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog
from karton.core.task import Task, TaskState
from redis.exceptions import RedisError

from drakcelery.errors import Unreadable
from drakcelery.karton import reading
from drakcelery.ledger.away import concerns_all
from drakcelery.ledger.inbox import Inbox
from drakcelery.model.reuse import Miss
from drakcelery.recovery.isolation import Isolation
from drakcelery.settings import Settings

log = structlog.get_logger(__name__)

Drop = Callable[[str, Task | None, str], None]
"""Take a task out of the inbox that is over, with the reason."""
FORGOTTEN_SECONDS = 24 * 3600
"""After so long it is forgotten that a task has waited for a twin; an older version has opened it."""
WAITING = frozenset({None, Miss.NONE, Miss.OLD, Miss.GONE})
"""Where it helps to wait for a live twin: after any other miss its result would not be reused either."""
LANE_SECONDS = 0.2
"""Seconds between two looks for a task."""
TROUBLE_SECONDS = 5.0
"""Seconds until the next look after an error."""
STOP_SECONDS = 10.0
"""Seconds that a task which is being dealt with has once the ingress stops; then others do it anew."""
AT_ONCE = 200
"""How many tasks are read in one round trip."""
_OVER = re.compile(f'"(?:{TaskState.FINISHED.value}|{TaskState.CRASHED.value})"')


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A task that Karton has ended before it became an analysis."""

    task: Task | None
    """None if Karton has dropped it."""
    why: str


def longest_wait(settings: Settings) -> int:
    """For how many seconds a task waits for twins: twice what one run may take, as a first attempt may
    fail."""
    return 2 * settings.drakcelery.hard_time_limit


def ended(text: str | None, task_uid: str) -> Ended | None:
    """Whether Karton has ended a task, whose JSON is *text*; None if not, or if its own turn will tell."""
    if text is None:
        return Ended(task=None, why="Karton has dropped its task")
    if not _OVER.search(text):  # nearly always; then it need not be parsed
        return None
    try:
        task = reading.read_task(text, task_uid)
    except Unreadable:
        return None
    if task.status not in (TaskState.FINISHED, TaskState.CRASHED):
        return None
    return Ended(task=task, why=f"its Karton task is {task.status.value}")


def resume_twins(
    inbox: Inbox, isolation: Isolation, *, most: int, longest: float, now: Callable[[], float]
) -> list[str]:
    """Put tasks back into the inbox that wait for an analysis which is over, or have waited for the *longest*
    time, in seconds.

    At most so many, the longest waiting first. Returns their Karton uids.
    """
    due = _due(inbox, lambda: now() - longest)[:most]
    if due:
        isolation.begin()
    ours = []
    for task_uid in due:
        if not isolation.skips(task_uid):
            with isolation.item(task_uid):
                ours += [task_uid] if inbox.twins.resume(task_uid) else []
    return ours


def _due(inbox: Inbox, before: Callable[[], float]) -> list[str]:
    waiting = [twin for twin in inbox.twins.waiting() if twin.waits]
    if not waiting:
        return []
    since = before()
    uids = sorted({twin.waits_for for twin in waiting if twin.waits_for is not None})
    live = {uid for uid, is_live in zip(uids, inbox.twins.are_live(uids), strict=True) if is_live}
    due = [twin for twin in waiting if twin.waits_for not in live or twin.since <= since]
    return [twin.task_uid for twin in sorted(due, key=lambda twin: twin.since)]


def withdraw_twins(inbox: Inbox, isolation: Isolation, drop: Drop, *, now: float) -> None:
    """Drop the tasks that wait for a twin and were cancelled in Karton meanwhile.

    Also forget since when tasks have waited that have become something without our hearing of it.
    """
    isolation.begin()
    twins = inbox.twins.waiting()
    uids = [twin.task_uid for twin in twins if twin.waits]
    for begin in range(0, len(uids), AT_ONCE):
        some = uids[begin : begin + AT_ONCE]
        for task_uid, text in zip(some, inbox.tasks(some), strict=True):
            if (over := ended(text, task_uid)) is not None and not isolation.skips(task_uid):
                with isolation.item(task_uid):
                    if inbox.twins.resume(task_uid):
                        drop(task_uid, over.task, over.why)
    for twin in twins:
        if not twin.waits and now - twin.since > FORGOTTEN_SECONDS:
            inbox.twins.forget(twin.task_uid)


class Resuming(Protocol):
    """An ingress, as the lane needs it."""

    def resumed(self, most: int) -> list[str]:
        """Put tasks that need wait for no twin any more back into the inbox; returns their Karton uids."""

    def deal_with(self, task_uids: Sequence[str]) -> None:
        """Deal with tasks of the inbox."""


class Lane(threading.Thread):
    """A thread for tasks whose reuse takes time, so that others do not wait for it.

    To read a sample of 500 MB and to copy 1 GiB of artifacts takes seconds, from a slow S3 minutes. Ingress
    leaves such tasks among those that wait for a twin (:mod:`drakcelery.ledger.twins`), and the lane takes
    one after the other from there, the longest waiting first. If it dies with its process, the others still
    wait there, for any ingress.
    """

    def __init__(self, ours: Resuming) -> None:
        """*ours*: nobody else's, since threads share no state of an ingress."""
        super().__init__(name="reuse", daemon=True)
        self._ours = ours
        self._is_over = threading.Event()
        self.at_work: str | None = None
        """The Karton uid of the task that is being dealt with."""

    def step(self) -> bool:
        """Deal with one task. False if there is none."""
        task_uids = self._ours.resumed(1)
        if not task_uids:
            return False
        [self.at_work] = task_uids
        try:
            self._ours.deal_with(task_uids)
        finally:
            self.at_work = None
        return True

    def keep(self, inbox: Inbox) -> None:
        """Show that its task is dealt with, however long one object takes: it is not to be taken for left."""
        if (task_uid := self.at_work) is not None:
            inbox.set_back(task_uid)

    def run(self) -> None:
        """What the thread does."""
        while not self._is_over.is_set():
            try:
                if not self.step():
                    self._is_over.wait(LANE_SECONDS)
            except RedisError as error:
                log.warning("redis_away", error=str(error))
                self._is_over.wait(TROUBLE_SECONDS)
            except Exception as error:
                if not concerns_all(error):
                    log.exception("part_failed", part="lane", error=str(error))
                self._is_over.wait(TROUBLE_SECONDS)

    def stop(self) -> None:
        """End it; what takes longer is left as if the process had died."""
        self._is_over.set()
        self.join(timeout=STOP_SECONDS)
