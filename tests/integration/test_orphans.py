"""Tasks that a consumer before us left behind."""

from __future__ import annotations

import pytest
import redis
from karton.core import Task
from karton.core.backend import KartonBackendBase
from karton.core.task import TaskPriority, TaskState

from drakcelery.ingress import orphans
from drakcelery.ledger import Ledger
from drakcelery.ledger.inbox import NOBODYS
from drakcelery.ledger.keys import WAITING, record_key
from tests.builders import analysis
from tests.ledgers import inbox_of, open_analysis

IDENTITY = "karton.test-stranded"
LIMIT = 100


@pytest.fixture
def ledger(redis_client: redis.Redis) -> Ledger:
    """A ledger of its own identity."""
    return Ledger(redis_client, identity=IDENTITY, record_ttl=600)


def task(ledger: Ledger, name: str, status: TaskState, *, age: float, receiver: str = IDENTITY) -> str:
    """A task in Karton that changed *age* seconds ago; its uid."""
    made = Task({"type": "sample", "receiver": receiver}, uid=f"{{r}}:{name}", root_uid="r")
    made.status = status
    made.last_update = ledger.now() - age
    ledger.declare(made)
    return made.uid


def find(ledger: Ledger) -> list[str]:
    steps = orphans.find(ledger, inbox_of(ledger), hard_time_limit=LIMIT)
    return sorted(uid for found in steps for uid in found)


def test_what_is_stranded(ledger: Ledger) -> None:
    """SPAWNED on no queue, and STARTED for longer than any analysis can take."""
    spawned = task(ledger, "spawned", TaskState.SPAWNED, age=orphans.SPAWNED_SECONDS + 5)
    started = task(ledger, "started", TaskState.STARTED, age=orphans.TRIES * LIMIT + 5)
    assert find(ledger) == [spawned, started]


def test_what_is_not(ledger: Ledger) -> None:
    """Young tasks, those that are over, and those of other services are left alone."""
    task(ledger, "young", TaskState.SPAWNED, age=1)
    task(ledger, "running", TaskState.STARTED, age=orphans.SPAWNED_SECONDS + 5)
    for status in (TaskState.FINISHED, TaskState.CRASHED, TaskState.DECLARED):
        task(ledger, status.value, status, age=1e6)
    task(ledger, "other", TaskState.SPAWNED, age=1e6, receiver="karton.somebody")
    assert find(ledger) == []


def test_whose_uid_is_persistent(ledger: Ledger) -> None:
    """The uid by which the ledger knows a task is the one that the contract reads."""
    made = Task({"type": "sample", "receiver": IDENTITY}, uid="{r}:named", root_uid="r")
    made.payload, made.payload_persistent = {"override_uid": "own"}, {"override_uid": "persistent"}
    inbox_of(ledger).adopt(made.uid)
    open_analysis(ledger, analysis().model_copy(update={"uid": "persistent", "task_uid": made.uid}))
    made.status = TaskState.SPAWNED
    made.last_update = ledger.now() - orphans.SPAWNED_SECONDS - 5
    ledger.declare(made)
    assert find(ledger) == []


def test_what_is_on_its_way(ledger: Ledger) -> None:
    """A task on the queue, in the inbox or in the ledger is in good hands, however old it is."""
    queued, taken, opened = (task(ledger, name, TaskState.SPAWNED, age=1e6) for name in ("q", "i", "l"))
    ledger._redis.rpush(KartonBackendBase.get_queue_name(IDENTITY, TaskPriority.LOW), queued)
    inbox_of(ledger).adopt(taken)
    inbox_of(ledger).adopt(opened)
    open_analysis(ledger, analysis().model_copy(update={"task_uid": opened}))
    lined = task(ledger, "line", TaskState.SPAWNED, age=1e6)
    inbox_of(ledger).adopt(lined)
    inbox_of(ledger).wait(Task.unserialize(str(ledger._redis.get(f"karton.task:{lined}"))), analysis().place)
    assert find(ledger) == []


def test_many_are_looked_through_bit_by_bit(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long queue and keyspace are, each task is found, and none that waits is taken for orphaned."""
    monkeypatch.setattr(orphans, "SOME", 7)
    monkeypatch.setattr(orphans, "STRETCH", 10)
    waiting = [task(ledger, f"waits-{number}", TaskState.SPAWNED, age=1e6) for number in range(45)]
    lost = [task(ledger, f"lost-{number}", TaskState.SPAWNED, age=1e6) for number in range(5)]
    ledger._redis.rpush(KartonBackendBase.get_queue_name(IDENTITY, TaskPriority.NORMAL), *waiting)
    steps = list(orphans.find(ledger, inbox_of(ledger), hard_time_limit=LIMIT))
    assert len(steps) > 3
    assert {uid for found in steps for uid in found} == set(lost)


def test_adopted_tasks_are_taken_up(ledger: Ledger) -> None:
    """An adopted task lies in the inbox as one that an ingress took long ago, so any ingress takes it up."""
    spawned = task(ledger, "spawned", TaskState.SPAWNED, age=1e6)
    inbox_of(ledger).adopt(spawned)
    inbox_of(ledger).adopt(spawned)
    assert inbox_of(ledger).accepted(before=NOBODYS) == [spawned]


@pytest.mark.parametrize("kind", ["zset", "string"])
@pytest.mark.parametrize("place", ["no place: at all", "ghost"])
def test_lines_that_are_none(ledger: Ledger, kind: str, place: str) -> None:
    """A line of another version, or of another type, neither hides a task nor is waited for."""
    spawned = task(ledger, "spawned", TaskState.SPAWNED, age=orphans.SPAWNED_SECONDS + 5)
    ledger._redis.sadd(WAITING, place)
    if kind == "zset":
        ledger._redis.zadd(f"{WAITING}:{place}", {"other": 1})
    else:
        ledger._redis.set(f"{WAITING}:{place}", "x")
    try:
        assert find(ledger) == [spawned]
    finally:
        ledger._redis.delete(WAITING, f"{WAITING}:{place}")


def test_a_record_of_another_type(ledger: Ledger) -> None:
    """Whose it is nobody knows: its task is not begun again, and all others are found."""
    task(ledger, "odd", TaskState.SPAWNED, age=orphans.SPAWNED_SECONDS + 5)
    spawned = task(ledger, "spawned", TaskState.SPAWNED, age=orphans.SPAWNED_SECONDS + 5)
    ledger._redis.set(record_key("odd"), "x", ex=60)
    assert find(ledger) == [spawned]
