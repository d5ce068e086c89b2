"""A slot that comes free and the sample that waits for it, with real workers and a real broker."""

from __future__ import annotations

import itertools
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import Mock

import pytest
import redis
from celery import Celery
from kombu import Queue
from kombu.asynchronous import Hub

from drakcelery.broker.redis_transport import Connection
from drakcelery.broker.routing import io_queue, prepare_queue, vm_queue
from drakcelery.doctor.machine import CHECKS as MACHINE_CHECKS
from drakcelery.doctor.subject import Subject
from drakcelery.embedded.services import Services
from drakcelery.host.workspace import Prefetched
from drakcelery.model.analysis import State, Step
from drakcelery.stages import cancellation
from drakcelery.worker.admission import _pass_on
from drakcelery.worker.wakeup import Wakeup
from tests.faults.fleet import Fleet, Options
from tests.faults.watch import wait_free, wait_published, wait_state
from tests.waiting import wait_until

FIRST, SECOND = (
    Queue("test-gate-1", routing_key="test-gate-1"),
    Queue("test-gate-2", routing_key="test-gate-2"),
)
HOST = "rack-1"
SAMPLES = 6


@pytest.fixture
def broker(services: Services) -> Iterator[redis.Redis]:
    """The broker's database, without what the test leaves there."""
    with redis.Redis.from_url(services.redis.address(db_offset=8), decode_responses=True) as client:
        yield client
        client.delete(*client.keys(), "unacked")


@contextmanager
def channel(services: Services) -> Iterator[Any]:
    """A worker's channel."""
    with Connection(services.redis.address(db_offset=8)) as connection:
        yield connection.default_channel


def send(channel: Any, queue: Queue, name: str) -> None:
    """Put a message into *queue*."""
    producer = channel.connection.client.Producer()
    producer.publish({"name": name}, routing_key=queue.name, declare=[FIRST, SECOND])


def test_what_waits_is_taken_without_consuming(services: Services, broker: redis.Redis) -> None:
    """The first queue that has a message gives it; it is this worker's until it is acknowledged."""
    names = [FIRST.name, SECOND.name]
    with channel(services) as ours:
        assert ours.get_waiting(names) is None
        assert ours.get_waiting([]) is None
        send(ours, SECOND, "b")
        send(ours, FIRST, "a")
        first, second = ours.get_waiting(names), ours.get_waiting(names)
        assert [message.payload["name"] for message in (first, second)] == ["a", "b"]
        assert set(broker.zrange("unacked_index", 0, -1)) == {first.delivery_tag, second.delivery_tag}
        first.ack()
        second.requeue()
        assert broker.zcard("unacked_index") == 0
        assert broker.llen(SECOND.name) == 1


def test_a_look_takes_nothing(services: Services, broker: redis.Redis) -> None:
    """What waits is seen in the order in which it will be taken, and stays."""
    with channel(services) as ours:
        for name in ("a", "b", "c"):
            send(ours, FIRST, name)
        send(ours, SECOND, "d")
        seen = ours.peek_queues([FIRST.name, SECOND.name], most=2)
        assert [message.payload["name"] for message in seen] == ["a", "b", "d"]
        assert broker.llen(FIRST.name) == 3
        assert ours.get_waiting([FIRST.name]).payload["name"] == "a"


def test_no_more_is_taken_than_a_worker_may_hold(services: Services, broker: redis.Redis) -> None:
    """A worker whose hands are full leaves a message to others."""
    with channel(services) as ours:
        ours.basic_qos(0, 1, False)
        for name in ("a", "b"):
            send(ours, FIRST, name)
        held = ours.get_waiting([FIRST.name])
        assert ours.get_waiting([FIRST.name]) is None
        assert broker.llen(FIRST.name) == 1
        held.ack()
        assert ours.get_waiting([FIRST.name]).payload == {"name": "b"}


