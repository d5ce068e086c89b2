"""What a host keeps: its lock, its name, its slots, its disk; and what it knows of other hosts."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from structlog.testing import capture_logs

from drakcelery.embedded.services import Services
from drakcelery.errors import Blame, EngineError, NameTaken, SettingsError
from drakcelery.host import identity
from drakcelery.host import state_dir as directories
from drakcelery.host.avoidance import is_another
from drakcelery.host.checkup import checkup
from drakcelery.host.disk_space import Spool
from drakcelery.host.drift import SnapshotWatch
from drakcelery.host.history import Facts, Kind
from drakcelery.host.identity import this_machine
from drakcelery.host.judgement import judge, known_hosts, may_put_aside
from drakcelery.host.lock import has_older_io_worker, sole_worker
from drakcelery.host.presence import PATIENCE_SECONDS, Presence, Role
from drakcelery.host.readiness import Readiness
from drakcelery.host.slot import SlotState
from drakcelery.host.slots import SlotTable
from drakcelery.host.workspace import Prefetched, Workspace
from drakcelery.ledger import Ledger
from drakcelery.ledger.deployment import Deployment
from drakcelery.ledger.fleet import JUDGING_SECONDS, Fleet
from drakcelery.ledger.host_names import HostNames
from drakcelery.ledger.keys import judging_key
from drakcelery.model.halt import Halt
from drakcelery.model.machine import Machine
from drakcelery.model.records import HostStatus, SlotStatus
from drakcelery.settings import RedisSection, Settings
from drakcelery.settings.sections import DrakcelerySection
from drakcelery.worker.janitor import Janitor
from tests.bench import SLOT, Bench

HOST = "heart-1"


def no_redis() -> redis.Redis:
    """A Redis that is away, and says so at once."""
    return redis.Redis(port=1, retry=Retry(NoBackoff(), 0))


# Its lock, its directories


@pytest.mark.parametrize("role", ["vm", "io"])
def test_one_worker_of_a_kind(tmp_path: Path, role: str) -> None:
    """The second one ends with a sentence that names the first; once that is gone, the lock is free."""
    words = rf"{role} worker for host heart-1 is running already \(pid"
    with (
        sole_worker(tmp_path, HOST, role=role),
        pytest.raises(SettingsError, match=words),
        sole_worker(tmp_path, HOST, role=role),
    ):
        pass
    with sole_worker(tmp_path, HOST, role=role):
        assert str(os.getpid()) in next(tmp_path.rglob(f"{role}-worker.lock")).read_text()


def test_a_lock_that_cannot_be_had(tmp_path: Path) -> None:
    """What lies in its place is no file."""
    (tmp_path / "vm-worker.lock").mkdir()
    with pytest.raises(SettingsError, match="cannot be locked"), sole_worker(tmp_path, HOST):
        pass
    assert not has_older_io_worker(tmp_path)


def test_directories_that_cannot_be_made(tmp_path: Path) -> None:
    """The sentence names the setting and the path."""
    (tmp_path / "file").write_text("")
    for make in (directories.own, directories.own_io):
        with pytest.raises(SettingsError, match=r"\[drakcelery\] state_dir = .*/file/sub: .* cannot be made"):
            make(tmp_path / "file" / "sub")


def test_a_machine_without_a_state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot say who it is; a machine-id it need not have."""
    with pytest.raises(SettingsError, match="No such file"):
        this_machine(tmp_path / "none")
    monkeypatch.setattr(identity, "_MACHINE_ID", tmp_path / "none")
    assert "machine-id none" in this_machine(tmp_path).words


# Its name


def presence(
    services: Services, state_dir: Path, role: Role = "vm", **ours: Any
) -> tuple[Presence, Readiness]:
    """That of a worker of a host with a short lease."""
    section = DrakcelerySection(
        **{"host": HOST, "state_dir": state_dir, "min_free_space": 0, "lease_seconds": 5} | ours
    )
    settings = Settings(redis=services.redis, drakcelery=section)
    return of(settings, role)


def of(
    settings: Settings, role: Role = "vm", given_up: Callable[[], None] = lambda: None
) -> tuple[Presence, Readiness]:
    """That of a worker with *settings*."""
    readiness = Readiness(settings.drakcelery)
    readiness.note_broker(connected=True)
    machine = this_machine(settings.drakcelery.state_dir)
    return Presence(settings, readiness, role, machine=machine, give_up=given_up), readiness


def another(machine: Machine) -> Machine:
    """A copy of it."""
    return dataclasses.replace(machine, key="another", node="copy")


