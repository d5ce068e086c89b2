"""What ingress takes at once, and what it costs: on a real Valkey and a real SeaweedFS."""

from __future__ import annotations

import dataclasses
import threading
import uuid
from collections.abc import Callable
from typing import Any

import pytest
import redis
from karton.core import Task
from karton.core.backend import KartonBackendBase
from karton.core.resource import RemoteResource
from karton.core.task import TaskPriority, TaskState
from redis.exceptions import ResponseError

from drakcelery.embedded.ports import LOOPBACK, assign
from drakcelery.embedded.services import BUCKET, Services
from drakcelery.ingress import AWAY_SECONDS, BATCH, Ingress, Round
from drakcelery.ledger import Ledger, fleet
from drakcelery.ledger.keys import DUE
from drakcelery.model.analysis import Place, State
from drakcelery.model.records import HostStatus, Record, SlotStatus
from drakcelery.settings import DrakrunSection, S3Section, Settings
from drakcelery.storage import Storage
from tests.ledgers import inbox_of, watched
from tests.objects import put_bytes
from tests.waiting import wait_until

IDENTITY = "karton.test-ingress"
WIN10, WIN7 = Place(profile="win10"), Place(profile="win7")
SAMPLE = "test-ingress-sample"


@pytest.fixture
def sent() -> list[Record]:
    """What was given to the broker."""
    return []


@pytest.fixture
def ingress(services: Services, redis_client: redis.Redis, sent: list[Record]) -> Ingress:
    """An ingress of its own identity, whose messages are noted."""
    ledger = Ledger(redis_client, identity=IDENTITY, record_ttl=600)

    def send(record: Record) -> None:
        ledger.sent(record.uid, record.attempt)
        sent.append(record)

    storage = Storage.connect(services.s3, threads=1)
    put_bytes(storage, BUCKET, SAMPLE, b"MZ")
    default = Settings().drakcelery.model_copy(update={"default_profile": "win10"})
    return Ingress(
        settings=Settings(drakrun=DrakrunSection(identity=IDENTITY), drakcelery=default, s3=services.s3),
        ledger=ledger,
        inbox=inbox_of(ledger),
        storage=storage,
        send=send,
    )


def report(ingress: Ingress, host: str, profile: str, slots: int) -> None:
    """A host says that its slots are free."""
    free = [
        SlotStatus(name=f"vm-{number}", profile=profile, state="free", since=0) for number in range(slots)
    ]
    ingress.ledger.fleet.report(HostStatus(host=host, engine="replay", slots=tuple(free)), lasts=600)


def push(ingress: Ingress, *uids: str, priority: TaskPriority = TaskPriority.NORMAL, **payload: Any) -> None:
    """Samples that karton-system has routed to us."""
    for uid in uids:
        task = Task({"type": "sample"}, uid=f"{{{uid}}}:{uid}", root_uid=uid, priority=priority)
        payload.setdefault("sample", RemoteResource("x.exe", bucket=BUCKET, uid=SAMPLE))
        for name, value in payload.items():
            task.add_payload(name, value)
        ingress.ledger.declare(task)
        ingress.ledger._redis.rpush(KartonBackendBase.get_queue_name(IDENTITY, priority), task.uid)


def commands(client: redis.Redis, work: Callable[[], object]) -> int:
    """How many commands Redis was given meanwhile, by anyone and in scripts too."""
    before = client.info("stats")["total_commands_processed"]
    work()
    return int(client.info("stats")["total_commands_processed"] - before - 1)


def test_takes_as_many_as_there_is_room_for(ingress: Ingress, sent: list[Record]) -> None:
    """At one poll, the most urgent first: as many as slots and look-ahead; the others wait in Karton."""
    report(ingress, "rack-1", "win10", 4)
    push(ingress, *(f"n-{number}" for number in range(8)))
    push(ingress, "urgent", priority=TaskPriority.HIGH)
    assert ingress.work() is Round.WORKED
    assert [record.uid for record in sent] == ["urgent", *(f"n-{number}" for number in range(5))]
    assert all(record.state is State.QUEUED and record.attempt == 1 for record in sent)
    assert ingress.work() is not Round.WORKED
    assert [one.length for one in ingress.inbox.backlog(most=1)] == [3]
    assert ingress.inbox.accepted() == []


@pytest.mark.parametrize(
    ("about", "known"),
    [
        ({"sha256": "a" * 64, "size": 7}, ("x.exe", "a" * 64, 7)),
        ({"sha256": "a" * 64}, ("x.exe", "a" * 64, 2)),
        ({"sha256": "none", "size": -1}, ("x.exe", None, 2)),
    ],
)
def test_a_refused_sample_is_still_known(
    ingress: Ingress, about: dict[str, Any], known: tuple[str, str | None, int]
) -> None:
    """By name, hash and size; S3 tells a size that the task does not, and nonsense is left out."""
    report(ingress, "rack-1", "win10", 1)
    sample = RemoteResource("x.exe", bucket=BUCKET, uid=SAMPLE, **about)
    push(ingress, "bad", target_host="nowhere", sample=sample)
    assert ingress.work() is Round.WORKED
    record = ingress.ledger.get("bad")
    assert record is not None
    assert record.sample is not None
    assert (record.sample.name, record.sample.sha256, record.sample.size) == known


