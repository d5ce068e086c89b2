"""The ledger's scripts on a real Valkey."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from karton.core import Task
from karton.core.backend import KARTON_TASKS_QUEUE, KartonBackendBase, KartonMetrics
from karton.core.task import TaskPriority, TaskState

from drakcelery import contract
from drakcelery.analysis import Failure, Stage, State
from drakcelery.errors import Superseded
from drakcelery.ledger import DONE, INBOX, LIVE, HostStatus, Ledger, record_key
from drakcelery.reconcile import RENEWAL_SECONDS, reconcile
from tests.unit.test_chain import analysis

IDENTITY = "karton.test-ledger"
TTL = 600


@pytest.fixture
def ledger(redis_client: redis.Redis) -> Ledger:
    """A ledger of its own identity."""
    return Ledger(redis_client, identity=IDENTITY, record_ttl=TTL)


def queue(ledger: Ledger, priority: TaskPriority, uid: str) -> None:
    """Put a task uid where karton-system puts it."""
    ledger.redis.rpush(KartonBackendBase.get_queue_name(IDENTITY, priority), uid)


def opened(ledger: Ledger, uid: str = "a-1") -> Task:
    """A live analysis with its Karton task, before its first attempt."""
    task = Task({"type": "sample"}, uid="{r}:t", root_uid="r")
    ledger.declare(contract.started(task))
    assert ledger.open(analysis().model_copy(update={"uid": uid, "task_uid": task.uid})) is not None
    return task


def failure(attempt: int, stage: Stage = Stage.RUN) -> Failure:
    return Failure(
        attempt=attempt, stage=stage, error="the VM did not start", host="rack-1", slot="vm-1", at=0
    )


def walk(ledger: Ledger, attempt: int, *stages: Stage, uid: str = "a-1") -> None:
    for stage in stages:
        ledger.advance(uid, attempt, stage, host="rack-1", slot="vm-1")


def publish(ledger: Ledger, task: Task, attempt: int) -> None:
    ledger.publish(
        "a-1",
        attempt,
        task_uid=task.uid,
        finished=contract.finished(task).serialize(),
        analysis_task=Task({"type": "analysis"}, uid="{r}:out", root_uid="r").serialize(),
        analysis_task_uid="{r}:out",
    )


def test_accepts_by_priority(ledger: Ledger) -> None:
    """Tasks are taken as Karton would: the queue of old producers, then high, normal and low, in order."""
    for priority in (TaskPriority.LOW, TaskPriority.NORMAL, TaskPriority.HIGH):
        for number in (1, 2):
            queue(ledger, priority, f"{priority.value}-{number}")
    ledger.redis.rpush(IDENTITY, "old")
    taken = [ledger.accept(capacity=100) for _ in range(8)]
    assert taken == ["old", "high-1", "high-2", "normal-1", "normal-2", "low-1", "low-2", None]
    assert set(ledger.inbox()) == set(taken) - {None}


def test_accepts_as_long_as_there_is_room(ledger: Ledger) -> None:
    """What is in the inbox and what is live count against the room; the rest waits in Karton."""
    opened(ledger)
    for number in (1, 2, 3):
        queue(ledger, TaskPriority.NORMAL, f"t-{number}")
    assert [ledger.accept(capacity=2), ledger.accept(capacity=2)] == ["t-1", None]
    assert ledger.redis.llen(KartonBackendBase.get_queue_name(IDENTITY, TaskPriority.NORMAL)) == 2


def test_racing_ingresses_share_the_tasks(ledger: Ledger) -> None:
    """Several ingresses take every task once."""
    for number in range(200):
        queue(ledger, TaskPriority.NORMAL, f"t-{number}")
    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(lambda _: ledger.accept(capacity=1000), range(220)))
    assert sorted(filter(None, taken)) == sorted(f"t-{number}" for number in range(200))


def test_opening_twice_does_no_harm(ledger: Ledger) -> None:
    """The same task may open its record again, another task may not; the first attempt begins once."""
    opened(ledger)
    opened(ledger)
    other = analysis().model_copy(update={"task_uid": "{r}:other"})
    assert ledger.open(other) is None
    assert ledger.begin_attempt("a-1", after=0) == 1
    with pytest.raises(Superseded):
        ledger.begin_attempt("a-1", after=0)
    ledger.sent("a-1", 1)
    with pytest.raises(Superseded):
        ledger.begin_attempt("a-1", after=1)


def test_a_record_tells_its_story(ledger: Ledger) -> None:
    """What was written can be read: state, place and the times of the current attempt."""
    opened(ledger)
    ledger.begin_attempt("a-1", after=0)
    walk(ledger, 1, Stage.PREPARE)
    record = ledger.get("a-1")
    assert record is not None
    assert record.analysis == analysis()
    assert (record.state, record.host, record.slot, record.attempts) == (State.PREPARING, "rack-1", "vm-1", 1)
    assert list(record.entered) == [State.QUEUED, State.PREPARING]
    assert record.received <= record.entered[State.QUEUED] <= record.entered[State.PREPARING]
    assert [one.uid for one in ledger.live()] == ["a-1"]


def test_stages_are_entered_in_order(ledger: Ledger) -> None:
    """A stage may be entered from the one before it and from itself, and from nowhere else."""
    opened(ledger)
    ledger.begin_attempt("a-1", after=0)
    with pytest.raises(Superseded):
        walk(ledger, 1, Stage.RUN)
    walk(ledger, 1, Stage.PREPARE, Stage.PREPARE, Stage.RUN, Stage.COLLECT)
    with pytest.raises(Superseded):
        walk(ledger, 1, Stage.PREPARE)


def test_a_stale_attempt_changes_nothing(ledger: Ledger) -> None:
    """Once the next attempt has begun, the earlier one can neither advance, fail nor publish."""
    task = opened(ledger)
    ledger.begin_attempt("a-1", after=0)
    walk(ledger, 1, Stage.PREPARE, Stage.RUN, Stage.COLLECT, Stage.UPLOAD)
    assert ledger.fail("a-1", 1, failure(1), task_uid=task.uid, final=False, crashed=None) == 2
    for stale in (
        lambda: walk(ledger, 1, Stage.PREPARE),
        lambda: ledger.fail("a-1", 1, failure(1), task_uid=task.uid, final=True, crashed="{}"),
        lambda: publish(ledger, task, 1),
    ):
        with pytest.raises(Superseded):
            stale()
    record = ledger.get("a-1")
    assert record is not None
    assert (record.state, record.attempts, len(record.failures)) == (State.QUEUED, 2, 1)
    assert record.failures[0].at > 0
    assert ledger.redis.llen(KARTON_TASKS_QUEUE) == 0


def test_publishing(ledger: Ledger) -> None:
    """Publishing declares and queues the analysis, finishes the sample and closes the record, once."""
    task = opened(ledger)
    ledger.begin_attempt("a-1", after=0)
    walk(ledger, 1, Stage.PREPARE, Stage.RUN, Stage.COLLECT, Stage.UPLOAD, Stage.PUBLISH)
    publish(ledger, task, 1)
    with pytest.raises(Superseded):
        publish(ledger, task, 1)
    assert ledger.redis.lrange(KARTON_TASKS_QUEUE, 0, -1) == ["{r}:out"]
    published, finished = ledger.karton_task("{r}:out"), ledger.karton_task(task.uid)
    assert published is not None
    assert finished is not None
    assert published.headers == {"type": "analysis"}
    assert finished.status is TaskState.FINISHED
    record = ledger.get("a-1")
    assert record is not None
    assert record.state is State.PUBLISHED
    assert record.analysis_task_uid == "{r}:out"
    assert list(ledger.live()) == []
    assert [one.uid for one in ledger.done(newest=5)] == ["a-1"]
    assert 0 < ledger.redis.ttl(record_key("a-1")) <= TTL
    assert ledger.redis.hgetall(KartonMetrics.TASK_PRODUCED.value) == {IDENTITY: "1"}


def test_only_the_state_before_publishing_may_publish(ledger: Ledger) -> None:
    """An attempt that has not come to upload cannot publish."""
    task = opened(ledger)
    ledger.begin_attempt("a-1", after=0)
    walk(ledger, 1, Stage.PREPARE, Stage.RUN)
    with pytest.raises(Superseded):
        publish(ledger, task, 1)


def test_failing_for_good(ledger: Ledger) -> None:
    """The last failure closes the record and crashes the Karton task with its reasons."""
    task = opened(ledger)
    ledger.begin_attempt("a-1", after=0)
    walk(ledger, 1, Stage.PREPARE)
    crashed = contract.crashed(task, ["the VM did not start\n"]).serialize()
    assert ledger.fail("a-1", 1, failure(1), task_uid=task.uid, final=True, crashed=crashed) == 0
    record, karton_task = ledger.get("a-1"), ledger.karton_task(task.uid)
    assert record is not None
    assert karton_task is not None
    assert (record.state, record.error) == (State.FAILED, "the VM did not start")
    assert record.failures[0].sentence() == "attempt 1: run on rack-1/vm-1: the VM did not start"
    assert (karton_task.status, karton_task.error) == (TaskState.CRASHED, ["the VM did not start\n"])
    assert 0 < ledger.redis.ttl(record_key("a-1")) <= TTL


def test_a_task_that_karton_dropped_is_not_revived(ledger: Ledger) -> None:
    """Writing to a task that Karton's collector has removed would leave it in Redis for ever."""
    task = opened(ledger)
    ledger.begin_attempt("a-1", after=0)
    walk(ledger, 1, Stage.PREPARE, Stage.RUN, Stage.COLLECT, Stage.UPLOAD)
    ledger.redis.delete(f"karton.task:{task.uid}")
    publish(ledger, task, 1)
    ledger.start(task)
    assert ledger.karton_task(task.uid) is None


