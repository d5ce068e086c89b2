"""The slot table, and the lock that keeps a second vm worker away."""

from __future__ import annotations

import contextlib
import functools
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from structlog.testing import capture_logs

from drakcelery.errors import SettingsError, SlotsBlocked, SlotsDamaged, SlotsLost
from drakcelery.host import tables
from drakcelery.host.lock import sole_worker
from drakcelery.host.slot import SlotState
from drakcelery.host.slots import SlotTable


@pytest.fixture
def table(tmp_path: Path) -> SlotTable:
    """Three clean slots of two profiles."""
    slots = SlotTable(tmp_path, quarantine_after=2)
    slots.define({"vm-1": "win10", "vm-2": "win10", "vm-10": "win7"})
    for slot in slots.all():
        slots.cleaned(slot.name)
    return slots


def states(table: SlotTable) -> dict[str, str]:
    return {slot.name: slot.state.value for slot in table.all()}


def test_a_new_table_is_dirty(tmp_path: Path) -> None:
    """A worker that starts does not know what runs in its slots, so nobody may have them yet."""
    slots = SlotTable(tmp_path, quarantine_after=2)
    assert slots.define({"vm-1": "win10"}) == []
    assert states(slots) == {"vm-1": "dirty"}
    assert slots.claim("win10", "a", 1) is None


def test_defining_again_names_what_is_gone(table: SlotTable) -> None:
    """A slot that is no longer configured is named, so that its guest can be destroyed."""
    table.claim("win10", "a", 1)
    assert table.define({"vm-2": "win10"}) == ["vm-1", "vm-10"]
    assert states(table) == {"vm-2": "dirty"}


def test_whoever_gives_a_slot_back_says_so(tmp_path: Path) -> None:
    """Also where it is cleaned; not where nobody had it, or its guest is still there."""
    told: list[str] = []
    slots = SlotTable(tmp_path, quarantine_after=2, freed=lambda: told.append("freed"))
    slots.define({"vm-1": "win10"})
    slots.cleaned("vm-1")
    assert len(told) == 1
    slots.claim("win10", "a", 1)
    slots.release("vm-1", "a", 2)
    assert len(told) == 1
    slots.release("vm-1", "a", 1)
    assert len(told) == 2
    slots.claim("win10", "b", 1)
    slots.soil("b", 1)
    assert len(told) == 2


def test_claims_go_by_profile_and_number(table: SlotTable) -> None:
    """Slots are given out by profile, lowest number first, until none is left."""
    assert [table.claim("win10", uid, 1) for uid in ("a", "b", "c")] == ["vm-1", "vm-2", None]
    assert table.claim("win7", "c", 1) == "vm-10"
    assert table.claim("linux", "d", 1) is None
    assert [slot.name for slot in table.all()] == ["vm-1", "vm-2", "vm-10"]


def test_an_attempt_gets_one_slot(table: SlotTable) -> None:
    """A message that is delivered twice does not take a second slot; the next attempt may."""
    assert table.claim("win10", "a", 1) == "vm-1"
    assert table.claim("win10", "a", 1) is None
    assert table.claim("win10", "a", 2) == "vm-2"


def test_only_the_holder_moves_and_releases(table: SlotTable) -> None:
    """A stale attempt can neither move a slot on nor give it away."""
    table.claim("win10", "a", 2)
    assert not table.move("vm-1", "a", 1, origin=SlotState.PREPARING, to=SlotState.READY)
    assert not table.release("vm-1", "a", 1)
    assert not table.move("vm-1", "a", 2, origin=SlotState.READY, to=SlotState.RUNNING)
    assert table.move("vm-1", "a", 2, origin=SlotState.PREPARING, to=SlotState.READY)
    assert table.move("vm-1", "a", 2, origin=SlotState.READY, to=SlotState.RUNNING)
    assert table.release("vm-1", "a", 2)
    assert states(table)["vm-1"] == "free"


def test_a_dirty_slot_has_to_be_cleaned(table: SlotTable) -> None:
    """What a dead process leaves behind is nobody's until its guest was destroyed."""
    table.claim("win10", "a", 1)
    assert table.soil("a", 1)
    assert not table.soil("a", 1)
    assert not table.release("vm-1", "a", 1)
    assert table.claim("win10", "b", 1) == "vm-2"
    assert table.cleaned("vm-1")
    assert not table.cleaned("vm-1")
    assert table.claim("win10", "c", 1) == "vm-1"


