"""Cancelling: from our command line, from karton-dashboard, and by Celery's own revoke."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from celery.app.control import Control
from karton.core.task import TaskState

from drakcelery.broker import routing
from drakcelery.embedded.services import Services
from drakcelery.model.analysis import Stage, State
from drakcelery.model.records import Record
from drakcelery.stages import cancellation
from drakcelery.wiring import make_client
from tests.faults.fleet import Fleet, Options
from tests.faults.watch import (
    published,
    sample_task,
    type_in,
    wait_free,
    wait_gone,
    wait_published,
    wait_state,
)
from tests.servers import lent
from tests.waiting import wait_until

HOST = "rack-1"
LONG = 600
"""Seconds that a run takes, unless its task asks for less: nobody waits for it."""


@pytest.fixture(scope="module")
def fleet(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One host with one slot, so that a second sample waits; runs last until they are cancelled."""
    directory = tmp_path_factory.mktemp("cancel")
    options = Options(hosts=(HOST,), slots=1, run_seconds=LONG)
    with (
        lent(services) as servers,
        Fleet(directory / "fleet", servers, options) as ours,
    ):
        yield ours


@pytest.fixture(autouse=True)
def nothing_live(fleet: Fleet) -> Iterator[None]:
    """What a failing test leaves running would fail those after it."""
    yield
    for record in fleet.ledger.live():
        cancellation.cancel(fleet.ledger, record, by="the test that began it")
    wait_free(fleet, HOST)


@pytest.fixture
def control(fleet: Fleet) -> Iterator[Control]:
    """What Celery's commands, and Flower's buttons, send by."""
    client = make_client(fleet.settings)
    yield client.control
    client.close()


def wait_heard(fleet: Fleet, uid: str, stage: Stage) -> None:
    """Return once each worker has heard that a stage was revoked."""
    logs = [fleet.directory / "log" / f"{role}@{HOST}.log" for role in ("vm", "io")]
    told = f"Tasks flagged as revoked: {routing.task_id(uid, 1, stage)}"
    wait_until(lambda: all(told in log.read_text() for log in logs), f"revoking {uid} is heard")


def wait_cancelled(fleet: Fleet, uid: str) -> Record:
    """The record, once the analysis is cancelled and nothing is left of it."""
    record = wait_state(fleet, uid, State.CANCELLED)
    wait_gone(fleet, uid)
    return record


def assert_works_on(fleet: Fleet, uid: str, *cancelled: str) -> None:
    """The slot is free for the next sample; what was cancelled before is not published, however late."""
    fleet.push(uid, timeout=1)
    wait_published(fleet, uid)
    wait_free(fleet, HOST)
    for gone in cancelled:
        record = fleet.record(gone)
        assert record is not None
        assert record.state is State.CANCELLED
        assert published(fleet, gone) == 0
        assert fleet.storage.list(fleet.settings.drakcelery.bucket, f"{gone}/") == {}


def drakcelery(fleet: Fleet, *arguments: str) -> tuple[int, str]:
    """``drakcelery …``."""
    return type_in(fleet, "drakcelery", *arguments)


def celery(fleet: Fleet, *arguments: str) -> tuple[int, str]:
    """``celery -A drakcelery …``."""
    return type_in(fleet, "celery", "-A", "drakcelery", *arguments)


def test_cancel_on_the_command_line(fleet: Fleet) -> None:
    """A running guest is destroyed within seconds, a waiting sample never starts; Karton is told by whom."""
    fleet.push("runs")
    wait_state(fleet, "runs", State.RUNNING)
    fleet.push("waits")
    wait_state(fleet, "waits", State.QUEUED)
    for uid in ("waits", "runs"):
        assert drakcelery(fleet, "cancel", uid) == (0, f"cancelled {uid}\n")
    for uid in ("waits", "runs"):
        record = wait_cancelled(fleet, uid)
        task = sample_task(fleet, record)
        assert task.status is TaskState.CRASHED
        assert task.error is not None
        assert task.error[0].startswith("cancelled by ")
        assert record.failures == ()
    assert_works_on(fleet, "after-cli", "runs", "waits")