def test_a_full_profile_holds_up_no_other(ingress: Ingress) -> None:
    """Of those that are taken together, each waits for its own place: for one more than it has room for."""
    report(ingress, "rack-1", "win10", 2)
    report(ingress, "rack-2", "win7", 3)
    push(ingress, *(f"ten-{number}" for number in range(6)))
    push(ingress, *(f"seven-{number}" for number in range(4)), vm_profile="win7")
    while ingress.work() is Round.WORKED:
        pass
    assert ingress.inbox.in_flight() == {WIN10: 4, WIN7: 4}
    assert [(line.place, line.length) for line in ingress.inbox.lines()] == [(WIN10, 2)]


def test_a_poll_costs_the_same_however_many_wait(ingress: Ingress, redis_client: redis.Redis) -> None:
    """Nothing is looked for among all keys: an idle poll is one command, a full batch costs what it costs."""
    report(ingress, "rack-1", "win10", 2 * BATCH)
    assert commands(redis_client, ingress.work) == 1
    push(ingress, "first")
    assert ingress.work() is Round.WORKED  # Redis has the scripts from now on
    push(ingress, *(f"few-{number}" for number in range(BATCH)))
    few = commands(redis_client, ingress.work)
    push(ingress, *(f"many-{number}" for number in range(600)))
    many = commands(redis_client, ingress.work)
    # Hosts are read again each second, by three commands, and the clock every five: in either of them
    assert abs(many - few) <= 4
    used = redis_client.info("commandstats")
    before = used.get("cmdstat_scan", {"calls": 0})["calls"]
    assert ingress.ledger.fleet.hosts()
    assert redis_client.info("commandstats").get("cmdstat_scan", {"calls": 0})["calls"] == before


def test_a_host_that_has_just_come_is_known(ingress: Ingress, sent: list[Record]) -> None:
    """What ingress knows of the slots may be a second old: a sample for a new host is not refused."""
    report(ingress, "rack-1", "win10", 1)
    push(ingress, "first")
    assert ingress.work() is Round.WORKED
    report(ingress, "rack-2", "win7", 1)
    push(ingress, "second", vm_profile="win7", target_host="rack-2")
    wait_until(lambda: ingress.work() is Round.WORKED and len(sent) == 2, "the new host is seen")
    assert sent[1].place == Place(profile="win7", host="rack-2")


