"""Tools are run within bounds, belong to a slot, and die with it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from drakcelery.engines.drakvuf import cell as cell_module
from drakcelery.engines.drakvuf import guest as guest_module
from drakcelery.engines.drakvuf import launch, snapshot
from drakcelery.engines.drakvuf import tools as tools_module
from drakcelery.engines.drakvuf.cell import Cell, Held
from drakcelery.engines.drakvuf.engine import create
from drakcelery.engines.drakvuf.guest import Guest
from drakcelery.engines.drakvuf.network import Network
from drakcelery.engines.drakvuf.run import stderr_of, written
from drakcelery.engines.drakvuf.tool_output import (
    KEPT_LINES,
    LINE_LENGTH,
    ending,
    printable,
    quoted,
    readable,
)
from drakcelery.engines.drakvuf.tools import Overfull, Tools, called
from drakcelery.engines.evidence import boot_id
from drakcelery.errors import EngineError, SettingsError
from drakcelery.settings import DrakrunSection, DrakvufSection, Settings
from tests.drakvuf import make_job
from tests.waiting import PATIENCE, wait_until

HELD = Held(holder="mine", snapshot_version=1, snapshot_sha256="a")


@pytest.fixture
def cell(tmp_path: Path) -> Iterator[Cell]:
    """A slot that *mine* holds; whatever was started in it is killed after the test."""
    made = Cell(tmp_path / "vm-1", lock_limit=60)
    made.acquire(HELD)
    yield made
    with made.locked():
        made.vacate()


def sh(script: str) -> list[str]:
    """A shell's command line for one of our own scripts."""
    return ["/bin/sh", "-c", script]


def opened() -> dict[int, Path]:
    """What this process has open, by descriptor; another thread may close one meanwhile."""
    found = {}
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found[int(path.name)] = path.readlink()
    return found


def is_alive(pid: int) -> bool:
    return cell_module.start_ticks(pid) is not None


# One tool


def test_a_tool_gets_nothing_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets live there; a locale of our own keeps the tools' words as they are known."""
    monkeypatch.setenv("DRAKCELERY_REDIS_PASSWORD", "secret")
    done = Tools(path="/usr/bin:/bin", environment={"GIVEN": "1"}).run(["env"], seconds=10)
    names = {line.partition("=")[0] for line in done.output.splitlines()}
    assert names <= {"PATH", "LANG", "LC_ALL", "GIVEN", "PWD", "SHLVL", "_"}
    assert "LC_ALL=C.UTF-8" in done.output
    assert (done.code, done.errors) == (0, ())


def test_what_a_tool_says_is_bounded() -> None:
    """A tool may write without end; memory and log do not grow with it."""
    done = Tools().run(sh("yes 'a line' | head -c 4900000 >&2; printf '\\033[2J' >&2; exit 3"), seconds=30)
    assert done.code == 3
    assert len(done.errors) == KEPT_LINES
    assert done.errors[-1] == "\\x1b[2J"
    assert (
        len(Tools().run(sh("head -c 100000 /dev/zero | tr '\\0' a >&2"), seconds=30).errors[0]) == LINE_LENGTH
    )
    assert str(done.trouble("It broke")).startswith("It broke: sh ended with exit code 3; it said: a line | ")


