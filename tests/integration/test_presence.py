"""The two workers of a host see each other, on a real Redis."""

from __future__ import annotations

import fcntl
from pathlib import Path

import redis
from structlog.testing import capture_logs

from drakcelery.embedded.services import Services
from drakcelery.host.identity import this_machine
from drakcelery.host.presence import Presence, Role
from drakcelery.host.readiness import Readiness
from drakcelery.ledger.fleet import Fleet
from drakcelery.ledger.keys import io_key
from drakcelery.model.halt import Halt
from drakcelery.model.records import HostStatus, SlotStatus
from drakcelery.settings import Settings
from drakcelery.settings.sections import DrakcelerySection
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
    machine = this_machine(settings.drakcelery.state_dir)
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
    assert 0 < redis_client.pttl(io_key(HOST)) <= settings.drakcelery.timeouts.host * 1000
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


def seen(readiness: Readiness) -> tuple[bool | None, Halt | None]:
    """What a vm worker knows of its io worker, and why it takes nothing."""
    return readiness.io_alive, readiness.halted()


def test_an_io_worker_of_an_earlier_version(
    services: Services, redis_client: redis.Redis, tmp_path: Path
) -> None:
    """A rolling upgrade halts no host: the older one's lock is its sign of life, until it is over (R8)."""
    settings = settings_of(services, tmp_path)
    vm, readiness = presence(settings, "vm")
    slot = SlotStatus(name="vm-1", profile="presence", state="free", since=0)
    fleet = Fleet(redis_client)
    with (tmp_path / "io-worker.lock").open("a+") as older, capture_logs() as logs:
        fcntl.flock(older, fcntl.LOCK_EX | fcntl.LOCK_NB)
        vm.step()
        vm.step()
        assert [(one["event"], one["log_level"]) for one in logs] == [("io_worker_is_older", "warning")]
        # reconcile goes by the vm worker, as with hosts that are older as a whole
        assert seen(readiness) == (None, None)
        fleet.report(HostStatus(host=HOST, engine="replay", slots=(slot,), io_alive=readiness.io_alive))
        assert HOST in fleet.io_hosts()
    vm.step()
    assert seen(readiness) == (False, Halt.NO_IO_WORKER)
    io, _ = presence(settings, "io")
    io.step()
    vm.step()
    assert seen(readiness) == (True, None)
    fleet.retire(HOST)
    fleet.retire_io(HOST)


def test_a_lock_file_that_is_none(services: Services, redis_client: redis.Redis, tmp_path: Path) -> None:
    """What lies in the older lock's place, and is not held or no file, opens no host (R8)."""
    redis_client.delete(io_key(HOST))
    vm, readiness = presence(settings_of(services, tmp_path), "vm")
    lock = tmp_path / "io-worker.lock"
    lock.touch()
    vm.step()
    assert readiness.halted() is Halt.NO_IO_WORKER
    lock.unlink()
    lock.symlink_to(tmp_path / "elsewhere")
    vm.step()
    assert readiness.halted() is Halt.NO_IO_WORKER


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
