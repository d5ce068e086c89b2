"""Tried again, by itself after faults that are not the sample's, and by those who ask again."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from karton.core.resource import RemoteResource
from karton.core.task import TaskPriority, TaskState

from drakcelery.model.analysis import Stage, State
from drakcelery.model.records import Record
from tests.acceptance.deployment import Deployment, Receiver
from tests.programs import launcher
from tests.waiting import wait_until

PROGRAM = launcher(64).read_bytes()


def store(deployment: Deployment, key: str, content: bytes) -> None:
    """Put an object into Karton's bucket."""
    deployment.s3.put_object("karton", key, io.BytesIO(content), len(content))


@pytest.fixture(scope="module")
def damaged(deployment: Deployment) -> Record:
    """The analysis of a sample that S3 has with one byte wrong."""
    key = str(uuid4())
    store(deployment, key, PROGRAM[:-1] + bytes([PROGRAM[-1] ^ 1]))
    sha256 = hashlib.sha256(PROGRAM).hexdigest()
    sample = RemoteResource("damaged.exe", bucket="karton", uid=key, size=len(PROGRAM), sha256=sha256)
    return deployment.wait_over(deployment.send(sample, payload={"timeout": 30}))


def test_history_of_attempts(deployment: Deployment, damaged: Record) -> None:
    """Three attempts, then CRASHED with the cause and each attempt; the log of it is kept."""
    assert (damaged.state, damaged.attempts) == (State.FAILED, 3)
    assert [failure.attempt for failure in damaged.failures] == [1, 2, 3]
    assert {failure.stage for failure in damaged.failures} == {Stage.PREPARE}
    sample_task = deployment.sample_task(damaged)
    assert sample_task.status is TaskState.CRASHED
    assert sample_task.error is not None
    cause, *history = sample_task.error
    assert f"instead of {hashlib.sha256(PROGRAM).hexdigest()}" in cause
    assert len(history) == 3
    for number, line in enumerate(history, start=1):
        assert line.startswith(f"  attempt {number}: prepare on embedded/vm-")
        assert line.endswith(cause)
    assert deployment.children(damaged) == []
    # The log is stored once the ledger has closed the record
    wait_until(lambda: deployment.objects("drakrun", damaged.uid), "the log of the failed analysis is stored")
    keys = [f"{damaged.uid}/{name}" for name in ("drakrun.log", "sample", "sample_task.json")]
    wait_until(
        lambda: list(deployment.objects("drakrun", damaged.uid)) == keys, "and what a retry needs is, too"
    )


def test_status_shows_the_history(deployment: Deployment, damaged: Record) -> None:
    """`drakcelery status UID` has each attempt once."""
    shown = deployment.drakcelery("status", damaged.uid).stdout
    attempts = [f"attempt {number}: prepare on embedded/vm-" for number in (1, 2, 3)]
    assert [shown.count(attempt) for attempt in attempts] == [1, 1, 1]


def test_retry_in_karton_s_dashboard(deployment: Deployment, receiver: Receiver, damaged: Record) -> None:
    """Once the cause is fixed, the dashboard's retry of the CRASHED task gives the analysis."""
    sample_task = deployment.sample_task(damaged)
    store(deployment, sample_task.get_payload("sample").uid, PROGRAM)
    again = deployment.backend.restart_task(sample_task)
    received = receiver.receive(damaged.uid)
    assert received.task.parent_uid == again.uid
    assert received.task.payload["metadata"]["attempts"] == 1
    record = deployment.ledger.get(damaged.uid)
    assert record is not None
    assert (record.state, record.attempts, record.failures) == (State.PUBLISHED, 1, ())


@pytest.fixture
def broken_slot(deployment: Deployment) -> Iterator[str]:
    """The slot that would be taken next cannot be restored: what it says of its guest is unreadable."""
    slot = "vm-1"
    wait_until(lambda: set(states(deployment).values()) == {"free"}, "nothing else goes on")
    marker = deployment.settings.drakcelery.state_dir / "engine" / f"{slot}.json"
    marker.parent.mkdir(exist_ok=True)
    marker.write_text("{")
    yield slot
    marker.unlink(missing_ok=True)
    wait_until(lambda: states(deployment)[slot] in ("free", "quarantined"), "the slot was tried again")
    if states(deployment)[slot] == "quarantined":  # after a few tries nobody waits for it any more
        deployment.drakcelery("release", f"embedded/{slot}")
    wait_until(lambda: states(deployment) == {"vm-1": "free", "vm-2": "free"}, "both slots are free again")


