"""A retry is an analysis of its own: real stages and servers, and the inbox in place of an ingress."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from karton.core import RemoteResource, Task
from karton.core.task import TaskPriority, TaskState

from drakcelery.errors import BadTask, StackError, StorageError
from drakcelery.karton import contract, kept
from drakcelery.karton.contract import SampleFacts
from drakcelery.karton.destination import fixed
from drakcelery.karton.kept import Wishes
from drakcelery.karton.policy import policy_of
from drakcelery.ledger.karton_side import MOST_RETRIES
from drakcelery.ledger.keys import BINDS, FLEET, record_key, task_key
from drakcelery.model.analysis import Analysis, Priority, Stage, State
from drakcelery.model.records import Record
from drakcelery.operators import analyses
from drakcelery.operators.retry import obstacle, retry
from drakcelery.operators.steering import cancel_by_uid
from drakcelery.storage.copies import Copies
from tests.bench import Bench, bench
from tests.ledgers import inbox_of
from tests.objects import put_bytes

__all__ = ("bench",)

ME = "alice@console"
SAMPLE = b"rem"
"""What the bench's samples are."""


@pytest.fixture(autouse=True)
def bound(bench: Bench) -> Iterator[None]:
    """An ingress has bound our identity, and the buckets are there."""
    bench.ledger.bind("{}")
    bench.context.storage.ensure_bucket(bench.context.settings.s3.bucket)
    yield
    bench.redis.delete(BINDS)
    for key in bench.redis.scan_iter("karton.queue.*"):
        bench.redis.delete(key)


def begin(bench: Bench, uid: str = "a-1", **changes: object) -> Task:
    """An analysis under way; its task has all that a classifier and a user may say. Returns the task."""
    ours = bench.open(uid, **changes)
    task = bench.ledger.karton_task(ours.task_uid)
    assert task is not None
    task.headers |= {"stage": "recognized", "platform": "win64", "extension": "bat", "receiver": "karton.old"}
    task.orig_uid, task.parent_uid = "{r}:unrouted", "{r}:parent"
    task.priority = TaskPriority.HIGH
    digest = hashlib.sha256(SAMPLE).hexdigest()
    sample = RemoteResource(
        ours.sample.name, bucket=ours.sample.bucket, uid=ours.sample.key, size=len(SAMPLE), sha256=digest
    )
    task.add_payload("sample", sample)
    task.add_payload("override_uid", uid)
    task.add_payload("timeout", 77)
    task.add_payload("owner", "alice", persistent=True)
    task.merge_persistent_headers(Task({}, headers_persistent={"share_3rd_party": False}))
    bench.ledger.declare(contract.started(task))
    return task


def publish(bench: Bench, uid: str = "a-1", **changes: object) -> Record:
    """An analysis that was published."""
    begin(bench, uid, **changes)
    bench.do(*Stage, uid=uid)
    return bench.record(uid)


def collected(bench: Bench, record: Record) -> None:
    """What Karton's collector does: the task goes, and then the sample."""
    assert record.analysis is not None
    bench.redis.delete(task_key(record.task_uid))
    bench.context.storage.remove(record.analysis.sample.bucket, record.analysis.sample.key)


def ask(bench: Bench, uid: str = "a-1", **how: Any) -> str:
    """As the command does it."""
    return retry(bench.context.settings, bench.ledger, bench.context.storage, uid, by=ME, **how)


def taken(bench: Bench) -> tuple[Analysis, Task]:
    """What ingress makes of the task that waits, by Karton's queues."""
    (uid,) = inbox_of(bench.ledger).accept(limit=10, places={}, most=10)
    task = bench.ledger.karton_task(uid)
    assert task is not None
    assert task.status is TaskState.SPAWNED
    settings = bench.context.settings
    read = contract.read_task(task, SampleFacts(size=len(SAMPLE), magic="ASCII text"), policy_of(settings))
    return fixed(settings, read), task


