"""Any content in any field of a Karton task: that task ends, and those before and after it start.

What becomes of each goes to ``build/contents.json``; ``python -m tests.faults.report`` makes a table of it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from karton.core import Task
from karton.core.backend import KartonBackendBase
from karton.core.resource import RemoteResource
from karton.core.task import TaskPriority, TaskState

from drakcelery.embedded.services import BUCKET, Services
from drakcelery.forecast import simulation
from drakcelery.forecast.forecast import make_forecast
from drakcelery.ingress import Ingress, orphans
from drakcelery.karton import analysis_task
from drakcelery.ledger import Ledger, connect
from drakcelery.ledger.keys import ASIDE, task_key
from drakcelery.model.analysis import State
from drakcelery.model.manifest import Manifest
from drakcelery.model.records import HostStatus, Record, SlotStatus
from drakcelery.operators.top import Watch
from drakcelery.recovery.isolation import MOST_TRIES
from drakcelery.settings import DrakrunSection, Settings
from drakcelery.storage import Storage
from tests.faults.report import CONTENTS, Content
from tests.ledgers import inbox_of
from tests.objects import put_bytes

IDENTITY = "karton.test-contents"
SAMPLE = "test-contents-sample"
MISSING = object()

ODD: dict[str, Any] = {
    "lone surrogate": "\udc83",
    "NaN": float("nan"),
    "Infinity": float("inf"),
    "huge number": 10**4000,
    "deeply nested": json.loads("[" * 300 + "]" * 300),
    "empty text": "",
    "markup and escapes": "[/bold]\x1b[31m\r\n",
    "number": 5,
    "true": True,
    "null": None,
    "list": ["x"],
    "object": {"x": "y"},
    "broken resource": {"__karton_resource__": {"name": "a"}},
    "missing": MISSING,
}
"""Contents, and what people call them."""

Place = Callable[[dict[str, Any], Any], None]
"""Puts a content somewhere into a task's fields."""


def member(*path: str) -> Place:
    """A place within objects that are there."""

    def put(fields: dict[str, Any], content: Any) -> None:
        *outer, last = path
        for name in outer:
            fields = fields[name]
        if content is MISSING:
            fields.pop(last, None)
        else:
            fields[last] = content

    return put


_RESOURCE = ("payload", "sample", "__karton_resource__")
PLACES: dict[str, Place] = {
    **{
        f"{name}, in it": member(name, "x")
        for name in ("payload", "payload_persistent", "headers", "headers_persistent")
    },
    **{
        name: member(name)
        for name in (
            *("payload", "payload_persistent", "headers", "headers_persistent", "uid", "root_uid"),
            *("parent_uid", "orig_uid", "priority", "status", "error", "last_update"),
        )
    },
    **{f"the sample's {name}": member(*_RESOURCE, name) for name in ("name", "sha256", "size", "metadata")},
    **{f"the sample's {name}": member(*_RESOURCE, name) for name in ("bucket", "uid")},
    "header quality": member("headers", "quality"),
    "payload timeout": member("payload", "timeout"),
    "payload override_uid": member("payload", "override_uid"),
}
RAW = {
    "no JSON": "\x00not json",
    "cut JSON": '{"uid": "',
    "empty record": "",
    "JSON, but no object": "[1, 2]",
    "a number of 5000 digits": '{"x": 1' + "0" * 5000 + "}",
    "nested 100,000 deep": "[" * 100_000,
}
"""Whole records that are no JSON object."""


def report(ledger: Ledger, *, slots: int) -> None:
    """A host says that so many slots are free; for some seconds that is believed."""
    free = [SlotStatus(name=f"vm-{n}", profile="win10", state="free", since=0) for n in range(slots)]
    ledger.fleet.report(HostStatus(host="rack-1", engine="replay", slots=tuple(free)), lasts=600)


@pytest.fixture
def ingress(services: Services, redis_client: object, sent: list[Record]) -> Iterator[Ingress]:  # noqa: ARG001 - cleans up
    """An ingress of its own identity on a client as ours are, whose messages are noted; a host is there."""
    with connect(services.redis) as client:
        ledger = Ledger(client, identity=IDENTITY, record_ttl=600)

        def send(record: Record) -> None:
            ledger.sent(record.uid, record.attempt)
            sent.append(record)

        storage = Storage.connect(services.s3, threads=1)
        put_bytes(storage, BUCKET, SAMPLE, b"MZ")
        default = Settings().drakcelery.model_copy(update={"default_profile": "win10"})
        report(ledger, slots=40)
        yield Ingress(
            settings=Settings(
                drakrun=DrakrunSection(identity=IDENTITY),
                drakcelery=default,
                s3=services.s3,
                redis=services.redis,
            ),
            ledger=ledger,
            inbox=inbox_of(ledger),
            storage=storage,
            send=send,
        )


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """How exact a forecast is does not matter here, and a thousand of them are made."""
    monkeypatch.setattr(simulation, "ROUNDS", simulation.FEWEST_ROUNDS)


