"""Odd tasks at the door of a whole fleet: the real ingress, its workers, and a restart of all of them."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from karton.core import Task
from karton.core.backend import KartonBackendBase
from karton.core.resource import RemoteResource
from karton.core.task import TaskPriority, TaskState

from drakcelery.embedded.services import BUCKET, Services
from drakcelery.ledger.keys import task_key
from drakcelery.model.analysis import State
from drakcelery.storage import Storage
from tests.faults.fleet import Fleet, Options
from tests.faults.watch import wait_published
from tests.objects import put_bytes
from tests.servers import lent
from tests.waiting import wait_until

HOST = "rack-1"
SAMPLE = "odd-sample"
SLOTS = 2


@pytest.fixture(scope="module")
def fleet(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One host; runs are short."""
    directory = tmp_path_factory.mktemp("contents")
    options = Options(hosts=(HOST,), slots=SLOTS)
    with (
        lent(services) as servers,
        Fleet(directory / "fleet", servers, options) as ours,
    ):
        put_bytes(Storage.connect(servers.s3, threads=1), BUCKET, SAMPLE, b"rem odd")
        yield ours


def route(fleet: Fleet, uid: str, *, text: str | None = None, bucket: str = BUCKET, **changed: Any) -> str:
    """What karton-system would have routed to us; its Karton uid."""
    ours = fleet.ledger
    task = Task(
        {"type": "sample", "extension": "bat", "receiver": ours.identity}, uid=f"{{r}}:{uid}", root_uid="r"
    )
    task.status = TaskState.SPAWNED
    task.add_payload("sample", RemoteResource("odd-\udc83.bat", bucket=bucket, uid=SAMPLE))
    task.add_payload("override_uid", uid)
    fields = json.loads(task.serialize())
    fields["payload"].update(changed.pop("payload", {}))
    ours._redis.set(task_key(task.uid), text if text is not None else json.dumps({**fields, **changed}))
    ours._redis.rpush(KartonBackendBase.get_queue_name(ours.identity, TaskPriority.NORMAL), task.uid)
    return task.uid


def test_odd_tasks_stop_no_fleet(fleet: Fleet) -> None:
    """Surrogates and NaN run (R1, R2); no JSON, and a missing bucket, leave room for others (R3, S1, S2).

    So it is after each process was killed and started again with all of them still there.
    """
    route(
        fleet,
        "surrogate",
        payload={"x": "\udc83"},
        headers={"type": "sample", "extension": "bat", "y": "\ud800"},
    )
    route(fleet, "nan", payload={"score": float("nan"), "low": float("-inf")})
    route(fleet, "types", root_uid=True)
    no_json = route(fleet, "no-json", text=f"{fleet.ledger.identity} is no JSON")
    lost = [route(fleet, f"lost-{number}", bucket="no-such-bucket") for number in range(SLOTS + 4)]
    fleet.push("innocent")
    records = fleet.wait_over(["surrogate", "nan", "types", "innocent"])
    assert {uid: one.state for uid, one in records.items()} == {
        **dict.fromkeys(("surrogate", "nan", "innocent"), State.PUBLISHED),
        "types": State.FAILED,
    }
    assert "root_uid = true" in str(records["types"].error)
    aside = set(fleet.ledger._redis.zrange("drak:aside", 0, -1))
    assert aside <= {no_json, *lost}
    assert {one.uid for one in fleet.ledger.quarantine.all()} >= aside

    for name in ("ingress", f"vm@{HOST}", f"io@{HOST}"):
        fleet.signal(name, signal.SIGKILL, group=True)
    fleet.push("after")
    assert fleet.wait_over(["after"])["after"].state is State.PUBLISHED

    def ended() -> bool:
        for task_uid in (no_json, *lost):
            fleet.ledger.quarantine.release(task_uid)
        return not fleet.ledger._redis.zcard("drak:aside") and not fleet.ledger._redis.zcard("drak:inbox")

    wait_until(ended, "what could not be dealt with has ended")
    for task_uid in (no_json, *lost):
        task = fleet.ledger.karton_task(task_uid)
        assert task is not None
        assert task.status is TaskState.CRASHED
        assert task.error is not None
        assert "no JSON object" in task.error[0] or "no bucket 'no-such-bucket'" in task.error[0]
    # Karton's own programs could list no tasks while one of them was no JSON
    wait_published(fleet, "surrogate", "nan", "innocent", "after")