def go_on(bench: Bench) -> Record:
    """Let the retry that waits be published; returns its record."""
    ours, task = taken(bench)
    ours = ours.model_copy(update={"plugins": ("procmon",), "profile": "win10"})
    inbox = inbox_of(bench.ledger)
    text = bench.redis.get(task_key(task.uid))
    assert inbox.open(ours, contract.started(task), limit=10, read=str(text)) is not None
    bench.do(*Stage, uid=ours.uid)
    return bench.record(ours.uid)


def contents(bench: Bench, uid: str) -> dict[str, bytes]:
    """All that is stored of an analysis."""
    found = {}
    for name in bench.objects(uid):
        piece = bench.context.storage.peek(bench.bucket, f"{uid}/{name}", 10**7)
        assert piece is not None
        found[name] = piece[1]
    return found


def test_of_what_karton_has_collected(bench: Bench) -> None:
    """The sample that is kept brings a new analysis under a uid of its own; the old one stays as it is."""
    record = publish(bench)
    collected(bench, record)
    before = contents(bench, "a-1")
    assert before[kept.SAMPLE] == SAMPLE
    uid = ask(bench)
    assert uid != "a-1"
    again = go_on(bench)
    assert (again.uid, again.state) == (uid, State.PUBLISHED)
    assert contents(bench, "a-1") == before
    after = bench.record()
    assert after == record.model_copy(update={"retries": (uid,)})
    assert again.analysis is not None
    assert again.analysis.retry_of == "a-1"
    metadata = json.loads(contents(bench, uid)["metadata.json"])
    assert (metadata["analysis_uid"], metadata["retry_of"]) == (uid, "a-1")
    assert "retry_of" not in json.loads(before["metadata.json"])


def test_the_task_of_a_retry(bench: Bench) -> None:
    """It is as of karton-dashboard's retry: root, parent, priority, persistent headers and payload stay."""
    record = publish(bench)
    collected(bench, record)
    uid = ask(bench)
    ours, task = taken(bench)
    assert (ours.uid, ours.timeout, task.task_uid) == (uid, 77, uid)
    assert (task.root_uid, task.parent_uid, task.orig_uid) == ("r", "{r}:parent", "{r}:unrouted")
    assert task.headers_persistent == {"share_3rd_party": False}
    assert task.payload_persistent["owner"] == "alice"
    assert task.priority is TaskPriority.HIGH
    assert task.headers["receiver"] == bench.ledger.identity
    sample = task.payload["sample"]
    assert sample.bucket == bench.context.settings.s3.bucket
    piece = bench.context.storage.peek(sample.bucket, sample.uid, 100)
    assert piece == (len(SAMPLE), SAMPLE)
    assert (ours.sample.sha256, ours.sample.name) == (hashlib.sha256(SAMPLE).hexdigest(), "x.bat")


def test_wishes(bench: Bench) -> None:
    """What is asked for replaces what the first task asked for; the rest stays."""
    collected(bench, publish(bench))
    wishes = Wishes(
        timeout=5,
        plugins=("procmon",),
        start_command="cmd /c %f",
        start_method="runas",
        working_directory="C:\\Users",
        net_enable=False,
        profile="win7",
        host="rack-9",
        platform="win32",
        priority=Priority.LOW,
        watch="active",
        variants=0,
    )
    ask(bench, wishes=wishes)
    ours, task = taken(bench)
    assert (ours.timeout, ours.plugins, ours.start_command) == (5, ("procmon",), "cmd /c %f")
    assert (ours.start_method, ours.guest_working_directory) == ("runas", "C:\\Users")
    assert (ours.net_enable, ours.profile, ours.target_host) == (False, "win7", "rack-9")
    assert (ours.watch is not None and ours.watch.mode, ours.variants) == ("active", 0)
    assert (task.headers["platform"], ours.priority, ours.extension) == ("win32", Priority.LOW, "bat")


def test_of_a_retry(bench: Bench) -> None:
    """A retry can be asked for again, and says which one it repeats; the record names each."""
    collected(bench, publish(bench))
    first = ask(bench)
    collected(bench, go_on(bench))
    second = ask(bench, first)
    assert go_on(bench).retries == ()
    third = ask(bench)
    assert bench.record().retries == (first, third)
    assert bench.record(first).retries == (second,)


