"""RabbitMQ as broker, with quorum queues: the same fleet, the same promises."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from drakcelery.broker.routing import io_queue, prepare_queue, vm_queue
from drakcelery.embedded.services import Services
from drakcelery.model.analysis import State
from drakcelery.model.records import Record
from tests.conftest import require
from tests.faults.fleet import Fleet, Options
from tests.faults.proxy import Proxy
from tests.faults.rabbit import SERVER, Rabbit
from tests.faults.watch import wait_free, wait_gone, wait_published, wait_state
from tests.servers import lent
from tests.waiting import wait_until

HOSTS = ("rack-1", "rack-2")
SLOTS = 2


@pytest.fixture(scope="module")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rabbit]:
    """A node, or a skip that says what to install."""
    require(SERVER.exists(), f"{SERVER} is missing; install it with: apt-get install rabbitmq-server")
    with Rabbit(tmp_path_factory.mktemp("rabbit")) as node:
        yield node


@pytest.fixture(scope="module")
def proxy(rabbit: Rabbit) -> Iterator[Proxy]:
    """What can cut the connections to the node."""
    with Proxy(rabbit.port) as ours:
        yield ours


@pytest.fixture(scope="module")
def fleet(
    services: Services,
    rabbit: Rabbit,
    proxy: Proxy,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Fleet]:
    """Two hosts with two slots each; their broker is RabbitMQ."""
    directory = tmp_path_factory.mktemp("brokers")
    options = Options(
        hosts=HOSTS, slots=SLOTS, run_seconds=1, more={"celery": {"broker_url": rabbit.url(proxy.port)}}
    )
    with (
        lent(services) as servers,
        Fleet(directory / "fleet", servers, options) as ours,
    ):
        yield ours


@pytest.fixture(autouse=True)
def nobody_held(fleet: Fleet) -> Iterator[None]:
    """Where a test fails, what it held is in nobody's way."""
    yield
    fleet.let_go()


def record_of(fleet: Fleet, uid: str) -> Record:
    """What the ledger says about an analysis that it has."""
    record = fleet.record(uid)
    assert record is not None
    return record


def all_busy(fleet: Fleet, uids: list[str]) -> bool:
    """Whether every slot has an analysis."""
    states = [record.state for uid in uids if (record := fleet.record(uid)) is not None]
    return sum(state in (State.PREPARING, State.RUNNING) for state in states) == len(HOSTS) * SLOTS


def test_waits_in_quorum_queues(fleet: Fleet, rabbit: Rabbit) -> None:
    """Each analysis is published once; those without a free slot wait in the broker, with no host (I4)."""
    uids = [f"calm-{number}" for number in range(len(HOSTS) * SLOTS + 2)]
    for uid in uids:
        fleet.hold(uid)
        fleet.push(uid)
    waiting = prepare_queue("default")

    wait_until(
        lambda: rabbit.waiting(waiting) == 2 and all_busy(fleet, uids),
        "every slot has an analysis, and the rest waits in the broker",
    )
    ours = {waiting, *map(vm_queue, HOSTS), *map(io_queue, HOSTS)}
    queues = rabbit.queues()
    assert {queues.get(name) for name in ours} == {"quorum"}
    assert not [name for name in queues if name.startswith("celery_delayed")]
    fleet.let_go(*uids)
    wait_published(fleet, *uids)
    assert {record_of(fleet, uid).attempts for uid in uids} == {1}


@pytest.mark.parametrize("victim", ["worker", "child"])
def test_killed_in_mid_run(fleet: Fleet, victim: str) -> None:
    """kill -9 of a vm worker, or of its pool process, in mid-run: published once, by another attempt."""
    uid = f"killed-{victim}"
    fleet.hold(uid)
    fleet.push(uid, host="rack-2")
    wait_state(fleet, uid, State.RUNNING)
    if victim == "worker":
        fleet.signal("vm@rack-2", signal.SIGKILL, group=True)
    else:
        fleet.at_work("vm@rack-2").kill()
    fleet.let_go(uid)
    wait_published(fleet, uid)
    assert record_of(fleet, uid).attempts == 2
    wait_gone(fleet, uid)


def test_cut_connection(fleet: Fleet, proxy: Proxy) -> None:
    """RabbitMQ delivers again what a lost connection had; the guest runs on, in the attempt it is in."""
    fleet.hold("cut-off")
    fleet.push("cut-off", host="rack-1")
    wait_state(fleet, "cut-off", State.RUNNING)
    assert proxy.drop() > 0
    fleet.let_go("cut-off")
    wait_published(fleet, "cut-off")
    record = record_of(fleet, "cut-off")
    assert (record.attempts, record.failures) == (1, ())
    wait_gone(fleet, "cut-off")


def test_killed_broker(fleet: Fleet, rabbit: Rabbit) -> None:
    """kill -9 of RabbitMQ: guests run on, in the attempt that they were in; nothing is lost that it had."""
    uids = [f"broker-{number}" for number in range(len(HOSTS) * SLOTS + 1)]
    for uid in uids:
        fleet.hold(uid)
        fleet.push(uid)
    wait_until(lambda: all_busy(fleet, uids), "every slot has an analysis")
    started = {name: process.starts for name, process in fleet.processes.items()}
    rabbit.kill()
    rabbit.start()
    fleet.let_go(*uids)
    wait_published(fleet, *uids)
    assert {record_of(fleet, uid).failures for uid in uids} == {()}
    fleet.push("after")
    wait_published(fleet, "after")
    for host in HOSTS:
        wait_free(fleet, host)
    queues = (prepare_queue("default"), *map(vm_queue, HOSTS), *map(io_queue, HOSTS))
    wait_until(lambda: not rabbit.waiting(*queues), "nothing is left in the broker")
    assert {name: process.starts for name, process in fleet.processes.items()} == started