RESTORE_FAILED = """\
[2026-11-28 19:00:00,123][INFO] Restoring VM vm-1
Loading new save file /var/lib/drakrun/volumes/snapshot.sav (new xl fmt info 0x3/0x0/1579)
xc: info: Restoring domain
libxl: error: libxl_exec.c:118: device model: failed to create the network device
Traceback (most recent call last):
  File "/opt/venv/lib/python3.11/site-packages/drakrun/lib/xen.py", line 66, in xen_restore_vm
    subprocess.run(
  File "/usr/lib/python3.11/subprocess.py", line 571, in run
    raise CalledProcessError(retcode, process.args,
subprocess.CalledProcessError: Command '['xl', 'restore', 'a', 'b']' returned non-zero exit status 1.

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/opt/venv/bin/drakrun", line 8, in <module>
    sys.exit(main())
             ^^^^^^
RuntimeError: Failed to restore VM vm-1
"""
CUT_OFF = """\
Loading new save file /var/lib/drakrun/volumes/snapshot.sav (new xl fmt info 0x3/0x0/725)
 Savefile contains xl domain config in JSON format
Parsing config from /var/lib/drakrun/configs/vm-1.cfg
xc: info: Restoring domain
xc: error: Failed to read 4202504 bytes of data for record (0x00000001, Page data): Internal error
xc: error: Restore failed (0 = Success): Internal error
libxl: error: libxl_stream_read.c:850:libxl__xc_domain_restore_done: restoring domain: Success
libxl: error: libxl_create.c:1640:domcreate_rebuild_done: Domain 16:cannot (re-)build domain: -3
libxl: error: libxl_domain.c:1183:libxl__destroy_domid: Domain 16:Non-existant domain
libxl: error: libxl_domain.c:1137:domain_destroy_callback: Domain 16:Unable to destroy guest
Traceback (most recent call last):
  File "/opt/venv/bin/drakrun", line 8, in <module>
RuntimeError: Failed to restore VM vm-1
"""
"""What Xen's own xl says about a snapshot whose end is missing: the reason first, then how it clears up."""
CHAINS_FAILED = """\
[2026-11-28 19:00:00,123][INFO] Destroying vm-1
iptables: No chain/target/match by that name.
Traceback (most recent call last):
  File "/usr/lib/python3.11/subprocess.py", line 466, in check_output
    return run(*popenargs, stdout=PIPE, timeout=timeout, check=True,
subprocess.CalledProcessError: Command 'iptables -A DRAKRUN_INP -i drak1' returned non-zero exit status 1.
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ""),
        ("one\n\ntwo\n", "; it said: one | two"),
        ("1\n2\n3\n4\n5\n", "; it said: 2 | 3 | 4 | 5"),
        (
            RESTORE_FAILED,
            (
                "; it said: libxl: error: libxl_exec.c:118: device model: failed to create the network "
                "device | RuntimeError: Failed to restore VM vm-1"
            ),
        ),
        (
            CUT_OFF,
            (
                "; it said: xc: error: Failed to read 4202504 bytes of data for record (0x00000001, Page "
                "data): Internal error | xc: error: Restore failed (0 = Success): Internal error | "
                "RuntimeError: Failed to restore VM vm-1"
            ),
        ),
        (
            CHAINS_FAILED,
            (
                "; it said: iptables: No chain/target/match by that name. | subprocess.CalledProcessError: "
                "Command 'iptables -A DRAKRUN_INP -i drak1' returned non-zero exit status 1."
            ),
        ),
        ("[2026-11-28 19:00:00,123][INFO] Destroying vm-1\n", "; it said: [2026-11-28 19:00:00,123][INFO] "),
        ("Traceback (most recent call last):\n  File\n    cut of", ""),
    ],
)
def test_the_useful_line_of_a_traceback_is_told(text: str, said: str) -> None:
    """Not its last lines: the exception, and what the program that failed had complained of above (H6)."""
    assert quoted(readable(text)).startswith(said)
    assert bool(said) == bool(quoted(readable(text)))


def test_a_tool_that_takes_too_long_is_killed_with_its_children(tmp_path: Path, cell: Cell) -> None:
    """The error says so, with what it said last."""
    pids = tmp_path / "pids"
    script = sh(f"sleep 60 & echo $! > {pids}; echo waiting >&2; wait")
    with pytest.raises(EngineError, match="sh did not end within 1 s; it said: waiting"):
        Tools().run(script, seconds=1, cell=cell, holder="mine")
    assert not is_alive(int(pids.read_text()))
    assert list(tmp_path.glob("vm-1/*.process")) == []


@pytest.mark.parametrize("stream", ["1", "2"])
def test_a_tool_that_prints_without_end_is_killed(
    monkeypatch: pytest.MonkeyPatch, cell: Cell, stream: str
) -> None:
    """Long before its time is over, and its error says so."""
    monkeypatch.setattr(tools_module, "PRINTED_BYTES", 1024**2)
    begun = time.monotonic()
    with pytest.raises(Overfull, match=r"^sh was ended: it printed more than 1 MiB"):
        Tools().run(
            sh(f"head -c 2000000 /dev/zero >&{stream}; sleep 60"), seconds=60, cell=cell, holder="mine"
        )
    with pytest.raises(Overfull, match=r"^sh was ended: it printed more than 1 MiB"):
        Tools().ask(sh(f"head -c 2000000 /dev/zero >&{stream}; exec sleep 60"), seconds=60)
    assert time.monotonic() - begun < 50


def test_all_that_a_run_writes_counts(tmp_path: Path) -> None:
    """Whatever tool writes it and wherever it lies, but not what a link leads to."""
    job = make_job(tmp_path)
    for path in (job.log, stderr_of(job, "tcpdump"), job.raw / "dumps" / "deep" / "file"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(1000))
    before = written(job)
    assert before >= 3000
    (job.raw / "link").symlink_to(job.sample)
    assert written(job) - before < 500


def test_a_program_that_is_not_there_is_said() -> None:
    """Not as a traceback."""
    done = Tools().run(["/nowhere/drakrun", "vm-start"], seconds=10)
    assert str(done.trouble("x")) == (
        "x: drakrun vm-start could not be started; it said: /nowhere/drakrun: No such file or directory"
    )


def test_a_tool_heeds_every_signal() -> None:
    """Python ignores SIGPIPE, a pool process SIGINT; a tool that inherited that would not stop."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        status = Tools().run(["cat", "/proc/self/status"], seconds=10).output
    finally:
        signal.signal(signal.SIGINT, before)
    masks = dict(line.split(":\t") for line in status.splitlines() if line.startswith("Sig"))
    settable = sum(1 << (number - 1) for number in signal.valid_signals())  # not 32 and 33, which libc keeps
    assert (int(masks["SigIgn"], 16) & settable, int(masks["SigBlk"], 16) & settable) == (0, 0)


