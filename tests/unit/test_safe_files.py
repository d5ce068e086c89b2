"""What root does in directories of a group: links, pipes and pid files that a member planted."""

from __future__ import annotations

import os
import resource
import signal
import socket
import stat
import subprocess
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from drakcelery import safe_files
from drakcelery.engines.drakvuf.cell import Cell
from drakcelery.errors import EngineError, EvidenceLost, InfrastructureError, SettingsError
from drakcelery.host import state_dir as directories
from drakcelery.host.disk_space import Spool
from drakcelery.host.lock import sole_worker
from drakcelery.host.slots import SlotTable
from drakcelery.host.workspace import Prefetched, Workspace
from drakcelery.model.analysis import Execution, Outcome, Snapshot
from drakcelery.settings.sections import DrakcelerySection
from drakcelery.storage.sending import Sending
from drakcelery.telemetry.logs import analysis_log, configure
from drakcelery.worker.remote_control import read_log
from tests.conftest import require

MEMBER, GROUP = 4321, 4322
"""A user and the group of the services; neither has a name here."""
OUTCOME = Outcome(
    engine="e",
    snapshot=Snapshot(version=1, sha256="0" * 64),
    started=1,
    finished=2,
    execution=Execution.EXECUTED,
)


def as_member(act: Callable[[], object]) -> None:
    """Do it as a member of the group who is not root. Raises AssertionError where it fails."""
    if child := os.fork():
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        return
    try:
        os.setgroups([])
        os.setgid(GROUP)
        os.setuid(MEMBER)
        os.umask(0o007)
        act()
    except BaseException:  # noqa: BLE001 the child must end here in any case
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def refused(act: Callable[[], object]) -> Callable[[], None]:
    """That the kernel says no to it."""

    def check() -> None:
        with pytest.raises(PermissionError):
            act()

    return check


@contextmanager
def root_s_worker() -> Iterator[None]:
    """Root as its unit has it: in the group, and with its umask."""
    before, umask = os.getegid(), os.umask(0o007)
    os.setegid(GROUP)
    try:
        yield
    finally:
        os.setegid(before)
        os.umask(umask)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A directory that others may enter; each session of pytest closes its own to them anew."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o711)
        yield Path(made)


@pytest.fixture
def state_dir(tmp_path: Path) -> Iterator[Path]:
    """A host's directory as drakcelery init makes it, and root to play the vm worker."""
    require(os.geteuid() == 0, "only root can play root and a member of the group")
    state = tmp_path / "state"
    with root_s_worker():
        directories.own(state)
        yield state


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of root's that nobody else may read."""
    path = tmp_path / "shadow"
    path.write_text('{"root": "secret"}\n')
    path.chmod(0o600)
    return path


def workspace(state_dir: Path, *, over: bool) -> Workspace:
    """That of an attempt before its run is over, or after."""
    one = Workspace.of(state_dir, "uid", 1)
    one.create()
    (one.raw / "drakmon.log").write_text("{}\n")
    (one.raw / "dumps").mkdir()
    (one.raw / "dumps" / "400000_0123456789abcdef").write_bytes(b"MZ")
    one.save(OUTCOME)
    if over:
        one.open_to_io()
    return one


def swap(path: Path, target: Path) -> Callable[[], None]:
    """A link in the place of a file or directory."""

    def act() -> None:
        path.rename(path.with_name(f"{path.name}.old")) if path.exists() else None
        path.symlink_to(target)

    return act


def test_nobody_enters_before_the_run_is_over(state_dir: Path) -> None:
    """While root writes into a workspace a member of the group can neither enter it nor move it away (S4)."""
    ours = workspace(state_dir, over=False)
    as_member(refused(lambda: list(ours.root.iterdir())))
    as_member(refused(lambda: (ours.root / "raw").rename(ours.root / "mine")))
    as_member(refused(lambda: ours.root.rename(ours.root.with_name("mine"))))
    as_member(refused(lambda: (directories.workspaces(state_dir) / "uid.2").mkdir()))


@pytest.mark.parametrize("name", ["slots.sqlite", "vm-worker.lock", "engine", "ahead", "workspaces"])
def test_nobody_changes_the_state_directory(state_dir: Path, name: str) -> None:
    """A member of the group can put nothing in the place of what root's worker opens (S4)."""
    SlotTable(state_dir, quarantine_after=1).make()
    Prefetched.of(state_dir).clear()
    with sole_worker(state_dir, "rack-1"):
        path = state_dir / name
        as_member(refused(path.unlink if path.is_file() else path.rmdir))
        as_member(refused(lambda: path.rename(path.with_name("mine"))))
        if name != "workspaces":
            as_member(refused(lambda: list(path.iterdir()) if path.is_dir() else path.read_bytes()))


