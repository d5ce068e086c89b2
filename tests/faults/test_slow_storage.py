"""Slow uploads keep every process of an io pool; the rest of the fleet does not wait for them."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from drakcelery.embedded.services import Services
from drakcelery.model.analysis import Fault, Stage, State
from drakcelery.model.records import Record
from drakcelery.stages import cancellation
from drakcelery.worker.commands import IO_PROCESSES
from tests.faults.fleet import Fleet, Options
from tests.faults.proxy import Uplink
from tests.faults.watch import detonations, wait_free, wait_published, wait_state
from tests.servers import lent
from tests.waiting import wait_until

HOSTS = ("rack-1", "rack-2")
FOUND_SECONDS = 60
LONG = 600


@pytest.fixture(scope="module")
def behind_uplink(
    services: Services,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Fleet, Uplink]]:
    """Two hosts, which reach S3 by one uplink; each has a slot for every process of its io pool."""
    directory = tmp_path_factory.mktemp("slow")
    with lent(services) as servers:
        target = urlsplit(servers.s3.address).port
        assert target is not None
        with Uplink(target) as uplink:
            s3 = servers.s3.model_copy(update={"address": f"http://127.0.0.1:{uplink.port}"})
            options = Options(hosts=HOSTS, slots=IO_PROCESSES, run_seconds=LONG, s3=s3)
            with Fleet(directory / "fleet", servers, options) as fleet:
                yield fleet, uplink


def record_of(fleet: Fleet, uid: str) -> Record:
    """What the ledger says about an analysis that it has."""
    record = fleet.record(uid)
    assert record is not None
    return record


def is_sending(fleet: Fleet, uid: str) -> bool:
    """Whether an io process is at work on its files."""
    record = fleet.record(uid)
    return (
        record is not None and record.busy is not None and record.following in (Stage.COLLECT, Stage.UPLOAD)
    )


@pytest.mark.slow
def test_a_death_is_found_beside_slow_uploads(behind_uplink: tuple[Fleet, Uplink]) -> None:
    """Every io process that is left sends slowly: what a dead host had is begun again as soon as usual
    (R9)."""
    fleet, uplink = behind_uplink
    fleet.push("victim", timeout=LONG)
    dead = wait_state(fleet, "victim", State.RUNNING).host
    (alive,) = set(HOSTS) - {dead}
    slow = [f"slow-{number}" for number in range(IO_PROCESSES)]
    uplink.slow = True
    for uid in slow:
        fleet.push(uid, host=alive, timeout=1)
    wait_until(lambda: all(is_sending(fleet, uid) for uid in slow), "every io process sends")

    for name in (f"vm@{dead}", f"io@{dead}"):
        fleet.signal(name, signal.SIGKILL, group=True)
    killed = time.monotonic()
    again = wait_state(fleet, "victim", State.RUNNING, attempt=2)
    assert time.monotonic() - killed < FOUND_SECONDS
    assert all(is_sending(fleet, uid) for uid in slow)
    assert again.host == alive
    assert [(one.host, one.fault) for one in again.failures] == [(dead, Fault.GONE)]

    uplink.slow = False
    cancellation.cancel(fleet.ledger, again, by="this test")
    wait_published(fleet, *slow)
    for uid in slow:
        assert (record_of(fleet, uid).attempts, detonations(fleet, uid)) == (1, 1)
    wait_free(fleet, alive)
