"""Whether a host takes samples at all, and what those who count its slots make of that."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import threading
import time
from pathlib import Path

import pytest

from drakcelery.host import tables
from drakcelery.host.readiness import Readiness
from drakcelery.host.slots import SlotTable
from drakcelery.model.analysis import Place
from drakcelery.model.capacity import Capacity
from drakcelery.model.halt import Halt, halted_words
from drakcelery.model.records import HostStatus, SlotStatus
from drakcelery.operators import fleet_views
from drakcelery.operators.overview import host_overviews, profile_overviews
from drakcelery.recovery.alive import Alive
from drakcelery.settings.sections import DrakcelerySection
from drakcelery.telemetry import instruments
from tests.builders import analysis
from tests.waiting import wait_until

PLACE = Place(profile="win10")


def halted(reason: str | None) -> HostStatus:
    """A host with a slot that has a guest and one that has none."""
    rest = "halted" if reason else "free"
    return HostStatus(
        host="rack-1",
        engine="replay",
        slots=(
            SlotStatus(name="vm-1", profile="win10", state="running", uid="a", attempt=1, since=0),
            SlotStatus(name="vm-2", profile="win10", state=rest, since=0),
        ),
        halted=reason,
    )


def test_a_host_opens_once_its_io_worker_is_there(tmp_path: Path) -> None:
    """Whichever of the two workers is first: nothing is taken before somebody could collect it (R8)."""
    ours = Readiness(DrakcelerySection(state_dir=tmp_path, min_free_space=0))
    ours.note_broker(connected=True)
    assert (ours.io_alive, ours.halted()) == (None, Halt.NO_IO_WORKER)
    ours.note_io(alive=True)
    assert (ours.io_alive, ours.halted()) == (True, None)
    ours.note_io(alive=False)
    assert ours.halted() is Halt.NO_IO_WORKER


def test_an_engine_that_cannot_keep_guests_in_halts_the_host(tmp_path: Path) -> None:
    """No sample is taken for a host whose firewall lets guests out, and the attempts go elsewhere (H1)."""
    why: list[str] = []

    def obstacle(*, fresh: bool = False) -> str | None:
        looks.append(fresh)
        return why[0] if why else None

    looks: list[bool] = []
    ours = Readiness(DrakcelerySection(state_dir=tmp_path, min_free_space=0), obstacle=obstacle)
    ours.note_broker(connected=True)
    ours.note_io(alive=True)
    assert ours.halted() is None
    why.append("iptables has no INPUT -j DRAKRUN_INP")
    assert ours.halted() is Halt.NOT_CONFINED
    assert True not in looks
    ours.check()
    assert looks[-1]
    assert instruments.THROTTLED.labels("network")._value.get() == 1
    why.clear()
    ours.check()
    assert (ours.halted(), instruments.THROTTLED.labels("network")._value.get()) == (None, 0)


def test_a_full_disk_halts_the_host(tmp_path: Path) -> None:
    """What has no room for another workspace is not free (R13)."""
    ours = Readiness(DrakcelerySection(state_dir=tmp_path, min_free_space=shutil.disk_usage(tmp_path).total))
    ours.note_io(alive=True)
    ours.note_broker(connected=True)
    assert ours.halted() is Halt.NO_SPACE


def test_a_host_is_open_just_while_it_has_its_broker(tmp_path: Path) -> None:
    """No sample could come to it before, or meanwhile: no slot of it is waited for (R6)."""
    ours = Readiness(DrakcelerySection(state_dir=tmp_path, min_free_space=0))
    ours.note_io(alive=True)
    throttled = instruments.THROTTLED.labels("broker")._value
    assert ours.halted() is Halt.NO_BROKER
    ours.note_broker(connected=True)
    assert (ours.halted(), throttled.get()) == (None, 0)
    ours.note_broker(connected=False)
    assert (ours.halted(), throttled.get()) == (Halt.NO_BROKER, 1)


def test_a_worker_that_is_stuck_takes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its janitor lives, its event loop tries a broker that is away: no slot of it is free (R21)."""
    section = DrakcelerySection(state_dir=tmp_path, min_free_space=0)
    ours = Readiness(section)
    ours.note_io(alive=True)
    ours.note_broker(connected=True)
    later = time.monotonic() + section.timeouts.retry + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert ours.halted() is Halt.NO_BROKER
    ours.note_loop()
    assert ours.halted() is None


def test_a_worker_that_waits_for_its_slots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process keeps their file locked: that is said, and nothing of a broker, then or afterwards."""
    monkeypatch.setattr(tables, "USUAL_SECONDS", 0.0)
    ours = Readiness(DrakcelerySection(state_dir=tmp_path, min_free_space=0))
    ours.note_io(alive=True)
    throttled = instruments.THROTTLED.labels("slots")._value
    slots = SlotTable(tmp_path, quarantine_after=3)
    slots.define({"vm-1": "win10"})
    waiting = threading.Thread(target=slots.claim, args=("win10", "a-1", 1))
    with contextlib.closing(sqlite3.connect(tmp_path / "slots.sqlite", isolation_level=None)) as theirs:
        theirs.execute("begin exclusive")
        waiting.start()
        wait_until(tables.is_waited_for, "the file is waited for")
        assert ours.halted() is Halt.NO_BROKER  # which it has not reached yet
        ours.note_broker(connected=True)
        ours._went_round -= 3600
        assert (ours.halted(), throttled.get()) == (Halt.NO_SLOTS, 1)
    waiting.join()
    assert (ours.halted(), throttled.get()) == (None, 0)


@pytest.mark.parametrize("reason", [*Halt, "of_a_newer_version"])
def test_nobody_counts_on_the_slots_of_a_halted_host(reason: str) -> None:
    """Neither ingress nor reconcile, and people see why (R8, R13)."""
    status = halted(reason)
    assert Capacity.of([status], {}, look_ahead=2).free(PLACE) == 0
    alive = Alive.of([status], io_hosts=frozenset())
    assert not alive.takes(PLACE, "waits")
    assert alive.takes(PLACE, "a")  # its slot was claimed for it
    assert "rack-1" in alive.hosts
    (profile,) = profile_overviews([status], {}, [], {})
    assert (profile.online, profile.slots, profile.free, profile.out_of_use) == (True, 2, 0, 1)
    (host,) = host_overviews([status], {}, [])
    assert (host.online, host.halted) == (True, reason)
    shown = fleet_views.slot_text(status.slots[1], status.halted).plain
    assert shown == f"halted: {halted_words(reason)}"


def test_an_open_host_is_counted() -> None:
    """The same host, without a reason not to."""
    assert Capacity.of([halted(None)], {}, look_ahead=2).free(PLACE) == 4
    assert Alive.of([halted(None)], io_hosts=frozenset()).takes(PLACE, "waits")
    assert analysis().place == PLACE
