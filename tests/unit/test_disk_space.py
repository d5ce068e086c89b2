"""The spool: how full it is, and what follows from that."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from drakcelery.host import disk_space
from drakcelery.host.disk_space import Spool
from drakcelery.host.workspace import Workspace
from drakcelery.settings.sections import DrakcelerySection
from drakcelery.telemetry import instruments

MIB = 1024**2


@pytest.fixture(autouse=True)
def _always_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seconds between two looks would be waited for."""
    monkeypatch.setattr(disk_space, "LOOK_SECONDS", 0)


def workspace(state_dir: Path, uid: str, size: int) -> Workspace:
    """A workspace with a dump of *size* bytes."""
    made = Workspace.of(state_dir, uid, 1)
    made.create()
    (made.raw / "dumps").mkdir()
    (made.raw / "dumps" / "dump").write_bytes(b"x" * size)
    return made


def limited(state_dir: Path, **limits: int) -> Spool:
    """A spool with these limits; of the disk as little as possible."""
    return Spool(DrakcelerySection(state_dir=state_dir, **{"min_free_space": 0, **limits}))


def throttled() -> dict[str, float]:
    """What the metric says."""
    return {
        sample.labels["reason"]: sample.value
        for family in instruments.THROTTLED.collect()
        for sample in family.samples
        if sample.labels["reason"] in ("disk", "spool")
    }


def measured() -> float:
    """What the metric says about the workspaces."""
    return next(sample.value for family in instruments.SPOOL.collect() for sample in family.samples)


def test_a_full_spool_throttles(tmp_path: Path) -> None:
    """At the limit there is no room, and a metric says so and why; with one workspace gone there is."""
    ours = limited(tmp_path, spool_limit=3 * MIB)
    first = workspace(tmp_path, "first", 2 * MIB)
    assert ours.has_room()
    assert throttled() == {"disk": 0, "spool": 0}
    workspace(tmp_path, "second", 2 * MIB)
    assert not ours.has_room()
    assert throttled() == {"disk": 0, "spool": 1}
    assert 4 * MIB <= measured() < 5 * MIB
    first.remove()
    assert ours.has_room()
    assert throttled() == {"disk": 0, "spool": 0}
    assert 2 * MIB <= measured() < 3 * MIB


def test_a_full_disk_throttles(tmp_path: Path) -> None:
    """With less free than is to be kept free there is no room, and the metric names the disk."""
    assert not limited(tmp_path, min_free_space=shutil.disk_usage(tmp_path).total).has_room()
    assert throttled() == {"disk": 1, "spool": 0}
    assert limited(tmp_path).has_room()
    assert throttled() == {"disk": 0, "spool": 0}


def test_no_limit(tmp_path: Path) -> None:
    """0 is no limit; the workspaces are measured all the same."""
    workspace(tmp_path, "large", MIB)
    assert limited(tmp_path, spool_limit=0).has_room()
    assert measured() >= MIB


def test_what_grows_is_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However little time there is, each look measures one workspace, and in the end every one."""
    grown = [workspace(tmp_path, uid, 1) for uid in "abc"]
    ours = limited(tmp_path, spool_limit=3 * MIB)
    assert ours.has_room()
    monkeypatch.setattr(disk_space, "BUDGET_SECONDS", 0)
    for one in grown:
        (one.raw / "dump").write_bytes(b"x" * MIB)
    assert [ours.has_room() for _ in grown] == [True, True, False]


def test_what_a_guest_can_leave(tmp_path: Path) -> None:
    """Links lead nowhere, and a file of holes takes what it takes of the disk."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "large").write_bytes(b"x" * 4 * MIB)
    made = workspace(tmp_path / "state", "hostile", 1)
    (made.raw / "link").symlink_to(outside)
    (made.raw / "loop").symlink_to(made.root)
    with (made.raw / "sparse").open("wb") as file:
        file.truncate(100 * MIB)
    assert limited(tmp_path / "state", spool_limit=MIB).has_room()
    assert measured() < MIB


def test_looks_are_far_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks again at once gets the answer that was found before: nothing is measured."""
    monkeypatch.setattr(disk_space, "LOOK_SECONDS", 3600)
    ours = limited(tmp_path, spool_limit=MIB)
    assert ours.has_room()
    workspace(tmp_path, "large", 2 * MIB)
    assert ours.has_room()
    monkeypatch.setattr(disk_space, "LOOK_SECONDS", 0)
    assert not ours.has_room()
