"""After an outage, whoever is back first judges nobody; and a failover ends no worker."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from drakcelery.model.analysis import State
from tests.faults.outages import OURS, Doors, play, stack
from tests.faults.report import CASES, Outage
from tests.faults.watch import detonations, wait_published, wait_state
from tests.waiting import wait_until

COMPACT = (
    Outage(what="redis", leases=1, first="ingress"),
    Outage(what="power", leases=1, first="vm"),
)
"""What ``make test`` has of the matrix."""
CHOSEN = CASES if os.environ.get("OUTAGES") else COMPACT
"""``make outages`` has it all."""
FOUND_SECONDS = 60
WORKERS = tuple(name for name in OURS if name != "ingress")


@pytest.fixture(scope="module")
def doors(server_programs: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:  # noqa: ARG001 - a check
    """Two hosts; their broker is on Karton's Redis."""
    with stack(tmp_path_factory.mktemp("outages"), apart=False) as ours:
        yield ours


@pytest.fixture(scope="module")
def doors_apart(server_programs: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:  # noqa: ARG001 - a check
    """Two hosts; their broker is a Valkey of its own."""
    with stack(tmp_path_factory.mktemp("apart"), apart=True) as ours:
        yield ours


@pytest.fixture
def fleet(doors: Doors) -> Iterator[Doors]:
    """The fleet of one case: whatever that leaves shut is no matter of the next one."""
    yield doors
    doors.mend()


@pytest.fixture
def fleet_apart(doors_apart: Doors) -> Iterator[Doors]:
    """As above, with a broker apart."""
    yield doors_apart
    doors_apart.mend()


def starts(fleet: Doors) -> dict[str, int]:
    """How often each of our processes was started."""
    return {name: fleet.processes[name].starts for name in OURS}


def innocent(fleet: Doors, uid: str) -> None:
    """The one attempt is the one that was at work, and the sample ran once."""
    record = fleet.record(uid)
    assert record is not None
    assert (record.attempts, record.failures, detonations(fleet, uid)) == (1, (), 1)


def test_a_broker_that_is_demoted_and_promoted(fleet: Doors) -> None:
    """UNBLOCKED and READONLY are a lost connection: workers live on, and so does what they do (R11)."""
    before, redis = starts(fleet), fleet.ledger._redis
    fleet.hold("failover")
    fleet.push("failover", timeout=1)
    wait_state(fleet, "failover", State.RUNNING)
    redis.replicaof("127.0.0.1", 1)
    try:
        logs = [fleet.directory / "log" / f"{name}.log" for name in OURS if name != "ingress"]
        wait_until(lambda: all("replica" in log.read_text() for log in logs), "each worker has noticed")
    finally:
        redis.replicaof("NO", "ONE")
    fleet.let_go("failover")
    wait_published(fleet, "failover")
    innocent(fleet, "failover")
    assert starts(fleet) == before


@pytest.mark.parametrize(
    ("setting", "told"),
    [("min-replicas-to-write", "not enough good replicas"), ("maxmemory", "when used memory")],
)
def test_a_redis_that_takes_no_writes(fleet: Doors, setting: str, told: str) -> None:
    """Too few replicas, or no memory, is an outage: no worker ends, and nobody is blamed for it (R11)."""
    before, redis = starts(fleet), fleet.ledger._redis
    uid = f"no-writes-{setting}"
    fleet.hold(uid)
    fleet.push(uid, timeout=1)
    wait_state(fleet, uid, State.RUNNING)
    redis.config_set(setting, 1)
    try:
        wait_until(lambda: all(told in log_of(fleet, name) for name in WORKERS), "each worker has noticed")
    finally:
        redis.config_set(setting, 0)
    fleet.let_go(uid)
    wait_published(fleet, uid)
    innocent(fleet, uid)
    assert starts(fleet) == before
    assert fleet.ledger.quarantine.all() == []


def log_of(fleet: Doors, name: str) -> str:
    """What a process has logged."""
    return (fleet.directory / "log" / f"{name}.log").read_text().lower()


def chosen(*what: str) -> list[object]:
    """The cases of some outages."""
    return [pytest.param(case, id=case.name) for case in CHOSEN if case.what in what]


def judge(ended: Outage) -> None:
    """Nothing happened to whom nothing had happened; only a power cut takes the guests that run."""
    assert (ended.innocent_ended, ended.detonated_again) == (0, 0), ended
    assert ended.guest_attempts == (2 if ended.what == "power" else 1)
    assert ended.found_seconds is not None
    assert ended.found_seconds < FOUND_SECONDS


@pytest.mark.slow
@pytest.mark.parametrize("case", chosen("redis", "power"))
def test_who_is_back_first_ends_nobody(fleet: Doors, case: Outage) -> None:
    """One process is back before all others: no attempt ends for it, no run is made again (R6, R9)."""
    judge(play(fleet, case))


@pytest.mark.slow
@pytest.mark.parametrize("case", chosen("broker", "both"))
def test_who_is_back_first_after_a_broker_apart(fleet_apart: Doors, case: Outage) -> None:
    """As above, where the broker is not on Karton's Redis (R6)."""
    judge(play(fleet_apart, case))
