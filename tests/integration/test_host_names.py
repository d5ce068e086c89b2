"""A host name belongs to one machine: two state directories stand for two machines, on a real Redis."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from drakcelery.embedded.services import Services
from drakcelery.errors import NameTaken, Superseded
from drakcelery.host.identity import this_machine
from drakcelery.host.presence import Presence, Role
from drakcelery.host.readiness import Readiness
from drakcelery.ledger import Ledger
from drakcelery.ledger.fleet import Fleet
from drakcelery.ledger.host_names import Holder, HostNames
from drakcelery.ledger.keys import io_key, lease_key, record_key
from drakcelery.model.analysis import Fault, Stage, State
from drakcelery.model.halt import Halt
from drakcelery.model.machine import Machine
from drakcelery.settings import Settings
from drakcelery.settings.sections import DrakcelerySection
from tests.bench import Bench, bench
from tests.waiting import wait_until

__all__ = ("bench",)

HOST = "names-1"


@dataclass
class Worker:
    """A worker of a machine, and what became of it."""

    presence: Presence
    readiness: Readiness
    machine: Machine
    gave_up: list[bool]


@dataclass
class Machines:
    """Two machines that are configured alike."""

    services: Services
    root: Path

    def worker(self, machine: str, role: Role = "vm") -> Worker:
        """A worker of *machine*, which has not arrived yet."""
        state_dir = self.root / machine
        state_dir.mkdir(exist_ok=True)
        ours = DrakcelerySection(host=HOST, state_dir=state_dir, min_free_space=0, lease_seconds=5)
        settings = Settings(redis=self.services.redis, drakcelery=ours)
        readiness, gave_up = Readiness(ours), list[bool]()
        readiness.note_broker(connected=True)
        presence = Presence(
            settings,
            readiness,
            role,
            machine=(found := this_machine(state_dir)),
            give_up=lambda: gave_up.append(True),
        )
        return Worker(presence=presence, readiness=readiness, machine=found, gave_up=gave_up)


@pytest.fixture
def machines(services: Services, redis_client: redis.Redis, tmp_path: Path) -> Iterator[Machines]:
    """Two machines of one name, which nobody has."""
    redis_client.delete(lease_key(HOST))
    Fleet(redis_client).show_io(HOST, lasts=600)
    yield Machines(services=services, root=tmp_path)
    redis_client.delete(lease_key(HOST), io_key(HOST))


def test_the_second_machine_of_a_name_does_not_start(machines: Machines) -> None:
    """A cloned image has the name, the machine-id and the settings of the first; both are named (R5)."""
    first, second = machines.worker("first"), machines.worker("second")
    first.presence.arrive()
    first.presence.start()
    with pytest.raises(NameTaken) as refused:
        second.presence.arrive()
    for machine in (first.machine, second.machine):
        assert machine.words in str(refused.value)
        assert machine.state_dir in machine.words
    machines.worker("first", "io").presence.arrive()  # both workers of a machine share the name
    first.presence.leave()
    first.presence.join()


def test_who_comes_after_a_dead_machine_need_not_wait_long(machines: Machines) -> None:
    """A reboot, or a new machine in its place, has the name once it has listened for a while."""
    first, second = machines.worker("first"), machines.worker("second")
    first.presence.arrive()  # and says nothing more
    second.presence.arrive()
    second.presence.step()
    second.readiness.note_loop()
    assert second.readiness.halted() is None


def test_whoever_is_back_first_takes_no_name(
    machines: Machines, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While Redis is away nobody can renew: a copy that waits for the name begins to listen again (R5,
    R6)."""
    first, second = machines.worker("first"), machines.worker("second")
    first.presence.arrive()
    steady, asked = 0.0, 0
    claim = second.presence._claim

    def sleep(seconds: float) -> None:
        nonlocal steady
        steady += seconds

    def claim_across_an_outage(silent: Holder | None = None) -> Holder | None:
        nonlocal steady, asked
        asked += 1
        if asked == 3:
            steady += 60  # far longer than the claim lasts, and for both of them
        if asked == 8:
            first.presence.step()  # a second later than the copy it is back as well
        return claim(silent)

    monkeypatch.setattr("drakcelery.host.presence.time.monotonic", lambda: steady)
    monkeypatch.setattr("drakcelery.host.presence.time.sleep", sleep)
    monkeypatch.setattr(second.presence, "_claim", claim_across_an_outage)
    with pytest.raises(NameTaken):
        second.presence.arrive()
    assert asked == 8
    holder = HostNames(redis_client).holder(HOST)
    assert holder is not None
    assert holder.machine == first.machine


