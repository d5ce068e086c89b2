"""Thirty samples on two slots: order, room and the gate, with everything real but the guests."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from karton.core import Producer, Resource, Task
from karton.core.backend import KARTON_TASK_NAMESPACE, KartonBackend, KartonMetrics
from karton.core.task import TaskPriority, TaskState

from drakcelery import settings
from drakcelery.embedded.services import Services
from drakcelery.ingress.bind import bind_of
from drakcelery.karton.submit import karton_config
from drakcelery.ledger import Ledger, connect
from drakcelery.ledger.keys import INBOX, LIVE
from drakcelery.model.analysis import State
from drakcelery.model.records import Record
from drakcelery.storage import Storage
from tests.faults.fleet import Fleet, Options
from tests.servers import lent
from tests.waiting import wait_until

HOST = "rack-1"
SAMPLES = 30
SLOTS = 2
PRIORITIES = (TaskPriority.LOW, TaskPriority.NORMAL, TaskPriority.HIGH)
CONSUMER = "karton.test-load"


@pytest.fixture(scope="module")
def config(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[settings.Settings]:
    """A host with two slots whose ingress was stopped: samples wait in Karton until the test starts one."""
    directory = tmp_path_factory.mktemp("load") / "fleet"
    options = Options(hosts=(HOST,), slots=SLOTS, restore_seconds=0.05, run_seconds=0.2)
    with lent(services) as servers, Fleet(directory, servers, options) as fleet:
        fleet.signal("ingress", signal.SIGTERM)
        assert fleet.processes.pop("ingress").running.wait(60) == 0
        yield settings.load(fleet._config[HOST])


@pytest.fixture
def ingress(config: settings.Settings) -> Iterator[None]:
    """An ingress, started by the command that operators type."""
    command = [sys.executable, "-m", "drakcelery", "ingress", "--config", str(config.source)]
    with subprocess.Popen(command, env=dict(os.environ)) as process:
        yield
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def push(backend: KartonBackend, consumer: str) -> None:
    """Thirty samples, the least urgent first, and a consumer for their analyses."""
    producer = Producer(config=backend.config, identity="karton.test-producer", backend=backend)
    analyses = bind_of(settings.Settings())._replace(
        identity=consumer, filters=[{"type": "analysis", "kind": "drakrun"}]
    )
    backend.register_bind(analyses)
    for number in range(SAMPLES):
        task = Task(
            {"type": "sample", "stage": "recognized", "platform": "win64"},
            priority=PRIORITIES[number * len(PRIORITIES) // SAMPLES],
        )
        task.add_payload("sample", Resource(f"sample-{number}.exe", f"MZ {number}".encode()))
        task.add_payload("override_uid", f"load-{number:02}")
        producer.send_task(task)


def waiting(backend: KartonBackend, identity: str) -> int:
    return sum(len(backend.get_task_ids_from_queue(name)) for name in backend.get_queue_names(identity))


def started_in_karton(backend: KartonBackend) -> int:
    """Sample tasks that are STARTED at one instant: those that were as all were read, read again at once."""
    tasks = backend.iter_all_tasks(parse_resources=False)
    uids = [task.uid for task in tasks if task.status is TaskState.STARTED]
    texts = backend.redis.mget([f"{KARTON_TASK_NAMESPACE}:{uid}" for uid in uids]) if uids else []
    return sum(Task.unserialize(text).status is TaskState.STARTED for text in texts if text)


@pytest.fixture
def queued(config: settings.Settings) -> KartonBackend:
    """All samples wait in Karton's queue of our identity."""
    backend = KartonBackend(karton_config(config), identity="karton.test")
    backend.register_bind(bind_of(config))
    push(backend, CONSUMER)
    wait_until(lambda: waiting(backend, config.drakrun.identity) == SAMPLES, "all samples routed to us")
    return backend


@pytest.fixture
def records(config: settings.Settings, queued: KartonBackend, ingress: None) -> list[Record]:  # noqa: ARG001 - starts it
    """The records of all analyses, once every one of them is over; the room was watched meanwhile."""
    ledger = Ledger(connect(config.redis), identity=config.drakrun.identity, record_ttl=600)
    room = SLOTS + config.drakcelery.look_ahead

    def over() -> bool:
        with ledger._redis.pipeline() as pipe:  # both at one instant
            pipe.zcard(LIVE)
            pipe.zcard(INBOX)
            in_flight = sum(pipe.execute())
        assert in_flight <= room, f"{in_flight} in flight with room for {room}"
        assert started_in_karton(queued) <= room
        return len(list(ledger.done(newest=SAMPLES + 1))) == SAMPLES

    wait_until(over, "all samples analysed")
    return list(ledger.done(newest=SAMPLES + 1))


def guests(config: settings.Settings, uid: str, to: Path) -> tuple[str, float, float]:
    """(slot, from, until) in which the guest of an analysis lived, by its own log."""
    Storage.connect(config.s3, threads=2).download_all("drakrun", uid, to / uid)
    lines = [json.loads(line) for line in (to / uid / "drakrun.log").read_text().splitlines()]
    times = {line["message"]: float(line["created"]) for line in lines}
    return lines[0]["slot"], times["sample_fetched"], times["guest_destroyed"]


def test_load(
    config: settings.Settings, queued: KartonBackend, records: list[Record], tmp_path: Path
) -> None:
    """Two slots never hold more than two guests, urgent samples go first, each is published just once."""
    assert {record.state for record in records} == {State.PUBLISHED}
    assert {record.attempts for record in records} == {1}

    lives = [guests(config, record.uid, tmp_path) for record in records]
    for moment in [start for _, start, _ in lives]:
        assert sum(start <= moment < end for _, start, end in lives) <= SLOTS
    for _, group in itertools.groupby(sorted(lives), key=lambda life: life[0]):
        for (_, _, end), (_, start, _) in itertools.pairwise(group):
            assert end <= start, "two guests in one slot"

    order = [record.uid for record in sorted(records, key=lambda record: record.entered[State.PREPARING])]
    expected = [f"load-{number:02}" for first in (20, 10, 0) for number in range(first, first + 10)]
    # Two slots that come free together may be entered in either order: one place of difference, never more
    assert all(abs(order.index(uid) - place) < SLOTS for place, uid in enumerate(expected))

    wait_until(lambda: waiting(queued, CONSUMER) == SAMPLES, "all analyses delivered")
    tasks = [queued.consume_routed_task(CONSUMER, timeout=1) for _ in range(SAMPLES + 1)]
    assert tasks.pop() is None
    assert {task.payload["analysis_uid"] for task in tasks if task} == {record.uid for record in records}
    assert queued.get_metrics(KartonMetrics.TASK_PRODUCED)[config.drakrun.identity] == SAMPLES
