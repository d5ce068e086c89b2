"""Reuse of earlier analyses: real stages, S3 and Valkey, and an ingress; each reason why there is none."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from karton.core import Task
from karton.core.backend import KartonBackendBase
from karton.core.resource import RemoteResource
from karton.core.task import TaskPriority, TaskState
from redis.exceptions import ConnectionError as RedisConnectionError

from drakcelery.forecast.forecast import Forecast, make_forecast
from drakcelery.ingress import Ingress, Round
from drakcelery.ingress.stored import MOST_BYTES
from drakcelery.ingress.waiting import Lane
from drakcelery.karton import contract
from drakcelery.ledger.keys import (
    DUE,
    FLEET,
    INBOX,
    TWINS,
    TWINS_WAITING,
    UNROUTED,
    host_key,
    making_key,
    record_key,
    reusable_key,
    task_key,
)
from drakcelery.model.analysis import Stage, State
from drakcelery.model.records import HostStatus, Record, SlotStatus
from drakcelery.model.reuse import Miss
from drakcelery.settings import DrakrunSection, ReuseSection
from tests.bench import HOST, SLOT, Bench, bench
from tests.ledgers import inbox_of
from tests.objects import put_bytes
from tests.waiting import wait_until

__all__ = ("bench",)

CONTENT = b"rem a sample"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
ALL = tuple(Stage)


@dataclass(kw_only=True)
class World:
    """A bench, and an ingress before it."""

    bench: Bench
    ingress: Ingress
    sent: list[Record] = field(default_factory=list)

    def another(self) -> Ingress:
        """Another ingress on the same ledger."""
        return Ingress(
            settings=self.ingress.settings,
            ledger=self.ingress.ledger,
            inbox=inbox_of(self.ingress.ledger),
            storage=self.ingress.storage,
            send=self.ingress.send,
        )

    def push(self, uid: str, *, content: bytes = CONTENT, sha256: str | None = SHA256, **more: Any) -> Task:
        """A sample that karton-system has routed to us; *more*: headers, persistent things, payload."""
        put_bytes(self.ingress.storage, self.bench.bucket, f"sample-{uid}", content)
        task = Task(
            {"type": "sample", "extension": "bat", **more.pop("headers", {})},
            headers_persistent=more.pop("headers_persistent", {}),
            payload_persistent=more.pop("payload_persistent", {}),
            uid=f"{{root-{uid}}}:{uid}",
            root_uid=f"root-{uid}",
            parent_uid=f"{{root-{uid}}}:parent",
            priority=TaskPriority.NORMAL,
        )
        task.status = TaskState.SPAWNED
        sample = RemoteResource(
            "x.bat", bucket=self.bench.bucket, uid=f"sample-{uid}", size=len(content), sha256=sha256
        )
        for name, value in {"sample": sample, "plugins": ["procmon"], **more}.items():
            task.add_payload(name, value)
        self.ingress.ledger.declare(task)
        queue = KartonBackendBase.get_queue_name(self.ingress.ledger.identity, TaskPriority.NORMAL)
        self.bench.redis.rpush(queue, task.uid)
        return task

    def work(self, ingress: Ingress | None = None) -> None:
        """Let an ingress do all that there is to do."""
        ours = ingress or self.ingress
        while ours.work() is Round.WORKED:
            pass

    def run(self, uid: str) -> Record:
        """Run an analysis to its end."""
        self.bench.do(*ALL, uid=uid)
        return self.bench.record(uid)

    def first(self, uid: str = "first", **more: Any) -> Record:
        """An analysis that is published, after a run."""
        self.push(uid, **more)
        self.work()
        record = self.run(uid)
        assert record.state is State.PUBLISHED
        return record

    def miss(self, uid: str) -> str | None:
        """Why the analysis *uid*, which is to be run, is none of the reused."""
        record = self.bench.record(uid)
        assert record.state is State.QUEUED
        assert record.analysis is not None
        return record.analysis.reuse.miss

    def unrouted(self) -> list[Task]:
        """The analysis tasks, in their order."""
        uids = self.bench.redis.lrange(UNROUTED, 0, -1)
        return [Task.unserialize(str(self.bench.redis.get(task_key(str(uid))))) for uid in uids]


@pytest.fixture
def world(bench: Bench) -> Iterator[World]:
    """Reuse is on; the one host has room for many."""
    before = set(bench.redis.scan_iter(count=1000))
    settings = bench.context.settings.model_copy(
        update={
            "drakrun": DrakrunSection(identity=bench.ledger.identity),
            "drakcelery": bench.context.settings.drakcelery.model_copy(
                update={"default_profile": "win10", "look_ahead": 8}
            ),
            "reuse": ReuseSection(enabled=True),
        }
    )
    ours: World

    def send(record: Record) -> None:
        bench.ledger.sent(record.uid, record.attempt)
        ours.sent.append(record)

    ingress = Ingress(
        settings=settings,
        ledger=bench.ledger,
        inbox=inbox_of(bench.ledger),
        storage=bench.context.storage,
        send=send,
    )
    ours = World(bench=bench, ingress=ingress)
    report(ours)
    yield ours
    bench.forget(*(record.uid for record in bench.ledger.live()))
    for key in set(bench.redis.scan_iter(count=1000)) - before:
        bench.redis.delete(key)


def report(world: World, **changes: Any) -> None:
    """The host says what it has."""
    slot = SlotStatus(name=SLOT, profile="win10", state="free", since=0)
    status = HostStatus(host=HOST, engine=world.bench.context.engine.version(), slots=(slot,))
    world.ingress.ledger.fleet.report(status.model_copy(update=changes), lasts=600)


def test_a_task_that_agrees_gets_the_earlier_analysis(world: World) -> None:
    """At once, without a slot, as an analysis of its own: its uid, root, parent, headers, objects, report."""
    first = world.first()
    own = {"mail": "a@b"}
    world.push("second", reuse=3600, quality="high", other=own)
    world.work()
    record = world.bench.record("second")
    assert record.state is State.PUBLISHED
    assert (record.reused_from, record.attempts, world.bench.ledger.live_uids()) == ("first", 0, [])
    assert len(world.sent) == 1
    one, two = world.unrouted()
    assert (two.root_uid, two.parent_uid) == ("root-second", "{root-second}:second")
    assert two.headers == one.headers
    assert two.payload["analysis_uid"] == "second"
    assert two.payload["sample"].uid == "sample-second"
    assert record.analysis_task_uid == two.uid != first.analysis_task_uid
    metadata = two.payload["metadata"]
    assert (metadata["analysis_uid"], metadata["id"], metadata["reused_from"]) == (
        "second",
        "second",
        "first",
    )
    assert {**metadata, "analysis_uid": "", "id": "", "reused_from": ""} == {
        **one.payload["metadata"],
        "analysis_uid": "",
        "id": "",
        "reused_from": "",
    }
    assert world.bench.objects("second").keys() == world.bench.objects("first").keys()
    for name in ("procmon.log", "dumps.zip"):
        assert two.payload[name].uid == f"second/{name}"
        assert world.bench.objects("second")[name] == two.payload[name].size
    copies = world.ingress.storage.copies
    made = copies.read("bench", "second/report.json", size=two.payload["report.json"].size)
    assert hashlib.sha256(made).hexdigest() == two.payload["report.json"].sha256
    told = json.loads(made)
    assert (told["analysis_uid"], told["reused_from"]) == ("second", "first")
    task = world.bench.ledger.karton_task("{root-second}:second")
    assert task is not None
    assert task.status is TaskState.FINISHED


def test_who_agrees_to_nothing_is_run(world: World) -> None:
    """A task that says nothing, or 0, has a run of its own, and is no miss."""
    world.first()
    world.push("silent")
    world.push("never", reuse=0)
    world.work()
    assert [world.miss(uid) for uid in ("silent", "never")] == [None, None]


def test_a_header_says_it_too(world: World) -> None:
    """As text, as headers are; the analysis that it asks for says nothing of it to consumers."""
    world.first()
    world.push("second", headers={"reuse": "3600"})
    world.work()
    assert world.bench.record("second").reused_from == "first"
    assert "reuse" not in world.unrouted()[1].headers


def test_reuse_of_a_reused_analysis(world: World) -> None:
    """Each names the analysis that was run; also after that one's record has another life."""
    world.first()
    for uid in ("second", "third"):
        world.push(uid, reuse=3600)
        world.work()
        assert world.bench.record(uid).reused_from == "first"