@pytest.fixture
def sent() -> list[Record]:
    """What was given to the broker."""
    return []


def fields_of(uid: str) -> dict[str, Any]:
    """What Karton has in Redis of a routed sample task."""
    task = Task({"type": "sample", "receiver": IDENTITY}, uid=f"{{r-{uid}}}:{uid}", root_uid=f"r-{uid}")
    task.status = TaskState.SPAWNED
    task.add_payload("sample", RemoteResource("x.exe", bucket=BUCKET, uid=SAMPLE, size=2))
    task.add_payload("override_uid", uid)
    fields: dict[str, Any] = json.loads(task.serialize())
    return fields


def route(ingress: Ingress, uid: str, text: str) -> str:
    """karton-system has routed a task to us, whose record is *text*; its Karton uid."""
    task_uid = f"{{r-{uid}}}:{uid}"
    ingress.ledger._redis.set(task_key(task_uid), text)
    queue = KartonBackendBase.get_queue_name(IDENTITY, TaskPriority.NORMAL)
    ingress.ledger._redis.rpush(queue, task_uid)
    return task_uid


def look_around(ingress: Ingress) -> None:
    """Whatever else reads Karton's tasks is not disturbed."""
    ledger = ingress.ledger
    list(orphans.find(ledger, ingress.inbox, hard_time_limit=1))
    make_forecast(ingress.settings, ledger, ingress.inbox)
    Watch(ledger, ingress.inbox).read()
    ingress._withdraw()


def outcome(ingress: Ingress, task_uid: str, uids: tuple[str, ...], sent: list[Record]) -> str:
    """How the task ended, in a few words. Fails where it did not end, or nobody could see that it did."""
    client = ingress.ledger._redis
    tries = 0
    while client.zscore(ASIDE, task_uid) is not None:
        [entry] = [one for one in ingress.ledger.quarantine.all() if one.uid == task_uid]
        assert entry.error, "people see why"
        tries += 1
        assert tries <= MOST_TRIES
        ingress.ledger.quarantine.release(task_uid)
        ingress._try_again()
    assert ingress.inbox.accepted() == []
    mine = [record for record in sent if record.task_uid == task_uid]
    if mine:
        [record] = mine
        publish(ingress, record)
        return "analysed"
    task = Task.unserialize(str(client.get(task_key(task_uid))))
    records = [one for uid in uids if (one := ingress.ledger.get(uid)) is not None]
    [record] = [one for one in records if one.task_uid == task_uid]
    if record.state is State.CANCELLED:
        return "cancelled"
    assert (task.status, record.state) == (TaskState.CRASHED, State.FAILED)
    assert task.error is not None
    assert task.error[0].strip() == record.error
    return "set aside, then CRASHED" if tries else "CRASHED"


def publish(ingress: Ingress, record: Record) -> None:
    """What Karton's consumers get is a task that Karton reads, with the sample as it came."""
    assert record.analysis is not None
    sample_task = ingress.ledger.karton_task(record.task_uid)
    assert sample_task is not None
    assert sample_task.status is TaskState.STARTED
    manifest = Manifest(artifacts=(), dumps_metadata=(), metadata={})
    made = analysis_task.build_analysis_task(
        sample_task, record.analysis, manifest, attempt=1, headers={}, bucket="b", identity=IDENTITY
    )
    read = Task.unserialize(made.serialize())
    before, after = sample_task.payload["sample"].to_dict(), read.payload["sample"].to_dict()
    assert json.dumps(before, sort_keys=True) == json.dumps(after, sort_keys=True)
    assert record.analysis.model_dump_json().encode()


def settle(ingress: Ingress, text: str, sent: list[Record]) -> str:
    """A task between two innocent ones; what became of it."""
    uid = f"odd-{uuid.uuid4().hex[:12]}"
    before, after = f"before-{uid}", f"after-{uid}"
    route(ingress, before, json.dumps(fields_of(before)))
    task_uid = route(ingress, uid, text.replace("UID", uid))
    route(ingress, after, json.dumps(fields_of(after)))
    look_around(ingress)
    while ingress.work().name == "WORKED":
        pass
    assert {before, after} <= {record.uid for record in sent}, "the innocent start"
    found = outcome(ingress, task_uid, (uid, task_uid), sent)
    look_around(ingress)
    for record in ingress.ledger.live():
        ingress.ledger.cancel(record, reason="the test is over", crashed=None)
    return found


OUTCOMES: list[Content] = []


@pytest.fixture(scope="module", autouse=True)
def table() -> Iterator[None]:
    """The outcomes, for the page, where all of them are known."""
    yield
    if len({one.place for one in OUTCOMES}) == len(PLACES) + 1:
        CONTENTS.parent.mkdir(exist_ok=True)
        CONTENTS.write_text(json.dumps([one.__dict__ for one in OUTCOMES], indent=1))