def test_a_failing_slot_is_quarantined(table: SlotTable) -> None:
    """Restores that fail in a row take a slot out of use; it is tried again later, once."""
    for _ in range(2):
        assert table.claim("win7", "a", 1) == "vm-10"
        table.failed("vm-10", "a", 1)
        table.release("vm-10", "a", 1)
    assert states(table)["vm-10"] == "quarantined"
    assert table.claim("win7", "b", 1) is None
    assert table.probe(seconds=3600) == []
    assert table.probe(seconds=0) == ["vm-10"]
    table.cleaned("vm-10")
    assert table.claim("win7", "c", 1) == "vm-10"
    table.failed("vm-10", "c", 1)
    table.release("vm-10", "c", 1)
    assert states(table)["vm-10"] == "quarantined"


def test_a_success_forgives(table: SlotTable) -> None:
    """Failures count only in a row."""
    for _ in range(3):
        table.claim("win7", "a", 1)
        table.failed("vm-10", "a", 1)
        table.worked("vm-10", "a", 1)
        table.release("vm-10", "a", 1)
    assert states(table)["vm-10"] == "free"


def test_only_the_holder_counts(table: SlotTable) -> None:
    """A restore that a stale attempt tells of late is none of the slot's, whose holder is another (R17)."""
    table.claim("win7", "a", 2)
    for _ in range(2):
        table.failed("vm-10", "a", 1)
    assert [slot.failures for slot in table.all() if slot.name == "vm-10"] == [0]
    table.failed("vm-10", "a", 2)
    table.worked("vm-10", "b", 2)
    assert [slot.failures for slot in table.all() if slot.name == "vm-10"] == [1]


def test_racing_claims(tmp_path: Path) -> None:
    """However many claim at once, a slot goes to one of them."""
    names = {f"vm-{number}": "win10" for number in range(1, 6)}
    table = SlotTable(tmp_path, quarantine_after=2)
    table.define(names)
    for name in names:
        table.cleaned(name)
    with ThreadPoolExecutor(8) as pool:
        got = list(
            pool.map(
                lambda number: SlotTable(tmp_path, quarantine_after=2).claim("win10", str(number), 1),
                range(24),
            )
        )
    assert sorted(name for name in got if name) == sorted(names)


def test_unwritable_state_dir(tmp_path: Path) -> None:
    """A state directory that cannot be made is a setting to fix."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(SettingsError, match="state_dir"):
        SlotTable(blocked, quarantine_after=2).make()


FORK = """
import os, pathlib, sys, threading
from drakcelery.host.slots import SlotTable
table = SlotTable(pathlib.Path(sys.argv[1]), quarantine_after=2)
inside, leave = threading.Event(), threading.Event()
def stay():
    with table._transaction():
        inside.set()
        leave.wait()