OTHERS: dict[str, dict[str, Any]] = {
    "timeout": {"timeout": 61},
    "file name": {"file_name": "other"},
    "start command": {"start_command": "cmd /c %f"},
    "start method": {"start_method": "runas"},
    "working directory": {"guest_working_directory": "C:\\Users"},
    "network": {"net_enable": True},
    "plugins": {"plugins": ["procmon", "filetracer"]},
    "host": {"target_host": HOST},
    "visibility": {"headers_persistent": {"share_3rd_party": False}},
    "plain header": {"headers": {"share_3rd_party": False}},
    "persistent payload": {"payload_persistent": {"owner": "a"}},
    "content": {"content": b"rem b", "sha256": hashlib.sha256(b"rem b").hexdigest()},
}


@pytest.mark.parametrize("other", OTHERS)
def test_other_conditions_are_no_hit(world: World, other: str) -> None:
    """Whatever the result depends on, and whatever says who may see it: if it differs, there is a run."""
    world.first()
    world.push("second", reuse=3600, **OTHERS[other])
    world.work()
    assert world.miss("second") == Miss.NONE


def test_who_names_a_hash_only_gets_nothing(world: World) -> None:
    """A task whose sample is another file than it says gets no analysis of the file that it names."""
    world.first()
    world.push("second", content=b"rem not it", reuse=3600)
    world.work()
    assert world.miss("second") == Miss.CONTENT
    assert world.bench.objects("second") == {}


