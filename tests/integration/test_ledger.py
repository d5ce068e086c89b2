"""The ledger's scripts on a real Valkey."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from karton.core import Task
from karton.core.backend import KARTON_TASKS_QUEUE, KartonBackendBase, KartonMetrics
from karton.core.task import TaskPriority, TaskState

from drakcelery.embedded.services import Services
from drakcelery.errors import BadTask, Superseded, UnderWay
from drakcelery.karton import contract
from drakcelery.ledger import Ledger, connect
from drakcelery.ledger.keys import DONE, DUE, INBOX, LIVE, record_key
from drakcelery.model.analysis import Failure, Fault, Stage, State
from drakcelery.model.records import HostStatus, Record, SlotStatus
from drakcelery.model.result import Result
from drakcelery.model.timeouts import DEFAULT, SHORTEST, timeouts_of
from tests.builders import analysis
from tests.ledgers import IDENTITY, TTL, enter, inbox_of, open_analysis, opened, take


@pytest.fixture
def ledger(redis_client: redis.Redis) -> Ledger:
    """A ledger of its own identity."""
    return Ledger(redis_client, identity=IDENTITY, record_ttl=TTL)


def queue(ledger: Ledger, priority: TaskPriority, uid: str) -> None:
    """Put a task uid where karton-system puts it."""
    ledger._redis.rpush(KartonBackendBase.get_queue_name(IDENTITY, priority), uid)


def failure(attempt: int, stage: Stage = Stage.RUN) -> Failure:
    return Failure(
        attempt=attempt, stage=stage, error="the VM did not start", host="rack-1", slot="vm-1", at=0
    )


def walk(ledger: Ledger, attempt: int, *stages: Stage) -> None:
    """Do stages, one after the other."""
    for stage in stages:
        enter(ledger, attempt, stage)
        ledger.complete("a-1", attempt, stage, token="t")


RESULT = Result.of(
    {
        "engine": "emulator speakeasy-1",
        "execution": "executed",
        "complete": False,
        "reason": "the emulation broke off",
        "missing_functions": [{"name": "a.B", "count": 3, "guessed": False}],
        "other": "of the metadata",
    }
)
FILES_DONE = (Stage.PREPARE, Stage.RUN, Stage.COLLECT, Stage.UPLOAD)


def publish(ledger: Ledger, task: Task, attempt: int) -> None:
    ledger.publish(
        "a-1",
        attempt,
        task_uid=task.uid,
        finished=contract.finished(task).serialize(),
        analysis_task=Task({"type": "analysis"}, uid="{r}:out", root_uid="r").serialize(),
        analysis_task_uid="{r}:out",
        result=RESULT,
    )


def test_accepts_by_priority(ledger: Ledger) -> None:
    """Tasks are taken as Karton would: the queue of old producers, then high, normal and low, in order."""
    for priority in (TaskPriority.LOW, TaskPriority.NORMAL, TaskPriority.HIGH):
        for number in (1, 2):
            queue(ledger, priority, f"{priority.value}-{number}")
    ledger._redis.rpush(IDENTITY, "old")
    inbox = inbox_of(ledger)
    taken = [inbox.accept(limit=100, places={}, most=3) for _ in range(4)]
    assert taken == [["old", "high-1", "high-2"], ["normal-1", "normal-2", "low-1"], ["low-2"], []]
    assert set(inbox.accepted()) == {uid for uids in taken for uid in uids}


def test_accepts_as_long_as_there_is_room(ledger: Ledger) -> None:
    """What is live, and what is in the inbox, counts against the room; the rest waits in Karton."""
    opened(ledger)
    for number in (1, 2, 3, 4):
        queue(ledger, TaskPriority.NORMAL, f"t-{number}")
    accept = inbox_of(ledger).accept
    assert [accept(limit=3, places={}, most=10) for _ in range(2)] == [["t-1", "t-2"], []]
    assert accept(limit=0, places={}, most=10) == []
    assert ledger._redis.llen(KartonBackendBase.get_queue_name(IDENTITY, TaskPriority.NORMAL)) == 2


def test_racing_ingresses_share_the_tasks(ledger: Ledger) -> None:
    """Several ingresses take every task once."""
    for number in range(200):
        queue(ledger, TaskPriority.NORMAL, f"t-{number}")
    with ThreadPoolExecutor(4) as pool:
        taken = pool.map(lambda _: inbox_of(ledger).accept(limit=1000, places={}, most=3), range(80))
    assert sorted(uid for uids in taken for uid in uids) == sorted(f"t-{number}" for number in range(200))


def test_opening_twice_does_no_harm(ledger: Ledger) -> None:
    """The same task may open its record again until its attempt is sent; another task may not."""
    opened(ledger)
    opened(ledger)
    other = analysis().model_copy(update={"task_uid": "{r}:other"})
    take(ledger, other.task_uid)
    with pytest.raises(BadTask, match="another analysis is under way"):
        open_analysis(ledger, other)
    record = ledger.get("a-1")
    assert record is not None
    assert (record.attempt, record.state, record.is_unsent) == (1, State.QUEUED, True)
    ledger.sent("a-1", 1)
    with pytest.raises(Superseded):
        opened(ledger)
    with pytest.raises(Superseded):
        ledger.begin_attempt("a-1", after=1)


def test_a_place_is_not_overfilled(ledger: Ledger) -> None:
    """Two ingresses that saw the same room fill it once; the second one's sample waits, as it came."""
    opened(ledger)
    task = Task({"type": "sample"}, uid="{r}:second", root_uid="r")
    ledger.declare(task)
    take(ledger, task.uid)
    second = analysis().model_copy(update={"uid": "a-2", "task_uid": task.uid})
    started = contract.started(Task.unserialize(task.serialize()))
    read = task.serialize()
    assert inbox_of(ledger).open(second, started, limit=1, read=read) is None
    kept = ledger.karton_task(task.uid)
    assert kept is not None
    assert kept.status is task.status
    assert inbox_of(ledger).accepted() == [task.uid]
    assert inbox_of(ledger).open(second, started, limit=2, read=read) is not None
    assert inbox_of(ledger).in_flight() == {analysis().place: 2}


