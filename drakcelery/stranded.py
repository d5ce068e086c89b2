"""Tasks that a consumer before us left behind: off Karton's queue, and in nobody's hands.

Karton's own consumers pop a task and say so afterwards (``karton.core.backend.consume_routed_task``), so one
that dies in between leaves it SPAWNED for ever, and one that dies at work leaves it STARTED until Karton
collects it a day later. Under our identity such a task is ours to do.
"""

from __future__ import annotations

from collections.abc import Iterator

import orjson
from karton.core.backend import KARTON_TASK_NAMESPACE, KartonBackendBase
from karton.core.task import TaskState

from drakcelery.intake import Intake
from drakcelery.ledger import Ledger

SPAWNED_SECONDS = 60
"""A SPAWNED task of this age that is on no queue was popped by somebody who did not begin."""
TRIES = 4
"""v0.18 tried a sample three times; a STARTED task older than this many time limits is nobody's."""


def find(ledger: Ledger, intake: Intake, *, hard_time_limit: int) -> list[str]:
    """Karton uids of the tasks of our identity that are stranded.

    *hard_time_limit*: seconds that one run may take.

    A task goes from the queue to the inbox, maybe into a line and back, and to the ledger, each atomically.
    It is looked for in that order: one that is on its way, in whichever ingress, is not taken for stranded.
    """
    now = ledger.now()
    oldest = {TaskState.SPAWNED: SPAWNED_SECONDS, TaskState.STARTED: TRIES * hard_time_limit}
    suspects = {uid for uid, status, updated in _tasks(ledger) if now - updated > oldest.get(status, now)}
    if not suspects:
        return []
    for queue in KartonBackendBase.get_queue_names(ledger.identity):
        suspects.difference_update(str(uid) for uid in ledger.redis.lrange(queue, 0, -1))
    suspects.difference_update(intake.inbox())
    for place in intake.places():
        suspects.difference_update(intake.waiting(place))
    suspects.difference_update(intake.inbox())
    suspects.difference_update(record.task_uid for record in ledger.known_records())
    return sorted(suspects)


def _tasks(ledger: Ledger) -> Iterator[tuple[str, TaskState, float]]:
    """(uid, status, last update) of every Karton task that was routed to our identity."""
    keys = ledger.redis.scan_iter(match=f"{KARTON_TASK_NAMESPACE}:*", count=1000)
    for key in keys:
        text = ledger.redis.get(key)
        task = orjson.loads(text) if isinstance(text, str) else {}
        if task.get("headers", {}).get("receiver") == ledger.identity:
            yield task["uid"], TaskState(task["status"]), float(task["last_update"] or 0)