def test_a_sample_without_a_hash_is_read(world: World) -> None:
    """If the task does not say the sha256 of its sample, ingress finds it out."""
    world.first()
    world.push("second", sha256=None, reuse=3600)
    world.work()
    assert world.bench.record("second").reused_from == "first"


def test_too_old(world: World) -> None:
    """An analysis is reused only if it is younger than its task wants, and than the settings allow."""
    world.first()
    key = record_key("first")
    world.bench.redis.hset(key, "finished", f"{world.bench.ledger.now() - 100:.6f}")
    world.push("second", reuse=90)
    world.work()
    assert world.miss("second") == Miss.OLD
    world.bench.forget("second")
    world.push("third", reuse=110)
    world.work()
    assert world.bench.record("third").reused_from == "first"


@pytest.mark.parametrize("lost", ["procmon.log", "dumps.zip", "metadata.json", "analysis_task.json"])
def test_artifacts_that_are_gone_are_not_reused(world: World, lost: str) -> None:
    """If one is missing, there is a run, and nothing is left of the try."""
    world.first()
    world.ingress.storage.remove("bench", f"first/{lost}")
    world.push("second", reuse=3600)
    world.work()
    assert world.miss("second") == Miss.GONE
    assert world.bench.objects("second") == {}


def test_an_artifact_of_another_size_is_not_reused(world: World) -> None:
    """Somebody has written to the bucket."""
    world.first()
    put_bytes(world.ingress.storage, "bench", "first/dumps.zip", b"no zip")
    world.push("second", reuse=3600)
    world.work()
    assert world.miss("second") == Miss.GONE