def test_a_host_that_has_just_gone_gets_nothing(
    ingress: Ingress, sent: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sample that asks for it waits in line, where all can see it, until the host is back."""
    report(ingress, "rack-1", "win10", 3)
    push(ingress, "first")
    assert ingress.work() is Round.WORKED
    ingress.ledger.fleet.retire("rack-1")
    push(ingress, "second", target_host="rack-1")
    with monkeypatch.context() as patched:
        patched.setattr(fleet, "SIGHT_SECONDS", 3600)  # it has not looked since
        assert ingress.work() is Round.WORKED
    assert [line.place for line in ingress.inbox.lines()] == [Place(profile="win10", host="rack-1")]
    assert ingress.work() is not Round.WORKED
    report(ingress, "rack-1", "win10", 3)
    wait_until(lambda: ingress.work() is Round.WORKED and len(sent) == 2, "the host is seen again")


def test_samples_wait_while_storage_is_away(ingress: Ingress, sent: list[Record]) -> None:
    """All that was taken stays in the inbox, and goes on from there once S3 is back."""
    nowhere = S3Section(
        address=f"http://{LOOPBACK}:{assign(('nobody',), kept={})['nobody']}",
        access_key="key",
        secret_key=ingress.settings.s3.secret_key,
    )
    watched(ingress.ledger, seconds=3600)
    report(ingress, "rack-1", "win10", 4)
    push(ingress, "a", "b", "c")
    working = ingress.storage
    object.__setattr__(ingress, "storage", Storage.connect(nowhere, threads=1, patience=1))
    assert ingress.work() is Round.WORKED
    ingress.inbox._redis.zadd("drak:inbox", {"{b}:b": 1, "{c}:c": 2})
    ingress._adopt(ingress.ledger.watch())
    # The others are tried before the one that was: it may be the only one that cannot be had
    assert (ingress.inbox.accepted(), sent) == (["{c}:c", "{a}:a", "{b}:b"], [])
    object.__setattr__(ingress, "storage", working)
    ingress.ledger._redis.zadd("drak:inbox", dict.fromkeys(ingress.inbox.accepted(), 0))
    ingress._adopt(ingress.ledger.watch())
    assert {record.uid for record in sent} == {"a", "b", "c"}


def test_what_is_due_is_sent(ingress: Ingress, sent: list[Record]) -> None:
    """An attempt whose time has come goes out though nothing waits."""
    report(ingress, "rack-1", "win10", 1)
    push(ingress, "late")
    assert ingress.work() is Round.WORKED
    ingress.ledger._redis.zadd(DUE, {"late": ingress.ledger.now()})
    assert ingress.work() is Round.WORKED
    assert [record.uid for record in sent] == ["late", "late"]
    assert ingress.work() is not Round.WORKED


def test_what_cannot_be_analysed_is_refused(ingress: Ingress, sent: list[Record]) -> None:
    """One bad task among those that are taken together ends with its reason, and holds up no other."""
    report(ingress, "rack-1", "win10", 4)
    push(ingress, "first", override_uid="taken")
    push(ingress, "second", override_uid="taken")
    push(ingress, "third", target_host="nowhere")
    push(ingress, "fourth")
    assert ingress.work() is Round.WORKED
    assert [record.uid for record in sent] == ["taken", "fourth"]
    errors = [record.error for uid in ("second", "third") if (record := ingress.ledger.get(uid)) is not None]
    assert errors == [
        "another analysis is under way under the uid taken; wait for it, or choose another",
        "there is no host 'nowhere'; there are: rack-1",
    ]
    ingress.storage.remove(BUCKET, SAMPLE)
    push(ingress, "fifth")
    assert ingress.work() is Round.WORKED
    gone = ingress.ledger.get("fifth")
    assert gone is not None
    assert gone.error == f"the sample 'x.exe' is not in the bucket '{BUCKET}' any more"
    assert ingress.inbox.accepted() == []


@pytest.mark.parametrize(("override", "answer"), [("replace", State.QUEUED), ("refuse", State.FAILED)])
def test_a_complete_analysis_is_spared(ingress: Ingress, override: str, answer: State) -> None:
    """A task that names the uid of a complete analysis is refused, unless the settings say: replace (S8)."""
    report(ingress, "rack-1", "win10", 1)
    bucket = f"ingress-{uuid.uuid4().hex[:8]}"
    ingress.storage.ensure_bucket(bucket)
    put_bytes(ingress.storage, bucket, "done/metadata.json", b"{}")
    put_bytes(ingress.storage, bucket, "failed/drakrun.log", b"x")
    ours = ingress.settings.drakcelery.model_copy(update={"bucket": bucket, "override_finished": override})
    strict = dataclasses.replace(ingress, settings=ingress.settings.model_copy(update={"drakcelery": ours}))
    push(strict, "task-1", override_uid="done")
    push(strict, "task-2", override_uid="failed")
    while strict.work() is Round.WORKED:
        pass
    first = strict.ledger.get("task-1" if override == "refuse" else "done")
    taken = strict.ledger.get("failed")
    assert first is not None
    assert first.state is answer
    assert taken is not None
    assert taken.state is State.QUEUED
    if override == "refuse":
        assert "analysis done is complete" in str(first.error)
        assert strict.ledger.get("done") is None


def test_an_ingress_without_a_clock(ingress: Ingress, monkeypatch: pytest.MonkeyPatch) -> None:
    """Karton's collector drops STARTED tasks of a day ago: an ingress in 1970 writes Redis' time (R12)."""
    report(ingress, "rack-1", "win10", 1)
    push(ingress, "fresh")
    push(ingress, "refused", target_host="nowhere")
    with monkeypatch.context() as patched:
        patched.setattr("drakcelery.karton.contract.time.time", lambda: 3600.0)
        while ingress.work() is Round.WORKED:
            pass
    for uid, state in (("fresh", TaskState.STARTED), ("refused", TaskState.CRASHED)):
        task = ingress.ledger.karton_task(f"{{{uid}}}:{uid}")
        assert task is not None
        assert task.status is state
        assert abs((task.last_update or 0) - ingress.ledger.now()) < 600


def test_work_that_always_fails_is_not_tried_all_the_time(
    ingress: Ingress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each failure has a traceback in the log: a key of another type would fill the disk with them."""
    stop, paused = threading.Event(), list[float]()

    def broken(_: Ingress) -> None:
        raise ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")

    def wait(seconds: float) -> bool:
        paused.append(seconds)
        if len(paused) == 3:
            stop.set()
        return stop.is_set()

    monkeypatch.setattr(Ingress, "work", broken)
    monkeypatch.setattr(Ingress, "_find_orphans", lambda _: iter(()))
    monkeypatch.setattr(stop, "wait", wait)
    ingress.run(stop)
    assert paused == [AWAY_SECONDS] * 3


def test_no_part_of_the_work_keeps_the_others_from_being_done(
    ingress: Ingress, sent: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fails in one part, each time, is told and skipped: samples go on to be taken (R1, S2)."""

    def broken(_: Ingress) -> None:
        raise ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")

    for part in ("_adopt", "_try_again", "_give_up", "_withdraw"):
        monkeypatch.setattr(Ingress, part, broken)
    stop = threading.Event()
    thread = threading.Thread(target=ingress.run, args=(stop,))
    thread.start()
    try:
        report(ingress, "rack-1", "win10", 4)
        push(ingress, "goes-on")
        wait_until(lambda: [record.uid for record in sent] == ["goes-on"], "the sample is sent")
    finally:
        stop.set()
        thread.join()
