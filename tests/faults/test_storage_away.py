"""S3, Redis or the disk fail the fleet for a while: nothing is lost, and what was detonated is not again."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from drakcelery.embedded.services import Services
from drakcelery.host.workspace import Workspace
from drakcelery.model.analysis import Stage, State
from drakcelery.model.halt import Halt
from drakcelery.model.records import Record
from tests.faults.fleet import Fleet, Options
from tests.faults.watch import (
    detonations,
    start_server,
    stop_server,
    wait_free,
    wait_halted,
    wait_published,
    wait_silent,
    wait_state,
)
from tests.servers import lent
from tests.waiting import wait_until

HOST = "rack-1"
RUN_SECONDS = 1.0
LONG = 600
GIB = 1024**3


@pytest.fixture(scope="module")
def stoppable(server_programs: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:  # noqa: ARG001 - a check
    """Servers that may be stopped."""
    with Services(tmp_path_factory.mktemp("away-services")) as servers:
        yield servers


@pytest.fixture(scope="module")
def fleet(stoppable: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One host with one slot. A run takes less time than its task allows: no sample is fetched ahead."""
    options = Options(hosts=(HOST,), slots=1, run_seconds=RUN_SECONDS)
    with Fleet(tmp_path_factory.mktemp("away") / "fleet", stoppable, options) as ours:
        yield ours


def record_of(fleet: Fleet, uid: str) -> Record:
    """What the ledger says about an analysis that it has."""
    record = fleet.record(uid)
    assert record is not None
    return record


def test_storage_is_away(fleet: Fleet, stoppable: Services) -> None:
    """One outage of S3, and each that needs it waits for its end; nobody is run twice.

    An upload is put off with its workspace kept. A sample that cannot be fetched fails its attempt, and the
    next one follows. Ingress cannot look at what comes meanwhile: it stays accepted, and is begun later.
    """
    for uid, point in (("kept", "upload.entered"), ("fetched-later", "prepare.entered")):
        fleet.plan(uid, point, "hold")
        fleet.push(uid)
        wait_until(lambda uid=uid: fleet.fired(uid), f"{uid} is about to need S3")  # type: ignore[misc] # mypy cannot type a lambda with a default
    fleet.signal("ingress", signal.SIGSTOP)
    fleet.push("unseen")
    fleet.backend.s3.close()  # SeaweedFS would wait for it
    stop_server(stoppable, "SeaweedFS")
    fleet.signal("ingress", signal.SIGCONT)
    fleet.let_go("kept", "fetched-later")
    wait_until(lambda: len(fleet.inbox.accepted()) == 1, "the task is in the inbox")
    wait_until(lambda: record_of(fleet, "kept").postponed, "the upload is put off")
    log = fleet.directory / "log" / "ingress.log"
    wait_until(lambda: "sample_unreachable" in log.read_text(), "ingress gives S3 up for now")
    record = record_of(fleet, "kept")
    assert (record.state, record.following) == (State.UPLOADING, Stage.UPLOAD)
    assert "kept" in [uid for _, uid, _ in Workspace.all(fleet.state_dir(HOST))]
    wait_until(lambda: record_of(fleet, "fetched-later").failures, "it cannot be fetched")
    assert record_of(fleet, "fetched-later").failures[0].slot == "vm-1"  # which waits with no upload
    assert len(fleet.inbox.accepted()) == 1
    start_server(stoppable, "SeaweedFS")
    wait_published(fleet, "kept", "fetched-later", "unseen")
    assert fleet.inbox.accepted() == []
    kept, later = record_of(fleet, "kept"), record_of(fleet, "fetched-later")
    assert (kept.attempts, kept.failures) == (1, ())
    assert {failure.stage for failure in later.failures} == {Stage.PREPARE}
    assert [detonations(fleet, uid) for uid in ("kept", "fetched-later", "unseen")] == [1, 1, 1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_redis_restarts(fleet: Fleet, stoppable: Services, number: signal.Signals) -> None:
    """Valkey goes in the middle of a run and comes back: the run is not lost, and not made again."""
    uid = f"over-{number.name.lower()}"
    fleet.hold(uid)
    fleet.push(uid)
    wait_state(fleet, uid, State.RUNNING)
    # Valkey writes once a second; what it has not written is lost with it
    fleet.ledger._redis.execute_command("WAITAOF", 1, 0, 10_000)  # type: ignore[no-untyped-call] # redis-py leaves this one untyped
    stop_server(stoppable, "Valkey", number)
    start_server(stoppable, "Valkey")
    fleet.let_go(uid)
    wait_published(fleet, uid)
    after = record_of(fleet, uid)
    assert (after.attempts, after.failures, detonations(fleet, uid)) == (1, (), 1)


def test_a_full_disk(services: Services, tmp_path: Path) -> None:
    """With too little space a host takes nothing and says so; what it has in hand goes on.

    What was on its way to a slot waits: nobody takes its message for lost since slots are empty (R13).
    """
    free = shutil.disk_usage(tmp_path).free
    if free < 4 * GIB:
        pytest.skip("this disk is nearly full already")
    limits = {"drakcelery": {"min_free_space": str(free - GIB)}}
    options = Options(hosts=("rack-9",), slots=2, run_seconds=LONG, lease_seconds=5, more=limits)
    ballast, log = tmp_path / "ballast", tmp_path / "fleet" / "log" / "vm@rack-9.log"
    with lent(services) as servers, Fleet(tmp_path / "fleet", servers, options) as fleet:
        in_hand = ("in-hand-1", "in-hand-2")
        for uid in in_hand:
            fleet.hold(uid)
            fleet.push(uid, timeout=1)
        for uid in in_hand:
            wait_state(fleet, uid, State.RUNNING)
        fleet.push("no-room", timeout=1)
        wait_state(fleet, "no-room", State.QUEUED)
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, 2 * GIB)
        wait_until(lambda: "enough=False" in log.read_text(), "the worker says that the disk is full")
        for uid in in_hand:
            fleet.let_go(uid)
        wait_published(fleet, *in_hand)
        wait_halted(fleet, "rack-9", Halt.NO_SPACE)
        waiting = wait_silent(fleet, "no-room", seconds=3 * fleet.ledger.timeouts.lost)
        assert [slot.uid for slot in fleet.slots()["rack-9"]] == [None, None]
        assert (waiting.state, waiting.attempt, waiting.host) == (State.QUEUED, 1, None)
        ballast.unlink()
        wait_published(fleet, "no-room")