def test_what_is_too_large_to_be_copied_in_passing_is_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is a limit to the bytes for which ingress makes others wait."""
    assert MOST_BYTES >= 2**30
    monkeypatch.setattr("drakcelery.ingress.stored.MOST_BYTES", 10)
    world.first()
    world.push("second", reuse=3600)
    world.work()
    assert world.miss("second") == Miss.LARGE


@pytest.mark.parametrize(
    ("changes", "miss"),
    [
        ({"engine": "replay 000000000000"}, Miss.FLEET),
        ({"snapshot": "another"}, Miss.FLEET),
        ({}, None),
    ],
)
def test_another_engine_or_snapshot(world: World, changes: dict[str, str], miss: Miss | None) -> None:
    """What the hosts have by now has to be what the earlier run had."""
    world.first()
    report(world, **changes)
    world.push("second", reuse=3600)
    world.work()
    assert world.bench.record("second").reused_from == ("first" if miss is None else None)
    assert miss is None or world.miss("second") == miss


def test_hosts_that_disagree(world: World) -> None:
    """If the sample could go to a host with another engine, it is run."""
    world.first()
    slot = SlotStatus(name=SLOT, profile="win10", state="free", since=0)
    world.ingress.ledger.fleet.report(HostStatus(host="rack-2", engine="emulator", slots=(slot,)), lasts=600)
    world.push("second", reuse=3600)
    world.work()
    assert world.miss("second") == Miss.FLEET


def test_an_incomplete_run_is_not_reused(world: World) -> None:
    """Nor is one that nobody knows to be complete; a complete one later is."""
    world.push("first")
    world.work()
    world.bench.do(Stage.PREPARE, Stage.RUN, uid="first")
    outcome = world.bench.workspace("first").root / "outcome.json"
    fields = json.loads(outcome.read_text())
    outcome.write_text(json.dumps({**fields, "complete": False, "reason": "it crashed"}))
    world.bench.do(Stage.COLLECT, Stage.UPLOAD, Stage.PUBLISH, uid="first")
    world.push("second", reuse=3600)
    world.work()
    assert world.miss("second") == Miss.NONE
    world.run("second")
    world.push("third", reuse=3600)
    world.work()
    assert world.bench.record("third").reused_from == "second"


def test_off_by_default(world: World) -> None:
    """Without [reuse] enabled a task that agrees is run, and its record says why."""
    world.first()
    world.ingress = Ingress(
        settings=world.ingress.settings.model_copy(update={"reuse": ReuseSection()}),
        ledger=world.ingress.ledger,
        inbox=world.ingress.inbox,
        storage=world.ingress.storage,
        send=world.ingress.send,
    )
    world.push("second", reuse=3600)
    world.work()
    record = world.bench.record("second")
    assert world.miss("second") == Miss.OFF
    assert record.analysis is not None
    assert "[reuse] enabled" in str(record.analysis.reuse.refused)


@pytest.mark.parametrize("wrong", [-1, True, 1.5, "soon", 10**9, [1]])
def test_nonsense_is_refused(world: World, wrong: object) -> None:
    """What is no age makes no analysis."""
    world.push("second", reuse=wrong)
    world.work()
    record = world.bench.record("second")
    assert record.state is State.FAILED
    assert "'reuse'" in str(record.refusal)


class Died(BaseException):
    """The process ends here."""


def die_at(monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    """Let the next that comes to *point* die."""

    def reach(at: str, _uid: str) -> None:
        if at == point:
            monkeypatch.undo()
            raise Died

    monkeypatch.setattr("drakcelery.ingress.reuse.reach", reach)


POINTS = ("reuse_checked", "reuse_copied", "reuse_complete", "reuse_published")


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("override", [None, "own-name"])
def test_an_ingress_that_dies(
    world: World, monkeypatch: pytest.MonkeyPatch, point: str, override: str | None
) -> None:
    """Wherever it dies: another one finishes, and the analysis is published once (I1, I2)."""
    first = world.first()
    uid = override or "second"
    named: dict[str, Any] = {"override_uid": override} if override else {}
    world.push("second", reuse=3600, **named)
    die_at(monkeypatch, f"ingress.{point}")
    with pytest.raises(Died):
        world.work()
    other = world.another()
    other._handle(other.inbox.accepted(), other._sight.capacity())
    record = world.bench.record(uid)
    assert (record.state, record.reused_from) == (State.PUBLISHED, "first")
    assert len(world.unrouted()) == 2
    assert world.bench.objects(uid).keys() == world.bench.objects(first.uid).keys()
    assert world.ingress.inbox.accepted() == []


@pytest.mark.parametrize("point", ["reuse_checked", "reuse_complete"])
def test_a_task_that_is_cancelled_meanwhile(
    world: World, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """Karton's cancel counts until the instant of the publication; what was copied goes."""
    world.first()
    task = world.push("second", reuse=3600)

    def reach(at: str, _uid: str) -> None:
        if at == f"ingress.{point}":
            world.bench.ledger.declare(contract.finished(task))

    monkeypatch.setattr("drakcelery.ingress.reuse.reach", reach)
    world.work()
    assert world.bench.record("second").state is State.CANCELLED
    assert len(world.unrouted()) == 1
    assert world.bench.objects("second") == {}


