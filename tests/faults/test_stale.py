"""A worker that was considered dead and wakes up: it changes nothing and publishes nothing (I2)."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from drakcelery.embedded.services import Services
from drakcelery.host.slot import SlotState
from drakcelery.model.analysis import Fault, State
from tests.faults.fleet import Fleet, Options
from tests.faults.watch import published, wait_free, wait_gone, wait_published, wait_state
from tests.servers import lent
from tests.waiting import wait_until

HOSTS = ("rack-1", "rack-2")
RUN_SECONDS = 4.0


@pytest.fixture
def fleet(services: Services, tmp_path: Path) -> Iterator[Fleet]:
    """Two hosts with two slots each, and runs that last long enough to be interrupted."""
    options = Options(hosts=HOSTS, slots=2, run_seconds=RUN_SECONDS)
    with (
        lent(services) as servers,
        Fleet(tmp_path / "fleet", servers, options) as ours,
    ):
        yield ours


def everything(fleet: Fleet, uid: str) -> tuple[object, ...]:
    """What the ledger, Karton and S3 have of a published analysis."""
    record = fleet.record(uid)
    assert record is not None
    assert record.analysis_task_uid is not None
    tasks = [fleet.ledger.karton_task(name) for name in (record.task_uid, record.analysis_task_uid)]
    objects = fleet.storage.list(fleet.settings.drakcelery.bucket, f"{uid}/")
    return record, *(task.serialize() if task else None for task in tasks), objects, published(fleet, uid)


def freeze_what_runs(fleet: Fleet, worker: str) -> psutil.Process:
    """Freeze the one pool process that is at work; not while it writes to the slot table: it has a lock."""
    host = worker.partition("@")[2]
    wait_until(
        lambda: SlotState.RUNNING in {slot.state for slot in fleet.slots()[host]}, f"a guest runs on {host}"
    )
    process = fleet.at_work(worker)
    process.suspend()
    return process


@pytest.mark.slow
def test_stale_runs(fleet: Fleet) -> None:
    """A pool process and a whole worker, frozen in mid-run, redone elsewhere, woken up: nothing changes."""
    fleet.push("process", host="rack-2")
    wait_state(fleet, "process", State.RUNNING, attempt=1)
    process = freeze_what_runs(fleet, "vm@rack-2")
    fleet.push("filler", host="rack-2")
    wait_state(fleet, "filler", State.RUNNING)
    fleet.push("worker")
    assert wait_state(fleet, "worker", State.RUNNING, attempt=1).host == "rack-1"
    fleet.signal("vm@rack-1", signal.SIGSTOP, group=True)

    wait_published(fleet, "filler", "process", "worker")
    before = {uid: everything(fleet, uid) for uid in ("process", "worker")}
    for uid, fault in (("process", Fault.LOST), ("worker", Fault.GONE)):
        record = fleet.record(uid)
        assert record is not None
        assert (record.host, record.attempts) == ("rack-2", 2)
        assert [one.fault for one in record.failures] == [fault]

    process.resume()
    fleet.signal("vm@rack-1", signal.SIGCONT, group=True)
    for uid in before:
        wait_gone(fleet, uid)
    for host in HOSTS:  # what was considered dead goes on working
        fleet.push(f"next-{host}", host=host, timeout=1)
    wait_published(fleet, *(f"next-{host}" for host in HOSTS))
    for host in HOSTS:
        wait_free(fleet, host)
    assert {uid: everything(fleet, uid) for uid in before} == before
