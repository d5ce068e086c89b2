"""A key of a wrong type, or a count that is none: each script does all of its work, or none of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import cast

import pytest
import redis
from karton.core import Task
from karton.core.backend import KARTON_TASKS_QUEUE, KartonBackendBase, KartonMetrics
from karton.core.task import TaskPriority, TaskState

from drakcelery.karton import contract
from drakcelery.ledger import Ledger
from drakcelery.ledger.inbox import Inbox
from drakcelery.ledger.keys import (
    ASIDE,
    DONE,
    DUE,
    INBOX,
    INFLIGHT,
    LIVE,
    NOTICE_COUNTS,
    NOTICES,
    NOTICES_WANTED,
    WAITING,
    line_key,
    record_key,
    task_key,
)
from drakcelery.ledger.lines import Stretch
from drakcelery.model.analysis import Failure, Place, Stage, State
from tests.builders import analysis
from tests.ledgers import inbox_of, open_analysis

IDENTITY = "karton.test-odd-keys"
TASK = "{r}:odd-keys"
UID = "odd-keys-1"
PLACE = analysis().place
QUEUE = KartonBackendBase.get_queue_name(IDENTITY, TaskPriority.NORMAL)
BOOKS = (LIVE, DONE, DUE, INFLIGHT, NOTICES, NOTICES_WANTED, NOTICE_COUNTS)
METRICS = (KartonMetrics.TASK_CONSUMED.value, KartonMetrics.TASK_CRASHED.value)


@pytest.fixture
def ledger(redis_client: redis.Redis) -> Iterator[Ledger]:
    """A ledger of its own identity. Whatever the test makes goes: that it is odd is the point of it."""
    before = set(redis_client.scan_iter(count=1000))
    yield Ledger(redis_client, identity=IDENTITY, record_ttl=600)
    for key in set(redis_client.scan_iter(count=1000)) - before:
        redis_client.delete(key)


def task() -> Task:
    """Karton's task of the one analysis."""
    return Task({"type": "sample"}, uid=TASK, root_uid="r")


def opened(ledger: Ledger, *done: Stage) -> None:
    """A live analysis that has these stages behind it, and whose end makes a notice."""
    ledger.declare(contract.started(task()))
    ledger._redis.zadd(INBOX, {TASK: ledger.now()})
    ledger._redis.sadd(NOTICES_WANTED, "PUBLISHED", "FAILED", "CANCELLED")
    open_analysis(ledger, analysis().model_copy(update={"uid": UID, "task_uid": TASK}))
    for stage in done:
        ledger.advance(UID, 1, stage, host="rack-1", slot="vm-1", token="t")
        ledger.complete(UID, 1, stage, token="t")


def spoil(ledger: Ledger, key: str) -> None:
    """Let *key* be of a type that it never has."""
    ledger._redis.delete(key)
    ledger._redis.xadd(key, {"odd": "1"})


def karton(ledger: Ledger) -> TaskState:
    """What Karton's task says."""
    return TaskState(json.loads(str(ledger._redis.get(task_key(TASK))))["status"])


def state(ledger: Ledger) -> str | None:
    """What the record says."""
    return cast("str | None", ledger._redis.hget(record_key(UID), "state"))


def publish(ledger: Ledger) -> None:
    """Publish the analysis."""
    finished = contract.started(task())
    finished.status = TaskState.FINISHED
    ledger.publish(
        UID,
        1,
        task_uid=TASK,
        finished=finished.serialize(),
        analysis_task="{}",
        analysis_task_uid="{r}:analysis",
    )


def fail(ledger: Ledger) -> None:
    """Let the last attempt fail."""
    failure = Failure(attempt=1, stage=Stage.RUN, error="no", host="rack-1", slot="vm-1", at=0)
    ledger.fail(UID, 1, failure, task_uid=TASK, final=True, crashed=ledger.last_word(TASK, ["no\n"]))


def cancel(ledger: Ledger) -> None:
    """Cancel it."""
    record = ledger.get(UID)
    assert record is not None
    assert ledger.cancel(record, reason="no", crashed=ledger.last_word(TASK, ["no\n"]))


@pytest.mark.parametrize("key", [*BOOKS, *METRICS, "no number", "a fraction"])
@pytest.mark.parametrize(
    ("end", "karton_state", "own_state"),
    [(publish, TaskState.FINISHED, State.PUBLISHED), (fail, TaskState.CRASHED, State.FAILED)],
)
def test_an_end_is_whole(
    ledger: Ledger, key: str, end: Callable[[Ledger], None], karton_state: TaskState, own_state: State
) -> None:
    """Where one of our books cannot be kept: Karton and the record agree, before and after."""
    opened(ledger, *((Stage.PREPARE, Stage.RUN, Stage.COLLECT, Stage.UPLOAD) if end is publish else ()))
    if key in ("no number", "a fraction"):
        ledger._redis.hset(INFLIGHT, str(PLACE), "several" if key == "no number" else "1.5")
    else:
        spoil(ledger, key)
    try:
        end(ledger)
    except redis.ResponseError:
        assert karton(ledger) is TaskState.STARTED
        assert state(ledger) not in ("PUBLISHED", "FAILED")
        assert ledger._redis.llen(KARTON_TASKS_QUEUE) == 0
        assert key == LIVE  # who is over is known by it
        return
    assert karton(ledger) is karton_state
    assert state(ledger) == own_state.value
    assert ledger._redis.llen(KARTON_TASKS_QUEUE) == (end is publish)


