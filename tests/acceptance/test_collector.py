"""Karton's garbage collector runs time and again while samples are analysed, and nothing needed is lost."""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from karton.core import Task
from karton.core.task import TaskState
from karton.system import SystemService

from drakcelery.model.analysis import State
from drakcelery.model.records import Record
from tests.acceptance.deployment import Deployment, Received, Receiver, karton_config
from tests.waiting import wait_until

KARTON = "karton"
REST = 0.1
"""Seconds between two rounds. Karton's own service rests for three minutes."""
BEHAVIOUR = Path("samples/behaviour.exe")
ENDLESS = Path("samples/endless.exe")


class Collector(threading.Thread):
    """karton-system's own collection of tasks and resources, one soon after another."""

    def __init__(self, deployment: Deployment) -> None:
        super().__init__(name="collector", daemon=True)
        self._service = SystemService(karton_config(deployment.running))
        self._over = threading.Event()
        self.rounds = 0
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            for self.rounds in itertools.count(1):
                self._service.gc_collect_tasks()
                self._service.gc_collect_resources()
                if self._over.wait(REST):
                    return
        except Exception as error:  # noqa: BLE001 - shown by whoever waits for a round
            self.error = error

    def more(self) -> None:
        """Wait until a whole collection has begun and ended after this call."""
        wanted = self.rounds + 2

        def reached() -> bool:
            if self.error is not None:
                raise self.error
            return self.rounds >= wanted

        wait_until(reached, "Karton's collector went round")

    def stop(self) -> None:
        """End after the round under way."""
        self._over.set()
        self.join()


@contextmanager
def collecting(deployment: Deployment) -> Iterator[Collector]:
    """Collect all through the block."""
    collector = Collector(deployment)
    collector.start()
    try:
        yield collector
    finally:
        collector.stop()
    assert collector.error is None, collector.error


@pytest.fixture(scope="module")
def collector(deployment: Deployment) -> Iterator[Collector]:
    """A collector that hardly rests."""
    with collecting(deployment) as running:
        yield running


def is_stored(deployment: Deployment, uid: str) -> bool:
    """Whether Karton's bucket has the object *uid*."""
    return any(one.object_name == uid for one in deployment.s3.list_objects(KARTON, prefix=uid))


def check_artifacts(received: Received, *, bucket: str) -> None:
    """Every resource but the sample lies in *bucket* and is whole."""
    artifacts = {name: value for name, value in received.resources.items() if name != "sample"}
    assert {"dumps.zip", "dump.pcap", "procmon.log", "apimon.log"} <= set(artifacts)
    for name, resource in artifacts.items():
        assert resource.bucket == bucket
        content = received.path(name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == resource.sha256


def test_sample_outlives_collection_while_it_runs(
    deployment: Deployment, receiver: Receiver, collector: Collector
) -> None:
    """While a sample runs, its task stays STARTED and its object stays in Karton's bucket."""
    task = deployment.send(ENDLESS, payload={"timeout": 10})
    deployment.wait_state(task, State.RUNNING)
    collector.more()
    record = deployment.record(task)
    assert record is not None
    assert record.state is State.RUNNING
    assert deployment.sample_task(record).status is TaskState.STARTED
    assert is_stored(deployment, task.payload["sample"].uid)
    received = receiver.receive(task.payload["override_uid"])
    assert received.path("sample").read_bytes() == ENDLESS.read_bytes()


def test_analysis_outlives_collection_before_it_is_taken(
    deployment: Deployment, receiver: Receiver, collector: Collector
) -> None:
    """Between publish and the consumer, the sample task is collected; sample and artifacts are not."""
    task = deployment.send(BEHAVIOUR, payload={"timeout": 30})
    record = deployment.wait_over(task)
    wait_until(lambda: deployment.backend.get_task(record.task_uid) is None, "the sample task is collected")
    collector.more()
    assert is_stored(deployment, task.payload["sample"].uid)
    received = receiver.receive(record.uid)
    check_artifacts(received, bucket="drakrun")
    assert received.path("sample").read_bytes() == BEHAVIOUR.read_bytes()


def test_nobody_wants_the_sample_any_more(
    deployment: Deployment, receiver: Receiver, collector: Collector
) -> None:
    """Once the consumer is done, Karton's bucket is cleaned as usual, and the analysis' own bucket is not."""
    task = deployment.send(BEHAVIOUR, payload={"timeout": 30})
    uid = task.payload["override_uid"]
    receiver.receive(uid)
    wait_until(lambda: not is_stored(deployment, task.payload["sample"].uid), "the sample is collected")
    collector.more()
    names = {key.removeprefix(f"{uid}/") for key in deployment.objects("drakrun", uid)}
    assert {"metadata.json", "drakrun.log", "dumps.zip", "dumps.pcap", "procmon.log"} <= names


def send_test_sample(deployment: Deployment) -> tuple[Task, Record]:
    """A `sample-test` task through the whole road."""
    task = deployment.send(
        BEHAVIOUR,
        headers={"type": "sample-test", "stage": None},
        payload={"timeout": 30, "testcase": {"family": "harmless", "rules": [1, 2]}},
    )
    return task, deployment.wait_over(task)


def test_test_samples_keep_their_artifacts(
    deployment: Deployment, receiver: Receiver, collector: Collector
) -> None:
    """Artifacts in Karton's own bucket live as long as their task, from the first upload on."""
    for _ in range(3):
        _, record = send_test_sample(deployment)
        assert record.state is State.PUBLISHED, record.error
        collector.more()
        received = receiver.receive(record.uid)
        headers = received.task.headers
        assert (headers["type"], headers["kind"], headers["quality"]) == ("analysis-test", "drakrun", "high")
        assert received.task.payload["testcase"] == {"family": "harmless", "rules": [1, 2]}
        check_artifacts(received, bucket=KARTON)


def test_test_samples_leave_nothing(deployment: Deployment, receiver: Receiver, collector: Collector) -> None:
    """Once the consumer is done, nothing of a test sample stays in any bucket."""
    _, record = send_test_sample(deployment)
    receiver.receive(record.uid)
    wait_until(lambda: not deployment.objects(KARTON, record.uid), "the artifacts are collected")
    collector.more()
    assert deployment.objects("drakrun", record.uid) == {}