def states(deployment: Deployment) -> dict[str, str]:
    """What the host reports of its slots."""
    return {slot.name: slot.state for host in deployment.ledger.fleet.hosts() for slot in host.slots}


def test_engine_failure_is_tried_again(deployment: Deployment, receiver: Receiver, broken_slot: str) -> None:
    """A slot whose guest cannot be destroyed is set aside; the next attempt succeeds in the other one."""
    task = deployment.send(Path("samples/behaviour.exe"), payload={"timeout": 30})
    record = deployment.wait_over(task)
    assert (record.state, record.attempts, record.slot) == (State.PUBLISHED, 2, "vm-2"), record
    (failure,) = record.failures
    assert (failure.stage, failure.slot) == (Stage.PREPARE, broken_slot)
    assert f"Slot {broken_slot}:" in failure.error
    assert receiver.receive(record.uid).task.payload["metadata"]["attempts"] == 2
    wait_until(lambda: states(deployment)[broken_slot] in ("dirty", "quarantined"), "the slot is out of use")
    shown = deployment.drakcelery("slots").stdout
    assert "dirty" in shown or "quarantined" in shown


@pytest.fixture(scope="module")
def shared_with_nobody(deployment: Deployment) -> Record:
    """A published analysis of a sample that others may not see; Karton has collected task and sample."""
    task = deployment.send(
        Path("samples/behaviour.exe"), payload={"timeout": 30}, headers_persistent={"share_3rd_party": False}
    )
    record = deployment.wait_over(task)
    assert record.state is State.PUBLISHED
    assert record.analysis is not None
    deployment.backend.delete_tasks([deployment.sample_task(record)])
    deployment.s3.remove_object(record.analysis.sample.bucket, record.analysis.sample.key)
    return record


def stored(deployment: Deployment, uid: str) -> dict[str, bytes]:
    """All that the bucket has of an analysis."""
    keys = deployment.objects("drakrun", uid)
    return {key.removeprefix(f"{uid}/"): deployment.content("drakrun", key) for key in keys}


def test_ask_again(deployment: Deployment, receiver: Receiver, shared_with_nobody: Record) -> None:
    """`drakcelery retry` prints the new uid alone; consumers get another analysis (U1, U2)."""
    first = shared_with_nobody
    before = stored(deployment, first.uid)
    done = deployment.started("retry", first.uid, "--timeout", "20", "--plugin", "procmon", "--wait")
    assert done.returncode == 0, done.stderr
    uid = done.stdout.removesuffix("\n")
    received = receiver.receive(uid)
    metadata = received.task.payload["metadata"]
    assert (metadata["retry_of"], metadata["options"]["timeout"]) == (first.uid, 20)
    assert metadata["plugins"] == ["procmon"]
    assert received.task.headers_persistent == {"share_3rd_party": False}
    assert received.task.root_uid == first.root_uid
    assert received.path("sample").read_bytes() == before["sample"]  # which consumers get as ever
    assert stored(deployment, first.uid) == before
    assert deployment.ledger.get(first.uid) == first.model_copy(update={"retries": (uid,)})
    assert f"retry of      {first.uid}" in deployment.typed("status", uid)
    assert uid in deployment.typed("status", first.uid)
    assert first.uid in deployment.typed("report", uid)


def test_ask_again_in_vain(deployment: Deployment, shared_with_nobody: Record, tmp_path: Path) -> None:
    """What is not over, not known or not kept is refused with the reason, and nothing on standard output."""
    endless = deployment.send(
        Path("samples/endless.exe"), payload={"timeout": 600}, priority=TaskPriority.LOW
    )
    live = deployment.wait_state(endless, State.RUNNING)
    for uid, why in (
        (live.uid, "it can be asked for again when it is over"),
        ("no-such-uid", "no analysis no-such-uid in the ledger"),
    ):
        done = deployment.drakcelery("retry", uid)
        assert (done.returncode, done.stdout) == (1, "")
        assert why in done.stderr
    assert deployment.drakcelery("cancel", live.uid).returncode == 0
    done = deployment.drakcelery("fetch", shared_with_nobody.uid, "--to", tmp_path / "to")
    assert done.returncode == 0, done.stderr
    assert not {"sample", "sample_task.json"} & {path.name for path in (tmp_path / "to").iterdir()}