def test_many_retries(bench: Bench) -> None:
    """The record names a bounded number of retries, the newest last."""
    collected(bench, publish(bench))
    bench.redis.hset(
        record_key("a-1"), "retries", " ".join(f"old-{number}" for number in range(MOST_RETRIES))
    )
    uid = ask(bench)
    assert bench.record().retries == (*(f"old-{number}" for number in range(1, MOST_RETRIES)), uid)


@pytest.mark.parametrize(
    ("wishes", "why"),
    [
        (Wishes(profile="win95"), "no host has the VM profile 'win95'"),
        (Wishes(host="attic"), "there is no host 'attic'"),
        (Wishes(timeout=10**6), r"\[drakcelery\] hard_time_limit"),
    ],
)
def test_what_nobody_can_do_is_not_asked_for(bench: Bench, wishes: Wishes, why: str) -> None:
    """It is refused before there is a new analysis, which would only fail."""
    record = publish(bench)
    bench.redis.zadd(FLEET, {"win10@rack-1": bench.ledger.now()})
    with pytest.raises(BadTask, match=why):
        ask(bench, wishes=wishes)
    bench.redis.delete(FLEET)
    assert bench.record() == record


def test_a_retry_that_comes_to_nothing(bench: Bench) -> None:
    """The old result stays if the retry is cancelled, before or after it was taken up (U1)."""
    record = publish(bench)
    collected(bench, record)
    before = contents(bench, "a-1")
    uids = [ask(bench)]
    _, task = taken(bench)
    inbox_of(bench.ledger).withdraw(uids[0], task_uid=task.uid, root_uid="r", reason="cancelled in Karton")
    uids.append(ask(bench))
    ours, task = taken(bench)
    text = bench.redis.get(task_key(task.uid))
    inbox_of(bench.ledger).open(ours, contract.started(task), limit=10, read=str(text))
    cancel_by_uid(bench.ledger, uids[1], by=ME)
    assert [bench.record(uid).state for uid in uids] == [State.CANCELLED, State.CANCELLED]
    assert contents(bench, "a-1") == before
    assert bench.record() == record.model_copy(update={"retries": tuple(uids)})


def test_after_the_record(bench: Bench) -> None:
    """What the ledger has forgotten can be asked for as long as it is in the bucket."""
    record = publish(bench)
    collected(bench, record)
    bench.redis.delete(record_key("a-1"))
    uid = ask(bench)
    assert bench.redis.exists(record_key("a-1")) == 0
    assert go_on(bench).uid == uid


def test_of_what_is_under_way(bench: Bench) -> None:
    """It is refused until the analysis is over; of one that was cancelled, Karton has the sample."""
    task = begin(bench)
    with pytest.raises(StackError, match="a-1 is QUEUED: it can be asked for again when it is over"):
        ask(bench)
    assert sum(inbox_of(bench.ledger).queue_lengths()) == 0
    cancel_by_uid(bench.ledger, "a-1", by=ME)
    assert bench.objects() == {}
    uid = ask(bench)
    ours, again = taken(bench)
    assert ours.uid == uid
    assert again.payload["sample"].uid == task.payload["sample"].uid  # the very object, which is not copied
    cancelled = bench.ledger.karton_task(task.uid)
    assert cancelled is not None
    assert cancelled.status is TaskState.CRASHED  # as it was


