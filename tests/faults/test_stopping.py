"""SIGTERM: what runs may finish, for a while; nothing new begins, nothing is lost, the exit status is 0."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from drakcelery.embedded.services import Services
from drakcelery.model.analysis import Fault, State
from drakcelery.model.records import Record
from drakcelery.model.slot_state import ReportedState
from drakcelery.stages import cancellation
from tests.faults.fleet import Fleet, Options
from tests.faults.watch import wait_gone, wait_published, wait_state
from tests.servers import lent
from tests.waiting import wait_until

HOSTS = ("rack-1", "rack-2")
LONG = 600


@pytest.fixture(scope="module")
def fleet(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two hosts that wait for their guests as long as anyone can."""
    directory = tmp_path_factory.mktemp("stopping")
    options = Options(hosts=HOSTS, slots=2, run_seconds=LONG, stop_seconds=LONG)
    with (
        lent(services) as servers,
        Fleet(directory / "fleet", servers, options) as ours,
    ):
        yield ours


@pytest.fixture(autouse=True)
def everyone_there(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test begins with all hosts alive and leaves nothing running."""
    if "fleet" not in request.fixturenames:
        yield
        return
    fleet: Fleet = request.getfixturevalue("fleet")
    fleet.respawn()
    fleet.wait_ready()
    yield
    fleet.respawn()  # what a host has lying about is cleared by its next worker
    for record in fleet.ledger.live():
        cancellation.cancel(fleet.ledger, record, by="the test that began it")
        wait_gone(fleet, record.uid)


def exit_status(fleet: Fleet, name: str) -> int:
    """How the process ended."""
    process = fleet.processes[name].running
    wait_until(lambda: process.poll() is not None, f"{name} ends")
    assert process.returncode is not None
    return process.returncode


def running(fleet: Fleet, uid: str, *, timeout: int | None = None) -> Record:
    """Begin an analysis; its record once its guest runs, and not only its stage is due."""
    fleet.push(uid, timeout=timeout)
    wait_until(lambda: uid in guests(fleet), f"the guest of {uid} runs")
    return wait_state(fleet, uid, State.RUNNING)


def guests(fleet: Fleet) -> set[str | None]:
    """The analyses whose guests run, as their hosts report."""
    slots = [slot for host in fleet.ledger.fleet.hosts() for slot in host.slots]
    return {slot.uid for slot in slots if slot.state is ReportedState.RUNNING}


def wait_stopping(fleet: Fleet, host: str) -> None:
    """Return once the vm worker of *host* says that it is stopping."""
    log = fleet.directory / "log" / f"vm@{host}.log"
    seen = log.read_text().count("patience=")
    fleet.signal(f"vm@{host}", signal.SIGTERM)
    wait_until(lambda: log.read_text().count("patience=") > seen, f"{host} is stopping")


def test_guests_may_finish(fleet: Fleet) -> None:
    """A guest that runs is waited for; a sample that comes meanwhile goes to the other host."""
    fleet.hold("finishes")
    record = running(fleet, "finishes", timeout=1)
    stopping, other = str(record.host), next(host for host in HOSTS if host != record.host)
    wait_stopping(fleet, stopping)
    for uid in ("late-1", "late-2"):  # as many as the other host has slots
        fleet.push(uid, timeout=1)
    fleet.let_go("finishes")
    assert exit_status(fleet, f"vm@{stopping}") == 0
    wait_published(fleet, "finishes", "late-1", "late-2")
    for uid, host in {"finishes": stopping, "late-1": other, "late-2": other}.items():
        after = fleet.record(uid)
        assert after is not None
        assert (after.host, after.failures) == (host, ())


def test_a_second_signal_ends_the_guests(fleet: Fleet) -> None:
    """The guests are destroyed, and what ran in them runs on the other host: by our word, not by silence."""
    record = running(fleet, "hurried")
    stopping, other = str(record.host), next(host for host in HOSTS if host != record.host)
    wait_stopping(fleet, stopping)
    fleet.signal(f"vm@{stopping}", signal.SIGTERM)
    assert exit_status(fleet, f"vm@{stopping}") == 0
    after = wait_state(fleet, "hurried", State.RUNNING, attempt=2)
    assert after.host == other
    (failure,) = after.failures
    assert (failure.fault, failure.error, failure.host) == (Fault.STOPPED, "the host is stopping", stopping)
    assert [trace for trace in fleet.traces("hurried") if trace.startswith(f"{stopping}: guest")] == []


def test_a_restored_guest_is_given_up(fleet: Fleet) -> None:
    """A guest that has not begun to run would wait for a message that nobody takes: it goes elsewhere."""
    fleet.plan("ready", "prepare.ready", "sigterm")
    fleet.push("ready", timeout=1)
    wait_until(lambda: fleet.fired("ready"), "the signal is sent")
    after = wait_state(fleet, "ready", State.PUBLISHED)
    first = after.failures[0]
    assert first.host is not None
    assert exit_status(fleet, f"vm@{first.host}") == 0
    assert (first.fault, len(after.failures)) == (Fault.STOPPED, 1)
    assert after.host != first.host
    wait_published(fleet, "ready")


@pytest.mark.parametrize("role", ["io@rack-1", "ingress", "system"])
def test_the_others_lose_nothing(fleet: Fleet, role: str) -> None:
    """Stopped in the middle of the work and started again: every sample is published once."""
    uids = [f"{role.split('@')[0]}-{number}" for number in range(6)]
    for uid in uids[:3]:
        fleet.push(uid, timeout=1)
    wait_until(lambda: any(fleet.record(uid) for uid in uids), "the first sample is accepted")
    fleet.signal(role, signal.SIGTERM)
    for uid in uids[3:]:
        fleet.push(uid, timeout=1)
    assert exit_status(fleet, role) == 0
    wait_published(fleet, *uids)
    for uid in uids:
        record = fleet.record(uid)
        assert record is not None
        assert record.failures == ()


def test_the_limit(server_programs: None, tmp_path: Path) -> None:  # noqa: ARG001 - a check
    """Once ``stop_seconds`` are over, guests that still run are destroyed and go on elsewhere."""
    options = Options(hosts=HOSTS, slots=1, run_seconds=LONG, stop_seconds=1)
    with Services(tmp_path / "services") as services, Fleet(tmp_path / "fleet", services, options) as fleet:
        record = running(fleet, "too-long")
        fleet.signal(f"vm@{record.host}", signal.SIGTERM)
        assert exit_status(fleet, f"vm@{record.host}") == 0
        after = wait_state(fleet, "too-long", State.RUNNING, attempt=2)
        assert after.host != record.host
        assert [failure.fault for failure in after.failures] == [Fault.STOPPED]