def test_a_pipe_is_held_open_where_asked() -> None:
    """drakshell takes the end of its stdin for a flood of empty messages."""
    script = "if read -t 0.3 line; then echo got; else echo $?; fi"
    run = Tools(path="/usr/bin:/bin").run
    at_end = run(["/bin/bash", "-c", script], seconds=10).output.strip()
    held = run(["/bin/bash", "-c", script], seconds=10, held_open=True).output.strip()
    assert (at_end, int(held) > 128) == ("1", True)  # bash: more than 128 means that the time ran out


def test_a_tool_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    """However that ends: the kernel sees to it."""
    pid_file = tmp_path / "pid"
    code = (
        "from drakcelery.engines.drakvuf.tools import Tools\n"
        f"Tools().run(['/bin/sh', '-c', 'echo $$ > {pid_file}; exec sleep 60'], seconds=60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    try:
        wait_until(lambda: pid_file.exists() and pid_file.read_text().strip(), "the tool runs")
        pid = int(pid_file.read_text())
        wait_until(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n", "sleep sleeps")
    finally:
        parent.kill()
        parent.wait(PATIENCE)
    wait_until(lambda: not is_alive(pid), "the tool is gone")


def test_a_tool_of_a_dead_parent_does_not_start() -> None:
    """The parent may die before the kernel has been asked."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", launch.__file__, "1", "/bin/echo", "started"],
        capture_output=True,
        timeout=10,
        check=False,
    )
    assert (done.returncode, done.stdout) == (launch.NOT_STARTED, b"")


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["/opt/venv/bin/drakrun", "vm-start", "--vm-id", "1"], "drakrun vm-start"),
        (["drakrun", "injector", "copy", "/w/x", "vm-1:x"], "drakrun injector copy"),
        (["xl", "list", "vm-1"], "xl list"),
        (["tcpdump", "-n", "-U"], "tcpdump"),
    ],
)
def test_a_tool_is_called_by_its_command(command: list[str], name: str) -> None:
    """In logs and errors, without what it was given."""
    assert called(command) == name


def test_control_characters_are_escaped() -> None:
    """What a guest made a tool say must not drive a terminal."""
    assert printable("a\tb\x1b[2J\u202e\r\n\x00é") == "a\\tb\\x1b[2J\\u202e\\r\\n\\x00é"


# A slot's directory


def test_a_guest_has_one_holder(cell: Cell) -> None:
    """Nobody else may start anything for it."""
    assert cell.check("mine") == HELD
    with pytest.raises(EngineError, match="holds a guest already"):
        cell.acquire(HELD)
    with pytest.raises(EngineError, match="was destroyed meanwhile"):
        Tools().run(["true"], seconds=10, cell=cell, holder="another")


def test_vacating_kills_what_was_started(cell: Cell) -> None:
    """And whoever held the guest starts nothing more."""
    started = threading.Event()

    def work() -> int:
        started.set()
        return Tools().run(sh("sleep 60 & wait"), seconds=60, cell=cell, holder="mine").code

    with ThreadPoolExecutor(1) as pool:
        going = pool.submit(work)
        started.wait(PATIENCE)
        wait_until(lambda: list(cell._directory.glob("*.process")), "the tool runs")
        with cell.locked():
            assert cell.vacate()
            assert not cell.vacate()
        assert going.result(PATIENCE) == -9
    with pytest.raises(EngineError, match="was destroyed meanwhile"):
        cell.check("mine")


def test_a_process_that_has_got_the_number_is_left_alone(cell: Cell) -> None:
    """A process id is given again; a record of another start, or of before a reboot, is not its."""
    process = subprocess.Popen(["/bin/sleep", "60"], start_new_session=True)
    try:
        record = cell._directory / f"{process.pid}.process"
        ticks = cell_module.start_ticks(process.pid)
        for text in (f"1 {boot_id()}", f"{ticks} another-boot", ""):
            record.write_text(text)
            with cell.locked():
                cell.vacate()
            assert process.poll() is None
            assert not record.exists()
        record.write_text(f"{ticks} {boot_id()}")
        with cell.locked():
            cell.vacate()
        assert process.wait(PATIENCE) == -9
    finally:
        process.kill()
        process.wait(PATIENCE)


def test_children_of_a_tool_that_died_go_too(cell: Cell, tmp_path: Path) -> None:
    """drakrun may be gone while the xl that it started goes on."""
    pid_file = tmp_path / "pid"
    process = cell.start(
        "mine",
        lambda: subprocess.Popen(sh(f"sleep 60 & echo $! > {pid_file}; exit"), start_new_session=True),
    )
    process.wait(PATIENCE)
    child = int(pid_file.read_text())
    assert is_alive(child)
    with cell.locked():
        cell.vacate()
    assert not is_alive(child)


def test_waiting_for_a_slot_is_bounded(cell: Cell) -> None:
    """Whoever ends a guest may hang; nobody hangs with them."""
    hasty = Cell(cell._directory, lock_limit=0.2)
    with cell.locked(), pytest.raises(EngineError, match="has been ending its guest"):
        Tools().run(["true"], seconds=10, cell=hasty, holder="mine")


def test_a_forked_process_keeps_no_lock(cell: Cell) -> None:
    """A worker may start a pool process while it ends a guest; that one has the lock's file open too."""
    with cell.locked():
        (lock,) = [number for number, target in opened().items() if target == cell._directory / "lock"]
        process = subprocess.Popen(["/bin/sleep", "60"], pass_fds=[lock])
    try:
        with cell.locked():
            assert process.poll() is None
    finally:
        process.kill()
        process.wait(PATIENCE)


def test_a_holder_that_cannot_be_read_is_nobody(cell: Cell) -> None:
    """A file cut in half does not give the guest away, nor to the next one."""
    (cell._directory / "guest.json").write_text("{")
    with pytest.raises(EngineError, match="was destroyed meanwhile"):
        cell.check("mine")
    with pytest.raises(EngineError, match="holds a guest already"):
        cell.acquire(HELD)


# The snapshot


def test_a_snapshot_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where eight attempts ask at once; a new snapshot is hashed again."""
    hashed: list[Path] = []
    original = snapshot._hash

    def counted(memory: Path, cache: Path, known: list[str | int]) -> str:
        hashed.append(memory)
        time.sleep(0.05)  # long enough for the others to come
        return original(memory, cache, known)

    monkeypatch.setattr(snapshot, "_hash", counted)
    (tmp_path / snapshot.MEMORY).write_bytes(b"one")
    cache = tmp_path / "state" / "snapshot.json"
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: snapshot.identify(tmp_path, cache).sha256, range(8)))
    assert (len(found), len(hashed)) == (1, 1)
    (tmp_path / snapshot.MEMORY).write_bytes(b"another")
    assert snapshot.identify(tmp_path, cache).sha256 not in found
    cache.write_text("{")
    assert snapshot.identify(tmp_path, cache).sha256 not in found
    assert len(hashed) == 3


def test_a_snapshot_is_as_old_as_its_disk(tmp_path: Path) -> None:
    """As v0.21 has it with qcow2; other backends have no file for the disk, and the memory's time serves."""
    (tmp_path / snapshot.MEMORY).write_bytes(b"memory")
    os.utime(tmp_path / snapshot.MEMORY, (2000, 2000))
    assert snapshot.identify(tmp_path, tmp_path / "cache.json").version == 2000
    (tmp_path / snapshot.DISK).touch()
    os.utime(tmp_path / snapshot.DISK, (1000, 1000))
    assert snapshot.identify(tmp_path, tmp_path / "cache.json").version == 1000


def test_the_snapshot_is_where_the_installation_says(tmp_path: Path) -> None:
    """``install.json`` may name another directory; without it there is no installation."""
    with pytest.raises(EngineError, match="no installation of DRAKVUF Sandbox"):
        snapshot.directory(tmp_path, tmp_path)
    (tmp_path / "install.json").write_text("{}")
    assert snapshot.directory(tmp_path, tmp_path / "lib") == tmp_path / "lib" / "volumes"
    (tmp_path / "install.json").write_text(json.dumps({"snapshot_dir": "/zfs/snapshots"}))
    assert snapshot.directory(tmp_path, tmp_path) == Path("/zfs/snapshots")
    with pytest.raises(EngineError, match="the snapshot cannot be read"):
        snapshot.identify(tmp_path, tmp_path / "cache.json")


# The guest


def guest_of(tmp_path: Path) -> Guest:
    """A guest on a host whose programs and directories are below *tmp_path*."""
    section = DrakvufSection(run_dir=tmp_path, xl=str(tmp_path / "xl"), drakrun=str(tmp_path / "drakrun"))
    cell = Cell(tmp_path / "engine" / "vm-3", lock_limit=5)
    tools = Tools(path=f"{tmp_path}:/usr/bin:/bin")
    network = Network(tools, tmp_path / "engine", between=lambda: True, closed=True, wait=1)
    return Guest(number=3, cell=cell, tools=tools, section=section, network=network)


def program(path: Path, script: str) -> None:
    """An executable of our own."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_a_bridge_that_nobody_noted_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A vm-start that was killed half-way leaves one, and the next could not make its own."""
    monkeypatch.setattr(guest_module, "INTERFACES", tmp_path / "net")
    (tmp_path / "net" / "drak3").mkdir(parents=True)
    program(tmp_path / "xl", "echo 'vm-3 is an invalid domain identifier (rc=-6)' >&2; exit 1")
    program(tmp_path / "drakrun", "exit 0")
    program(tmp_path / "ip", f'echo "$@" >> {tmp_path}/asked')
    guest = guest_of(tmp_path)
    guest.cell.acquire(HELD)
    (tmp_path / "vmnet-3.json").touch()
    with pytest.raises(EngineError, match=r"vmnet-3.json says that its network is not, after 3 times"):
        guest.destroy()
    assert not (tmp_path / "asked").exists()
    (tmp_path / "vmnet-3.json").unlink()
    guest.cell.acquire(HELD)
    guest.destroy()
    assert (tmp_path / "asked").read_text() == "link delete drak3\n"


NETWORK = {
    "net_enable": True,
    "out_interface": "eth0",
    "dns_server": "10.13.3.1",
    "gateway_address": "10.13.3.1",
}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"net_enable": True, "dns_server": "use-gateway-address"}, None),
        ({"net_enable": True, "dns_server": "10.13.3.1", "out_interface": "eth0"}, None),
        ({"net_enable": False}, r"net_enable = True, and \[drakrun\] net_enable asks for False"),
        ({"net_enable": True}, r"dns_server = 10\.13\.3\.1, and \[drakrun\] dns_server asks for 8\.8\.8\.8"),
        (
            {"net_enable": True, "dns_server": "use-gateway-address", "out_interface": "eth1"},
            r"out_interface = eth0, and \[drakrun\] out_interface asks for eth1",
        ),
    ],
)
def test_the_guests_network_is_compared(
    tmp_path: Path, asked: dict[str, object], message: str | None
) -> None:
    """What the settings ask for is what the guest got, or no sample runs in it."""
    (tmp_path / "vmnet-3.json").write_text(json.dumps(NETWORK))
    wanted, guest = DrakrunSection.model_validate(asked), guest_of(tmp_path)
    if message is None:
        guest.check_network(wanted, net_enable=wanted.net_enable)
        return
    with pytest.raises(EngineError, match=message):
        guest.check_network(wanted, net_enable=wanted.net_enable)