def test_the_name_of_a_host_that_is_new(
    services: Services, redis_client: redis.Redis, tmp_path: Path
) -> None:
    """It is had at once, kept by each step, and given back in the end."""
    ours, readiness = presence(services, tmp_path)
    ours.arrive()
    names = HostNames(redis_client)
    holder = names.holder(HOST)
    assert holder is not None
    assert holder.machine == this_machine(tmp_path)
    assert holder.renewed_at > 0
    assert ours.step() > 0
    ours.start()
    ours.leave()
    ours.join()
    assert names.holders([HOST]) == {}
    assert readiness.halted() is Halt.NO_IO_WORKER


def test_a_name_that_a_living_machine_has(
    services: Services, redis_client: redis.Redis, tmp_path: Path
) -> None:
    """Who renews it while it is waited for has it: the sentence names both machines."""
    names, theirs = HostNames(redis_client), another(this_machine(tmp_path))
    assert names.claim(HOST, theirs, role="vm", lasts=20) is None
    ours, _ = presence(services, tmp_path)
    over = threading.Event()

    def lives() -> None:
        while not over.wait(0.05):
            names.claim(HOST, theirs, role="vm", lasts=20)

    alive = threading.Thread(target=lives)
    alive.start()
    try:
        with pytest.raises(NameTaken, match="the host name heart-1 is another machine's: copy"):
            ours.arrive()
    finally:
        over.set()
        alive.join()
    names.release(HOST, theirs, role="vm")