def test_an_earlier_analysis_that_is_deleted_meanwhile(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its record is compared in the instant of the publication; without it there is a run."""
    world.first()
    world.push("second", reuse=3600)

    def reach(at: str, _uid: str) -> None:
        if at == "ingress.reuse_complete":
            world.bench.redis.delete(record_key("first"))

    monkeypatch.setattr("drakcelery.ingress.reuse.reach", reach)
    world.work()
    assert world.miss("second") == Miss.GONE
    assert world.bench.objects("second") == {}


def test_an_error_leads_to_a_run(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong, the sample is analysed."""
    world.first()
    world.push("second", reuse=3600)

    def reach(at: str, _uid: str) -> None:
        if at == "ingress.reuse_copied":
            raise RuntimeError("nobody expects this")

    monkeypatch.setattr("drakcelery.ingress.reuse.reach", reach)
    world.work()
    assert world.miss("second") == Miss.FAILED
    assert world.bench.objects("second") == {}
    assert world.run("second").state is State.PUBLISHED


def test_twins_need_one_run(world: World) -> None:
    """Of many that agree, one runs; the others wait in no line, take up no room, and get its result."""
    uids = [f"twin-{number}" for number in range(5)]
    for uid in uids:
        world.push(uid, reuse=3600)
    world.work()
    assert [record.uid for record in world.sent] == ["twin-0"]
    assert world.ingress.inbox.twins.count() == 4
    assert world.bench.redis.zcard(INBOX) == 0
    world.run("twin-0")
    world.work()
    records = [world.bench.record(uid) for uid in uids]
    assert [record.state for record in records] == [State.PUBLISHED] * 5
    assert [record.reused_from for record in records] == [None, *["twin-0"] * 4]
    assert len({record.analysis_task_uid for record in records}) == 5
    assert not world.bench.redis.exists(TWINS, TWINS_WAITING, DUE)


def test_twins_at_two_ingresses(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """If another ingress opens a twin just before, the ledger says so, and the task waits."""
    world.push("one", reuse=3600)
    world.push("two", reuse=3600)
    other = world.another()
    taken = other.inbox.accept(limit=8, places={}, most=2)
    opened = world.ingress.inbox.open

    def open_late(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.undo()
        other._handle(taken[1:], other._sight.capacity())
        return opened(*args, **kwargs)

    monkeypatch.setattr(world.ingress.inbox, "open", open_late)
    world.ingress._handle(taken[:1], world.ingress._sight.capacity())
    assert [record.uid for record in world.sent] == ["two"]
    assert [twin.waits_for for twin in world.ingress.inbox.twins.waiting()] == ["two"]


def test_a_twin_whose_first_fails_runs(world: World) -> None:
    """One at a time: of those that waited one is run, and the others wait for that one."""
    for uid in ("one", "two", "three"):
        world.push(uid, reuse=3600)
    world.work()
    world.bench.forget("one")
    world.work()
    assert [record.uid for record in world.sent] == ["one", "two"]
    [three] = world.ingress.inbox.twins.waiting()
    assert three.waits_for == "two"
    world.run("two")
    world.work()
    assert world.bench.record("three").reused_from == "two"


def test_nobody_waits_for_ever(world: World) -> None:
    """Who has waited for twins for long enough is run beside one that is live."""
    world.push("one", reuse=3600)
    world.push("two", reuse=3600)
    world.work()
    [two] = world.ingress.inbox.twins.waiting()
    long_ago = world.bench.ledger.now() - 2 * world.ingress.settings.drakcelery.hard_time_limit
    world.bench.redis.hset(TWINS_WAITING, two.task_uid, f"{long_ago} gone")
    world.work()
    assert [record.uid for record in world.sent] == ["one", "two"]
    assert (
        world.bench.redis.hget(TWINS, str(world.bench.redis.hget(record_key("one"), "conditions"))) == "one"
    )


def test_a_cancelled_twin_is_dropped(world: World) -> None:
    """As others that wait: its record says so, and nothing waits any more."""
    world.push("one", reuse=3600)
    task = world.push("two", reuse=3600)
    world.work()
    world.bench.ledger.declare(contract.finished(task))
    world.ingress._withdraw()
    assert world.bench.record("two").state is State.CANCELLED
    assert world.ingress.inbox.twins.waiting() == []


def test_a_twin_that_cannot_be_dropped_holds_up_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of one is its own; it is tried again with the tasks that were left in the inbox."""
    world.push("one", reuse=3600)
    tasks = [world.push(uid, reuse=3600) for uid in ("two", "three")]
    world.work()
    for task in tasks:
        world.bench.ledger.declare(contract.finished(task))
    resume, calls = world.ingress.inbox.twins.resume, list[str]()

    def failing(task_uid: str) -> bool:
        calls.append(task_uid)
        if len(calls) == 1:
            raise ValueError("odd")
        return resume(task_uid)

    monkeypatch.setattr(world.ingress.inbox.twins, "resume", failing)
    world.ingress._withdraw()
    states = {world.bench.ledger.get(uid) is not None for uid in ("two", "three")}
    assert states == {True, False}
    assert len(world.ingress.inbox.twins.waiting()) == 1


def test_a_waiting_twin_is_no_orphan(world: World) -> None:
    """Who looks for tasks that nobody has finds it."""
    world.push("one", reuse=3600)
    task = world.push("two", reuse=3600)
    world.work()
    assert world.ingress.inbox.taken([task.uid, "nobody"]) == [True, False]


def test_the_index_goes_with_the_record(world: World) -> None:
    """What finds an analysis for reuse expires with it."""
    first = world.first()
    assert first.analysis is not None
    key = reusable_key(str(first.analysis.reuse.conditions))
    assert world.bench.redis.get(key) == "first"
    assert 0 < world.bench.redis.ttl(key) <= 600
    assert world.bench.redis.exists(FLEET, host_key(HOST)) == 2


@pytest.mark.parametrize("key", [TWINS, TWINS_WAITING])
def test_a_key_of_another_type_holds_up_nobody(world: World, key: str) -> None:
    """Without the books of twins each is run, and what was published is still reused."""
    world.bench.redis.xadd(key, {"odd": "1"})
    world.push("one", reuse=3600)
    world.push("two", reuse=3600)
    world.work()
    world.ingress._withdraw()
    assert {record.uid for record in world.sent} >= {"one"}
    for record in list(world.sent):
        world.run(record.uid)
    world.push("three", reuse=3600)
    world.work()
    world.bench.redis.delete(key)
    assert world.bench.record("three").reused_from in ("one", "two")


@pytest.mark.parametrize("point", ["reuse_checked", "reuse_copied", "reuse_complete"])
def test_two_tasks_that_want_one_uid(world: World, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    """At two ingresses at once: one of them gets it, with all its artifacts; the other is refused (I2)."""
    world.first()
    for uid in ("second", "third"):
        world.push(uid, reuse=3600, override_uid="own-name")
    other = world.another()
    taken = other.inbox.accept(limit=8, places={}, most=2)

    def reach(at: str, _uid: str) -> None:
        if at == f"ingress.{point}":
            monkeypatch.undo()
            other._handle(taken[1:], other._sight.capacity())

    monkeypatch.setattr("drakcelery.ingress.reuse.reach", reach)
    world.ingress._handle(taken[:1], world.ingress._sight.capacity())
    other._handle(other.inbox.accepted(), other._sight.capacity())
    assert world.bench.record("own-name").state is State.PUBLISHED
    assert world.bench.objects("own-name").keys() == world.bench.objects("first").keys()
    assert len(world.unrouted()) == 2
    [refused] = [record for uid in ("second", "third") if (record := world.bench.ledger.get(uid)) is not None]
    assert "is complete" in str(refused.refusal)
    assert not world.bench.redis.exists(making_key("own-name"))


def test_an_ingress_that_counts_as_dead(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It publishes nothing once another one has begun to copy anew, which first removes what is there."""
    world.first()
    world.push("second", reuse=3600)
    other = world.another()
    [task] = other.inbox.accept(limit=8, places={}, most=1)
    reached = []

    def reach(at: str, _uid: str) -> None:
        reached.append(at)
        if reached.count("ingress.reuse_copied") == 2:
            raise Died
        if at == "ingress.reuse_complete":
            with pytest.raises(Died):
                other._handle([task], other._sight.capacity())

    monkeypatch.setattr("drakcelery.ingress.reuse.reach", reach)
    world.ingress._handle([task], world.ingress._sight.capacity())
    assert world.bench.ledger.get("second") is None
    monkeypatch.undo()
    other._handle(other.inbox.accepted(), other._sight.capacity())
    assert world.bench.record("second").reused_from == "first"
    assert world.bench.objects("second").keys() == world.bench.objects("first").keys()
    assert len(world.unrouted()) == 2


def test_a_run_that_begins_under_the_uid(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its artifacts are not touched by whoever was about to copy others there."""
    world.first()
    world.push("second", reuse=3600, override_uid="own-name")
    other = world.another()

    def reach(at: str, _uid: str) -> None:
        if at == "ingress.reuse_copied":
            monkeypatch.undo()
            world.push("third", override_uid="own-name")
            world.work(other)
            world.bench.do(*ALL[:-1], uid="own-name")

    monkeypatch.setattr("drakcelery.ingress.reuse.reach", reach)
    world.work()
    world.bench.do(Stage.PUBLISH, uid="own-name")
    assert world.bench.record("own-name").task_uid == "{root-third}:third"
    assert world.bench.objects("own-name").keys() == world.bench.objects("first").keys()
    other._handle(other.inbox.accepted(), other._sight.capacity())
    assert "is complete" in str(world.bench.record("second").refusal)


def test_twins_of_which_nothing_can_be_reused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """They do not run one after the other: once that is known, nobody waits for the next."""
    monkeypatch.setattr("drakcelery.ingress.stored.MOST_BYTES", 10)
    uids = [f"twin-{number}" for number in range(4)]
    for uid in uids:
        world.push(uid, reuse=3600)
    world.work()
    world.run("twin-0")
    world.work()
    assert [record.uid for record in world.sent] == uids
    assert {world.miss(uid) for uid in uids[1:]} == {Miss.LARGE}


def test_nobody_waits_for_what_never_ends(world: World) -> None:
    """Also if the analysis is live all the while, as on a host that is away: it is run beside that one."""
    world.push("one", reuse=3600)
    world.push("two", reuse=3600)
    world.work()
    [two] = world.ingress.inbox.twins.waiting()
    long_ago = world.bench.ledger.now() - 2 * world.ingress.settings.drakcelery.hard_time_limit
    world.bench.redis.hset(TWINS_WAITING, two.task_uid, f"{long_ago} one")
    world.work()
    assert [record.uid for record in world.sent] == ["one", "two"]


def test_an_artifact_that_vanishes_meanwhile(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a run, and nothing is left of the copies."""
    world.first()
    world.push("second", reuse=3600)

    def reach(at: str, _uid: str) -> None:
        if at == "ingress.reuse_checked":
            world.ingress.storage.remove("bench", "first/procmon.log")

    monkeypatch.setattr("drakcelery.ingress.reuse.reach", reach)
    world.work()
    assert world.miss("second") == Miss.FAILED
    assert world.bench.objects("second") == {}


def test_the_sentence_is_short_whatever_is_stored(world: World) -> None:
    """Who may write to the bucket may not fill, or break, the record."""
    world.first()
    size = world.bench.objects("first")["analysis_task.json"]
    copies = world.ingress.storage.copies
    stored = json.loads(copies.read("bench", "first/analysis_task.json", size=size))
    stored["payload"]["metadata"]["attempts"] = "\ud800" * 3000
    stored["payload"]["metadata"]["slot"] = ["\n" * 3000]
    copies.put("bench", "first/analysis_task.json", json.dumps(stored).encode())
    world.push("second", reuse=3600)
    world.work()
    record = world.bench.record("second")
    assert world.miss("second") == Miss.GONE
    assert record.analysis is not None
    assert len(str(record.analysis.reuse.refused).splitlines()) == 1
    assert len(str(record.analysis.reuse.refused)) <= 500


# What is expected


def expected(forecast: Forecast) -> dict[str, tuple[bool, str | None, bool]]:
    """By uid of what waits outside the ledger: whether a result is to be reused, of what, and whether it is
    expected to get a slot."""
    return {
        one.uid: (one.reuses, one.twin, one.estimate is not None and one.estimate.start is not None)
        for one in forecast.queued
    }


def test_the_forecast_knows_what_will_be_reused(world: World) -> None:
    """As ingress then does: twins wait, later ones will, and what was published is there within moments;
    other conditions mean a slot."""
    ours = world.ingress
    for uid in ("one", "two"):
        world.push(uid, reuse=3600)
    world.work()
    world.push("three", reuse=3600)
    world.push("other", reuse=3600, timeout=33)
    world.push("like-other", reuse=3600, timeout=33)
    world.push("wants-its-own")
    forecast = make_forecast(ours.settings, ours.ledger, ours.inbox)
    assert expected(forecast) == {
        "two": (True, "one", False),
        "three": (True, "one", False),
        "other": (False, None, True),
        "like-other": (True, "other", False),
        "wants-its-own": (False, None, True),
    }
    world.work()
    assert {(one.task_uid, one.waits_for) for one in ours.inbox.twins.waiting()} == {
        *(("{root-two}:two", "one"), ("{root-three}:three", "one"), ("{root-like-other}:like-other", "other"))
    }
    world.run("one")
    world.work()
    world.push("late", reuse=3600)
    world.push("picky", reuse=0)
    forecast = make_forecast(ours.settings, ours.ledger, ours.inbox)
    found = expected(forecast)
    assert (found["late"], found["picky"]) == ((True, None, False), (False, None, True))
    [late] = [one for one in forecast.queued if one.uid == "late"]
    assert late.estimate is not None
    world.work()
    assert world.bench.record("late").reused_from is not None
    assert world.miss("picky") is None


def test_the_forecast_does_without_the_books_of_twins(world: World) -> None:
    """Where their keys have another type, what waits is expected to be run."""
    world.bench.redis.xadd(TWINS, {"odd": "1"})
    world.bench.redis.xadd(TWINS_WAITING, {"odd": "1"})
    world.push("one", reuse=3600)
    ours = world.ingress
    forecast = make_forecast(ours.settings, ours.ledger, ours.inbox)
    assert expected(forecast) == {"one": (False, None, True)}
    world.bench.redis.delete(TWINS, TWINS_WAITING)


def with_lane(world: World) -> Lane:
    """Give the ingress a lane whose thread is not started: :meth:`Lane.step` is what it does."""
    lane = Lane(world.another())
    world.ingress = dataclasses.replace(world.ingress, lane=lane)
    return lane


@pytest.mark.parametrize("sha256", [SHA256, None])
def test_what_takes_time_holds_up_no_other(world: World, sha256: str | None) -> None:
    """With a lane, ingress neither reads samples nor copies: the task leaves room and time to others."""
    world.first()
    lane = with_lane(world)
    task = world.push("second", sha256=sha256, reuse=3600)
    world.push("third")
    world.work()
    assert world.bench.ledger.get("second") is None
    assert world.bench.record("third").state is State.QUEUED
    assert world.ingress.inbox.taken([task.uid]) == [True]
    assert [one.waits_for for one in world.ingress.inbox.twins.waiting()] == [None]  # nothing to be shown
    assert world.ingress.inbox.accepted() == []
    assert lane.step()
    assert world.bench.record("second").reused_from == "first"
    assert not lane.step()
    assert not world.bench.redis.exists(TWINS_WAITING, INBOX)


def test_a_lane_whose_process_dies(world: World) -> None:
    """Another ingress' lane takes the task. One that takes long counts as dealt with all the while."""
    world.first()
    lane = with_lane(world)
    world.push("second", reuse=3600)
    world.work()
    [task_uid] = world.ingress.resumed(1)
    lane.at_work = task_uid
    world.bench.redis.zadd(INBOX, {task_uid: 1})
    lane.keep(world.ingress.inbox)
    assert world.ingress.inbox.accepted(before=world.bench.ledger.now() - 20) == []
    lane.at_work = None
    world.ingress.deal_with(world.ingress.inbox.accepted())
    assert world.bench.ledger.get("second") is None
    other = Lane(world.another())
    assert other.step()
    assert world.bench.record("second").reused_from == "first"


def test_who_is_in_the_lane_can_be_cancelled(world: World) -> None:
    """As everybody who waits."""
    world.first()
    lane = with_lane(world)
    task = world.push("second", reuse=3600)
    world.work()
    world.bench.ledger.declare(contract.finished(task))
    world.ingress._withdraw()
    assert world.bench.record("second").state is State.CANCELLED
    assert not lane.step()


def test_the_lane_is_a_thread(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It works until it is stopped, and an error of one task, or of Redis, does not end it."""
    monkeypatch.setattr("drakcelery.ingress.waiting.TROUBLE_SECONDS", 0.01)
    world.first()
    lane = with_lane(world)
    troubles: list[Exception] = [RedisConnectionError("away"), ValueError("odd")]
    step = lane.step

    def failing() -> bool:
        if troubles:
            raise troubles.pop()
        return step()

    monkeypatch.setattr(lane, "step", failing)
    world.push("second", reuse=3600)
    world.work()
    lane.start()
    wait_until(lambda: world.bench.ledger.get("second"), "the lane deals with it")
    lane.stop()
    assert not lane.is_alive()
    assert world.bench.record("second").reused_from == "first"


def test_what_the_record_knows_otherwise(world: World) -> None:
    """Who may only write to the bucket cannot say how an analysis ended, nor replace its report."""
    world.first()
    copies, sizes = world.ingress.storage.copies, world.bench.objects("first")
    text = copies.read("bench", "first/analysis_task.json", size=sizes["analysis_task.json"])
    stored = json.loads(text)
    stored["payload"]["metadata"]["reason"] = "forged"
    copies.put("bench", "first/analysis_task.json", json.dumps(stored).encode())
    world.push("second", reuse=3600)
    world.work()
    assert world.miss("second") == Miss.GONE
    world.bench.forget("second")
    copies.put("bench", "first/analysis_task.json", text)
    report_text = copies.read("bench", "first/report.json", size=sizes["report.json"])
    copies.put("bench", "first/report.json", report_text.replace(b"procmon", b"PROCMON"))
    world.push("third", reuse=3600)
    world.work()
    assert (world.miss("third"), world.bench.objects("third")) == (Miss.GONE, {})