def test_a_record_tells_its_story(ledger: Ledger) -> None:
    """What was written can be read: state, place and the times of the current attempt."""
    opened(ledger)
    enter(ledger, 1, Stage.PREPARE)
    record = ledger.get("a-1")
    assert record is not None
    assert record.analysis == analysis()
    assert (record.state, record.host, record.slot, record.attempts) == (State.PREPARING, "rack-1", "vm-1", 1)
    assert set(record.entered) == {State.QUEUED, State.PREPARING}
    assert record.received <= record.entered[State.QUEUED] <= record.entered[State.PREPARING]
    assert [one.uid for one in ledger.live()] == ["a-1"]


def test_stages_are_entered_in_order(ledger: Ledger) -> None:
    """A stage may be entered once the one before it is done, and not once it is done itself."""
    opened(ledger)
    with pytest.raises(Superseded):
        enter(ledger, 1, Stage.RUN)
    walk(ledger, 1, Stage.PREPARE, Stage.RUN)
    for early_or_late in (Stage.PREPARE, Stage.RUN, Stage.UPLOAD):
        with pytest.raises(Superseded):
            enter(ledger, 1, early_or_late)
    enter(ledger, 1, Stage.COLLECT)


def test_one_delivery_at_a_time(ledger: Ledger) -> None:
    """A message delivered twice is worked on once; when its process is dead, or silent, again."""
    opened(ledger)
    enter(ledger, 1, Stage.PREPARE, "first")
    enter(ledger, 1, Stage.PREPARE, "first")
    with pytest.raises(UnderWay):
        enter(ledger, 1, Stage.PREPARE, "second")
    assert ledger.renew("a-1", 1, token="first")
    ledger.abandon("a-1", 1, Stage.RUN)
    with pytest.raises(UnderWay):
        enter(ledger, 1, Stage.PREPARE, "second")
    ledger.abandon("a-1", 1, Stage.PREPARE)
    enter(ledger, 1, Stage.PREPARE, "second")
    ledger._redis.hset(record_key("a-1"), "beat", ledger.now() - ledger.timeouts.silence)
    enter(ledger, 1, Stage.PREPARE, "third")
    assert not ledger.renew("a-1", 1, token="second")
    with pytest.raises(Superseded):
        ledger.complete("a-1", 1, Stage.PREPARE, token="second")
    ledger.complete("a-1", 1, Stage.PREPARE, token="third")
    ledger.complete("a-1", 1, Stage.PREPARE, token="third")