@pytest.mark.parametrize("place", PLACES)
def test_any_content_anywhere(ingress: Ingress, sent: list[Record], place: str) -> None:
    """Odd text, numbers, nesting and types stop nobody, wherever they are (R1, R2, R3, S2, S3, S5)."""
    for name, content in ODD.items():
        fields = fields_of("UID")
        PLACES[place](fields, content)
        found = settle(ingress, json.dumps(fields), sent)
        OUTCOMES.append(Content(place=place, content=name, outcome=found))


def test_a_name_is_for_show() -> None:
    """Whatever a sample is called, it is analysed."""
    names = {one.content: one.outcome for one in OUTCOMES if one.place == "the sample's name"}
    odd = {name for name, found in names.items() if found != "analysed"}
    assert odd <= {"missing", "deeply nested", "broken resource"}, "Karton itself reads none of these"


def test_records_that_are_no_task(ingress: Ingress, sent: list[Record]) -> None:
    """What is no JSON object is set aside, where people see it, and ends after its last try."""
    for name, text in RAW.items():
        found = settle(ingress, text, sent)
        assert found == "set aside, then CRASHED"
        OUTCOMES.append(Content(place="the whole record", content=name, outcome=found))


def test_bytes_that_are_no_text(ingress: Ingress, sent: list[Record]) -> None:
    """A record, and a uid on the queue, that are not UTF-8 stop nobody."""
    task_uid = route(ingress, "bytes", "{}")
    ingress.ledger._redis.set(task_key(task_uid), b"\xff\xfe")
    queue = KartonBackendBase.get_queue_name(IDENTITY, TaskPriority.NORMAL)
    ingress.ledger._redis.rpush(queue, b"\xffuid")
    assert settle(ingress, json.dumps(fields_of("UID")), sent) == "analysed"
    assert outcome(ingress, task_uid, ("bytes",), sent) == "set aside, then CRASHED"
    assert ingress.inbox.accepted() == []


def test_what_s3_refuses_is_that_tasks_fault(ingress: Ingress, sent: list[Record]) -> None:
    """As many samples of a bucket that is not there as the fleet takes: all others start, these end (S1)."""
    odd = []
    report(ingress.ledger, slots=4)
    for number in range(2 * (4 + ingress.settings.drakcelery.look_ahead)):
        fields = fields_of(f"lost-{number}")
        member(*_RESOURCE, "bucket")(fields, "no-such-bucket")
        odd.append(route(ingress, f"lost-{number}", json.dumps(fields)))
    route(ingress, "innocent", json.dumps(fields_of("innocent")))
    while ingress.work().name == "WORKED":
        report(ingress.ledger, slots=4)
    assert [record.uid for record in sent] == ["innocent"]
    assert ingress.inbox.accepted() == []
    assert sorted(ingress.inbox.aside()) == sorted(odd)
    assert outcome(ingress, odd[0], ("lost-0",), sent) == "set aside, then CRASHED"
    record = ingress.ledger.get("lost-0")
    assert record is not None
    assert "there is no bucket 'no-such-bucket'" in str(record.error)
    for task_uid in odd:
        ingress.inbox.put_back(task_uid)
        ingress.inbox.drop(task_uid)
        ingress.ledger.quarantine.remove(task_uid)


def test_a_task_that_is_over_gets_no_second_life(ingress: Ingress, sent: list[Record]) -> None:
    """A CRASHED task whose uid is in the queue twice, or is adopted once more, stays CRASHED (R16)."""
    fields = fields_of("twice")
    fields["payload"]["timeout"] = "soon"
    task_uid = route(ingress, "twice", json.dumps(fields))
    ingress.ledger._redis.rpush(KartonBackendBase.get_queue_name(IDENTITY, TaskPriority.NORMAL), task_uid)
    ingress.inbox.adopt(task_uid)
    while ingress.work().name == "WORKED":
        pass
    ingress._adopt(ingress.ledger.watch())
    assert (sent, ingress.inbox.accepted()) == ([], [])
    record = ingress.ledger.get("twice")
    assert record is not None
    assert record.state is State.FAILED


@pytest.mark.parametrize("how", ["finished", "gone"])
def test_a_waiting_sample_that_was_cancelled(ingress: Ingress, sent: list[Record], how: str) -> None:
    """It leaves the queue and the estimates, and the ledger says what became of it (R18)."""
    task_uid = route(ingress, "cancelled", json.dumps(fields_of("cancelled")))
    route(ingress, "waits", json.dumps(fields_of("waits")))
    if how == "gone":
        ingress.ledger._redis.delete(task_key(task_uid))
    else:
        fields = {**fields_of("cancelled"), "status": TaskState.FINISHED.value}
        ingress.ledger._redis.set(task_key(task_uid), json.dumps(fields))
    forecast = make_forecast(ingress.settings, ingress.ledger, ingress.inbox)
    assert [(one.uid, one.position) for one in forecast.queued] == [("waits", 1)]
    ingress._withdraw()
    record = ingress.ledger.get("cancelled")
    assert record is not None
    assert (record.state, record.task_uid) == (State.CANCELLED, task_uid)
    assert sum(one.length for one in ingress.inbox.backlog(most=1)) == 1
    assert (sent, ingress.inbox.accepted()) == ([], [])
    ingress.work()
