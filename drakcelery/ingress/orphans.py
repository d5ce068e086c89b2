"""Orphaned tasks: an earlier consumer took them off Karton's queue and no longer works on them.

Karton's own consumers pop a task and say so afterwards (``karton.core.backend.consume_routed_task``), so one
that dies in between leaves it SPAWNED forever, and one that dies at work leaves it STARTED until Karton
collects it a day later. If such a task has our identity, it is up to us to do it.

There may be millions of tasks. They are looked through in parts, and only eight bytes are kept for each that
waits.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import structlog
from karton.core.task import Task, TaskState

from drakcelery.errors import Unreadable
from drakcelery.karton import reading
from drakcelery.karton.contract import payload
from drakcelery.ledger import Ledger
from drakcelery.ledger.away import concerns_all
from drakcelery.ledger.inbox import Inbox
from drakcelery.ledger.keys import task_key
from drakcelery.model.names import is_uid

log = structlog.get_logger(__name__)

SPAWNED_SECONDS = 60
"""A SPAWNED task of this age, in seconds, that is on no queue was popped by a consumer that did not begin
it."""
TRIES = 4
"""v0.18 tried a sample three times; a STARTED task older than this many time limits is orphaned."""
SOME = 500
"""How many of Karton's tasks are looked at in one step."""
STRETCH = 10_000
"""How many entries of a queue are read at once."""


@dataclass(frozen=True, kw_only=True)
class _Suspect:
    """A task of ours that has not changed for a long time."""

    uid: str
    names: tuple[str, ...]
    """The uids that its analysis may have."""


def find(ledger: Ledger, inbox: Inbox, *, hard_time_limit: int) -> Iterator[list[str]]:
    """Karton uids of the tasks of our identity that are orphaned, step by step; a step may find none.

    *hard_time_limit*: seconds that one run may take.

    A task goes from the queue to the inbox, maybe into a line and back, and to the ledger, each atomically.
    It is looked for in that order, so a task that some ingress is moving is not taken for orphaned.
    The queues are read first of all. What is put there afterwards was routed after *now*, so it is young.
    """
    now = ledger.now()
    oldest = {TaskState.SPAWNED: now - SPAWNED_SECONDS, TaskState.STARTED: now - TRIES * hard_time_limit}
    queued = _queued(inbox)
    yield []
    cursor = -1
    while cursor:
        cursor, some = ledger.tasks_after(max(0, cursor), some=SOME)
        suspects = [
            _suspect(task)
            for task in _tasks(ledger, some)
            if task.last_update < oldest.get(task.status, 0) and not _is_among(queued, task.uid)
        ]
        yield sorted(one.uid for one in _unknown(ledger, _unclaimed(inbox, suspects)))


def _tasks(ledger: Ledger, some: list[tuple[str, str | None]]) -> Iterator[Task]:
    """Those of these Karton tasks that were routed to our identity.

    A task that cannot be read was not routed, since Karton's router reads what it routes.
    """
    for uid, text in some:
        if text is None or ledger.identity not in text:  # most are not ours, and need not be parsed
            continue
        try:
            task = reading.read_task(text, uid)
        except Unreadable as error:
            log.warning("karton_task_unreadable", key=task_key(uid), error=str(error))
            continue
        if task.headers.get("receiver") == ledger.identity:
            yield task


def _suspect(task: Task) -> _Suspect:
    override = payload(task, "override_uid")
    own = [task.task_uid, Task.fquid_to_uid(task.root_uid), reading.own_uid(task.uid)]
    names = [name for name in (override, *own) if isinstance(name, str) and is_uid(name)]
    return _Suspect(uid=task.uid, names=tuple(names))


def _queued(inbox: Inbox) -> array[int]:
    """Hashes of what is on Karton's queues, sorted."""
    found = array("q")
    for uids in inbox.queued(stretch=STRETCH):
        found.extend(map(hash, uids))
    return array("q", sorted(found))


def _is_among(hashes: array[int], uid: str) -> bool:
    place = bisect_left(hashes, hash(uid))
    return place < len(hashes) and hashes[place] == hash(uid)


def _unclaimed(inbox: Inbox, suspects: list[_Suspect]) -> list[_Suspect]:
    """Those that were, at one single instant, neither in the inbox, nor set aside, nor in a line."""
    if not suspects:
        return []
    taken = inbox.taken([one.uid for one in suspects])
    return [one for one, is_taken in zip(suspects, taken, strict=True) if not is_taken]


def _unknown(ledger: Ledger, suspects: list[_Suspect]) -> list[_Suspect]:
    """Those that no record in the ledger is about, be its analysis live or over."""
    answers = iter(ledger.owners([name for one in suspects for name in one.names]))
    return [one for one in suspects if not _is_recorded(one, [next(answers) for _ in one.names])]


def _is_recorded(suspect: _Suspect, owners: list[Any]) -> bool:
    """Whether one of the records belongs to it, or cannot be read."""
    for owner in owners:
        if isinstance(owner, Exception) and concerns_all(owner):
            raise owner
    return any(isinstance(owner, Exception) or owner == suspect.uid for owner in owners)