@pytest.mark.parametrize("text", [None, "", "{}", "[]", '{"net_enable": true}'])
def test_a_network_that_cannot_be_told_is_refused(tmp_path: Path, text: str | None) -> None:
    """A guest may reach the Internet that should not."""
    if text is not None:
        (tmp_path / "vmnet-3.json").write_text(text)
    with pytest.raises(EngineError, match="cannot tell which network vm-3 got"):
        guest_of(tmp_path).check_network(DrakrunSection(), net_enable=False)


# The engine's slots


@pytest.mark.parametrize("slot", ["vm-0", "vm-256", "vm-x", "win10"])
def test_a_slot_that_is_no_vm_is_refused(slot: str) -> None:
    """At the start, not when the first sample comes."""
    with pytest.raises(SettingsError, match=rf"\[slots\] {slot}: .*vm-1 to vm-255"):
        create(Settings(slots={slot: "default"}))


def test_one_host_has_one_profile() -> None:
    """DRAKVUF Sandbox v0.19 to v0.21 has one snapshot: a second profile would be a lie."""
    with pytest.raises(SettingsError, match=r"names the profiles win10, win7: .* one snapshot on a host"):
        create(Settings(slots={"vm-1": "win7", "vm-2": "win10"}))
    create(Settings(slots={"vm-1": "win7", "vm-2": "win7"}))
    create(Settings(slots={}))


