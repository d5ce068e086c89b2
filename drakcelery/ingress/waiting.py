"""Tasks that wait outside the ledger: which Karton has ended, and which wait for a twin that is over."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from karton.core import Task
from karton.core.task import TaskState

from drakcelery.errors import Unreadable
from drakcelery.karton import reading
from drakcelery.ledger.inbox import Inbox
from drakcelery.model.reuse import Miss
from drakcelery.recovery.isolation import Isolation
from drakcelery.settings import Settings

Drop = Callable[[str, Task | None, str], None]
"""Take a task out of the inbox that is over, with the reason."""
FORGOTTEN_SECONDS = 24 * 3600
"""After so long it is forgotten that a task has waited for a twin; an older version has opened it."""
WAITING = frozenset({None, Miss.NONE, Miss.OLD, Miss.GONE})
"""Where it helps to wait for a live twin: after any other miss its result would not be reused either."""
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


def resume_twins(inbox: Inbox, isolation: Isolation, *, most: int, before: Callable[[], float]) -> list[str]:
    """Put tasks back into the inbox that wait for an analysis which is over, or have waited since *before*.

    At most so many, the longest waiting first. Returns their Karton uids.
    """
    due = _due(inbox, before)[:most]
    if due:
        isolation.begin()
    ours = []
    for task_uid in due:
        if not isolation.skips(task_uid):
            with isolation.item(task_uid):
                ours += [task_uid] if inbox.twins.resume(task_uid) else []
    return ours


def _due(inbox: Inbox, before: Callable[[], float]) -> list[str]:
    waiting = [twin for twin in inbox.twins.waiting() if twin.waits_for is not None]
    if not waiting:
        return []
    since = before()
    uids = sorted({str(twin.waits_for) for twin in waiting})
    live = {uid for uid, is_live in zip(uids, inbox.twins.are_live(uids), strict=True) if is_live}
    due = [twin for twin in waiting if twin.waits_for not in live or twin.since <= since]
    return [twin.task_uid for twin in sorted(due, key=lambda twin: twin.since)]


def withdraw_twins(inbox: Inbox, isolation: Isolation, drop: Drop, *, now: float) -> None:
    """Drop the tasks that wait for a twin and were cancelled in Karton meanwhile.

    Also forget since when tasks have waited that have become something without our hearing of it.
    """
    isolation.begin()
    twins = inbox.twins.waiting()
    uids = [twin.task_uid for twin in twins if twin.waits_for is not None]
    for begin in range(0, len(uids), AT_ONCE):
        some = uids[begin : begin + AT_ONCE]
        for task_uid, text in zip(some, inbox.tasks(some), strict=True):
            if (over := ended(text, task_uid)) is not None and not isolation.skips(task_uid):
                with isolation.item(task_uid):
                    if inbox.twins.resume(task_uid):
                        drop(task_uid, over.task, over.why)
    for twin in twins:
        if twin.waits_for is None and now - twin.since > FORGOTTEN_SECONDS:
            inbox.twins.forget(twin.task_uid)