def test_a_uid_may_live_again(ledger: Ledger) -> None:
    """A retry under the same uid begins a new life whose attempts make the old life's messages stale."""
    task = opened(ledger)
    ledger.begin_attempt("a-1", after=0)
    ledger.fail("a-1", 1, failure(1), task_uid=task.uid, final=True, crashed=None)
    again = analysis().model_copy(update={"task_uid": "{r}:again"})
    assert ledger.open(again) == 1
    assert ledger.begin_attempt("a-1", after=1) == 2
    record = ledger.get("a-1")
    assert record is not None
    assert (record.attempt, record.attempts, record.failures) == (2, 1, ())
    assert ledger.redis.ttl(record_key("a-1")) == -1
    with pytest.raises(Superseded):
        walk(ledger, 1, Stage.PREPARE)


def test_refusing(ledger: Ledger) -> None:
    """A refused task is CRASHED in Karton, leaves the inbox and has a record that says why."""
    task = Task({"type": "sample"}, uid="{r}:t", root_uid="r")
    ledger.declare(task)
    queue(ledger, TaskPriority.NORMAL, task.uid)
    assert ledger.accept(capacity=5) == task.uid
    crashed = contract.crashed(task, ["no\n"]).serialize()
    ledger.refuse("a-1", task_uid=task.uid, root_uid="r", reason="no", crashed=crashed)
    record, karton_task = ledger.get("a-1"), ledger.karton_task(task.uid)
    assert record is not None
    assert karton_task is not None
    assert (record.state, record.refusal, record.attempts, record.analysis) == (State.FAILED, "no", 0, None)
    assert karton_task.status is TaskState.CRASHED
    assert ledger.inbox() == []


