"""A broker apart is away for leases: nothing counts as lost meanwhile, and nothing is done twice (R6)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from drakcelery.embedded.services import Services
from drakcelery.model.analysis import Stage, State
from drakcelery.model.halt import Halt
from drakcelery.model.records import HostStatus
from drakcelery.model.timeouts import SHORTEST
from drakcelery.settings import RedisSection
from tests.faults.apart import valkey_apart
from tests.faults.fleet import Fleet, Options
from tests.faults.proxy import Proxy
from tests.faults.watch import (
    detonations,
    said_of,
    start_server,
    stop_server,
    wait_halted,
    wait_published,
    wait_state,
)
from tests.servers import lent
from tests.waiting import wait_until

NEAR, FAR = "rack-1", "rack-2"
OUTAGE_SECONDS = 4.0 * SHORTEST


@dataclass(frozen=True, kw_only=True)
class Stack:
    """A fleet and what can be taken from it."""

    fleet: Fleet
    broker: Services
    link: Proxy
    """Between the far host and the broker."""

    @contextmanager
    def outage(self, whose: str) -> Iterator[None]:
        """The broker is away, for all or for the far host alone."""
        if whose == "one host's":
            with self.link.cut():
                yield
            return
        stop_server(self.broker, "Valkey")
        try:
            yield
        finally:
            start_server(self.broker, "Valkey")


@pytest.fixture(scope="module")
def stack(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Two hosts with two slots each; one of them reaches the broker by a link that can be cut."""
    directory = tmp_path_factory.mktemp("broker-away")
    with valkey_apart(directory / "broker") as broker, Proxy(broker.redis.port) as link:
        options = Options(
            hosts=(NEAR, FAR),
            slots=2,
            run_seconds=600,
            lease_seconds=SHORTEST,
            more={"celery": {"broker_url": broker.redis.address()}},
            of_host={FAR: {"celery": {"broker_url": by(broker.redis, link)}}},
        )
        with (
            lent(services) as servers,
            Fleet(directory / "fleet", servers, options) as fleet,
        ):
            yield Stack(fleet=fleet, broker=broker, link=link)


def by(server: RedisSection, link: Proxy) -> str:
    """The address of *server* by way of *link*."""
    return server.model_copy(update={"port": link.port}).address()


def far(fleet: Fleet) -> HostStatus:
    """What the host with the link says about itself."""
    return said_of(fleet, FAR)


def waits_for_collect(fleet: Fleet, uid: str) -> bool:
    """Whether the run is finished, and nobody has begun to collect what it left."""
    record = fleet.record(uid)
    return record is not None and record.following is Stage.COLLECT and not record.busy


@pytest.mark.slow
@pytest.mark.parametrize("whose", ["everybody's", "one host's"])
def test_nothing_is_sent_anew_while_nobody_could_take_it(stack: Stack, whose: str) -> None:
    """What waits, runs or is finished as the broker goes is published in the attempt that it is in (R6)."""
    fleet, key = stack.fleet, whose.partition("'")[0].replace(" ", "-")
    ends, runs, waits = (f"{what}-{key}" for what in ("ends", "runs", "waits"))
    for uid in (ends, runs):
        fleet.hold(uid)
        fleet.push(uid, host=FAR, timeout=1)
    for uid in (ends, runs):
        wait_state(fleet, uid, State.RUNNING)
    fleet.push(waits, host=FAR, timeout=1)
    wait_state(fleet, waits, State.QUEUED)
    wait_until(
        lambda: (record := fleet.record(waits)) and not record.is_unsent, f"{waits} is with the broker"
    )
    with stack.outage(whose):
        until = time.monotonic() + OUTAGE_SECONDS
        wait_halted(fleet, FAR, Halt.NO_BROKER)
        fleet.let_go(ends)
        wait_until(lambda: waits_for_collect(fleet, ends), f"{ends} is finished")
        wait_until(
            lambda: {slot.state for slot in far(fleet).slots} == {"halted", "running"}, "one is halted"
        )
        wait_until(lambda: time.monotonic() > until, "the broker was away for four leases")
        assert far(fleet).halted == Halt.NO_BROKER
    wait_until(lambda: far(fleet).halted is None, "the host is open again")
    fleet.let_go(runs)
    wait_published(fleet, ends, runs, waits)
    for uid in (ends, runs, waits):
        record = fleet.record(uid)
        assert record is not None
        assert (record.attempt, record.attempts, record.failures) == (1, 1, ())
        assert detonations(fleet, uid) == 1
