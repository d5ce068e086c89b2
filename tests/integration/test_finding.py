"""What people look for among analyses is found, by the index and the records: on a real Valkey."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
import redis
from karton.core import Task
from karton.core.resource import RemoteResource

from drakcelery.embedded.services import Services
from drakcelery.errors import StackError
from drakcelery.karton import contract
from drakcelery.ledger import Ledger
from drakcelery.ledger import index as ledger_index
from drakcelery.ledger.keys import DONE, INDEX, record_key
from drakcelery.model.analysis import STAGES, Failure, ObjectRef, Stage, State
from drakcelery.model.query import Query
from drakcelery.model.result import Result
from drakcelery.operators import finding
from drakcelery.operators.analyses import find_record
from drakcelery.operators.restoring import Restored, restore
from drakcelery.settings import Settings
from drakcelery.storage import Storage
from tests.builders import analysis
from tests.ledgers import inbox_of, open_analysis, take
from tests.objects import put_bytes

TTL = 600
INDEX_PATTERN = f"{INDEX}*"
Make = Callable[..., str]


@pytest.fixture
def ledger(redis_client: redis.Redis) -> Ledger:
    """A ledger in which nothing was analysed yet."""
    redis_client.delete(*redis_client.scan_iter(match="drak:*"), "nothing")
    return Ledger(redis_client, identity="karton.test-finding", record_ttl=TTL)


def hash_of(uid: str) -> str:
    """Each sample has its own."""
    return hashlib.sha256(uid.encode()).hexdigest()


def begin(ledger: Ledger, uid: str, name: str = "x.exe", profile: str = "win10", root: str = "") -> str:
    """A live analysis."""
    root = root or f"root-{uid}"
    sample = ObjectRef(bucket="karton", key="k", name=name, sha256=hash_of(uid), size=1)
    more = {
        "uid": uid,
        "task_uid": f"{{{root}}}:task-{uid}",
        "root_uid": root,
        "sample": sample,
        "profile": profile,
    }
    wanted = analysis().model_copy(update=more)
    ledger.declare(contract.started(Task({"type": "sample"}, uid=wanted.task_uid, root_uid=root)))
    take(ledger, wanted.task_uid)
    open_analysis(ledger, wanted)
    return uid


def fail(ledger: Ledger, uid: str, error: str = "the VM did not start", **sample: str) -> str:
    """An analysis that failed on rack-1."""
    begin(ledger, uid, **sample)
    record = ledger.get(uid)
    assert record is not None
    ledger.advance(uid, record.attempt, Stage.PREPARE, host="rack-1", slot="vm-1", token="t")
    failed = Failure(attempt=1, stage=Stage.PREPARE, error=error, host="rack-1", slot="vm-1", at=0)
    ledger.fail(uid, record.attempt, failed, task_uid="", final=True, crashed=None)
    return uid


def publish(ledger: Ledger, uid: str, host: str = "rack-2", reason: str | None = None, **sample: str) -> str:
    """An analysis that drakvuf made on rack-2."""
    begin(ledger, uid, **sample)
    for stage in STAGES:
        ledger.advance(uid, 1, stage, host=host, slot="vm-1", token="t")
        if stage is not Stage.PUBLISH:
            ledger.complete(uid, 1, stage, token="t")
    result = Result.model_validate(
        {"engine": "drakvuf 1.1-8107f11", "execution": "executed", "reason": reason}
    )
    task = Task({"type": "analysis"}, uid=f"{{r}}:out-{uid}", root_uid="r")
    ledger.publish(
        uid,
        1,
        task_uid="",
        finished="",
        analysis_task=task.serialize(),
        analysis_task_uid=task.uid,
        result=result,
    )
    return uid


def refuse(ledger: Ledger, uid: str, name: str = "bad.doc") -> str:
    """A task that was refused."""
    take(ledger, f"task-{uid}")
    sample = ObjectRef(bucket="karton", key="k", name=name, sha256=hash_of(uid).upper(), size=1)
    inbox_of(ledger).refuse(
        uid,
        task_uid=f"task-{uid}",
        root_uid="r",
        reason="extension 'doc' is not supported",
        crashed="",
        sample=sample,
    )
    return uid


def found(ledger: Ledger, limit: int = 100, **query: Any) -> list[str]:
    """The uids of what is looked for."""
    return [one.uid for one in finding.find(ledger, Query(**query), limit=limit).records]


@pytest.fixture
def some(ledger: Ledger) -> Ledger:
    """A ledger with an analysis of each kind."""
    publish(ledger, "aaaa-1", name="Invoice March.EXE")
    fail(ledger, "aaaa-2", name="RECHNUNG März.exe", error="DRAKVUF: injection timed out", profile="win7")
    refuse(ledger, "bbbb-1", name="invoice.doc")
    publish(ledger, "cccc-1", name="setup.exe", host="rack-3", reason="The emulation broke off")
    begin(ledger, "aaaa-3", name="invoice running.exe")
    return ledger


@pytest.mark.parametrize(
    ("query", "uids"),
    [
        ({}, ["aaaa-3", "cccc-1", "bbbb-1", "aaaa-2", "aaaa-1"]),
        ({"uid": "aaaa"}, ["aaaa-3", "aaaa-1", "aaaa-2"]),
        ({"uid": "aaaa-1"}, ["aaaa-1"]),
        ({"sha256": hash_of("aaaa-2")}, ["aaaa-2"]),
        ({"sha256": hash_of("bbbb-1")[:5].upper()}, ["bbbb-1"]),
        ({"sha256": hash_of("aaaa-2")[:20] + "0" * 44}, []),
        ({"name": "INVOICE"}, ["aaaa-3", "bbbb-1", "aaaa-1"]),
        ({"name": "MÄRZ"}, ["aaaa-2"]),
        ({"name": "ä"}, ["aaaa-2"]),
        ({"name": "aaaa"}, []),
        ({"name": "%a.-+"}, []),
        ({"reason": "timed OUT"}, ["aaaa-2"]),
        ({"reason": "not supported"}, ["bbbb-1"]),
        ({"reason": "broke off", "name": "SETUP"}, ["cccc-1"]),
        ({"state": "FAILED"}, ["bbbb-1", "aaaa-2"]),
        ({"state": "FAILED", "host": "rack-1"}, ["aaaa-2"]),
        ({"state": "QUEUED"}, ["aaaa-3"]),
        ({"state": "QUEUED", "newest_first": False}, ["aaaa-3"]),
        ({"state": "QUEUED", "engine": "drakvuf"}, []),
        ({"state": "CANCELLED"}, []),
        ({"host": "rack-2"}, ["aaaa-1"]),
        ({"host": "rack-2:x\n"}, []),
        ({"profile": "win7"}, ["aaaa-2"]),
        ({"profile": "win10", "newest_first": False}, ["aaaa-1", "cccc-1", "aaaa-3"]),
        ({"engine": "drakvuf"}, ["cccc-1", "aaaa-1"]),
        ({"name": "exe", "host": "rack-3"}, ["cccc-1"]),
        ({"uid": "aaaa", "state": "PUBLISHED"}, ["aaaa-1"]),
        ({"text": "aaaa-1"}, ["aaaa-1"]),
        ({"text": ""}, ["aaaa-3", "cccc-1", "bbbb-1", "aaaa-2", "aaaa-1"]),
        ({"text": "invoice"}, ["aaaa-3", "bbbb-1", "aaaa-1"]),
        ({"text": hash_of("cccc-1")[:12]}, ["cccc-1"]),
        ({"since": 2e9}, []),
        ({"until": 1e9, "name": "exe"}, []),
    ],
)
def test_what_is_looked_for_is_found(some: Ledger, query: dict[str, Any], uids: list[str]) -> None:
    """By each thing, alone and together; what is not over comes first, then the newest."""
    assert found(some, **query) == uids


@pytest.mark.parametrize(
    "query",
    [{}, {"newest_first": False}, {"profile": "win10"}, {"uid": "many"}, {"name": "part"}, {"text": "many"}],
)
@pytest.mark.parametrize("limit", [1, 3, 50])
def test_pages_have_everything_once(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, query: dict[str, Any], limit: int
) -> None:
    """However long they are, and however little one script looks at; also across windows, and of one time."""
    for name in ("AT_ONCE", "FOUND_AT_ONCE", "BYTES_AT_ONCE"):
        monkeypatch.setattr(ledger_index, name, 2)
    uids = {fail(ledger, f"many-{number}", name=f"part {number}") for number in range(7)}
    for number, uid in enumerate(sorted(uids)):
        move(ledger, uid, ledger.now() - 30_000 * (number // 2))
    uids.add(begin(ledger, "many-live", name="a part"))
    seen: list[str] = []
    after = None
    while True:
        page = finding.find(ledger, Query(**query), limit=limit, after=after)
        seen += [one.uid for one in page.records]
        after = page.following
        if after is None:
            break
        assert len(page.records) == limit
    assert sorted(seen) == sorted(uids)


def move(ledger: Ledger, uid: str, at: float) -> None:
    """Let an analysis have ended at another time, whole seconds."""
    ledger._redis.hset(record_key(uid), "finished", str(int(at)))
    ledger._redis.zadd(DONE, {uid: int(at)})
    ledger._redis.delete(*ledger._redis.scan_iter(match=INDEX_PATTERN), "nothing")
    ledger.index.keep()


def test_a_search_may_take_its_time(some: Ledger) -> None:
    """A page that would take too long ends early, and says where to go on."""
    page = finding.find(some, Query(name="invoice"), limit=10, seconds=-1)
    assert page.following is not None
    uids = [one.uid for one in page.records]
    while page.following is not None:
        assert len(uids) <= 3
        page = finding.find(some, Query(name="invoice"), limit=10, after=page.following, seconds=-1)
        uids += [one.uid for one in page.records]
    assert uids == ["aaaa-3", "bbbb-1", "aaaa-1"]


@pytest.mark.parametrize(
    ("query", "after"),
    [
        ({"uid": "a b"}, None),
        ({"uid": "\x1b[0m"}, None),
        ({"sha256": "xyz"}, None),
        ({"sha256": "a" * 65}, None),
        ({"name": "x", "newest_first": False}, None),
        ({}, "nonsense"),
        ({}, "\udc80"),
        ({}, finding._written("values", ("x", "y"))),
        ({"name": "x"}, finding._written("name", ("1", "y"))),
        ({"name": "x"}, finding._written("values", ("1", "2"))),
    ],
)
def test_what_cannot_be_looked_for(ledger: Ledger, query: dict[str, Any], after: str | None) -> None:
    """Is a sentence, whatever was given."""
    with pytest.raises(StackError, match=r"begins|oldest"):
        finding.find(ledger, Query(**query), limit=1, after=after)


# The beginning of a uid


@pytest.mark.parametrize(
    ("begun", "uid"),
    [
        ("aaaa-1", "aaaa-1"),
        ("bbbb", "bbbb-1"),
        ("aaaa-3", "aaaa-3"),
        ("task-cc", "cccc-1"),
        ("root-aaaa-2", "aaaa-2"),
        ("{root-aaaa-2}:task-aaaa-2", "aaaa-2"),
        ("task-bbbb-1", "bbbb-1"),
        ("ccc", None),
        ("", None),
        ("dddd", None),
        ("*", None),
        ("bbbb\n", None),
        ("[a\xff", None),
        ("\udc80aaaa", None),
    ],
)
def test_a_uid_by_its_beginning(some: Ledger, begun: str, uid: str | None) -> None:
    """Of an analysis, or of its Karton task or root; four characters at least, and never a pattern."""
    record = finding.record_of(some, begun)
    assert (record.uid if record else None) == uid


def test_a_beginning_of_several(some: Ledger) -> None:
    """Is an error that names them; a whole uid is itself, though others begin so."""
    begin(some, "bbbb-10")
    with pytest.raises(
        StackError, match=r"^3 analyses begin with aaaa: aaaa-3 \(QUEUED, invoice running.exe\), aaaa-"
    ):
        finding.record_of(some, "aaaa")
    record = finding.record_of(some, "bbbb-1")
    assert record is not None
    assert record.uid == "bbbb-1"


@pytest.mark.parametrize(
    ("uid", "why"),
    [
        ("", "an empty word is no uid"),
        ("aaa", "no analysis has the uid aaa; of a longer one give 4 characters at least"),
        ("dddd", r"it still waits in Karton, was never pushed, or is older than \[drakcelery\] record_ttl"),
    ],
)
def test_a_uid_that_nobody_has(some: Ledger, uid: str, why: str) -> None:
    """The error says what may be wrong with it."""
    with pytest.raises(StackError, match=why):
        find_record(some, uid)


def test_the_beginning_of_an_analysis_that_has_retries(some: Ledger) -> None:
    """It means that one, though the retries have its uid as their root, live or over."""
    publish(some, "eeee-1", root="eeee-1")
    fail(some, "ffff-1", root="eeee-1")
    begin(some, "ffff-2", root="eeee-1")
    record = finding.record_of(some, "eeee")
    assert record is not None
    assert record.uid == "eeee-1"


# What the index costs, and how it goes


def test_an_end_costs_the_same_however_many_there_were(ledger: Ledger) -> None:
    """The number of commands of an end does not grow with the index, and has a bound."""

    def commands(uid: str) -> int:
        begin(ledger, uid)
        record = ledger.get(uid)
        assert record is not None
        before = ledger._redis.info("commandstats")
        ledger.cancel(record, reason="no", crashed=None)
        after = ledger._redis.info("commandstats")
        asked = ("cmdstat_info", "cmdstat_evalsha")
        calls = {name: one["calls"] - before.get(name, {"calls": 0})["calls"] for name, one in after.items()}
        return sum(calls[name] for name in calls if name not in asked)

    commands("warm")
    first = commands("first")
    for number in range(200):
        fail(ledger, f"more-{number}")
    assert commands("last") == first <= 35


def test_the_index_goes_with_its_records(some: Ledger) -> None:
    """Each of its keys expires when the last of its records does, and a window of nothing is forgotten."""
    keys = [*some._redis.scan_iter(match=INDEX_PATTERN)]
    assert len(keys) > 5
    assert all(TTL - 60 < some._redis.ttl(key) <= TTL for key in keys)
    windows = some._redis.zcard(INDEX)
    some._redis.zadd(INDEX, {"12345": 12345})
    assert some.index.forget() == 1
    assert some._redis.zcard(INDEX) == windows


def test_records_of_before_there_was_an_index(some: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Are entered by reconcile, some at a time; until then they are found by whole uids, Karton's too."""
    some._redis.delete(*some._redis.scan_iter(match=INDEX_PATTERN))
    monkeypatch.setattr(ledger_index, "ENTERED_AT_ONCE", 3)
    for whole in ("aaaa-1", "task-aaaa-1", "root-aaaa-1"):
        record = finding.record_of(some, whole)
        assert record is not None
        assert record.uid == "aaaa-1"
    assert found(some, name="invoice") == ["aaaa-3"]
    assert [some.index.keep() for _ in range(3)] == [3, 1, 0]
    assert some.index.is_complete
    assert sorted(found(some, name="invoice")) == ["aaaa-1", "aaaa-3", "bbbb-1"]
    assert found(some, state="FAILED") == ["bbbb-1", "aaaa-2"]
    assert some.index.enter(["aaaa-1", "aaaa-3", "gone"]) == 0


