"""The two workers of a host see each other, on a real Redis."""

from __future__ import annotations

from pathlib import Path

import redis

from drakcelery.embedded.services import Services
from drakcelery.fleet import Fleet, io_key
from drakcelery.host.identity import Machine
from drakcelery.host.presence import Presence, Role
from drakcelery.host.readiness import Readiness
from drakcelery.records import HostStatus, SlotStatus
from drakcelery.settings import Settings
from drakcelery.settings_sections import DrakcelerySection
from tests.waiting import wait_until

HOST = "presence-1"


def settings_of(services: Services, state_dir: Path) -> Settings:
    """A host's, with a short lease."""
    ours = DrakcelerySection(host=HOST, state_dir=state_dir, min_free_space=0, lease_seconds=5)
    return Settings(redis=services.redis, drakcelery=ours)


def presence(settings: Settings, role: Role) -> tuple[Presence, Readiness]:
    """A worker's."""
    readiness = Readiness(settings.drakcelery)
    readiness.note_broker(connected=True)
    machine = Machine.of(settings.drakcelery.state_dir)
    return Presence(settings, readiness, role, machine=machine, give_up=lambda: None), readiness


def test_an_io_worker_comes_and_goes(services: Services, redis_client: redis.Redis, tmp_path: Path) -> None:
    """The host is open just while its io worker shows life; a clean stop is seen at once (R8)."""
    settings = settings_of(services, tmp_path)
    vm, readiness = presence(settings, "vm")
    io, _ = presence(settings, "io")
    vm.step()
    assert readiness.io_alive is False
    io.start()
    wait_until(lambda: vm.step() and readiness.halted() is None, "the host opens")
    assert 0 < redis_client.pttl(io_key(HOST)) <= settings.drakcelery.times.host * 1000
    io.leave()
    io.join()
    vm.step()
    assert readiness.io_alive is False


def test_a_frozen_io_worker_shows_no_life(
    services: Services, redis_client: redis.Redis, tmp_path: Path
) -> None:
    """Who says nothing more is not there, whatever locks its process still holds (R8)."""
    settings = settings_of(services, tmp_path)
    vm, readiness = presence(settings, "vm")
    io, _ = presence(settings, "io")
    io.step()
    vm.step()
    assert readiness.io_alive is True
    wait_until(lambda: not redis_client.exists(io_key(HOST)), "its last sign is over")
    vm.step()
    assert readiness.io_alive is False


def test_io_workers_are_known_without_their_vm_workers(redis_client: redis.Redis) -> None:
    """What collects and uploads is judged by itself; where nobody tells, by the vm worker."""
    fleet = Fleet(redis_client)
    slot = SlotStatus(name="vm-1", profile="presence", state="free", since=0)
    for name, io_alive in (("new-1", False), ("new-2", True), ("old-1", None)):
        status = HostStatus(host=name, engine="replay", slots=(slot,), io_alive=io_alive)
        fleet.report(status)
    fleet.show_io("new-2")
    fleet.retire("new-2")
    assert {"new-2", "old-1"} <= fleet.io_hosts()
    assert "new-1" not in fleet.io_hosts()
    fleet.retire_io("new-2")
    assert "new-2" not in fleet.io_hosts()
    for name in ("new-1", "old-1"):
        fleet.retire(name)
