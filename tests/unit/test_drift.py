"""One snapshot for a profile (R19): what hosts say of theirs, and what is found in that."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from drakcelery.engines.drakvuf.snapshot import DISK, MEMORY, PIECE, mark, status
from drakcelery.errors import EngineError
from drakcelery.host.drift import SnapshotWatch
from drakcelery.model.records import HostStatus, SlotStatus
from drakcelery.operators.overview import drift, snapshots


def host(name: str, snapshot: str | None, *profiles: str, changed: bool = False) -> HostStatus:
    """A host with a slot of each profile."""
    slots = tuple(
        SlotStatus(name=f"vm-{number}", profile=profile, state="free", since=0)
        for number, profile in enumerate(profiles)
    )
    return HostStatus(host=name, engine="e", slots=slots, snapshot=snapshot, snapshot_changed=changed)


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    """A snapshot: a memory of several pieces, and a disk."""
    (tmp_path / MEMORY).write_bytes(os.urandom(40 * PIECE + 7))
    (tmp_path / DISK).write_bytes(b"qcow2")
    return tmp_path


def test_a_copy_is_the_same_snapshot(volumes: Path, tmp_path: Path) -> None:
    """Whatever the times of its files are."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in (MEMORY, DISK):
        (copy / name).write_bytes((volumes / name).read_bytes())
        os.utime(copy / name, (1, 1))
    assert mark(copy) == mark(volumes)
    assert status(copy) != status(volumes)


@pytest.mark.parametrize("place", [0, 20, 40 * PIECE + 6])
def test_another_snapshot_has_another_mark(volumes: Path, place: int) -> None:
    """Its head and the registers at its end tell it from others of the same size."""
    before = mark(volumes)
    with (volumes / MEMORY).open("r+b") as file:
        file.seek(place)
        byte = file.read(1)
        file.seek(place)
        file.write(bytes([byte[0] ^ 1]))
    assert mark(volumes) != before


def test_another_disk_is_another_snapshot(volumes: Path) -> None:
    """A disk counts where it is a file; a memory that is gone is an error."""
    before = mark(volumes)
    (volumes / DISK).write_bytes(b"raw")
    assert mark(volumes) != before
    (volumes / DISK).unlink()
    assert mark(volumes) != before
    (volumes / MEMORY).unlink()
    with pytest.raises(OSError, match=MEMORY):
        mark(volumes)


def test_two_snapshots_by_one_name() -> None:
    """They are named with their hosts; hosts that do not tell, and other profiles, are no trouble."""
    well = [host("rack-1", "a", "win10"), host("rack-2", "a", "win10"), host("rack-3", None, "win10")]
    assert drift(well) == []
    assert drift([*well, host("rack-4", "b", "win7")]) == []
    odd = [*well, host("rack-5", "b", "win10", "win10")]
    assert drift(odd) == ["2 snapshots go by the name of the profile win10: a on rack-1, rack-2; b on rack-5"]
    assert {name: len(marks) for name, marks in snapshots(odd).items()} == {"win10": 2}


def test_a_snapshot_that_changed_is_named() -> None:
    """Also where all have the same one."""
    assert drift([host("rack-1", "b", "win10", changed=True)]) == [
        "the snapshot of rack-1 has changed since its vm worker started"
    ]


def test_a_watch_compares_with_what_was_there_at_first() -> None:
    """What cannot be read changes nothing; what comes back is no change."""
    said: Iterator[str | Exception] = iter(["a", EngineError("gone"), OSError("away"), "b", "b", "a"])

    def identify() -> str | None:
        told = next(said)
        if isinstance(told, Exception):
            raise told
        return told

    watch = SnapshotWatch(identify)
    assert (watch.current, watch.has_changed) == (None, False)
    seen = []
    for _ in range(6):
        watch.check()
        seen.append((watch.current, watch.has_changed))
    assert seen == [("a", False)] * 3 + [("b", True)] * 2 + [("a", False)]


def test_a_watch_looks_once_a_minute_and_waits_for_nobody() -> None:
    """The thread that reports the host only begins it."""
    looks: list[int] = []

    def identify() -> str | None:
        looks.append(1)
        return "a"

    watch = SnapshotWatch(identify)
    for _ in range(3):
        watch.check_soon()
    assert watch._looker is not None
    watch._looker.join()
    watch.check_soon()
    assert (len(looks), watch.current) == (1, "a")