def test_a_later_life_of_a_uid(some: Ledger) -> None:
    """What the index still has of the earlier one does not lead to the later one."""
    fail(some, "aaaa-1", name="other.exe", root="again")
    assert found(some, name="invoice march") == []
    assert found(some, uid="aaaa-1") == ["aaaa-1"]
    assert found(some, state="PUBLISHED") == ["cccc-1"]


def test_an_odd_index_stops_nothing(some: Ledger) -> None:
    """A key of another type in its place: analyses end all the same, and reconcile goes on."""
    some._redis.delete(INDEX)
    some._redis.set(INDEX, "odd", ex=60)
    fail(some, "dddd-1")
    record = some.get("dddd-1")
    assert record is not None
    assert record.state is State.FAILED
    assert some.index.keep() == 0


# From the bucket, after Redis has lost everything


def stored(storage: Storage, bucket: str, uid: str, ended: float, **metadata: Any) -> None:
    """What the bucket has of a published analysis."""
    told = {
        "sample_sha256": hash_of(uid),
        "magic_output": "PE32",
        "time_started": int(ended) - 60,
        "time_finished": int(ended),
        "snapshot_version": 1,
        "analysis_uid": uid,
        "snapshot_sha256": "a" * 64,
        "start_command": "x",
        "plugins": ["procmon"],
        "engine": "drakvuf 1.1",
        "host": "rack-7",
        "slot": "vm-1",
        "attempts": 2,
        "execution": "executed",
        **metadata,
    }
    sample = RemoteResource("Lost Invoice.exe", bucket="karton", uid="k", sha256=hash_of(uid), size=3)
    task = Task(
        {"type": "analysis", "quality": "low"}, payload={"sample": sample}, root_uid="r", parent_uid="{r}:t"
    )
    put_bytes(storage, bucket, f"{uid}/metadata.json", json.dumps(told).encode())
    put_bytes(storage, bucket, f"{uid}/analysis_task.json", task.serialize().encode())


