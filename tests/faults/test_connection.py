"""A lost connection to Redis costs a worker nothing that it has in hand (I5)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from drakcelery.embedded.services import Services
from drakcelery.model.analysis import State
from tests.faults.fleet import Fleet, Options
from tests.faults.proxy import Proxy
from tests.faults.watch import wait_free, wait_published, wait_state
from tests.servers import lent
from tests.waiting import wait_until

HOST = "rack-1"


@pytest.fixture
def proxied(services: Services, tmp_path: Path) -> Iterator[tuple[Fleet, Proxy]]:
    """One host with one slot, which reaches Redis through a proxy."""
    with lent(services) as servers, Proxy(servers.redis.port) as proxy:
        section = servers.redis.model_copy(update={"port": proxy.port})
        options = Options(hosts=(HOST,), slots=1, run_seconds=1, redis=section)
        with Fleet(tmp_path / "fleet", servers, options) as fleet:
            yield fleet, proxy


def test_a_guest_outlives_the_connection(proxied: tuple[Fleet, Proxy]) -> None:
    """The guest runs on, its worker lives on, and the message is acknowledged by the next connection."""
    fleet, proxy = proxied
    fleet.hold("cut-off")
    fleet.push("cut-off")
    wait_state(fleet, "cut-off", State.RUNNING)
    assert proxy.drop() > 0
    fleet.let_go("cut-off")
    wait_published(fleet, "cut-off")
    record = fleet.record("cut-off")
    assert record is not None
    assert (record.attempts, record.resends, record.failures) == (1, 0, ())
    with redis.Redis.from_url(fleet.settings.redis.address(db_offset=1)) as broker:
        wait_until(lambda: not broker.hlen("unacked"), "every message is acknowledged")
    fleet.push("after")
    wait_published(fleet, "after")
    wait_free(fleet, HOST)
    assert {name: process.starts for name, process in fleet.processes.items()} == dict.fromkeys(
        fleet.processes, 1
    )