def test_the_io_worker_can_do_its_work(state_dir: Path) -> None:
    """After the run the group reads what the run left, writes beside it, and deletes everything (S4)."""
    ours = workspace(state_dir, over=True)

    def work() -> None:
        assert ours.load(Outcome) == OUTCOME
        assert (ours.raw / "dumps" / "400000_0123456789abcdef").read_bytes() == b"MZ"
        (ours.out / "procmon.log").write_text("{}\n")
        ours.save(OUTCOME)
        safe_files.append(ours.log, b"{}\n")
        ours.remove()

    as_member(work)
    assert list(ours.root.iterdir()) == []
    safe_files.append(ours.log, b"{}\n")  # root's last words; its janitor deletes what is left
    ours.remove()
    assert not ours.root.exists()


def test_a_log_that_is_a_link(state_dir: Path, secret: Path) -> None:
    """Root neither writes to, nor shows, nor stores what a planted drakrun.log points to (S4)."""
    ours = workspace(state_dir, over=True)
    as_member(swap(ours.log, secret))
    configure(level="info", style="json")
    with analysis_log(ours.log, uid="uid"), pytest.raises(safe_files.UnsafeFile):
        safe_files.append(ours.log, b"planted\n")
    assert secret.read_text() == '{"root": "secret"}\n'
    assert read_log(ours.log, 0, 1000) == ([], 0)
    stored = Sending(SimpleNamespace(threads=1), "bucket", "uid")  # type: ignore[arg-type] # none is asked
    stored.put("drakrun.log", ours.log)
    with pytest.raises(EvidenceLost), stored:
        stored.finish()


def bind(path: Path) -> None:
    """Make a socket there, however long the path is: 107 bytes are the most that the kernel takes."""
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(f"/proc/self/fd/{directory}/{path.name}")
    finally:
        os.close(directory)


@pytest.mark.parametrize("kind", ["pipe", "second name", "socket"])
def test_a_log_that_is_no_file(state_dir: Path, secret: Path, kind: str) -> None:
    """A pipe keeps root from nothing, and a second name of a file is not written to (S4)."""
    ours = workspace(state_dir, over=True)
    if kind == "pipe":
        as_member(lambda: os.mkfifo(ours.log))
    elif kind == "socket":
        as_member(lambda: bind(ours.log))
    else:
        os.link(secret, ours.log)  # kernels that protect hard links refuse it to the member
    with pytest.raises(safe_files.UnsafeFile):
        safe_files.append(ours.log, b"planted\n")
    assert read_log(ours.log, 0, 1000) == ([], 0)
    assert secret.read_text() == '{"root": "secret"}\n'


def test_raw_swapped_for_a_link(state_dir: Path, tmp_path: Path) -> None:
    """After the run root measures and deletes; neither leads it out of the workspace (S4)."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_bytes(bytes(1 << 20))
    ours = workspace(state_dir, over=True)
    as_member(swap(ours.raw, outside))
    as_member(swap(ours.root / "outcome.json", outside / "kept"))
    assert not ours.has(Outcome)
    with pytest.raises(InfrastructureError):
        ours.load(Outcome)
    with pytest.raises(safe_files.UnsafeFile):
        list(safe_files.walk(ours.raw))
    ours.open_to_io()  # as a run that is delivered again does
    assert stat.S_IMODE((outside / "kept").stat().st_mode) & stat.S_IRWXO == 0
    measured = sum(status.st_size for _, status in safe_files.walk(ours.root))
    assert measured < 1 << 20
    assert Spool(DrakcelerySection(state_dir=state_dir, min_free_space=0)).has_room()
    ours.remove()
    assert (outside / "kept").exists()


def test_a_directory_swapped_while_it_is_walked(state_dir: Path, tmp_path: Path) -> None:
    """A directory that becomes a link under root's eyes is not entered (S4)."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    ours = workspace(state_dir, over=True)
    (ours.raw / "dumps" / "400000_0123456789abcdef").unlink()
    found = safe_files.walk(ours.root)
    first = next(found)
    for name in ("raw", "out", "sample"):
        as_member(swap(ours.root / name, outside))
    assert not [path for path, _ in (first, *found) if path.endswith("kept")]