def test_a_claim_is_kept_by_its_own_lease(ledger: Ledger) -> None:
    """A delivery to a host with a shorter lease takes nothing from one that shows life less often."""
    opened(ledger)
    enter(ledger, 1, Stage.PREPARE, "first")
    ledger._redis.hset(record_key("a-1"), "beat", ledger.now() - ledger.timeouts.silence + 5)
    ledger.timeouts = timeouts_of(SHORTEST)
    with pytest.raises(UnderWay):
        enter(ledger, 1, Stage.PREPARE, "second")
    ledger._redis.hset(record_key("a-1"), "beat", ledger.now() - DEFAULT.silence)
    enter(ledger, 1, Stage.PREPARE, "second")
    ledger._redis.hset(record_key("a-1"), "beat", ledger.now() - ledger.timeouts.silence)
    enter(ledger, 1, Stage.PREPARE, "third")


def test_postponing(ledger: Ledger) -> None:
    """A stage that has to wait is due again later, may then be entered, and knows how long it has waited."""
    opened(ledger)
    walk(ledger, 1, Stage.PREPARE, Stage.RUN, Stage.COLLECT)
    enter(ledger, 1, Stage.UPLOAD)
    assert ledger.postpone("a-1", 1, token="t", delay=0) == 0
    with pytest.raises(Superseded):
        ledger.postpone("a-1", 1, token="t", delay=0)
    assert ledger.due() == "a-1"
    assert ledger.due() is None
    enter(ledger, 1, Stage.UPLOAD, "again")
    ledger._redis.hset(record_key("a-1"), "waiting", int(ledger.now()) - 60)
    assert ledger.postpone("a-1", 1, token="again", delay=3600) >= 60
    assert ledger.due() is None
    assert ledger.is_due_later("a-1")


def test_cancelling(ledger: Ledger) -> None:
    """A cancelled analysis is over: nobody may enter a stage, renew, fail or publish any more."""
    task = opened(ledger)
    walk(ledger, 1, *FILES_DONE)
    enter(ledger, 1, Stage.PUBLISH)
    record = ledger.get("a-1")
    assert record is not None
    crashed = contract.crashed(task, ["cancelled by me\n"]).serialize()
    assert ledger.cancel(record, reason="cancelled by me", crashed=crashed)
    assert not ledger.cancel(record, reason="again", crashed=None)
    assert not ledger.renew("a-1", 1, token="t")
    with pytest.raises(Superseded):
        publish(ledger, task, 1)
    with pytest.raises(Superseded):
        ledger.fail("a-1", 1, failure(1), task_uid=task.uid, final=False, crashed=None)
    after, karton_task = ledger.get("a-1"), ledger.karton_task(task.uid)
    assert after is not None
    assert karton_task is not None
    assert (after.state, after.error) == (State.CANCELLED, "cancelled by me")
    assert karton_task.status is TaskState.CRASHED
    assert list(ledger.live()) == []


