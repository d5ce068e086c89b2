"""What nobody of this version put into a state directory: the worker goes on, or says what to do."""

from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from drakcelery.engines import create
from drakcelery.errors import SettingsError
from drakcelery.host import state_dir as directories
from drakcelery.host.drains import Closed
from drakcelery.host.lock import sole_worker
from drakcelery.host.slot import SlotState
from drakcelery.host.slots import SlotTable
from drakcelery.host.workspace import Prefetched, Workspace
from drakcelery.safe_files import remove_tree
from drakcelery.worker import janitor
from drakcelery.worker.janitor import Janitor, clear_host
from tests.bench import HOST, Bench, bench

__all__ = ("bench",)

SLOTS = {"vm-1": "win10", "vm-2": "win10"}
WIDE = (
    "create table runs (id integer primary key, slot text, uid text, attempt integer, at real, kind text, "
    "seconds real, restore_seconds real, blame text, charged integer, recent integer, open integer, "
    "snapshot text, log_size integer, pcap_size integer, traffic_due integer, error text, moon text not null)"
)
SLEPT = (
    "insert into runs (slot, uid, attempt, at, kind, seconds, blame, charged, recent, open, traffic_due) "
    "values ('vm-1', 'a', 1, 1, 'slept', 1, 'moon', 1, 1, 1, 1)"
)
OF_ANOTHER_VERSION = {
    "its doubts": ["create table doubts (slot text primary key) strict"],
    "a column more": ["alter table slots add column moon text", "alter table closures add column moon text"],
    "more runs": ["alter table runs add column moon text", "alter table canary_calls add column moon text"],
    "another state": ["update slots set state = 'dreaming', uid = 'a', attempt = 1"],
    "another kind of run": [SLEPT],
    "fewer columns": ["alter table slots drop column failures", "alter table runs drop column recent"],
    "no columns of ours": ["drop table slots", "create table slots (name text) strict"],
    "a column that needs a value": ["drop table runs", WIDE],
}


def made(state_dir: Path, *statements: str) -> Path:
    """The file of a worker before this one, in which somebody did *statements*."""
    SlotTable(state_dir, quarantine_after=3).define(SLOTS)
    path = state_dir / "slots.sqlite"
    with closing(sqlite3.connect(path)) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()
    return path


@pytest.mark.parametrize("statements", OF_ANOTHER_VERSION.values(), ids=OF_ANOTHER_VERSION)
def test_a_table_of_another_version(bench: Bench, tmp_path: Path, statements: list[str]) -> None:
    """Its guests are destroyed as usual, and everything that a worker does works."""
    made(tmp_path / "state", *statements)
    table = SlotTable(tmp_path / "state", quarantine_after=3)
    clear_host(table, create("replay", bench.context.settings), SLOTS)
    assert [(slot.name, slot.state) for slot in table.all()] == [
        ("vm-1", SlotState.FREE),
        ("vm-2", SlotState.FREE),
    ]
    assert table.claim("win10", "a", 1) == "vm-1"
    table.failed("vm-1", "a", 1)
    table.doubt("vm-1", "a", 1)
    table.close("vm-2", Closed.DRAINED, by="me")
    assert table.failed_in("a") == frozenset({"vm-1"})
    assert [run.uid for run in table.open_charges()] == ["a"]
    assert [one.slot for one in table.closed()] == ["vm-2"]


def test_what_a_newer_version_closed(tmp_path: Path) -> None:
    """It stays closed, and an operator can open it."""
    made(tmp_path / "state", "insert into closures values ('vm-1', 'moonlit', 'me', 1)")
    table = SlotTable(tmp_path / "state", quarantine_after=3)
    table.define(SLOTS)
    table.cleaned("vm-1")
    assert [(one.slot, one.kind) for one in table.closed()] == [("vm-1", Closed.DRAINED)]
    assert table.claim("win10", "a", 1) is None
    assert not table.reopen("vm-1", Closed.QUARANTINED)
    assert table.reopen("vm-1", Closed.DRAINED)
    assert not table.reopen("vm-1", Closed.DRAINED)
    assert table.claim("win10", "a", 1) == "vm-1"


def _damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:4096] + b"\xff" * 60_000)


def _cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def _no_database(path: Path) -> None:
    path.write_bytes(b"garbage" * 1000)