def test_io_that_falls_behind(services: Services, tmp_path: Path) -> None:
    """While the spool is at its limit a host with free slots takes nothing; it does once io has caught up."""
    limits = {"drakcelery": {"spool_limit": "1"}}
    options = Options(hosts=("rack-9",), slots=2, run_seconds=LONG, more=limits)
    log = tmp_path / "fleet" / "log" / "vm@rack-9.log"
    with lent(services) as servers, Fleet(tmp_path / "fleet", servers, options) as fleet:
        fleet.hold("first")
        fleet.push("first", host="rack-9", timeout=1)
        wait_state(fleet, "first", State.RUNNING)  # a host whose io worker shows no life would not take it
        fleet.signal("io@rack-9", signal.SIGSTOP, group=True)
        fleet.let_go("first")
        wait_free(fleet, "rack-9")
        wait_until(lambda: "enough=False" in log.read_text(), "the worker says that the spool is full")
        wait_halted(fleet, "rack-9", Halt.NO_SPACE, Halt.NO_IO_WORKER)
        fleet.push("second", host="rack-9", timeout=1)
        queue = f"karton.queue.normal:{fleet.ledger.identity}"
        wait_until(lambda: fleet.ledger._redis.llen(queue), "the sample waits in Karton")
        assert [slot.uid for slot in fleet.slots()["rack-9"]] == [None, None]
        assert fleet.record("second") is None
        assert "reason=spool" in log.read_text()
        fleet.signal("io@rack-9", signal.SIGCONT, group=True)
        wait_published(fleet, "first", "second")