def test_a_stale_attempt_changes_nothing(ledger: Ledger) -> None:
    """Once the next attempt has begun, the earlier one can neither advance, fail nor publish."""
    task = opened(ledger)
    walk(ledger, 1, *FILES_DONE)
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
    assert record.is_unsent
    assert ledger.due() == "a-1"
    assert record.failures[0].at > 0
    assert ledger._redis.llen(KARTON_TASKS_QUEUE) == 0


def test_an_attempt_is_sent_again_later(ledger: Ledger) -> None:
    """As long as nobody has begun it: it came to a slot in which it had failed before (R19)."""
    opened(ledger)
    assert ledger.defer("a-1", 1, delay=3600)
    assert ledger.is_due_later("a-1")
    assert ledger.defer("a-1", 1, delay=0)
    assert ledger.due() == "a-1"
    assert not ledger.defer("a-1", 2, delay=0)
    enter(ledger, 1, Stage.PREPARE)
    assert not ledger.defer("a-1", 1, delay=0)
    assert ledger.due() is None


def test_a_delivery_fails_for_itself_only(ledger: Ledger) -> None:
    """A delivery that was taken over cannot end the attempt; the one at work, or just done, can (R17)."""
    task = opened(ledger)

    def fail(token: str) -> int:
        return ledger.fail("a-1", 1, failure(1), task_uid=task.uid, final=False, crashed=None, token=token)

    enter(ledger, 1, Stage.PREPARE, "frozen")
    ledger.abandon("a-1", 1, Stage.PREPARE)
    with pytest.raises(Superseded):
        fail("frozen")
    enter(ledger, 1, Stage.PREPARE, "at work")
    with pytest.raises(Superseded):
        fail("frozen")
    ledger.complete("a-1", 1, Stage.PREPARE, token="at work")
    with pytest.raises(Superseded):
        fail("frozen")
    assert fail("at work") == 2


def test_patience_at_its_end(ledger: Ledger) -> None:
    """A stage that has waited for all the patience there is keeps its claim, so that it can be failed."""
    task = opened(ledger)
    walk(ledger, 1, Stage.PREPARE, Stage.RUN, Stage.COLLECT)
    enter(ledger, 1, Stage.UPLOAD)
    ledger._redis.hset(record_key("a-1"), "waiting", int(ledger.now()) - 60)
    assert ledger.postpone("a-1", 1, token="t", delay=3600, patience=60) >= 60
    assert not ledger.is_due_later("a-1")
    late = failure(1, Stage.UPLOAD)
    assert ledger.fail("a-1", 1, late, task_uid=task.uid, final=True, crashed=None, token="t") == 0


def test_publishing(ledger: Ledger) -> None:
    """Publishing declares and queues the analysis, finishes the sample and closes the record, once."""
    task = opened(ledger)
    walk(ledger, 1, *FILES_DONE)
    enter(ledger, 1, Stage.PUBLISH)
    publish(ledger, task, 1)
    with pytest.raises(Superseded):
        publish(ledger, task, 1)
    assert ledger._redis.lrange(KARTON_TASKS_QUEUE, 0, -1) == ["{r}:out"]
    published, finished = ledger.karton_task("{r}:out"), ledger.karton_task(task.uid)
    assert published is not None
    assert finished is not None
    assert published.headers == {"type": "analysis"}
    assert finished.status is TaskState.FINISHED
    record = ledger.get("a-1")
    assert record is not None
    assert record.state is State.PUBLISHED
    assert record.result == RESULT
    assert record.analysis_task_uid == "{r}:out"
    assert list(ledger.live()) == []
    assert [one.uid for one in ledger.done(newest=5)] == ["a-1"]
    assert 0 < ledger._redis.ttl(record_key("a-1")) <= TTL
    assert ledger._redis.hgetall(KartonMetrics.TASK_PRODUCED.value) == {IDENTITY: "1"}


def test_only_the_state_before_publishing_may_publish(ledger: Ledger) -> None:
    """An attempt that has not come to upload cannot publish."""
    task = opened(ledger)
    walk(ledger, 1, Stage.PREPARE, Stage.RUN)
    with pytest.raises(Superseded):
        publish(ledger, task, 1)