@pytest.mark.parametrize("where", ["thread", "process"])
def test_a_wakeup_wakes_an_event_loop(where: str) -> None:
    """Signalled elsewhere, as often as one likes, it ends the loop's wait once."""
    wakeup, hub = Wakeup(), Hub()
    heard: list[bool] = []
    hub.add_reader(wakeup, lambda: heard.append(wakeup.clear()))
    assert not wakeup.clear()

    def signal() -> None:
        for _ in range(100_000):  # more than a pipe holds
            wakeup.signal()

    if where == "thread":
        thread = threading.Thread(target=signal)
        thread.start()
        thread.join()
    elif (child := os.fork()) == 0:
        signal()
        os._exit(0)
    else:
        os.waitpid(child, 0)
    while not heard:
        hub.run_once()
    assert heard == [True]
    assert not wakeup.clear()
    hub.close()


@pytest.fixture(scope="module")
def fleet(server_programs: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:  # noqa: ARG001 - a check
    """A host with one slot, whose runs take as long as their task says."""
    directory = tmp_path_factory.mktemp("gate")
    options = Options(hosts=(HOST,), slots=1, run_seconds=600)
    with Services(directory / "services") as services, Fleet(directory / "fleet", services, options) as ours:
        wait_free(ours, HOST)
        yield ours


def opened(fleet: Fleet) -> int:
    """How often the host has opened its prepare queues."""
    log = (fleet.directory / "log" / f"vm@{HOST}.log").read_text()
    return log.count(f"Started consuming from {prepare_queue('default', HOST)}")


def said(fleet: Fleet, action: str) -> int:
    """How often the host's workers have said *action*."""
    return sum(path.read_text().count(action) for path in (fleet.directory / "log").glob(f"*@{HOST}.log"))


def forge(fleet: Fleet, task: str, queue: str, message: object, **options: Any) -> None:
    """Put a message that none of us would send into a queue of the fleet."""
    with Celery(broker=fleet.settings.broker_url) as app:
        app.send_task(task, args=(message,), queue=queue, **options)


GENUINE = {"uid": "forged", "attempt": 1, "profile": "default"}
PREPARE, ONLY_HERE = prepare_queue("default"), prepare_queue("default", HOST)
FORGED: tuple[tuple[str, str, object, dict[str, Any]], ...] = (
    ("drakcelery.prepare", PREPARE, GENUINE | {"profile": "unknown"}, {}),
    ("drakcelery.prepare", PREPARE, GENUINE | {"host": "rack-9"}, {}),
    ("drakcelery.prepare", ONLY_HERE, GENUINE | {"host": "../x"}, {}),
    ("drakcelery.prepare", ONLY_HERE, GENUINE | {"attempt": 2**70}, {}),
    ("drakcelery.prepare", PREPARE, GENUINE | {"attempt": 0}, {}),
    ("drakcelery.prepare", PREPARE, GENUINE | {"slot": ["vm-1"]}, {}),
    ("drakcelery.prepare", PREPARE, "no step", {}),
    ("drakcelery.prepare", PREPARE, GENUINE, {"countdown": 10**6}),
    ("drakcelery.collect", vm_queue(HOST), GENUINE | {"host": HOST}, {}),
    ("drakcelery.run", vm_queue(HOST), GENUINE | {"host": "rack-9", "slot": "vm-1"}, {}),
    ("drakcelery.run", vm_queue(HOST), GENUINE, {}),
    ("drakcelery.prepare", io_queue(HOST), GENUINE, {}),
    ("drakcelery.collect", io_queue(HOST), GENUINE | {"host": "rack-9"}, {}),
    ("drakcelery.upload", io_queue(HOST), None, {}),
    ("drakcelery.publish", io_queue(HOST), GENUINE | {"uid": "../../x", "host": HOST}, {}),
)
ODD_ENVELOPES: tuple[dict[str, Any], ...] = (
    {"properties": {}},
    {"properties": None},
    {"headers": None},
    {"headers": {"task": ["drakcelery.prepare"], "id": "x"}},
    {"headers": {"task": "drakcelery.prepare", "id": {}}},
    {"properties": {"delivery_tag": None}},
    {"properties": {"delivery_tag": [1]}},
    {"properties": {"delivery_tag": ""}},
    {"properties": {"delivery_tag": "t", "delivery_info": None}},
    {"properties": {"delivery_tag": "t", "delivery_info": {"exchange": "", "routing_key": 5}}},
)


def envelope(**odd: Any) -> bytes:
    """A message as kombu writes them, but for what is *odd*."""
    origin = {"exchange": "", "routing_key": PREPARE}
    properties = {
        "delivery_tag": "garbage",
        "delivery_info": origin,
        "body_encoding": "base64",
        "priority": 0,
    }
    headers = {"lang": "py", "task": "drakcelery.prepare", "id": "x/1/prepare"}
    fields = {"content-type": "application/json", "content-encoding": "utf-8", "body": "W10="}
    return json.dumps({**fields, "properties": properties, "headers": headers, **odd}).encode()


GARBAGE = (
    b"",
    b"\xff",
    b"garbage",
    b"1",
    b"[]",
    b"{}",
    b'{"properties": {}}',
    b'{"properties": {"delivery_tag": 1}}',
    b"[" * 100_000,
    b'{"a":' * 5_000,
    *(envelope(**odd) for odd in ODD_ENVELOPES),
)


def test_what_none_of_us_sent_is_dropped(fleet: Fleet) -> None:
    """A message with an unknown profile, or otherwise not for its queue, goes with one warning each (S10)."""
    for task, queue, message, options in FORGED:
        forge(fleet, task, queue, message, **options)
    wait_until(lambda: said(fleet, "message_dropped") >= len(FORGED), "all are dropped")
    fleet.push("after-forged", timeout=1)
    wait_published(fleet, "after-forged")
    assert said(fleet, "message_dropped") == len(FORGED)
    with redis.Redis.from_url(fleet.settings.broker_url) as broker:
        assert not broker.exists(*{queue for _, queue, _, _ in FORGED})
        wait_until(lambda: broker.hlen("unacked") == 0, "everything is acknowledged")


def test_what_is_no_message_is_passed_over(fleet: Fleet) -> None:
    """What is no message at all, in whichever queue, ends no worker (S10)."""
    queues = (PREPARE, ONLY_HERE, vm_queue(HOST), io_queue(HOST))
    with redis.Redis.from_url(fleet.settings.broker_url) as broker:
        for queue in queues:
            broker.lpush(queue, *GARBAGE)
        wait_until(lambda: not broker.exists(*queues), "the queues are empty")
    fleet.push("after-garbage", timeout=1)
    wait_published(fleet, "after-garbage")
    assert said(fleet, "message_unreadable") == len(queues) * len(GARBAGE)
    assert {process.starts for process in fleet.processes.values()} == {1}


def test_what_celery_cannot_read_keeps_no_slot(fleet: Fleet) -> None:
    """A step with odd headers, or an odd body, goes: no worker keeps it, and its slot is free again (S10)."""
    odd: tuple[tuple[dict[str, Any], list[Any]], ...] = (
        ({"timelimit": "x"}, USUAL_REST),
        ({"timelimit": 5}, USUAL_REST),
        ({"expires": "garbage"}, USUAL_REST),
        ({"stamped_headers": 5, "stamps": 7}, USUAL_REST),
        ({"shadow": [1]}, USUAL_REST),
        *(({}, rest) for rest in ODD_RESTS),
    )
    work = ((PREPARE, "prepare"), (vm_queue(HOST), "run"), (io_queue(HOST), "collect"))
    with redis.Redis.from_url(fleet.settings.broker_url) as broker:
        for number, (headers, rest) in enumerate(odd * 2):
            for queue, stage in work:
                step = GENUINE | {"uid": f"odd-{number}"}
                step |= {} if stage == "prepare" else {"host": HOST, "slot": "vm-1"}
                body = json.dumps([[step], *rest])
                named = {"lang": "py", "task": f"drakcelery.{stage}", "id": f"odd-{number}/1/{stage}"}
                origin = {"exchange": "", "routing_key": queue}
                properties = {
                    "delivery_tag": f"{number}-{stage}",
                    "delivery_info": origin,
                    "body_encoding": "",
                }
                broker.lpush(queue, envelope(body=body, headers=named | headers, properties=properties))
        wait_until(
            lambda: not broker.exists(PREPARE, vm_queue(HOST), io_queue(HOST)) and not broker.hlen("unacked"),
            "nothing is left of it",
        )
    fleet.push("after-odd-headers", timeout=1)
    wait_published(fleet, "after-odd-headers")
    wait_free(fleet, HOST)


def test_what_celery_refuses_gives_its_slot_back() -> None:
    """An error of Celery's own, once the slot is claimed, is the message's: no slot waits for it forever."""
    gate, message, step = Mock(), Mock(), Step.parse(GENUINE)
    assert _pass_on(gate, step, message, Mock(side_effect=ValueError("too many values to unpack"))) is None
    gate.vacate.assert_called_once_with(step)
    message.reject.assert_called_once_with()
    gate.vacate.reset_mock()
    with pytest.raises(ConnectionError):
        _pass_on(gate, step, message, Mock(side_effect=ConnectionError))
    gate.vacate.assert_not_called()


EMBED: dict[str, Any] = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
USUAL_REST: list[Any] = [{}, EMBED]
ODD_RESTS: tuple[list[Any], ...] = (
    [],
    [{}],
    [{}, EMBED, 1],
    [{}, None],
    [{}, [1]],
    [[1], EMBED],
    [{"more": 1}, EMBED],
    [{}, EMBED | {"chain": [5, None]}],
    [{}, EMBED | {"chain": "x"}],
    [{}, EMBED | {"chord": {"task": "x"}}],
    [{}, EMBED | {"callbacks": [7]}],
)
"""What may stand behind the step in a body; none of it is what Celery writes for us."""
UNACKED = (b"", b"garbage", b"null", b"[]", b"[1, 2, 3]", b"[" * 100_000, b'[{}, "", "test-gate-1"]')


def test_what_nobody_can_give_back_keeps_nothing_else(services: Services, broker: redis.Redis) -> None:
    """Garbage among what was delivered goes, and what a dead worker had is put back all the same."""
    with channel(services) as ours, channel(services) as heir:
        send(ours, FIRST, "lost with its worker")
        taken = ours.get_waiting([FIRST.name])
        for number, garbage in enumerate(UNACKED):
            broker.hset("unacked", f"garbage-{number}", garbage)
            broker.zadd("unacked_index", {f"garbage-{number}": number + 1})
        broker.zadd("unacked_index", {taken.delivery_tag: 0.5, "nothing there": 0.7})
        heir.qos.visibility_timeout = 0
        wait_until(
            lambda: heir.qos.restore_visible() or not broker.zcard("unacked_index"), "all of it has gone"
        )
        assert broker.hlen("unacked") == 0
        names = [message.payload for message in heir.peek_queues([FIRST.name], most=9)]
        assert names == [{"name": "lost with its worker"}]


def test_a_slot_goes_from_hand_to_hand(fleet: Fleet) -> None:
    """While samples wait a freed slot takes the next by itself: no queue opens for it, and none closes.

    Each guest is held until the next sample waits with the broker, however long its way there takes.
    """
    uids = [f"next-{number}" for number in range(SAMPLES)]
    for uid in uids:
        fleet.hold(uid)
    fleet.push(uids[0], timeout=1)
    wait_state(fleet, uids[0], State.RUNNING)
    before = opened(fleet)
    with redis.Redis.from_url(fleet.settings.broker_url) as broker:
        for ends, follows in itertools.pairwise(uids):
            fleet.push(follows, timeout=1)
            wait_until(lambda: broker.llen(prepare_queue("default")) == 1, "it waits")
            fleet.let_go(ends)
            wait_state(fleet, follows, State.RUNNING)
    assert opened(fleet) == before
    fleet.let_go(uids[-1])
    fleet.wait_over(uids)


def test_the_next_sample_is_there_before_its_slot_is(fleet: Fleet) -> None:
    """It is fetched while the guest before it runs, and its message stays with the broker (I4).

    Nobody fetches it again: it has gone from S3 by then.
    """
    fleet.push("now", timeout=4)
    wait_state(fleet, "now", State.RUNNING)
    fleet.push("then", timeout=1)
    ahead = Prefetched.of(fleet.state_dir(HOST))
    wait_until(lambda: ("then", 1) in ahead.all(), "the sample is fetched ahead")
    waiting = fleet.record("then")
    assert waiting is not None
    assert waiting.analysis is not None
    assert (waiting.state, waiting.host) == (State.QUEUED, None)
    with redis.Redis.from_url(fleet.settings.broker_url) as broker:
        assert broker.llen(prepare_queue("default")) == 1
    sample = waiting.analysis.sample
    fleet.storage.remove(sample.bucket, sample.key)
    wait_published(fleet, "now", "then")
    assert not list(ahead.root.iterdir())


def test_what_is_no_longer_wanted_goes(fleet: Fleet) -> None:
    """A sample that was fetched ahead and is then cancelled leaves nothing behind."""
    fleet.push("runs", timeout=5)
    wait_state(fleet, "runs", State.RUNNING)
    fleet.push("vain", timeout=1)
    ahead = Prefetched.of(fleet.state_dir(HOST))
    wait_until(lambda: ("vain", 1) in ahead.all(), "the sample is fetched ahead")
    record = fleet.record("vain")
    assert record is not None
    cancellation.cancel(fleet.ledger, record, by="a test")
    wait_published(fleet, "runs")
    wait_until(lambda: not list(ahead.root.iterdir()), "the sample is gone")


def test_a_slot_table_that_cannot_be_written(fleet: Fleet) -> None:
    """Its worker lives on and says why; what comes meanwhile goes back, and runs once it can be written."""
    log = fleet.directory / "log" / f"vm@{HOST}.log"
    journal = fleet.state_dir(HOST) / "slots.sqlite-journal"
    wait_free(fleet, HOST)
    before, starts = log.read_text(), fleet.processes[f"vm@{HOST}"].starts
    journal.unlink(missing_ok=True)
    journal.mkdir()
    fleet.push("blocked", timeout=1)
    wait_until(lambda: not fleet.ledger.fleet.hosts(), "the fleet hears no more of it")
    journal.rmdir()
    wait_published(fleet, "blocked")
    said = log.read_text().removeprefix(before)
    assert said.count("slots_blocked") == 1
    assert "Traceback" not in said
    assert fleet.processes[f"vm@{HOST}"].starts == starts


def test_a_damaged_slot_table(fleet: Fleet) -> None:
    """It is told once and with a remedy, no sample comes, and once the file is removed the host goes on."""
    log = fleet.directory / "log" / f"vm@{HOST}.log"
    table = fleet.state_dir(HOST) / "slots.sqlite"
    wait_free(fleet, HOST)
    before = log.read_text()
    table.write_bytes(b"garbage" * 1000)
    fleet.push("damaged", timeout=1)
    wait_until(lambda: not fleet.ledger.fleet.hosts(), "the fleet hears no more of it")
    said_since = log.read_text().removeprefix(before)
    assert said_since.count("slots_damaged") == 1
    assert "remove it, and drain again what was drained" in said_since
    assert "Traceback" not in said_since
    (check,) = (one for one in MACHINE_CHECKS if one.name == "host.state_dir")
    verdict = check.examine(Subject(lambda: fleet.settings))
    assert "file is not a database" in verdict.said
    assert "Remove the file" in (verdict.remedy or "")
    table.unlink()
    wait_published(fleet, "damaged")
    said = log.read_text().removeprefix(before)
    assert "slots_lost" in said
    assert "Traceback" not in said
