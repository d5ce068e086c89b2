"""What several tests need around a ledger."""

from __future__ import annotations

from karton.core import Task

from drakcelery.karton import contract
from drakcelery.ledger import Ledger
from drakcelery.ledger.inbox import Inbox
from drakcelery.ledger.keys import BROKER_WATCH, INBOX, WATCH, task_key
from drakcelery.ledger.watch import ServerId
from drakcelery.model.analysis import Analysis, Stage
from drakcelery.model.records import Record
from tests.builders import analysis


def inbox_of(ledger: Ledger, *, record_ttl: int = 600) -> Inbox:
    """The inbox beside *ledger*."""
    return Inbox(ledger._redis, identity=ledger.identity, record_ttl=record_ttl)


def open_analysis(ledger: Ledger, analysis: Analysis) -> Record:
    """Begin an analysis, and its first attempt, whose Karton task is in the inbox."""
    task = Task({"type": "sample"}, uid=analysis.task_uid, root_uid=analysis.root_uid)
    read = ledger._redis.get(task_key(analysis.task_uid))
    started = contract.started(task)
    record = inbox_of(ledger).open(analysis, started, limit=1000, read=str(read or ""))
    assert record is not None
    return record


def watched(ledger: Ledger, *, seconds: float) -> None:
    """Let Redis and the broker have been heard for so long without a break."""
    for key in (WATCH, BROKER_WATCH):
        ledger._redis.delete(key, f"{key}:gaps")
    ledger.watch()
    ledger.watch_broker(ServerId())
    for key in (WATCH, BROKER_WATCH):
        ledger._redis.hset(key, "since", f"{ledger.now() - seconds:.6f}")
        ledger._redis.delete(f"{key}:gaps")


IDENTITY = "karton.test-ledger"

TTL = 600


def take(ledger: Ledger, uid: str) -> None:
    """An ingress has taken a task."""
    ledger._redis.zadd(INBOX, {uid: ledger.now()})


def opened(ledger: Ledger, uid: str = "a-1") -> Task:
    """A live analysis with its Karton task, whose first attempt is to be sent."""
    task = Task({"type": "sample"}, uid="{r}:t", root_uid="r")
    ledger.declare(contract.started(task))
    take(ledger, task.uid)
    open_analysis(ledger, analysis().model_copy(update={"uid": uid, "task_uid": task.uid}))
    return task


def enter(ledger: Ledger, attempt: int, stage: Stage, token: str = "t") -> None:
    """Enter a stage and stay in it."""
    ledger.advance("a-1", attempt, stage, host="rack-1", slot="vm-1", token=token)