def test_failing_for_good(ledger: Ledger) -> None:
    """The last failure closes the record and crashes the Karton task with its reasons."""
    task = opened(ledger)
    walk(ledger, 1, Stage.PREPARE)
    crashed = contract.crashed(task, ["the VM did not start\n"]).serialize()
    assert ledger.fail("a-1", 1, failure(1), task_uid=task.uid, final=True, crashed=crashed) == 0
    record, karton_task = ledger.get("a-1"), ledger.karton_task(task.uid)
    assert record is not None
    assert karton_task is not None
    assert (record.state, record.error) == (State.FAILED, "the VM did not start")
    assert record.failures[0].sentence() == "attempt 1: run on rack-1/vm-1: the VM did not start"
    assert (karton_task.status, karton_task.error) == (TaskState.CRASHED, ["the VM did not start\n"])
    assert 0 < ledger._redis.ttl(record_key("a-1")) <= TTL


def test_an_ingress_that_wakes_up_late_changes_nothing(ledger: Ledger) -> None:
    """A task that another ingress has opened, and that is over, gets no second life."""
    task = opened(ledger)
    walk(ledger, 1, *FILES_DONE)
    publish(ledger, task, 1)
    before = (ledger.get("a-1"), ledger._redis.get(f"karton.task:{task.uid}"))
    with pytest.raises(Superseded):
        open_analysis(ledger, analysis().model_copy(update={"task_uid": task.uid}))
    inbox_of(ledger).refuse("a-1", task_uid=task.uid, root_uid="r", reason="no", crashed="{}")
    assert (ledger.get("a-1"), ledger._redis.get(f"karton.task:{task.uid}")) == before


def test_a_task_that_karton_dropped_is_not_revived(ledger: Ledger) -> None:
    """Writing to a task that Karton's collector has removed would leave it in Redis forever.

    Nor does it get a second life where its uid comes into the inbox again.
    """
    task = opened(ledger)
    walk(ledger, 1, *FILES_DONE)
    ledger._redis.delete(f"karton.task:{task.uid}")
    publish(ledger, task, 1)
    take(ledger, task.uid)
    with pytest.raises(Superseded):
        open_analysis(ledger, analysis().model_copy(update={"task_uid": task.uid}))
    assert ledger.karton_task(task.uid) is None
    assert inbox_of(ledger).accepted() == []


def test_a_uid_may_live_again(ledger: Ledger) -> None:
    """A retry under the same uid begins a new life whose attempts make the old life's messages stale."""
    task = opened(ledger)
    ledger.fail("a-1", 1, failure(1), task_uid=task.uid, final=True, crashed=None)
    again = analysis().model_copy(update={"task_uid": "{r}:again"})
    take(ledger, again.task_uid)
    record = open_analysis(ledger, again)
    assert record == ledger.get("a-1")
    assert (record.attempt, record.attempts, record.failures) == (2, 1, ())
    assert ledger._redis.ttl(record_key("a-1")) == -1
    with pytest.raises(Superseded):
        walk(ledger, 1, Stage.PREPARE)


def test_what_is_no_text_goes_back_as_it_came(redis_client: redis.Redis, services: Services) -> None:
    """Others' keys and values need not be UTF-8: they are found, changed and removed all the same."""
    redis_client.rpush("bytes", b"\xff\xfe", "text")
    with connect(services.redis) as client, client.pipeline() as several:
        odd, _ = client.lrange("bytes", 0, -1)
        client.set(odd, odd, ex=60)
        assert several.get(odd).delete(odd).lrem("bytes", 1, odd).execute() == [odd, 1, 1]
    assert redis_client.lpop("bytes") == "text"
    assert not redis_client.exists("bytes")


