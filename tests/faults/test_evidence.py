"""A host that goes down right after a run: what its disk has lost is never published."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from drakcelery.embedded.services import Services
from tests.faults.fleet import Fleet, Options
from tests.faults.watch import detonations, wait_free, wait_gone, wait_published
from tests.servers import lent
from tests.waiting import wait_until

HOST = "rack-1"


@pytest.fixture(scope="module")
def fleet(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One host with one slot."""
    directory = tmp_path_factory.mktemp("evidence")
    options = Options(hosts=(HOST,), slots=1)
    with (
        lent(services) as servers,
        Fleet(directory / "fleet", servers, options) as ours,
    ):
        yield ours


@pytest.mark.slow
@pytest.mark.parametrize("point", ["run.saved", "collect.entered", "collect.saved"])
def test_power_loss_after_a_run(fleet: Fleet, point: str) -> None:
    """The outcome is synced, log and dumps are not: the sample runs again, and is published whole (R7)."""
    uid = f"cut-{point.replace('.', '-')}"
    worker = f"vm@{HOST}" if point.startswith("run.") else f"io@{HOST}"
    fleet.plan(uid, point, "worker")
    fleet.push(uid)
    wait_until(lambda: fleet.fired(uid), f"the fault at {point}")
    wait_until(lambda: fleet.processes[worker].running.poll() is not None, f"{worker} is gone")
    (workspace,) = (fleet.state_dir(HOST) / "workspaces").glob(f"{uid}.1")
    for path in [*(workspace / "raw").rglob("*"), *(workspace / "out").rglob("*")]:
        if path.is_file():
            os.truncate(path, 0)
    outcome = workspace / "outcome.json"
    outcome.write_text(json.dumps({**json.loads(outcome.read_text()), "boot_id": "before"}))

    wait_published(fleet, uid)
    record = fleet.record(uid)
    assert record is not None
    assert record.attempts == 2
    assert detonations(fleet, uid) == 2
    assert "went down after the run" in record.failures[0].error
    found = fleet.storage.list(fleet.settings.drakcelery.bucket, f"{uid}/")
    assert found[f"{uid}/procmon.log"] > 0
    assert found[f"{uid}/dumps.zip"] > 200
    wait_gone(fleet, uid)
    wait_free(fleet, HOST)