def test_records_from_the_bucket(services: Services, ledger: Ledger) -> None:
    """What was published is found again, as far as the bucket tells it; what is odd there stops nothing."""
    storage = Storage.connect(services.s3, threads=1)
    bucket = f"restored-{uuid.uuid4().hex[:8]}"
    storage.ensure_bucket(bucket)
    ours = Settings().drakcelery.model_copy(update={"bucket": bucket, "record_ttl": TTL})
    settings = Settings(drakcelery=ours, s3=services.s3)
    now = ledger.now()
    stored(storage, bucket, "lost-1", now - 100)
    stored(storage, bucket, "lost-2", now - 50, reason="it broke off")
    stored(storage, bucket, "old-1", now - TTL - 50)
    stored(storage, bucket, "wrong-1", now, analysis_uid="other")
    stored(storage, bucket, publish(ledger, "there-1"), now)
    put_bytes(storage, bucket, "failed-1/drakrun.log", b"x")
    put_bytes(storage, bucket, "broken-1/metadata.json", b"{")
    put_bytes(storage, bucket, "not a uid/metadata.json", b"{}")
    assert restore(settings, ledger, storage) == Restored(made=2, known=1, expired=1, unreadable=3)
    assert found(ledger) == ["there-1", "lost-2", "lost-1"]
    assert found(ledger, name="lost invoice", host="rack-7") == ["lost-2", "lost-1"]
    assert found(ledger, engine="drakvuf", reason="BROKE") == ["lost-2"]
    record = ledger.get("lost-1")
    assert record is not None
    assert (record.state, record.attempt, record.task_uid, record.finished) == (
        State.PUBLISHED,
        2,
        "{r}:t",
        int(now - 100),
    )
    assert TTL - 110 < ledger._redis.ttl(record_key("lost-1")) <= TTL - 100
    assert restore(settings, ledger, storage) == Restored(known=3, expired=1, unreadable=3)