def test_a_tool_that_is_only_asked() -> None:
    """What it said, how it ended, that it hangs or is not there: as of one that is run."""
    tools = Tools()
    done = tools.ask(sh("echo out; echo err >&2; exit 3"), seconds=10)
    assert (done.code, done.output, done.errors) == (3, "out\n", ("err",))
    with pytest.raises(EngineError, match="sleep did not end within 0 s"):
        tools.ask(["sleep", "60"], seconds=0.01)
    assert tools.ask(["/nowhere/iptables-save"], seconds=1).code == launch.NOT_STARTED


@pytest.mark.parametrize(("code", "said"), [(-9, "was killed (SIGKILL)"), (-40, "was killed (signal 40)")])
def test_a_signal_without_a_name(code: int, said: str) -> None:
    """A program may die of any; that it did is told, and no error of ours."""
    assert ending(code) == said


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "\0", "{"])
def test_an_odd_install_json(tmp_path: Path, text: str) -> None:
    """It is no installation, in a sentence."""
    (tmp_path / "install.json").write_text(text)
    with pytest.raises(EngineError, match="no installation of DRAKVUF Sandbox"):
        snapshot.directory(tmp_path, tmp_path)


@pytest.mark.parametrize("named", ["", 5, None, ["x"], "a\0b"])
def test_a_snapshot_directory_that_is_no_path(tmp_path: Path, named: object) -> None:
    """DRAKVUF Sandbox's own place is looked at instead, and found to be without a snapshot or not."""
    (tmp_path / "install.json").write_text(json.dumps({"snapshot_dir": named}))
    assert snapshot.directory(tmp_path, tmp_path) == tmp_path / "volumes"