def test_cancel_what_is_over(fleet: Fleet) -> None:
    """There is nothing to cancel: a sentence says so, and nothing changes."""
    fleet.push("over", timeout=1)
    record = fleet.wait_over(["over"])["over"]
    status, said = drakcelery(fleet, "cancel", "over")
    assert (status, said) == (1, "Error: analysis over is over already: PUBLISHED\n")
    assert fleet.record("over") == record
    assert sample_task(fleet, record).status is TaskState.FINISHED


def test_cancel_on_the_dashboard(fleet: Fleet) -> None:
    """karton-dashboard sets the task FINISHED; so it stays, and the analysis ends, waiting or running."""
    fleet.push("shown")
    running = wait_state(fleet, "shown", State.RUNNING)
    fleet.push("listed")
    waiting = wait_state(fleet, "listed", State.QUEUED)
    for record in (waiting, running):
        fleet.backend.set_task_status(sample_task(fleet, record), TaskState.FINISHED)
    for uid in ("shown", "listed"):
        record = wait_cancelled(fleet, uid)
        assert record.error == "cancelled: its Karton task is Finished"
        assert sample_task(fleet, record).status is TaskState.FINISHED
    assert_works_on(fleet, "after-dashboard", "shown", "listed")


@pytest.mark.parametrize("how", [None, "SIGKILL", "SIGTERM"])
def test_revoke_a_running_stage(fleet: Fleet, control: Control, how: str | None) -> None:
    """Plain revoke leaves what has begun alone, as everywhere in Celery; terminate cancels the analysis."""
    uid = f"at-work-{how}".lower()
    fleet.push(uid)
    record = wait_state(fleet, uid, State.RUNNING)
    if how is None:
        control.revoke(routing.task_id(uid, 1, Stage.RUN))
        wait_heard(fleet, uid, Stage.RUN)
        cancellation.cancel(fleet.ledger, record, by="the test")
    else:
        control.terminate(routing.task_id(uid, 1, Stage.RUN), signal=how)
    record = wait_cancelled(fleet, uid)
    if how is not None:
        assert "revoked" in str(record.error)
        assert "revoked" in str(sample_task(fleet, record).error)
    assert_works_on(fleet, f"after-{uid}", uid)


@pytest.mark.parametrize("how", [("revoke",), ("terminate", "SIGKILL")])
def test_revoke_a_waiting_stage(fleet: Fleet, how: tuple[str, ...]) -> None:
    """A revoked message that has not begun cancels its analysis as soon as its worker sees it.

    Here by Celery's own commands.
    """
    first, uid = "-".join(("before", *how)), "-".join(("unbegun", *how))
    fleet.push(first)
    running = wait_state(fleet, first, State.RUNNING)
    fleet.push(uid)
    wait_state(fleet, uid, State.QUEUED)
    assert celery(fleet, "control", *how, routing.task_id(uid, 1, Stage.PREPARE))[0] == 0
    cancellation.cancel(fleet.ledger, running, by="the test")
    wait_cancelled(fleet, first)
    record = wait_cancelled(fleet, uid)
    assert "revoked" in str(record.error)
    assert sample_task(fleet, record).status is TaskState.CRASHED
    assert_works_on(fleet, f"after-{uid}", first, uid)


def test_revoke_a_stage_of_the_io_worker(fleet: Fleet, control: Control) -> None:
    """A revoked collect cancels as well: the analysis does not wait for a step that will never come."""
    fleet.hold("half")
    fleet.push("half", timeout=1)
    wait_state(fleet, "half", State.RUNNING)
    control.revoke(routing.task_id("half", 1, Stage.COLLECT))
    wait_heard(fleet, "half", Stage.COLLECT)
    fleet.let_go("half")
    record = wait_cancelled(fleet, "half")
    assert "revoked" in str(record.error)
    assert_works_on(fleet, "after-half", "half")
