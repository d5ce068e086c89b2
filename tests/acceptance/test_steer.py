"""A host is drained for maintenance under load, and taken back: nothing is lost, and no time either."""

from __future__ import annotations

import signal
import statistics
from collections.abc import Callable, Iterator

import pytest
from celery import Celery
from karton.core.backend import KARTON_TASKS_QUEUE

from drakcelery.embedded.services import Services
from drakcelery.model.analysis import State
from drakcelery.model.records import Record
from drakcelery.operators import steering
from tests.faults.fleet import Fleet, Options
from tests.faults.watch import type_in, wait_routed
from tests.servers import lent
from tests.waiting import wait_until

DRAINED, OTHER = "rack-1", "rack-2"
SLOTS = 2
ROUNDS = 3
ME = "alice@console"
LEFT = 6
"""Samples that the other host does while one is drained, at least."""


@pytest.fixture(scope="module")
def fleet(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two hosts with two slots each, whose guests run for a moment."""
    directory = tmp_path_factory.mktemp("steer")
    options = Options(hosts=(DRAINED, OTHER), slots=SLOTS, run_seconds=0.3, stop_seconds=10)
    with (
        lent(services),
        Fleet(directory / "fleet", services, options) as ours,
    ):
        yield ours


@pytest.fixture(scope="module")
def app(fleet: Fleet) -> Iterator[Celery]:
    """What Flower asks the workers with."""
    with Celery(broker=fleet.settings.broker_url, control="drakcelery.worker.mailbox:Control") as ours:
        for node in (f"vm@{DRAINED}", f"vm@{OTHER}"):
            wait_until(lambda node=node: steering.ask(ours, node, "slots", timeout=1), f"{node} answers")  # type: ignore[misc] # mypy cannot type a lambda with a default
        yield ours


class Load:
    """Samples for any host, always more than there is room for."""

    def __init__(self, fleet: Fleet, name: str) -> None:
        self._fleet = fleet
        self._name = name
        self.uids: list[str] = []

    def push(self, count: int, *, held: bool = False) -> None:
        """So many more; where they are *held*, their guests run on until the fleet lets them go."""
        for _ in range(count):
            self.uids.append(f"{self._name}-{len(self.uids)}")
            if held:
                self._fleet.hold(self.uids[-1])
            self._fleet.push(self.uids[-1])

    def records(self) -> list[Record]:
        """Those that the ledger has."""
        return [record for uid in self.uids if (record := self._fleet.record(uid)) is not None]

    def over(self) -> int:
        """How many are over."""
        return sum(record.state.is_over for record in self.records())

    def idle_wait(self, undrain: Callable[[], object]) -> float:
        """As long as a sample waits, from *undrain* of hosts that were never drained, while all are idle."""
        began = self._fleet.ledger.now()
        undrain()
        self.push(1)
        record = self._fleet.wait_over(self.uids[-1:])[self.uids[-1]]
        return record.entered[State.PREPARING] - began

    def takes_up(self, host: str, *, after: float) -> list[float]:
        """As :meth:`begun`; meanwhile something waits at any time, however slow the one who asks is."""
        self.push(max(0, 4 * SLOTS - (len(self.uids) - self.over())))
        return self.begun(host, after=after)

    def begun(self, host: str, *, after: float) -> list[float]:
        """When *host* took one up after a time, by Redis' clock."""
        entered = [one.entered.get(State.PREPARING, 0.0) for one in self.records() if one.host == host]
        return sorted(at for at in entered if at > after)

    def assert_published(self) -> None:
        """Each is published just once, at its first attempt."""
        for record in self._fleet.wait_over(self.uids).values():
            assert (record.state, record.attempts) == (State.PUBLISHED, 1), record
        wait_routed(self._fleet, *self.uids)


def states(fleet: Fleet, host: str) -> set[str]:
    """What the host reports of its slots."""
    return {
        slot.state for status in fleet.ledger.fleet.hosts() if status.host == host for slot in status.slots
    }


def wait_busy(fleet: Fleet, host: str) -> None:
    """Return once every slot of the host has a sample."""
    busy = {"preparing", "ready", "running"}
    wait_until(lambda: states(fleet, host) and states(fleet, host) <= busy, f"{host} is busy")


def test_drain_under_load(fleet: Fleet) -> None:
    """Drained while it runs guests, a host finishes them and takes nothing, also after a restart."""
    load = Load(fleet, "load")
    load.push(16, held=True)
    wait_busy(fleet, DRAINED)
    status, said = type_in(fleet, "drakcelery", "drain", DRAINED)
    assert status == 0, said
    drained = fleet.ledger.now()
    fleet.let_go()
    load.push(8)
    wait_until(lambda: states(fleet, DRAINED) == {"drained"}, "its last guests have finished")
    before = load.over()
    goal = min(before + LEFT, len(load.uids))  # on a slow machine most may be over by now
    wait_until(lambda: load.over() >= goal, "the other host goes on")
    assert load.begun(DRAINED, after=drained) == []

    # As for a new kernel: the worker ends, and comes back with the machine
    fleet.signal(f"vm@{DRAINED}", signal.SIGTERM)
    wait_until(lambda: fleet.respawn() == [f"vm@{DRAINED}"], "the worker ends, and is started again")
    wait_until(lambda: states(fleet, DRAINED) == {"drained"}, "it is back")
    load.push(8)
    before = load.over()
    goal = min(before + LEFT, len(load.uids))  # on a slow machine most may be over by now
    wait_until(lambda: load.over() >= goal, "the other host goes on")
    assert load.begun(DRAINED, after=drained) == []

    load.push(8)
    opened = fleet.ledger.now()
    status, said = type_in(fleet, "drakcelery", "undrain", DRAINED)
    assert status == 0, said
    wait_until(lambda: load.takes_up(DRAINED, after=opened), "it takes up work")
    load.assert_published()


def test_undrain_takes_up_work_within_a_second(fleet: Fleet, app: Celery) -> None:
    """Of a fleet with a backlog, and of one that was drained as a whole and has all its samples in Karton.

    On a busy machine the same takes longer where no host is drained; this no more than thrice as long.
    """
    load = Load(fleet, "speed")
    for hosts in ([DRAINED], [DRAINED, OTHER]):
        waits, idle = [], []
        for _ in range(ROUNDS):
            idle.append(load.idle_wait(lambda: steering.undrain(app, DRAINED, by=ME)))
            for host in hosts:
                steering.drain(app, host, by=ME)
                wait_until(lambda host=host: states(fleet, host) == {"drained"}, f"{host} is drained")  # type: ignore[misc] # mypy cannot type a lambda with a default
            load.push(4 * SLOTS, held=True)
            routed = "Karton has routed them"
            wait_until(lambda: fleet.backend.redis.llen(KARTON_TASKS_QUEUE) == 0, routed)
            if len(hosts) == 1:
                wait_busy(fleet, OTHER)
            undrained = fleet.ledger.now()
            steering.undrain(app, DRAINED, by=ME)
            wait_until(lambda at=undrained: load.takes_up(DRAINED, after=at), "it takes up work")  # type: ignore[misc] # as above
            waits.append(load.begun(DRAINED, after=undrained)[0] - undrained)
            steering.undrain(app, OTHER, by=ME)
            fleet.let_go()
            fleet.wait_over(load.uids)
        assert statistics.median(waits) < max(1.0, 3 * max(idle)), (waits, idle)
        rounded = [[round(wait, 2) for wait in some] for some in (waits, idle)]
        print(f"undrained {hosts}: first sample after {rounded[0]}, of an idle fleet after {rounded[1]}")  # noqa: T201 for the report
        load.assert_published()