threading.Thread(target=stay).start()
inside.wait()
threading.Timer(0.2, leave.set).start()
if os.fork() == 0:
    os._exit(len(table.all()))
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]) - 3)
"""


def test_fork_during_a_transaction(table: SlotTable, tmp_path: Path) -> None:
    """A pool process that is forked while another thread is in the table can use it."""
    assert len(table.all()) == 3
    command = [sys.executable, "-W", "ignore:This process", "-c", FORK, str(tmp_path)]
    subprocess.run(command, check=True, timeout=60)


TRY = """
import sqlite3, sys
sqlite3.connect(sys.argv[1], timeout=0).execute("begin immediate")
"""


def test_reading_does_not_wait_for_who_writes(table: SlotTable, tmp_path: Path) -> None:
    """The slot is held meanwhile, and nine processes of a host ask."""
    assert table.claim("win10", "a-1", 1) == "vm-1"
    with contextlib.closing(sqlite3.connect(tmp_path / "slots.sqlite", isolation_level=None)) as other:
        other.execute("begin immediate")
        other.execute("update slots set uid = 'a-2' where name = 'vm-1'")
        assert table.holds("vm-1", "a-1", 1)
        assert not table.holds("vm-1", "a-2", 1)
        assert table.all()[0].holder == ("a-1", 1)
        other.execute("commit")
    assert table.holds("vm-1", "a-2", 1)


def test_making_the_file_during_a_transaction(table: SlotTable, tmp_path: Path) -> None:
    """Another thread that makes sure of the file gives up no lock: there would be two who write."""
    path = tmp_path / "slots.sqlite"
    other = Thread(target=SlotTable(tmp_path, quarantine_after=2).make)
    with tables.opened(path) as database:
        database.execute("update slots set failures = 1")
        other.start()
        other.join(0.5)
        tried = subprocess.run([sys.executable, "-c", TRY, path], capture_output=True, text=True, check=False)
    other.join()
    assert "database is locked" in tried.stderr
    assert {slot.failures for slot in table.all()} == {1}


HOLD = """
import pathlib, sys
from drakcelery.host.lock import sole_worker
with sole_worker(pathlib.Path(sys.argv[1]), "rack-1"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_second_worker_is_refused(tmp_path: Path) -> None:
    """Two vm workers for one host cannot both run; when the first is killed, the next one can."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with (
            pytest.raises(SettingsError, match=rf"rack-1 is running already \(pid {first.pid}"),
            sole_worker(tmp_path, "rack-1"),
        ):
            pass
        first.kill()
        first.wait()
    with sole_worker(tmp_path, "rack-1"):
        pass


def test_a_guest_that_will_not_die_takes_its_slot_out_of_use(table: SlotTable) -> None:
    """As a restore that fails too often does: left alone for a while, then tried again."""
    table.claim("win10", "a", 1)
    assert table.soil("a", 1)
    table.survived("vm-1")
    assert states(table)["vm-1"] == "dirty"
    table.survived("vm-1")
    assert states(table)["vm-1"] == "quarantined"
    assert table.probe(seconds=0) == ["vm-1"]
    assert states(table)["vm-1"] == "dirty"
    table.survived("vm-1")
    assert states(table)["vm-1"] == "quarantined"
    table.probe(seconds=0)
    assert table.cleaned("vm-1")
    assert states(table)["vm-1"] == "free"
    table.survived("vm-2")
    assert states(table)["vm-2"] == "free"


@pytest.mark.parametrize("kept", [0, 5000])
def test_a_broken_file(tmp_path: Path, kept: int) -> None:
    """A sentence that says what to do, and no traceback."""
    SlotTable(tmp_path, quarantine_after=3).define({"vm-1": "win10"})
    path = tmp_path / "slots.sqlite"
    path.write_bytes(path.read_bytes()[:kept] + b"x" * 5000)
    with pytest.raises(SettingsError, match=r"slots\.sqlite: .*: remove it"):
        SlotTable(tmp_path, quarantine_after=3).define({"vm-1": "win10"})


def test_a_file_that_is_taken_away(tmp_path: Path) -> None:
    """Nothing makes an empty one in its place: it is lost until the slots are defined again."""
    table = SlotTable(tmp_path, quarantine_after=3)
    table.define({"vm-1": "win10"})
    path = tmp_path / "slots.sqlite"
    for lose in (path.unlink, lambda: path.write_bytes(b"")):
        lose()
        for ask in (table.all, table.history, lambda: table.claim("win10", "a", 1)):
            with pytest.raises(SlotsLost, match=f"{path} is gone: drain again"):
                ask()
        assert not path.exists() or not path.stat().st_size
        assert table.define({"vm-1": "win10"}) == []
        assert states(table) == {"vm-1": "dirty"}


def test_a_file_that_is_replaced(tmp_path: Path) -> None:
    """What has the name now counts, not what this process has open."""
    table = SlotTable(tmp_path / "a", quarantine_after=3)
    table.define({"vm-1": "win10"})
    SlotTable(tmp_path / "b", quarantine_after=3).define({"vm-2": "win10"})
    assert states(table) == {"vm-1": "dirty"}
    (tmp_path / "b" / "slots.sqlite").replace(tmp_path / "a" / "slots.sqlite")
    assert states(table) == {"vm-2": "dirty"}


def test_a_file_that_is_put_back(tmp_path: Path) -> None:
    """A damaged file in its place meanwhile leaves nothing behind: the next call is about the right one."""
    table = SlotTable(tmp_path, quarantine_after=3)
    table.define({"vm-1": "win10"})
    path, aside = tmp_path / "slots.sqlite", tmp_path / "aside"
    path.replace(aside)
    path.write_bytes(b"x" * 5000)
    with pytest.raises(SlotsDamaged):
        table.all()
    aside.replace(path)
    assert table.cleaned("vm-1")
    assert states(table) == {"vm-1": "free"}


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process is in the file, and stays there."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("begin immediate")
        yield


@contextlib.contextmanager
def unwritable(path: Path) -> Iterator[None]:
    """No journal can be made, as where the disk is full."""
    with tables.left():
        journal = path.with_name(f"{path.name}-journal")
        journal.unlink(missing_ok=True)
        journal.mkdir()
    yield
    journal.rmdir()


@pytest.mark.parametrize(
    ("block", "said"),
    [(locked, "locked: another process has kept it for 0 s"), (unwritable, "disk I/O error")],
)
def test_a_file_that_is_blocked(
    table: SlotTable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    block: Callable[[Path], contextlib.AbstractContextManager[None]],
    said: str,
) -> None:
    """A sentence and no error of SQLite's, which ends a worker; told once, and all is as it was before."""
    monkeypatch.setattr(tables, "PATIENCE", 0)
    with tables.left():
        pass
    with block(tmp_path / "slots.sqlite"), capture_logs() as logs:
        for _ in range(2):
            with pytest.raises(SlotsBlocked, match=rf"slots\.sqlite: .*{said}: nothing begins here now"):
                table.claim("win10", "a", 1)
    assert [line["event"] for line in logs] == ["slots_blocked"]
    assert table.claim("win10", "a", 1) == "vm-1"


def test_a_file_that_can_be_read_only(table: SlotTable, tmp_path: Path) -> None:
    """As on a full disk: what is read says nothing of whether it can be written."""
    with capture_logs() as logs:
        for _ in range(2):
            with tables.opened(tmp_path / "slots.sqlite") as database:
                pass
            database.execute("pragma query_only = 1")
            with pytest.raises(SlotsBlocked, match="attempt to write a readonly database"):
                table.claim("win10", "a", 1)
            assert states(table)["vm-1"] == "free"
    assert [line["event"] for line in logs] == ["slots_blocked"]


def test_another_file_in_its_place(tmp_path: Path) -> None:
    """A database without our tables is damaged."""
    table = SlotTable(tmp_path, quarantine_after=3)
    table.define({"vm-1": "win10"})
    with contextlib.closing(sqlite3.connect(tmp_path / "other")) as database:
        database.execute("create table others (name)")
    (tmp_path / "other").replace(tmp_path / "slots.sqlite")
    with pytest.raises(SlotsDamaged, match="no such table: slots: remove it"):
        table.all()


class Stopped(sqlite3.Connection):
    """One in whose process a signal's handler raises an error as a transaction has begun."""

    def execute(self, sql: str, *more: Any) -> sqlite3.Cursor:
        answer = super().execute(sql, *more)
        if sql == "begin immediate":
            raise KeyboardInterrupt
        return answer


def test_a_process_that_is_stopped_as_it_begins(table: SlotTable, tmp_path: Path) -> None:
    """It keeps no lock, for which the others would wait as long as it lives."""
    with tables.left():
        pass
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", functools.partial(sqlite3.connect, factory=Stopped))
        with pytest.raises(KeyboardInterrupt):
            table.claim("win10", "a", 1)
    with contextlib.closing(sqlite3.connect(tmp_path / "slots.sqlite", timeout=0)) as other:
        other.execute("begin immediate")
    assert table.claim("win10", "a", 1) == "vm-1"


def test_a_file_that_a_newer_version_has_written(tmp_path: Path) -> None:
    """Runs of a kind, or with a blame, that this version does not know say nothing; more columns are fine."""
    SlotTable(tmp_path, quarantine_after=3).define({"vm-1": "win10"})
    rows = [("landed", None), ("failed", "weather"), ("worked", None)]
    with contextlib.closing(sqlite3.connect(tmp_path / "slots.sqlite")) as database, database:
        database.execute("alter table runs add column moon text")
        database.execute("alter table slots add column moon text")
        database.executemany(
            "insert into runs (slot, uid, attempt, at, kind, seconds, blame, charged, recent, open, "
            "traffic_due) values ('vm-1', 'a', 1, 1.0, ?, 1.0, ?, 0, 1, 1, 1)",
            rows,
        )
    table = SlotTable(tmp_path, quarantine_after=3)
    table.define({"vm-1": "win10"})
    table.cleaned("vm-1")
    assert table.claim("win10", "b", 1) == "vm-1"
    table.worked("vm-1", "b", 1)
    assert [run.kind.value for run in table.history()] == ["worked", "worked"]
    assert [run.uid for run in table.open_charges()] == ["a"]


def test_a_clock_that_is_set_back_keeps_no_slot_in_quarantine(tmp_path: Path) -> None:
    """Without canaries it ends by time: by a time that never comes, it ends at once."""
    table = SlotTable(tmp_path, quarantine_after=1)
    table.define({"vm-1": "win10"})
    table.cleaned("vm-1")
    assert table.claim("win10", "a", 1) == "vm-1"
    table.failed("vm-1", "a", 1)
    table.release("vm-1", "a", 1)
    assert table.probe(seconds=600) == []
    with contextlib.closing(sqlite3.connect(tmp_path / "slots.sqlite")) as database, database:
        database.execute("update slots set since = since + 1e8")
    assert table.probe(seconds=600) == ["vm-1"]
