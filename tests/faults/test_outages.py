"""After an outage of Redis, whoever is back first judges nobody; and a failover ends no worker."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest

from drakcelery.analysis import State
from drakcelery.embedded.services import Services
from drakcelery.ledger.watch import WATCH
from drakcelery.lifesigns import SHORTEST
from tests.faults.fleet import Fleet, Options
from tests.faults.watch import detonations, start_server, stop_server, wait_published, wait_state
from tests.waiting import wait_until

HOSTS = ("rack-1", "rack-2")
OURS = ("ingress", *(f"{role}@{host}" for host in HOSTS for role in ("vm", "io")))
WORKERS = tuple(name for name in OURS if name != "ingress")
RUN_SECONDS = 20
"""Longer than an outage, so that a guest outlives it."""
OUTAGE_SECONDS = 2.0 * SHORTEST


@pytest.fixture(scope="module")
def stack(
    server_programs: None,  # noqa: ARG001 - a check
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Services, Fleet]]:
    """Two hosts with a slot each, and the shortest lease."""
    directory = tmp_path_factory.mktemp("outages")
    options = Options(hosts=HOSTS, slots=1, run_seconds=RUN_SECONDS, lease_seconds=SHORTEST)
    with Services(directory / "services") as services, Fleet(directory / "fleet", services, options) as fleet:
        yield services, fleet


def starts(fleet: Fleet) -> dict[str, int]:
    """How often each of our processes was started."""
    return {name: fleet.processes[name].starts for name in OURS}


def innocent(fleet: Fleet, uid: str) -> None:
    """The one attempt is the one that was at work, and the sample ran once."""
    record = fleet.record(uid)
    assert record is not None
    assert (record.attempts, record.failures, detonations(fleet, uid)) == (1, (), 1)


def test_a_broker_that_is_demoted_and_promoted(stack: tuple[Services, Fleet]) -> None:
    """UNBLOCKED and READONLY are a lost connection: workers live on, and so does what they do (R11)."""
    _, fleet = stack
    before, redis = starts(fleet), fleet.ledger.redis
    fleet.push("failover")
    wait_state(fleet, "failover", State.RUNNING)
    redis.replicaof("127.0.0.1", 1)
    try:
        logs = [fleet.directory / "log" / f"{name}.log" for name in OURS if name != "ingress"]
        wait_until(lambda: all("replica" in log.read_text() for log in logs), "each worker has noticed")
    finally:
        redis.replicaof("NO", "ONE")
    wait_published(fleet, "failover")
    innocent(fleet, "failover")
    assert starts(fleet) == before


@pytest.mark.parametrize(
    ("setting", "told"),
    [("min-replicas-to-write", "not enough good replicas"), ("maxmemory", "when used memory")],
)
def test_a_redis_that_takes_no_writes(stack: tuple[Services, Fleet], setting: str, told: str) -> None:
    """Too few replicas, or no memory, is an outage: no worker ends, and nobody is blamed for it (R11)."""
    _, fleet = stack
    before, redis = starts(fleet), fleet.ledger.redis
    uid = f"no-writes-{setting}"
    fleet.push(uid)
    wait_state(fleet, uid, State.RUNNING)
    redis.config_set(setting, 1)
    try:
        wait_until(lambda: all(told in log_of(fleet, name) for name in WORKERS), "each worker has noticed")
    finally:
        redis.config_set(setting, 0)
    wait_published(fleet, uid)
    innocent(fleet, uid)
    assert starts(fleet) == before
    assert fleet.ledger.quarantine.all() == []


def log_of(fleet: Fleet, name: str) -> str:
    """What a process has logged."""
    return (fleet.directory / "log" / f"{name}.log").read_text().lower()


@pytest.mark.slow
@pytest.mark.parametrize("first", ["ingress", "vm@rack-1", "io@rack-1"])
def test_who_is_back_first_ends_nobody(stack: tuple[Services, Fleet], first: str) -> None:
    """Redis is away for two leases, and one process hears it before all others: no attempt ends (R6)."""
    services, fleet = stack
    uid = f"first-{first.partition('@')[0]}"
    fleet.push(uid, host="rack-2")
    wait_state(fleet, uid, State.RUNNING)
    since = fleet.ledger.redis.hget(WATCH, "since")
    stop_server(services, "Valkey")
    others = [name for name in OURS if name != first]
    for name in others:
        fleet.signal(name, signal.SIGSTOP, group=True)
    until = time.monotonic() + OUTAGE_SECONDS
    try:
        wait_until(lambda: time.monotonic() > until, "Redis was away for two leases")
        start_server(services, "Valkey")
        if not first.startswith("io"):  # which judges nobody
            wait_until(lambda: fleet.ledger.redis.hget(WATCH, "since") != since, f"{first} is back")
    finally:
        for name in others:
            fleet.signal(name, signal.SIGCONT, group=True)
    wait_published(fleet, uid)
    innocent(fleet, uid)