def test_of_a_failure(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an analysis that failed on a host the sample is kept beside its log."""
    begin(bench)

    def fails(*_: object) -> None:
        raise BadTask("this engine does not start it")

    with monkeypatch.context() as patched:
        patched.setattr(type(bench.context.engine), "prepare", fails)
        with pytest.raises(BadTask):
            bench.do(Stage.PREPARE)
    assert bench.record().state is State.FAILED
    assert {kept.SAMPLE, kept.TASK} <= bench.objects().keys()
    collected(bench, bench.record())
    uid = ask(bench)
    assert go_on(bench).uid == uid
    assert bench.record().state is State.FAILED


def test_of_a_refusal(bench: Bench) -> None:
    """A task that was refused has its sample with Karton alone, for as long as that has it."""
    task = begin(bench, "other")
    bench.forget("other")
    bench.redis.zadd("drak:inbox", {task.uid: 1})
    bench.redis.delete(record_key("other"))
    inbox_of(bench.ledger).refuse(
        "refused", task_uid=task.uid, root_uid="r", reason="no such extension", crashed=""
    )
    assert obstacle_of(bench, "refused") is None
    ask(bench, "refused", wishes=Wishes(start_command="cmd /c %f"))
    assert taken(bench)[0].retry_of == "refused"
    bench.redis.delete(task_key(task.uid))
    why = "the sample of a task that was refused is kept nowhere else: submit the sample again"
    assert why in str(obstacle_of(bench, "refused"))
    with pytest.raises(StackError, match=why):
        ask(bench, "refused")


def obstacle_of(bench: Bench, uid: str) -> str | None:
    """What the page says."""
    return obstacle(
        bench.context.settings, bench.ledger, bench.context.storage, bench.record(uid), bench.objects(uid)
    )


def unkept(bench: Bench, **changes: object) -> Bench:
    """The same host with ``keep_sample = 0``."""
    ours = bench.context.settings
    section = ours.drakcelery.model_copy(update={"keep_sample": False, **changes})
    settings = ours.model_copy(update={"drakcelery": section})
    return Bench(
        context=type(bench.context)(
            settings=settings,
            ledger=bench.ledger,
            slots=bench.context.slots,
            storage=bench.context.storage,
            engine=bench.context.engine,
        ),
        bucket=bench.bucket,
    )


def test_without_keeping(bench: Bench) -> None:
    """With keep_sample = 0 a retry works while Karton has the sample, and then says why not."""
    bench = unkept(bench)
    record = publish(bench)
    assert not kept.KEPT & bench.objects().keys()
    assert obstacle_of(bench, "a-1") is None
    ask(bench)
    go_on(bench)
    collected(bench, record)
    why = "its sample is not kept .keep_sample was 0"
    with pytest.raises(StackError, match=why):
        ask(bench)
    assert "keep_sample was 0" in str(obstacle_of(bench, "a-1"))


def test_a_sample_that_is_gone(bench: Bench) -> None:
    """Karton has the task and not the sample, and it was not kept: a sentence, and no task is left behind."""
    bench = unkept(bench)
    record = publish(bench)
    assert record.analysis is not None
    bench.context.storage.remove(record.analysis.sample.bucket, record.analysis.sample.key)
    tasks = set(bench.redis.scan_iter("karton.task:*"))
    with pytest.raises(StackError, match="Karton has collected the sample of analysis a-1"):
        ask(bench)
    assert set(bench.redis.scan_iter("karton.task:*")) == tasks


def test_collected_meanwhile(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The collector may come while it is asked: then the new task is taken back."""
    bench = unkept(bench)
    record = publish(bench)
    declare = bench.ledger.declare

    def collects(task: Task) -> None:
        declare(task)
        collected(bench, record)

    monkeypatch.setattr(bench.ledger, "declare", collects)
    tasks = set(bench.redis.scan_iter("karton.task:*")) - {task_key(record.task_uid)}
    with pytest.raises(StackError, match="Karton has just collected the sample"):
        ask(bench)
    assert set(bench.redis.scan_iter("karton.task:*")) == tasks
    assert bench.record().retries == ()


def test_s3_is_away(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the copy fails nothing is sent, and nothing is noted."""
    collected(bench, publish(bench))

    def fails(*_: object) -> None:
        raise StorageError("S3 refused")

    monkeypatch.setattr(Copies, "copy", fails)
    tasks = set(bench.redis.scan_iter("karton.task:*"))
    with pytest.raises(StorageError, match="S3 refused"):
        ask(bench)
    assert set(bench.redis.scan_iter("karton.task:*")) == tasks
    assert bench.record().retries == ()
    assert sum(inbox_of(bench.ledger).queue_lengths()) == 0


def test_a_lost_answer(bench: Bench) -> None:
    """The script that sends the retry may be sent twice: the task goes once."""
    collected(bench, publish(bench))
    uid = ask(bench)
    ours, task = taken(bench)
    assert ours.uid == uid
    task.status = TaskState.DECLARED
    bench.ledger.ask_again(task, uid=uid, of="a-1")
    assert sum(inbox_of(bench.ledger).queue_lengths()) == 0
    assert bench.record().retries == (uid,)


def test_nobody_listens(bench: Bench) -> None:
    """Without an ingress a retry would wait forever: it says so."""
    collected(bench, publish(bench))
    bench.redis.delete(BINDS)
    with pytest.raises(StackError, match="no ingress has ever bound"):
        ask(bench)


@pytest.mark.parametrize(
    ("uid", "said"), [("no-such", "no analysis no-such in the ledger"), ("../x", "can have")]
)
def test_no_such_analysis(bench: Bench, uid: str, said: str) -> None:
    """A uid that nobody knows."""
    with pytest.raises(StackError, match=said):
        ask(bench, uid)


def test_a_stored_task_that_is_none(bench: Bench) -> None:
    """What somebody has put in place of the stored task is not believed."""
    collected(bench, publish(bench))
    put_bytes(bench.context.storage, bench.bucket, f"a-1/{kept.TASK}", b'{"uid": 7}')
    with pytest.raises(StackError, match=r"a-1/sample_task\.json"):
        ask(bench)


def test_hooks_are_kept(bench: Bench) -> None:
    """The hook list of the task is kept as well, and the retry has it."""
    hooks = RemoteResource("hooks.txt", bucket=bench.bucket, uid="hooks-1", size=4)
    put_bytes(bench.context.storage, bench.bucket, "hooks-1", b"hook")
    reference = contract._object(hooks, "custom_hooks", policy_of(bench.context.settings))
    task = begin(bench, custom_hooks=reference)
    task.add_payload("custom_hooks", hooks)
    bench.ledger.declare(task)
    bench.do(*Stage)
    collected(bench, bench.record())
    bench.context.storage.remove(bench.bucket, "hooks-1")
    assert obstacle_of(bench, "a-1") is None
    ask(bench)
    ours, _ = taken(bench)
    assert ours.custom_hooks is not None
    assert bench.context.storage.peek(ours.custom_hooks.bucket, ours.custom_hooks.key, 9) == (4, b"hook")


def test_a_sample_that_vanishes_during_the_run(bench: Bench) -> None:
    """If somebody removes the sample from Karton's bucket, its analysis is published without it."""
    task = begin(bench)
    bench.do(Stage.PREPARE, Stage.RUN, Stage.COLLECT)
    sample = task.payload["sample"]
    bench.context.storage.remove(sample.bucket, sample.uid)
    put_bytes(bench.context.storage, bench.bucket, f"a-1/{kept.SAMPLE}", b"of an earlier life")
    bench.do(Stage.UPLOAD, Stage.PUBLISH)
    assert bench.record().state is State.PUBLISHED
    assert kept.SAMPLE not in bench.objects()


def test_a_test_keeps_nothing(bench: Bench) -> None:
    """Artifacts of a test go with its task, so its sample is not kept beside them."""
    begin(bench, is_test=True, bucket=bench.bucket)
    bench.do(*Stage)
    assert not kept.KEPT & bench.objects().keys()
    bench.redis.delete(task_key(bench.record().task_uid))
    assert "the sample of a test is not kept" in str(obstacle_of(bench, "a-1"))


def test_what_is_kept_is_no_artifact(bench: Bench, tmp_path: Any) -> None:
    """Nobody who downloads an analysis gets malware under a plain name."""
    record = publish(bench)
    files = analyses.fetch(bench.context.settings, bench.context.storage, record, tmp_path / "to")
    assert not kept.KEPT & {path.name for path in files}
    assert "metadata.json" in {path.name for path in files}