def test_a_name_that_a_dead_machine_had(
    services: Services, redis_client: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once nothing was heard of it for as long as its claim lasts, it passes on."""
    monkeypatch.setattr("drakcelery.host.presence.NAME_SECONDS", 0.02)
    names = HostNames(redis_client)
    assert names.claim(HOST, another(this_machine(tmp_path)), role="vm", lasts=0.2) is None
    ours, _ = presence(services, tmp_path)
    ours.arrive()
    holder = names.holder(HOST)
    assert holder is not None
    assert holder.machine == this_machine(tmp_path)
    names.release(HOST, this_machine(tmp_path), role="vm")


def test_a_name_that_is_lost(services: Services, redis_client: redis.Redis, tmp_path: Path) -> None:
    """A worker that was cut off, and finds another machine under its name, ends."""
    names, ended = HostNames(redis_client), threading.Event()
    section = DrakcelerySection(host=HOST, state_dir=tmp_path, min_free_space=0, lease_seconds=5)
    ours, readiness = of(Settings(redis=services.redis, drakcelery=section), given_up=ended.set)
    names.claim(HOST, another(this_machine(tmp_path)), role="vm", lasts=20)
    ours.step()
    assert ended.is_set()
    assert readiness.halted() is Halt.NO_NAME
    ours.run()  # says good-bye, and leaves the name to who has it
    assert names.holder(HOST) is not None
    names.release(HOST, another(this_machine(tmp_path)), role="vm")


def test_another_deployment(services: Services, redis_client: redis.Redis, tmp_path: Path) -> None:
    """A worker whose Redis another deployment has by now ends as well."""
    Deployment(redis_client, "somebody else's").claim()
    ours, readiness = presence(services, tmp_path)
    with pytest.raises(SettingsError, match="another deployment is at work"):
        ours.arrive()
    ours.step()
    assert readiness.halted() is Halt.NO_NAME
    HostNames(redis_client).release(HOST, this_machine(tmp_path), role="vm")


def test_a_redis_that_is_away(tmp_path: Path) -> None:
    """What was known holds for a while: then another machine may have the name."""
    section = DrakcelerySection(host=HOST, state_dir=tmp_path, min_free_space=0, lease_seconds=5)
    away = RedisSection(host="127.0.0.1", port=1)
    ours, readiness = of(Settings(redis=away, drakcelery=section))
    ours._redis = no_redis()
    ours._names = HostNames(ours._redis)
    ours._name_until = time.monotonic() + 60
    ours.step()
    readiness.note_io(alive=True)
    assert readiness.halted() is None
    ours._name_until = time.monotonic() - 1
    ours.step()
    assert readiness.halted() is Halt.NO_NAME
    ours.leave()
    with capture_logs() as logs:
        ours.run()
    assert [line["event"] for line in logs if line["log_level"] == "warning"][-1] == "left_to_expire"


def test_a_report_that_redis_does_not_hear(bench: Bench) -> None:
    """It is warned of, as the next one tells it; what a worker that ends cannot take back expires."""
    away = Ledger(no_redis(), identity=bench.ledger.identity, record_ttl=60)
    janitor = Janitor(dataclasses.replace(bench.context, ledger=away), lambda _: None)
    janitor._over.set()
    with capture_logs() as logs:
        janitor.run()
    assert [line["event"] for line in logs][-2:] == ["host_not_reported", "left_to_expire"]


def test_why_a_host_takes_nothing_is_told(
    services: Services, redis_client: redis.Redis, tmp_path: Path
) -> None:
    """Once, and not before it has lasted; and that it does again."""
    ours, readiness = presence(services, tmp_path)
    with capture_logs() as logs:
        ours.step()
        assert ours._halted_since is not None
        ours._halted_since -= PATIENCE_SECONDS
        ours.step()
        ours.step()
        Fleet(redis_client).show_io(HOST)
        ours.step()
        ours.step()
    assert [line["event"] for line in logs] == ["takes_nothing", "takes_samples"]
    assert readiness.halted() is None
    Fleet(redis_client).retire_io(HOST)
    HostNames(redis_client).release(HOST, this_machine(tmp_path), role="vm")


def test_an_engine_that_is_not_isolated(tmp_path: Path) -> None:
    """No guest may run, whatever the slots say."""
    section = DrakcelerySection(host=HOST, state_dir=tmp_path, min_free_space=0)

    def obstacle(*, fresh: bool = False) -> str | None:  # noqa: ARG001 the protocol's
        return "its rules are gone"

    readiness = Readiness(section, obstacle=obstacle)
    readiness.check()
    readiness.note_broker(connected=True)
    readiness.note_io(alive=True)
    assert readiness.halted() is Halt.NOT_CONFINED


# Its snapshot, its disk


def test_a_snapshot_that_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told; what cannot be read is what it was."""
    found: list[str | Exception] = ["a", EngineError("no disk"), OSError("no disk"), "b"]

    def identify() -> str:
        one = found.pop(0)
        if isinstance(one, Exception):
            raise one
        return one

    watch = SnapshotWatch(identify)
    seen = []
    for _ in range(4):
        watch.check()
        seen.append((watch.current, watch.has_changed))
    assert seen == [("a", False), ("a", False), ("a", False), ("b", True)]

    def no_room(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_room)
    watch.check_soon()
    assert watch.current == "b"


def test_a_workspace_that_is_none(tmp_path: Path) -> None:
    """What cannot be measured takes nothing."""
    (tmp_path / "workspaces").mkdir()
    (tmp_path / "workspaces" / "a-1.1").write_text("no directory")
    assert Spool(DrakcelerySection(state_dir=tmp_path, min_free_space=0)).has_room()


def test_files_that_were_fetched_ahead(tmp_path: Path) -> None:
    """Those that nobody wants any more are removed; what is no sample stays out of it."""
    ahead = Prefetched.of(tmp_path)
    ahead.clear()
    for uid in ("a-1", "a-2"):
        part = ahead.part()
        part.write_bytes(b"x")
        ahead.add(part, uid, 1, "ab" * 32)
    (ahead.root / "none.of.ours").write_text("")
    ahead.remove([("a-1", 1)])
    assert set(ahead.all()) == {("a-2", 1)}
    assert ahead.move("a-2", 1, tmp_path / "nowhere" / "x") is None


def test_a_workspace_that_cannot_be_handed_over(tmp_path: Path) -> None:
    """The disk does not do as told."""
    with pytest.raises(Exception, match="cannot be handed over"):
        Workspace.of(tmp_path, "a-1", 1).open_to_io()


# Its slots


def test_a_table_of_another_version(tmp_path: Path) -> None:
    """What only this worker needs is made again; what operators have said is not lost, but told."""
    table = SlotTable(tmp_path, quarantine_after=3)
    table.define({SLOT: "win10"})
    with contextlib.closing(sqlite3.connect(tmp_path / "slots.sqlite")) as database, database:
        database.execute("drop table runs")
        database.execute("create table runs (theirs integer not null)")
        database.execute("update slots set state = 'dreaming'")
    again = SlotTable(tmp_path, quarantine_after=3)
    assert again.history() == []
    assert [slot.state for slot in again.all()] == [SlotState.DIRTY]
    with contextlib.closing(sqlite3.connect(tmp_path / "slots.sqlite")) as database, database:
        database.execute("drop table closures")
        database.execute("create table closures (theirs integer not null)")
    with pytest.raises(SettingsError, match="its table closures is another version's: remove it"):
        SlotTable(tmp_path, quarantine_after=3).all()


def test_a_file_that_is_no_table(tmp_path: Path) -> None:
    """Garbage in its place is told of, before and after it was used."""
    table = SlotTable(tmp_path, quarantine_after=3)
    table.define({SLOT: "win10"})
    (tmp_path / "slots.sqlite").write_bytes(b"garbage" * 1000)
    for broken in (table, SlotTable(tmp_path, quarantine_after=3)):
        with pytest.raises(SettingsError, match="remove it, and drain again"):
            broken.all()


def test_a_slot_that_is_there_no_more(tmp_path: Path) -> None:
    """Whoever asks for it, or had it, gets an answer that says so."""
    table = SlotTable(tmp_path, quarantine_after=3)
    table.define({SLOT: "win10"})
    assert table.borrow("gone") is None
    assert table.borrow(SLOT) is None  # it is dirty
    assert not table.tried(SLOT, 1, facts=Facts(), trouble=None, gone=True)
    assert not table.release("gone", "a-1", 1)
    assert not table.forgive(SLOT)
    (run,) = failed_runs(table)
    table.define({"vm-2": "win10"})
    table.settle_charge(run, charged=False, settled=True)
    assert table.history() == []


def failed_runs(table: SlotTable) -> list[Any]:
    """A run that failed in the slot."""
    table.cleaned(SLOT)
    assert table.claim("win10", "a-1", 1) == SLOT
    table.failed(SLOT, "a-1", 1, blame=Blame.SLOT)
    table.release(SLOT, "a-1", 1)
    found = table.history()
    assert [run.kind for run in found] == [Kind.FAILED]
    return found


# Its judgement, beside other hosts


def with_a_sick_slot(bench: Bench) -> SlotTable:
    """Two slots, of which the first has failed three times and has a sample again."""
    slots = SlotTable(bench.context.settings.drakcelery.state_dir, quarantine_after=10)
    slots.define({SLOT: "win10", "vm-2": "win10"})
    for _ in range(3):
        slots.cleaned(SLOT)
        assert slots.claim("win10", "a", 1, among={SLOT}) == SLOT
        slots.failed(SLOT, "a", 1)
        slots.release(SLOT, "a", 1)
    assert slots.claim("win10", "a", 2, among={SLOT}) == SLOT
    return slots


def puts_aside(slots: SlotTable, fleet: Fleet) -> bool:
    """Whether this host puts its sick slot aside now."""
    health = checkup({slot.name: slot.profile for slot in slots.all()}, slots.history(), SLOT)
    assert health.is_sick
    return judge(slots, (SLOT, "a", 2), health, fleet, host=HOST)


def test_a_sick_slot_whose_profile_is_in_trouble(bench: Bench) -> None:
    """Where too many are aside already it stays in use, and is told of."""
    slots = with_a_sick_slot(bench)
    with (
        contextlib.closing(
            sqlite3.connect(bench.context.settings.drakcelery.state_dir / "slots.sqlite")
        ) as database,
        database,
    ):
        database.execute("update slots set state = 'quarantined' where name = 'vm-2'")
    with capture_logs() as logs:
        assert not puts_aside(slots, bench.ledger.fleet)
    assert [line["event"] for line in logs] == ["slot_sick"]


def test_two_hosts_do_not_put_slots_aside_at_once(bench: Bench) -> None:
    """What another host has just put aside is not in its report yet, so its turn is waited for (R19)."""
    slots = with_a_sick_slot(bench)
    fleet = bench.ledger.fleet
    assert fleet.may_judge("win10", "rack-2")
    assert fleet.may_judge("win7", HOST)
    assert not puts_aside(slots, fleet)
    assert not may_put_aside(slots, fleet, host=HOST, name=SLOT)
    assert not puts_aside(slots, Fleet(no_redis()))
    bench.redis.delete(judging_key("win10"))
    assert may_put_aside(slots, fleet, host=HOST, name=SLOT)
    assert puts_aside(slots, fleet)
    assert not fleet.may_judge("win10", "rack-2")
    assert 0 < bench.redis.pttl(judging_key("win10")) <= JUDGING_SECONDS * 1000


def test_a_fleet_that_cannot_be_asked() -> None:
    """No other host is known."""
    assert known_hosts(Fleet(no_redis())) == []


def test_another_slot_that_an_analysis_may_have(bench: Bench) -> None:
    """In use, here or on another host where it has not failed."""
    bench.open()
    record, slots = bench.record(), bench.context.slots.all()
    slot = SlotStatus(name="vm-1", profile="win10", state="running", since=0)
    there = HostStatus(host="rack-2", engine="replay", slots=(slot,))
    assert not is_another(None, slots, [there], host="rack-1", failed=())
    assert is_another(record, slots, [], host="rack-1", failed=())
    assert not is_another(record, slots, [], host="rack-1", failed={SLOT})
    assert is_another(record, slots, [there], host="rack-1", failed={SLOT})
