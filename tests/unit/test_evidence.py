"""What a run left is noted by its sizes, and compared."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from drakcelery.engines import evidence
from drakcelery.host.workspace import Workspace
from tests.builders import OUTCOME, recorded


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """One whose run is done."""
    made = Workspace.of(tmp_path, "uid", 1)
    made.root.mkdir(parents=True)
    recorded(made.raw)
    note(made, evidence.boot_id())
    return made


def note(workspace: Workspace, boot_id: str) -> None:
    """What the stage run notes."""
    raw = evidence.survey(workspace.raw)
    workspace.save(OUTCOME.model_copy(update={"boot_id": boot_id, "raw": raw}))


def test_a_whole_run(workspace: Workspace) -> None:
    """What is as it was is whole, on this boot and on another."""
    assert workspace.run_is_whole()
    note(workspace, "another")
    assert workspace.run_is_whole()
    assert workspace.lost() is None


@pytest.mark.parametrize("boot", ["this", "another"])
@pytest.mark.parametrize("name", ["drakmon.log", "dumps/1000_00000000000000aa", "dump.pcap"])
@pytest.mark.parametrize("change", ["cut", "gone"])
def test_what_a_power_failure_took(workspace: Workspace, boot: str, name: str, change: str) -> None:
    """A file with length 0, or none, is noticed, and the sentence names it (R7)."""
    note(workspace, evidence.boot_id() if boot == "this" else "another")
    path = workspace.raw / name
    os.truncate(path, 0) if change == "cut" else path.unlink()
    assert not workspace.run_is_whole()
    lost = str(workspace.lost())
    assert f"{name} has 0 bytes instead of" in lost or f"{name} is gone" in lost
    assert ("which went down" in lost) is (boot == "another")


@pytest.mark.parametrize("boot", ["this", "another"])
def test_growth(workspace: Workspace, boot: str) -> None:
    """Every tool has ended before a run is noted: what was written after that is not the run's (R7)."""
    note(workspace, evidence.boot_id() if boot == "this" else "another")
    size = (workspace.raw / "drakmon.log").stat().st_size
    with (workspace.raw / "drakmon.log").open("a") as file:
        file.write("more")
    assert not workspace.run_is_whole()
    assert f"drakmon.log has {size + 4} bytes instead of {size}" in str(workspace.lost())


def test_a_file_that_came_later(workspace: Workspace) -> None:
    """A dump that was not there when the run ended is nobody's evidence (R7)."""
    (workspace.raw / "dumps" / "3000_00000000000000cc").write_bytes(b"")
    assert "files instead of" in str(workspace.lost())


def test_thousands_of_dumps(workspace: Workspace) -> None:
    """What is noted stays small, and one file of thousands that was cut to 0 is noticed all the same."""
    for number in range(3000):
        (workspace.raw / "dumps" / f"{number:x}000_{number:016x}").write_bytes(b"x" * (number % 7 + 1))
    note(workspace, "another")
    assert (workspace.root / "outcome.json").stat().st_size < 20_000
    assert workspace.run_is_whole()
    os.truncate(workspace.raw / "dumps" / f"0000_{0:016x}", 0)
    assert not workspace.run_is_whole()


def test_two_changes_of_one_size(workspace: Workspace) -> None:
    """Bytes that moved from one file to another make the same sum, and no whole run."""
    note(workspace, "another")
    for number, size in ((0x1000, 1), (0x2000, 102)):
        name = f"{number:x}_{'aa' if number == 0x1000 else 'bb':0>16}"
        (workspace.raw / "dumps" / name).write_bytes(b"x" * size)
    assert not workspace.run_is_whole()


def test_a_name_that_is_no_text(workspace: Workspace) -> None:
    """A dump whose name is not UTF-8 is noted like any other (R7, R3)."""
    odd = workspace.raw / "dumps" / os.fsdecode(b"\xff\xfe")
    odd.write_bytes(b"x" * 5000)
    note(workspace, "another")
    assert workspace.run_is_whole()
    os.truncate(odd, 0)
    assert r"dumps/\xff\xfe has 0 bytes" in str(workspace.lost())


def test_a_link_is_not_followed(workspace: Workspace) -> None:
    """A link that leads around in a circle ends nobody."""
    (workspace.raw / "dumps" / "loop").symlink_to(workspace.raw)
    note(workspace, "another")
    assert workspace.run_is_whole()


def test_an_older_versions_run(workspace: Workspace) -> None:
    """A run that was noted without sizes counts as before; one whose note is cut off does not count."""
    workspace.save(OUTCOME)
    assert workspace.run_is_whole()
    os.truncate(workspace.root / "outcome.json", 10)
    assert not workspace.run_is_whole()


def test_two_who_remove_a_workspace(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Publish and the janitor may remove the same workspace at once: neither fails (R14)."""
    listed = os.scandir

    def scandir(path: object) -> object:
        entries = listed(path)  # type: ignore[call-overload] # as rmtree calls it
        for name in ("dumps/1000_00000000000000aa", "drakmon.log", "dump.pcap"):
            (workspace.raw / name).unlink(missing_ok=True)  # the other is a step ahead
        return entries

    monkeypatch.setattr("shutil.os.scandir", scandir)
    workspace.remove()
    assert not workspace.root.exists()
    workspace.remove()