INTERRUPTED = """
import signal, time
from drakcelery.ledger.connection import _Packer
class Stopped(Exception): pass
def stop(*_): raise Stopped
signal.signal(signal.SIGALRM, stop)
pack, until = _Packer().pack, time.monotonic() + 1.0
while time.monotonic() < until:
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0002)
        for _ in range(1000):
            pack("SET", "key", 5, 1.5)
        signal.setitimer(signal.ITIMER_REAL, 0)
    except Stopped:
        pass
"""


def test_a_signal_ends_nobody_who_writes_a_number() -> None:
    """hiredis calls Python for each, which may raise what a signal's handler raises, and crashes."""
    subprocess.run([sys.executable, "-c", INTERRUPTED], check=True, timeout=60)


def test_refusing(ledger: Ledger) -> None:
    """A refused task is CRASHED in Karton, leaves the inbox and has a record that says why."""
    task = Task({"type": "sample"}, uid="{r}:t", root_uid="r")
    ledger.declare(task)
    queue(ledger, TaskPriority.NORMAL, task.uid)
    assert inbox_of(ledger).accept(limit=5, places={}, most=5) == [task.uid]
    crashed = contract.crashed(task, ["no\n"]).serialize()
    inbox_of(ledger).refuse("a-1", task_uid=task.uid, root_uid="r", reason="no", crashed=crashed)
    record, karton_task = ledger.get("a-1"), ledger.karton_task(task.uid)
    assert record is not None
    assert karton_task is not None
    assert (record.state, record.refusal, record.attempts, record.analysis) == (State.FAILED, "no", 0, None)
    assert karton_task.status is TaskState.CRASHED
    assert inbox_of(ledger).accepted() == []


def test_a_refusal_leaves_others_alone(ledger: Ledger) -> None:
    """Refusing a task because its uid is taken does not touch the analysis that has the uid."""
    opened(ledger)
    take(ledger, "{r}:other")
    inbox_of(ledger).refuse("a-1", task_uid="{r}:other", root_uid="r", reason="taken", crashed="{}")
    record = ledger.get("a-1")
    assert record is not None
    assert record.state is State.QUEUED


def test_hosts_report_and_expire(ledger: Ledger) -> None:
    """A host is listed while it reports, and not forever after."""
    slot = SlotStatus(name="vm-1", profile="win10", state="free", since=0)
    status = HostStatus(host="rack-1", engine="replay", slots=(slot,))
    ledger.fleet.report(status)
    assert ledger.fleet.hosts() == [status]
    assert 0 < ledger._redis.ttl("drak:host:rack-1") <= 15
    ledger.fleet.retire("rack-1")
    assert ledger.fleet.hosts() == []


def test_nothing_is_left_behind(ledger: Ledger) -> None:
    """Once records have expired, reconcile forgets their uids, and no key without TTL remains."""
    task = opened(ledger)
    ledger.fail("a-1", 1, failure(1), task_uid=task.uid, final=True, crashed=None)
    ledger._redis.zadd(DONE, {"a-1": ledger.now() - TTL - 1})
    assert ledger.forget() == 1
    keys = {str(key) for key in ledger._redis.scan_iter(match="drak:*")}
    assert {key for key in keys if ledger._redis.ttl(key) == -1} == set()
    assert not keys & {INBOX, LIVE, DONE, DUE}


def test_what_is_alike_is_of_one_attempt(ledger: Ledger) -> None:
    """The note goes with its attempt; a stale one notes nothing."""
    task = opened(ledger)

    def found() -> Record:
        record = ledger.get("a-1")
        assert record is not None
        return record

    walk(ledger, 1, Stage.PREPARE)
    ledger.note_alike("a-1", 2)
    assert not found().alike
    ledger.note_alike("a-1", 1)
    assert found().alike
    doubted = failure(1).model_copy(update={"fault": Fault.DOUBTED, "lacks": "log,traffic"})
    ledger.fail("a-1", 1, doubted, task_uid=task.uid, final=False, crashed=None)
    assert not found().alike
    assert (found().failures[0].fault, found().failures[0].lacks) == (Fault.DOUBTED, "log,traffic")