def plant(state_dir: Path, group: int, boot: str, ticks: str) -> Path:
    """A note in a slot's directory that an older version left open to the group, by a member."""
    directory = state_dir / "engine" / "vm-1"
    directory.mkdir(parents=True)
    note = directory / f"{group}.process"
    note.write_text(f"{ticks} {boot}")
    return note


@contextmanager
def killed(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """In the end, whatever the test found."""
    try:
        yield
    finally:
        process.kill()


def test_a_planted_pid_file_kills_nobody(state_dir: Path) -> None:
    """Root kills by its own notes only: not by a member's, not group 0 or 1, not by a link (S4)."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    with subprocess.Popen(["/usr/bin/sleep", "60"], start_new_session=True) as victim, killed(victim):
        ticks = Path(f"/proc/{victim.pid}/stat").read_text().rpartition(")")[2].split()[19]
        note = plant(state_dir, victim.pid, boot, ticks)
        os.chown(note, MEMBER, GROUP)
        note.with_name("0.process").write_text(f"1 {boot}")
        note.with_name("1.process").write_text(f"1 {boot}")
        note.with_name("x.process").write_text("x")
        (linked := note.with_name("7.process")).symlink_to(note)
        cell = Cell(note.parent, lock_limit=1)
        with cell.locked():
            assert cell.vacate()
        assert not linked.is_symlink()
        assert victim.poll() is None
        assert list(note.parent.glob("*.process")) == []
        plant_own = note.with_name(f"{victim.pid}.process")
        plant_own.write_text(f"{ticks} {boot}")
        with cell.locked():
            cell.vacate()
        assert victim.wait(10) == -signal.SIGKILL


def test_an_engine_directory_of_somebody_else(state_dir: Path) -> None:
    """Root looks for no pid files where others may put some (S4)."""
    engine = directories.engine(state_dir)
    os.chown(engine, MEMBER, GROUP)
    with (
        pytest.raises(EngineError, match="belongs to the user"),
        Cell(engine / "vm-1", lock_limit=1).locked(),
    ):
        pass


@pytest.mark.parametrize("mode", [0o2770, 0o777, 0o770])
def test_root_refuses_what_others_may_change(state_dir: Path, mode: int) -> None:
    """A state_dir that the group may write to, as an older version made it, is refused, with the fix."""
    state_dir.chmod(mode)
    with pytest.raises(SettingsError, match="systemd-tmpfiles --create"):
        SlotTable(state_dir, quarantine_after=1).make()
    with pytest.raises(SettingsError, match="systemd-tmpfiles --create"), sole_worker(state_dir, "rack-1"):
        pass
    assert not (state_dir / "slots.sqlite").exists()


def test_root_refuses_another_s_links(state_dir: Path, tmp_path: Path) -> None:
    """A member's link from before the directory was closed is not followed; an operator's is (S4)."""
    elsewhere = tmp_path / "disk"
    elsewhere.mkdir(mode=0o750)
    path = directories.workspaces(state_dir)
    path.rmdir()
    path.symlink_to(elsewhere)
    directories.own(state_dir)
    os.lchown(path, MEMBER, GROUP)
    with pytest.raises(SettingsError, match="belongs to the user"):
        directories.own(state_dir)
    table = state_dir / "slots.sqlite"
    path.unlink()
    table.symlink_to(tmp_path / "made")
    with pytest.raises(SettingsError):
        SlotTable(state_dir, quarantine_after=1).make()
    assert not (tmp_path / "made").exists()


def test_the_io_worker_keeps_to_its_own(state_dir: Path) -> None:
    """Its lock is in its own directory; without one it says how that is made."""

    def begin() -> None:
        with suppress(KeyboardInterrupt), sole_worker(state_dir, "rack-1", role="io"):
            pass

    def fails() -> None:
        with pytest.raises(SettingsError, match="systemd-tmpfiles"):
            begin()

    as_member(fails)
    own = directories.of_io_worker(state_dir)
    own.mkdir(mode=0o700)
    os.chown(own, MEMBER, GROUP)
    as_member(begin)
    assert (own / "io-worker.lock").exists()


def test_a_file_that_does_not_fit(tmp_path: Path) -> None:
    """Of what there is room for in part only, nothing appears under its name, and nothing is left."""
    path = tmp_path / "outcome.json"
    path.write_bytes(b"before")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            safe_files.replace(path, bytes(1_500_000), durable=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]