def test_a_refusal_leaves_others_alone(ledger: Ledger) -> None:
    """Refusing a task because its uid is taken does not touch the analysis that has the uid."""
    opened(ledger)
    ledger.refuse("a-1", task_uid="{r}:other", root_uid="r", reason="taken", crashed="{}")
    record = ledger.get("a-1")
    assert record is not None
    assert record.state is State.RECEIVED


def test_hosts_report_and_expire(ledger: Ledger) -> None:
    """A host is listed while it reports, and not for ever after."""
    status = HostStatus(host="rack-1", engine="replay", slots=())
    ledger.report(status)
    assert ledger.hosts() == [status]
    assert 0 < ledger.redis.ttl("drak:host:rack-1") <= 15
    ledger.retire("rack-1")
    assert ledger.hosts() == []


def test_reconcile_keeps_karton_from_collecting(ledger: Ledger) -> None:
    """The Karton task of a live analysis is renewed before its collector would take it, and only then."""
    task = opened(ledger)
    assert reconcile(ledger, lambda *_: None)["renewed"] == 0
    stored = json.loads(str(ledger.redis.get(f"karton.task:{task.uid}")))
    old = stored["last_update"] - RENEWAL_SECONDS - 1
    ledger.redis.set(f"karton.task:{task.uid}", json.dumps({**stored, "last_update": old}))
    assert reconcile(ledger, lambda *_: None)["renewed"] == 1
    renewed = json.loads(str(ledger.redis.get(f"karton.task:{task.uid}")))
    assert renewed["last_update"] >= stored["last_update"]
    assert {**renewed, "last_update": 0} == {**stored, "last_update": 0}


def test_reconcile_sends_what_was_never_sent(ledger: Ledger) -> None:
    """A record whose ingress died before it sent the chain is sent, once, by whoever comes first."""
    opened(ledger)
    sent: list[tuple[str, int]] = []

    def dispatch(one: object, attempt: int) -> None:
        sent.append((str(getattr(one, "uid", None)), attempt))

    reconcile(ledger, dispatch)
    assert sent == []
    ledger.redis.hset(record_key("a-1"), "updated", ledger.now() - 3600)
    reconcile(ledger, dispatch)
    reconcile(ledger, dispatch)
    assert sent == [("a-1", 1)]
    ledger.redis.hset(record_key("a-1"), "updated", ledger.now() - 3600)
    reconcile(ledger, dispatch)
    assert sent == [("a-1", 1), ("a-1", 2)], "the broker was away when the first attempt was to be sent"
    ledger.sent("a-1", 2)
    ledger.redis.hset(record_key("a-1"), "updated", ledger.now() - 3600)
    reconcile(ledger, dispatch)
    assert len(sent) == 2, "an attempt that is with the broker is left to it"


def test_nothing_is_left_behind(ledger: Ledger) -> None:
    """Once records have expired, reconcile forgets their uids, and no key without TTL remains."""
    task = opened(ledger)
    ledger.begin_attempt("a-1", after=0)
    ledger.fail("a-1", 1, failure(1), task_uid=task.uid, final=True, crashed=None)
    ledger.redis.zadd(DONE, {"a-1": ledger.now() - TTL - 1})
    assert ledger.forget() == 1
    keys = {str(key) for key in ledger.redis.scan_iter(match="drak:*")}
    assert {key for key in keys if ledger.redis.ttl(key) == -1} == set()
    assert not keys & {INBOX, LIVE, DONE}
