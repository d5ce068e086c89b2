"""The shortest lease: a dead host's work goes on, and who lives keeps his, whatever lease others have."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drakcelery.embedded.services import Services
from drakcelery.model.analysis import Fault, State
from drakcelery.model.records import Record
from drakcelery.model.timeouts import LONGEST, SHORTEST, timeouts_of
from tests.faults.fleet import Fleet, Options
from tests.faults.watch import detonations, wait_free, wait_gone, wait_published, wait_state
from tests.servers import lent
from tests.waiting import wait_until

HOSTS = ("rack-1", "rack-2")
RUN_SECONDS = 3.0
LONG_RUN_SECONDS = 2 * timeouts_of(SHORTEST).visibility
"""Past every silence of the shortest lease."""

pytestmark = pytest.mark.slow
Fleets = Callable[..., Fleet]


@pytest.fixture
def fleet_of(services: Services, tmp_path: Path) -> Iterator[Fleets]:
    """Makes the fleet of a test: two hosts with a slot each, and the lease of each."""
    with lent(services) as servers:
        fleets: list[Fleet] = []

        def make(*leases: int, run_seconds: float = RUN_SECONDS) -> Fleet:
            sections = ({"drakcelery": {"lease_seconds": str(lease)}} for lease in leases)
            of_host = dict(zip(HOSTS, sections, strict=True))
            options = Options(hosts=HOSTS, slots=1, run_seconds=run_seconds, of_host=of_host)
            fleets.append(Fleet(tmp_path / "fleet", servers, options))
            return fleets[0].__enter__()

        yield make
        for fleet in fleets:
            fleet.stop()


def test_a_host_dies_in_mid_run(fleet_of: Fleets) -> None:
    """Its vm worker and pool are killed: the other host takes up the run; the first works once it is back."""
    fleet = fleet_of(SHORTEST, SHORTEST)
    fleet.push("run")
    victim = wait_state(fleet, "run", State.RUNNING).host
    fleet.signal(f"vm@{victim}", signal.SIGKILL, group=True)

    def taken_up() -> Record | None:
        record = fleet.record("run")
        return record if record and record.state is State.RUNNING and record.host != victim else None

    record = wait_until(taken_up, "the other host runs it")
    assert [(one.host, one.fault) for one in record.failures] == [(victim, Fault.GONE)]
    wait_published(fleet, "run")  # and the killed worker is started again
    wait_gone(fleet, "run")
    fleet.push("after", host=victim)
    wait_published(fleet, "after")
    for host in HOSTS:
        wait_free(fleet, host)
    assert detonations(fleet, "after") == 1


def test_hosts_with_different_leases(fleet_of: Fleets) -> None:
    """While all live nobody takes another's work, though one promises a sign less often than the other."""
    fleet = fleet_of(SHORTEST, LONGEST, run_seconds=LONG_RUN_SECONDS)
    for host in HOSTS:
        fleet.push(f"on-{host}", host=host)
    wait_published(fleet, *(f"on-{host}" for host in HOSTS))
    for host in HOSTS:
        record = fleet.record(f"on-{host}")
        assert record is not None
        assert (record.attempts, record.resends, detonations(fleet, f"on-{host}")) == (1, 0, 1)
    said = [line for log in (fleet.directory / "log").glob("*.log") for line in log.read_text().splitlines()]
    assert not [line for line in said if "messages_restored" in line or "delivered_twice" in line]
