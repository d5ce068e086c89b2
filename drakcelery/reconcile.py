"""What beat has done every half minute: the ledger compared with Karton. Idempotent, safe in two places."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import structlog
from karton.core.backend import KARTON_TASK_NAMESPACE
from karton.core.task import TaskState
from redis.exceptions import WatchError

from drakcelery.analysis import Analysis
from drakcelery.errors import Superseded
from drakcelery.ledger import Ledger, Record

log = structlog.get_logger(__name__)

INTERVAL = 30.0
"""Seconds between two runs."""
UNSENT_SECONDS = 60
"""After that long, whoever was to send the chain has died, or the broker was away."""
RENEWAL_SECONDS = 600
"""How old a live task's ``last_update`` may get; Karton's collector drops STARTED tasks after 24 h."""

Dispatch = Callable[[Analysis, int], None]


def reconcile(ledger: Ledger, dispatch: Dispatch) -> dict[str, int]:
    """Mend what is amiss; returns how often each thing was done.

    * An attempt that was begun and never sent is followed by one that is.
    * The Karton task of a live analysis is kept fresh, so that Karton's collector spares it.
    * The uids of expired records are forgotten.
    """
    now = ledger.now()
    done = {"sent": 0, "renewed": 0, "forgotten": ledger.forget()}
    for record in ledger.live():
        done["sent"] += _send_unsent(ledger, dispatch, record, now)
        done["renewed"] += _renew(ledger, record.task_uid)
    if any(done.values()):
        log.info("reconciled", **done)
    return done


def _send_unsent(ledger: Ledger, dispatch: Dispatch, record: Record, now: float) -> bool:
    if not record.is_unsent or now - record.updated < UNSENT_SECONDS or record.analysis is None:
        return False
    try:
        attempt = ledger.begin_attempt(record.uid, after=record.attempt)
    except Superseded:
        return False  # an ingress, or another reconcile, was faster
    dispatch(record.analysis, attempt)
    log.warning("sent_late", uid=record.uid, attempt=attempt)
    return True


def _renew(ledger: Ledger, task_uid: str) -> bool:
    """Set ``last_update`` unless the task changed meanwhile.

    ``set_task_status`` with the same status writes nothing (``karton.core.backend``), so the task's JSON is
    changed here; not in Lua, whose JSON library turns empty lists into objects.
    """
    key = f"{KARTON_TASK_NAMESPACE}:{task_uid}"
    with ledger.redis.pipeline() as pipe:
        pipe.watch(key)  # type: ignore[no-untyped-call] # redis-py leaves this one untyped
        text = pipe.get(key)
        task = json.loads(str(text)) if text else None
        if task is None or task["status"] != TaskState.STARTED.value:
            return False
        if time.time() - task["last_update"] < RENEWAL_SECONDS:
            return False
        pipe.multi()
        pipe.set(key, json.dumps({**task, "last_update": time.time()}, sort_keys=True))
        try:
            pipe.execute()
        except WatchError:
            return False  # someone else wrote it: fresh enough, or over
    return True