@pytest.mark.parametrize("key", [DONE, DUE, INFLIGHT, NOTICES, NOTICES_WANTED, NOTICE_COUNTS])
def test_a_cancellation_is_whole(ledger: Ledger, key: str) -> None:
    """It ends in Karton too."""
    opened(ledger)
    spoil(ledger, key)
    cancel(ledger)
    assert karton(ledger) is TaskState.CRASHED
    assert state(ledger) == "CANCELLED"


def test_karton_takes_nothing_of_what_could_not_be_published(ledger: Ledger) -> None:
    """Its own list of tasks is odd: nothing has changed, and a later try publishes."""
    opened(ledger, Stage.PREPARE, Stage.RUN, Stage.COLLECT, Stage.UPLOAD)
    spoil(ledger, KARTON_TASKS_QUEUE)
    with pytest.raises(redis.ResponseError):
        publish(ledger)
    assert ledger._redis.exists(task_key("{r}:analysis")) == 0
    ledger._redis.delete(KARTON_TASKS_QUEUE)
    publish(ledger)
    assert ledger._redis.llen(KARTON_TASKS_QUEUE) == 1


@pytest.mark.parametrize("key", [record_key(UID), DONE, *METRICS, NOTICES, NOTICES_WANTED])
def test_a_refusal_is_whole(ledger: Ledger, key: str) -> None:
    """A task that never becomes an analysis is CRASHED in Karton."""
    ledger.declare(task())
    ledger._redis.zadd(INBOX, {TASK: 1})
    spoil(ledger, key)
    crashed = ledger.last_word(TASK, ["no\n"]) or ""
    inbox_of(ledger).refuse(UID, task_uid=TASK, root_uid="r", reason="no", crashed=crashed)
    assert karton(ledger) is TaskState.CRASHED
    assert ledger._redis.zscore(INBOX, TASK) is None


def _wait(inbox: Inbox) -> Callable[[], object]:
    inbox._redis.zadd(INBOX, {TASK: 1})
    return lambda: inbox.wait(task(), PLACE)


def _set_aside(inbox: Inbox) -> Callable[[], object]:
    inbox._redis.zadd(INBOX, {TASK: 1})
    return lambda: inbox.set_aside(TASK)


def _take_back(inbox: Inbox) -> Callable[[], object]:
    inbox._redis.zadd(ASIDE, {TASK: 1})
    return lambda: inbox.put_back(TASK)


def _expire(inbox: Inbox) -> Callable[[], object]:
    inbox._redis.zadd(line_key(PLACE), {TASK: 1})
    inbox._redis.sadd(WAITING, str(PLACE))
    return lambda: inbox.expire(TASK, PLACE)


def _pull(inbox: Inbox) -> Callable[[], object]:
    inbox._redis.rpush(QUEUE, TASK)
    return lambda: inbox.pull(TASK, Stretch(urgency=2, named=(TASK,), length=1))


def places_of(client: redis.Redis) -> list[str]:
    """Where the task is."""
    zsets = [key for key in (INBOX, ASIDE, line_key(PLACE)) if client.type(key) == "zset"]
    found = [key for key in zsets if client.zscore(key, TASK) is not None]
    queued = client.type(QUEUE) == "list" and TASK in client.lrange(QUEUE, 0, -1)
    return [*found, *([QUEUE] if queued else [])]


@pytest.mark.parametrize("key", [INBOX, ASIDE, WAITING, line_key(PLACE), QUEUE])
@pytest.mark.parametrize("move", [_wait, _set_aside, _take_back, _expire, _pull])
def test_a_task_is_in_one_place(
    ledger: Ledger, key: str, move: Callable[[Inbox], Callable[[], object]]
) -> None:
    """A move whose aim is odd leaves the task where it is (I1)."""
    go = move(inbox_of(ledger))
    [before] = places_of(ledger._redis)
    if key == before:
        pytest.skip("it is there itself")
    spoil(ledger, key)
    try:
        go()
    except redis.ResponseError:
        assert places_of(ledger._redis) == [before]
    else:
        assert len(places_of(ledger._redis)) == 1


@pytest.mark.parametrize("count", ["99", "-7", "1.5", "several", "9" * 30])
def test_counts_are_put_right(ledger: Ledger, count: str) -> None:
    """A count that is wrong, or none, would keep all samples out, or let too many in, forever."""
    opened(ledger)
    gone = str(Place(profile="gone"))
    ledger._redis.hset(INFLIGHT, mapping={str(PLACE): count, gone: "3"})
    assert ledger.recount() == 2
    assert ledger._redis.hgetall(INFLIGHT) == {str(PLACE): "1"}
    assert ledger.recount() == 0
    fail(ledger)
    assert ledger._redis.exists(INFLIGHT) == 0


def test_counts_of_another_type_are_put_right(ledger: Ledger) -> None:
    """And a record that nobody can read is in no place."""
    opened(ledger)
    spoil(ledger, INFLIGHT)
    ledger._redis.zadd(LIVE, {"other": 1})
    spoil(ledger, record_key("other"))
    assert ledger.recount() == 1
    assert ledger._redis.hgetall(INFLIGHT) == {str(PLACE): "1"}
    ledger._redis.delete(record_key("other"))