def test_a_clean_stop_gives_the_name_back(machines: Machines, redis_client: redis.Redis) -> None:
    """When the last of a machine's workers has stopped."""
    vm, io = machines.worker("first"), machines.worker("first", "io")
    for worker in (vm, io):
        worker.presence.arrive()
        worker.presence.start()
    vm.presence.leave()
    vm.presence.join()
    holder = HostNames(redis_client).holder(HOST)
    assert holder is not None
    assert holder.machine == vm.machine
    io.presence.leave()
    io.presence.join()
    assert HostNames(redis_client).holder(HOST) is None


def test_who_has_lost_the_name_takes_nothing_and_ends(machines: Machines, redis_client: redis.Redis) -> None:
    """It was cut off, or Redis was emptied, and another machine was first."""
    first, second = machines.worker("first"), machines.worker("second")
    first.presence.arrive()
    redis_client.delete(lease_key(HOST))
    first.presence.step()  # nobody else was there meanwhile
    assert first.readiness.halted() is None
    redis_client.delete(lease_key(HOST))
    second.presence.arrive()
    first.presence.step()
    assert (first.readiness.halted(), first.gave_up) == (Halt.NO_NAME, [True])
    second.presence.step()
    assert (second.readiness.halted(), second.gave_up) == (None, [])


def test_a_machine_that_is_cut_off_takes_nothing(machines: Machines, services: Services) -> None:
    """When its claim is over another machine may have the name; with a broker apart it would go on."""
    worker = machines.worker("first")
    worker.presence.arrive()
    worker.presence._redis.close()
    nowhere = services.redis.model_copy(update={"port": 1})
    settings = worker.presence
    settings._names = HostNames(redis.Redis(port=nowhere.port, decode_responses=True))
    wait_until(
        lambda: worker.presence.step() and worker.readiness.halted() is Halt.NO_NAME, "the host is halted"
    )
    assert worker.gave_up == []


def test_a_step_is_not_done_on_another_machine_of_that_name(bench: Bench) -> None:
    """What was restored there is not lost here: the step is left to its own machine (R5)."""
    ledger: Ledger = bench.ledger
    bench.open("a-1")
    there, here = "machine there", "machine here"

    def enter(stage: Stage, machine: str, *, has_files: bool = False) -> None:
        ledger.advance(
            "a-1", 1, stage, host=HOST, slot="vm-1", token="t", machine=machine, has_files=has_files
        )

    enter(Stage.PREPARE, there)
    ledger.complete("a-1", 1, Stage.PREPARE, token="t")
    before = ledger._redis.hgetall(record_key("a-1"))
    with pytest.raises(Superseded, match="another machine that has, or had, the name names-1"):
        enter(Stage.RUN, here)
    assert ledger._redis.hgetall(record_key("a-1")) == before
    enter(Stage.RUN, there)
    ledger.complete("a-1", 1, Stage.RUN, token="t")
    enter(Stage.COLLECT, here, has_files=True)  # the same machine, restarted
    record = ledger.get("a-1")
    assert record is not None
    assert record.machine == here


def test_a_step_whose_machine_lost_its_name(bench: Bench) -> None:
    """A step that comes here twice is nobody's any more: its attempt ends, and another one begins."""
    bench.open()
    bench.do(Stage.PREPARE)
    ledger = bench.ledger
    ledger._redis.hset(record_key("a-1"), "machine", "a machine that lost its name")
    shutil.rmtree(bench.workspace().root)
    with pytest.raises(Superseded):
        bench.do(Stage.RUN)
    assert bench.record().failures == ()
    ledger.resend(bench.record())
    with pytest.raises(Superseded):
        bench.do(Stage.RUN)
    record = bench.record()
    assert (record.attempt, record.state, record.failures[0].fault) == (2, State.QUEUED, Fault.GONE)
    assert "has lost its name, rack-1, to another" in str(record.error)