def _older_drains(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("drop table closures")
        database.execute("create table closures (slot text) strict")
        database.commit()


@pytest.mark.parametrize("spoil", [_damaged, _cut_off, _no_database, _older_drains])
def test_a_file_that_is_broken(bench: Bench, tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    """What operators have closed is in it: it is named, and removed by them."""
    path = made(tmp_path / "state")
    spoil(path)
    table = SlotTable(tmp_path / "state", quarantine_after=3)
    with pytest.raises(SettingsError, match=rf"{path}.*: remove it, and drain again what was drained"):
        clear_host(table, create("replay", bench.context.settings), SLOTS)
    path.unlink()
    table = SlotTable(tmp_path / "state", quarantine_after=3)
    clear_host(table, create("replay", bench.context.settings), SLOTS)
    assert len(table.all()) == len(SLOTS)


def _file(path: Path) -> None:
    path.write_text("x")


def _link(path: Path) -> None:
    path.symlink_to("/etc")


def _nowhere(path: Path) -> None:
    path.symlink_to("/nowhere")


def _directory(path: Path) -> None:
    (path / "in it").mkdir(parents=True)


ODD = (_file, _link, _nowhere, _directory, os.mkfifo)
FINE = (
    *(("slots.sqlite", _file), ("vm-worker.lock", _file)),
    *(("engine", _directory), ("workspaces", _directory), ("workspaces", _link)),  # a disk of its own, say
)


@pytest.mark.parametrize("make", ODD)
@pytest.mark.parametrize("name", ["slots.sqlite", "vm-worker.lock", "workspaces", "engine"])
def test_what_is_in_the_place_of_ours(tmp_path: Path, name: str, make: Callable[[Path], None]) -> None:
    """It is followed nowhere and waited for never; whoever starts the worker is told which it is."""
    state_dir = tmp_path / "state"
    state_dir.mkdir(mode=0o750)
    make(state_dir / name)

    def start() -> None:
        with sole_worker(state_dir, HOST):
            SlotTable(state_dir, quarantine_after=3).define(SLOTS)

    if (name, make) in FINE:
        start()
        return
    with pytest.raises(SettingsError, match=name):
        start()


@pytest.mark.parametrize("make", ODD)
def test_samples_that_were_fetched_ahead(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """Whatever stands there goes when a worker starts, and nothing but a file is ever a sample."""
    ahead = Prefetched.of(tmp_path)
    make(ahead.root)
    ahead.clear()
    assert list(ahead.root.iterdir()) == []
    assert not ahead.root.is_symlink()
    make(ahead.root / f"a.1.{'a' * 64}")
    found = ahead.move("a", 1, tmp_path / "sample")
    assert (found is not None) == (make is _file)
    ahead.remove([("a", 1)])
    assert ahead.all() == {}


def test_foreign_names_among_the_workspaces(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are left alone, and what has the name of an attempt goes in its time, whatever it is."""
    monkeypatch.setattr(janitor, "ABSENT_SECONDS", -1.0)
    parent = directories.workspaces(bench.context.settings.drakcelery.state_dir)
    foreign = (b"odd\x83.1", b"a\nb.1", b"notes", b"sp ace.1", b"{x}.1", b"..1", b"n." + b"9" * 200)
    for name in foreign:
        (parent / os.fsdecode(name)).mkdir()
    for number, make in enumerate(ODD):
        make(parent / f"gone.{number}")
    bench.open("a-1")
    Workspace.of(bench.context.settings.drakcelery.state_dir, "a-1", 1).create()
    assert len(list(Workspace.all(bench.context.settings.drakcelery.state_dir))) == len(ODD) + 1
    Janitor(bench.context, lambda _: None)._clean_up()
    assert {os.fsencode(path.name) for path in parent.iterdir()} == {*foreign, b"a-1.1"}
    assert bench.ledger.quarantine.all() == []
    assert Path("/etc/passwd").exists()


@pytest.mark.parametrize("make", ODD)
def test_whatever_it_is_goes(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """And nothing that it points to."""
    make(tmp_path / "odd")
    remove_tree(tmp_path / "odd")
    assert not os.path.lexists(tmp_path / "odd")
    assert Path("/etc/passwd").exists()


@pytest.mark.parametrize("role", ["vm", "io"])
def test_a_disk_that_takes_nothing(bench: Bench, tmp_path: Path, role: str) -> None:
    """The worker ends with a sentence that names the directory, not with a traceback."""
    settings, state_dir = bench.context.settings, tmp_path / "full"
    assert settings.redis.password is not None
    environment = {
        "DRAKCELERY_REDIS_HOST": settings.redis.host,
        "DRAKCELERY_REDIS_PORT": str(settings.redis.port),
        "DRAKCELERY_REDIS_PASSWORD": settings.redis.password.get_secret_value(),
        "DRAKCELERY_DRAKCELERY_STATE_DIR": str(state_dir),
        "DRAKCELERY_DRAKCELERY_HOST": "full-1",
        "DRAKCELERY_DATA_DIR": str(tmp_path / "nothing"),
        "DRAKCELERY_S3_ADDRESS": settings.s3.address,
        "DRAKCELERY_S3_ACCESS_KEY": "a",
        "DRAKCELERY_S3_SECRET_KEY": "b",
    }
    done = subprocess.run(
        [sys.executable, "-m", "drakcelery", "worker", role],
        env={**os.environ, **environment},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert str(state_dir) in done.stderr
