"""`drakcelery init` on a machine that had DRAKVUF Sandbox v0.18, and its units at work.

The machine is a staging directory. Its units' processes run as the users, with the rights and under the
system call filters that the units name; the guests are recorded ones.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from karton.core import Producer
from karton.core.backend import KartonBackend, KartonBind

from drakcelery import settings
from drakcelery.embedded.ports import assign
from drakcelery.embedded.services import Services
from drakcelery.embedded.supervision import MARK, end_marked
from drakcelery.host import state_dir as directories
from drakcelery.karton import submit
from drakcelery.ledger import Ledger
from drakcelery.model.analysis import State
from drakcelery.model.records import Record
from drakcelery.wiring import make_ledger
from tests.acceptance import sandboxed
from tests.commands import extract
from tests.conftest import require
from tests.reference import ROOT
from tests.terminal import terminal
from tests.waiting import wait_until

DRAKCELERY = Path(sys.executable).parent / "drakcelery"
DATABASE = 12
"""Of the session's Valkey; the broker's is the next one. Nobody else uses them."""
ROLES = ("ingress", "vm", "io", "flower", "system")
BUCKET = "joined"


def init(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """``drakcelery init …`` in an environment without settings."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("DRAKCELERY_")}
    return subprocess.run(
        [DRAKCELERY, "init", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
        check=False,
    )


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A staging directory that init has written to."""

    root: Path
    said: str
    ids: Mapping[str, int]
    """Number of each user, which is that of its group, by name."""
    groups: Mapping[str, int]
    """Number of each group by name."""
    secret: str

    @property
    def config(self) -> Path:
        """The file that init wrote."""
        return self.root / "etc/drakcelery/config.ini"

    @property
    def state_dir(self) -> Path:
        """Where systemd-tmpfiles made it."""
        return self.root / "var/lib/drakcelery"

    def unit(self, role: str) -> Path:
        """The unit of a role."""
        return self.root / "etc/systemd/system" / f"drakcelery-{role}.service"


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """A directory that other users may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="drakcelery-init-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def put(path: Path, text: str = "") -> None:
    """Write a file and its directory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture(scope="module")
def machine(services: Services, root: Path) -> Machine:
    """A Xen host of v0.18 after init, with the user and the directory that systemd's tools make."""
    for program in ("systemd-sysusers", "systemd-tmpfiles", "systemd-analyze"):
        require(shutil.which(program) is not None, f"{program} is not installed (package systemd)")
    require(os.geteuid() == 0, "only root can start processes as other users")
    assert services.redis.password is not None
    assert services.s3.secret_key is not None
    secret = services.s3.secret_key.get_secret_value()
    put(
        root / "etc/drakrun/config.ini",
        f"[redis]\nhost={services.redis.host}\nport={services.redis.port}\ndb={DATABASE}\n"
        f"password={services.redis.password.get_secret_value()}\n"
        f"[minio]\naddress={services.s3.address.removeprefix('http://')}\nsecure=0\n"
        f"bucket={services.s3.bucket}\naccess_key=\nsecret_key=\n"
        "[drakrun]\nnet_enable=0\nout_interface=\nanalysis_timeout=300\nidentity=karton.drakrun-joined\n"
        "[drakvuf_plugins]\n_all_=apimon,procmon,mymon\nlow=apimon,memdump\n"
        "[draktestd]\nmodules=/opt/extractor-modules/\n",
    )
    put(
        root / "etc/drakcore/config.ini",
        "[drakmon]\nsystem_disable=0\ndatabase=sqlite:////var/lib/drakcore/drakcore.db\n",
    )
    access = services.s3.access_key
    put(root / "etc/drakcore/minio.env", f"MINIO_ACCESS_KEY={access}\nMINIO_SECRET_KEY={secret}\n")
    put(root / "etc/drakrun/install.json", "{}")
    for name in ("drakrun@1", "drakrun@2", "drak-system", "drak-postprocess@1"):
        put(root / "etc/systemd/system/default.target.wants" / f"{name}.service")
    done = init("--root", root)
    assert done.returncode == 0, done.stderr
    for program in ("systemd-sysusers", "systemd-tmpfiles --create"):
        subprocess.run([*program.split(), f"--root={root}"], check=True, capture_output=True)
    users = [line.split(":") for line in (root / "etc/passwd").read_text().splitlines()]
    ids = {name: int(uid) for name, _, uid, *_ in users}
    lines = [line.split(":") for line in (root / "etc/group").read_text().splitlines()]
    groups = {name: int(gid) for name, _, gid, _ in lines}
    assert [line[3] for line in lines if line[0] == "drakcelery-operators"] == ["drakcelery"]
    return Machine(
        root=root, said=done.stdout + done.stderr, ids={"root": 0, **ids}, groups=groups, secret=secret
    )


def test_old_settings_are_taken_over(machine: Machine, services: Services) -> None:
    """What was set is set, the file loads without a remark, and each old key has its line in the report."""
    ours = settings.load(machine.config, environment={})
    assert ours.remarks == ()
    assert ours.redis.address() == services.redis.address(db_offset=DATABASE)
    assert ours.s3 == services.s3
    assert ours.slots == {"vm-1": "default", "vm-2": "default"}
    assert (ours.drakrun.identity, ours.drakrun.analysis_timeout) == ("karton.drakrun-joined", 300)
    assert (ours.plugins_of("high"), ours.plugins_of("low")) == (("apimon", "procmon"), ("apimon", "memdump"))
    for line in (
        "[drakrun] analysis_timeout: taken over as [drakrun] analysis_timeout: same meaning",
        "[drakmon] database: dropped: the records of analyses are in Karton's Redis",
        "[drakvuf_plugins] _all_: needs a decision: left out: mymon: no plugin of DRAKVUF",
        "drakrun@2.service: taken over as [slots] vm-2: the service owned the VM of that name",
        "systemctl disable --now drak-postprocess@1.service drak-system.service drakrun@1.service",
    ):
        assert line in machine.said


def test_secrets_are_not_printed(machine: Machine, tmp_path: Path) -> None:
    """No credential is on the terminal, not even with --dry-run; the file is for its owner and group."""
    shown = init("--root", tmp_path, "--from", machine.config, "--dry-run")
    assert shown.returncode == 0, shown.stderr
    assert list(tmp_path.iterdir()) == []
    assert "secret_key = ***" in shown.stdout
    assert machine.secret not in machine.said + shown.stdout + shown.stderr
    status = machine.config.stat()
    people = machine.groups["drakcelery-operators"]
    assert (oct(status.st_mode)[-4:], status.st_uid, status.st_gid) == ("0640", 0, people)
    assert people != machine.ids["drakcelery"]


def test_nothing_is_enabled_unasked(machine: Machine, tmp_path: Path) -> None:
    """init enables nothing; with --enable systemctl enables the units that were written."""
    require(shutil.which("systemctl") is not None, "systemctl is not installed (package systemd)")
    wants = "etc/systemd/system/multi-user.target.wants"
    assert not (machine.root / wants).exists()
    assert "systemctl enable --now drakcelery-ingress.service" in machine.said
    done = init("--root", tmp_path, "--only", "io", "--only", "ingress", "--enable")
    assert done.returncode == 0, done.stderr
    enabled = sorted(path.name for path in (tmp_path / wants).iterdir())
    assert enabled == ["drakcelery-ingress.service", "drakcelery-io.service"]


def test_the_command_of_drakvuf_sandboxs_documentation(tmp_path: Path) -> None:
    """Its parts are our roles, which are printed beside; what is not here is a sentence."""
    done = init("--root", tmp_path, "--only", "web", "--only", "drakrun")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("web is flower here\ndrakrun is ingress, vm, io here\n")
    units = {path.name for path in (tmp_path / "etc/systemd/system").glob("drakcelery-*.service")}
    assert units == {f"drakcelery-{role}.service" for role in ("ingress", "vm", "io", "flower")}
    refused = init("--root", tmp_path, "--only", "minio")
    assert refused.returncode == 2
    assert "brings no S3 server" in refused.stderr
    assert "'ingress', 'vm', 'io', 'flower', 'system'" in init("--only", "nothing").stderr


def test_drakrun_is_asked_for(tmp_path: Path) -> None:
    """On a terminal init asks for the drakrun that it does not find, and its unit sees it (H5)."""
    put(tmp_path / "etc/drakrun/install.json", "{}")
    command: list[str | Path] = [DRAKCELERY, "init", "--root", tmp_path, "--only", "vm", "--only", "io"]
    with terminal(command, columns=200) as screen:
        wait_until(lambda: screen.shows("drakrun of DRAKVUF Sandbox .*later"), "init asks")
        screen.type("/root/sandbox/bin/drakrun\n")
        wait_until(lambda: screen.shows("Next, on the machine"), "init is done")
        assert screen.process.wait(30) == 0
    ours = settings.load(tmp_path / "etc/drakcelery/config.ini", environment={})
    assert ours.drakvuf.drakrun == "/root/sandbox/bin/drakrun"
    unit = (tmp_path / "etc/systemd/system/drakcelery-vm.service").read_text()
    assert "ProtectHome=read-only" in unit


def test_file_in_the_way(tmp_path: Path) -> None:
    """What is there is not overwritten, and the refusal says what to do."""
    put(tmp_path / "etc/systemd/system/drakcelery-flower.service", "mine\n")
    refused = init("--root", tmp_path)
    assert refused.returncode == 1
    assert refused.stderr.startswith(
        f"Error: {tmp_path}/etc/systemd/system/drakcelery-flower.service: there already"
    )
    assert not (tmp_path / "etc/drakcelery").exists()
    assert init("--root", tmp_path, "--force").returncode == 0
    assert (tmp_path / "etc/systemd/system/drakcelery-flower.service.old").read_text() == "mine\n"


@dataclass(frozen=True, kw_only=True)
class Joined:
    """The machine with its services running."""

    machine: Machine
    processes: Mapping[str, subprocess.Popen[bytes]]
    producer: Producer
    ledger: Ledger
    settings: settings.Settings

    def analyse(self, name: str) -> Record:
        """Push a sample; its record once the analysis is over."""
        sample = self.machine.root / f"{name}.bat"
        sample.write_text(f"rem {name}")
        task = submit.sample_task(sample)
        task.payload["override_uid"] = name
        assert self.producer.send_task(task)

        def over() -> Record | None:
            record = self.ledger.get(name)
            return record if record is not None and record.state.is_over else None

        return wait_until(over, f"the analysis {name} is over: {self.logs()}")

    def logs(self) -> str:
        """What the services said last."""
        paths = sorted((self.machine.root / "log").glob("*.log"))
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-1500:]}" for path in paths)


@pytest.fixture(scope="module")
def joined(machine: Machine) -> Iterator[Joined]:
    """The units' processes on a Karton of their own."""
    hold = machine.root / "hold"
    hold.mkdir(exist_ok=True)
    also = [machine.groups["drakcelery-operators"]]
    children = {role: sandboxed.become(machine.unit(role), machine.ids, hold, also=also) for role in ROLES}
    can = subprocess.run(
        [sys.executable, "-c", ""], preexec_fn=children["io"], check=False, capture_output=True
    )
    require(can.returncode == 0, f"no process can be started as another user here: {can.stderr.decode()}")
    run, log = machine.root / "run-recorded", machine.root / "log"
    (run / "dumps").mkdir(parents=True)
    (run / "drakmon.log").write_text('{"Plugin": "procmon", "TimeStamp": "1.0", "PID": 4}\n')
    (run / "dumps" / "400000_0123456789abcdef").write_bytes(b"MZ" * 512)
    log.mkdir()
    environment = {
        MARK: str(machine.root),
        "DRAKCELERY_DRAKCELERY_STATE_DIR": str(machine.state_dir),
        "DRAKCELERY_DRAKCELERY_HOST": "joined",
        "DRAKCELERY_DRAKCELERY_ENGINE": "replay",
        "DRAKCELERY_DRAKCELERY_BUCKET": BUCKET,
        "DRAKCELERY_DRAKCELERY_MIN_FREE_SPACE": "0",
        "DRAKCELERY_FLOWER_PORT": str(assign(("flower",), kept={})["flower"]),
        "DRAKCELERY_REPLAY_RUN_DIR": str(run),
        "DRAKCELERY_REPLAY_RUN_SECONDS": "0.2",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    ours = settings.load(
        machine.config, environment={k: v for k, v in environment.items() if k[:4] == "DRAK" and k != MARK}
    )
    ledger = make_ledger(ours)
    backend = KartonBackend(submit.karton_config(ours), identity="karton.joined")
    with contextlib.ExitStack() as stack:
        stack.callback(ledger._redis.close)
        stack.callback(ledger._redis.flushdb)
        stack.callback(backend.s3.close)
        stack.callback(end_marked, str(machine.root), grace=0)
        processes = {
            role: sandboxed.start(
                machine.unit(role),
                child=children[role],
                config=machine.config,
                environment=environment,
                log=log / f"{role}.log",
            )
            for role in ROLES
        }
        producer = Producer(config=backend.config, identity="karton.joined", backend=backend)
        bind = KartonBind(
            "karton.joined-receiver", "", "", True, [{"type": "analysis", "kind": "drakrun"}], "", False
        )
        backend.register_bind(bind)
        here = Joined(machine=machine, processes=processes, producer=producer, ledger=ledger, settings=ours)
        wait_until(
            lambda: (
                any(one.poll() is not None for one in processes.values())
                or (ledger.bound() and ledger.fleet.hosts())
            ),
            f"ingress and vm worker are there: {here.logs()}",
        )
        ended = {role: one.returncode for role, one in processes.items() if one.poll() is not None}
        assert not ended, f"{ended}\n{here.logs()}"
        yield here


def test_units_analyse_a_sample(joined: Joined) -> None:
    """Root's vm worker and the user's io worker share a workspace, with the rights that their units leave."""
    record = joined.analyse("shared")
    assert record.state is State.PUBLISHED, (record, joined.logs())
    assert record.attempts == 1
    workspaces = joined.machine.state_dir / "workspaces"
    wait_until(lambda: not any(workspaces.iterdir()), "the workspace is removed")


def test_only_the_vm_worker_is_root(joined: Joined) -> None:
    """As the kernel sees it: users, groups, capabilities, no new privileges, a system call filter."""
    for role, process in joined.processes.items():
        text = Path(f"/proc/{process.pid}/status").read_text()
        status = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
        own = str(joined.machine.ids["drakcelery"])
        assert status["Uid"].split()[0] == ("0" if role == "vm" else own), role
        assert status["Gid"].split()[0] == own
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
        assert status["Umask"].strip() == "0007"
        if role != "vm":
            assert int(status["CapEff"], 16) == 0


@pytest.mark.parametrize(
    ("role", "program", "allowed"),
    [
        ("io", "import mmap; mmap.mmap(-1, 4096, prot=7)", False),
        ("io", "import os; os.chown('/tmp', 1, 1)", False),
        ("io", "import ctypes, sys; sys.exit(-ctypes.CDLL(None).unshare(0x10000000))", False),
        ("vm", "import time; time.clock_settime(time.CLOCK_REALTIME, 0)", False),
        ("io", "import mmap; mmap.mmap(-1, 4096, prot=3)", True),
        ("vm", "import os; os.chown('.', 0, 0)", True),
    ],
)
def test_sandbox_refuses_what_units_do(machine: Machine, role: str, program: str, allowed: bool) -> None:
    """The confinement of these tests bites: a service can do what it needs, and not what its unit forbids."""
    hold = machine.root / "hold"
    hold.mkdir(exist_ok=True)
    child = sandboxed.become(machine.unit(role), machine.ids, hold)
    done = subprocess.run(
        [sys.executable, "-c", program], preexec_fn=child, cwd=machine.root, check=False, capture_output=True
    )
    assert (done.returncode == 0) is allowed, done.stderr


def test_state_belongs_to_its_worker(joined: Joined) -> None:
    """What the services leave is closed to everyone else, and the group may change no directory of root's."""
    group = joined.machine.ids["drakcelery"]
    left = [joined.machine.state_dir, *joined.machine.state_dir.rglob("*")]
    assert {path.name for path in left} >= {"slots.sqlite", "vm-worker.lock", "io-worker.lock", "workspaces"}
    for path in left:
        status = path.stat()
        assert status.st_gid == group, path
        assert oct(status.st_mode)[-1] == "0", path
        if path.is_dir():
            io_s = path.is_relative_to(directories.of_io_worker(joined.machine.state_dir))
            assert status.st_uid == (joined.machine.ids["drakcelery"] if io_s else 0), path
            assert not status.st_mode & stat.S_IWGRP, path
    assert oct((joined.machine.state_dir / "slots.sqlite").stat().st_mode)[-3:] == "600"


def test_sigterm_to_the_main_process_ends_a_service(joined: Joined) -> None:
    """As KillMode=mixed has it: the main process alone is told, and ends with all that it started."""
    for process in joined.processes.values():
        os.kill(process.pid, signal.SIGTERM)
    for role, process in joined.processes.items():
        assert process.wait(60) == 0, (role, joined.logs())


def test_whoever_comes_again_finds_nothing_to_do(machine: Machine) -> None:
    """A second init on the machine keeps its file, changes no unit, and says so."""
    before = {path: path.stat().st_mtime_ns for path in (machine.root / "etc").rglob("*")}
    again = init("--root", machine.root)
    assert again.returncode == 0, again.stderr
    assert "kept       0640  /etc/drakcelery/config.ini" in again.stdout
    assert "new " not in again.stdout
    assert before == {path: path.stat().st_mtime_ns for path in (machine.root / "etc").rglob("*")}


@pytest.mark.parametrize("page", ["join.md", "migration.md", "xen.md"])
def test_pages_commands_run(page: str, root: Path) -> None:
    """Typing a page from top to bottom, and then what init says comes next, makes a machine that is ready.

    On the machine itself, as root, in an /etc and a /var/lib that only these commands see.
    """
    require(os.geteuid() == 0, "only root can write to /etc")
    hold = root / page
    child = sandboxed.apart([Path("/etc"), Path("/var/lib")], hold)
    require(
        subprocess.run(["true"], preexec_fn=child, check=False).returncode == 0,  # noqa: S607 does nothing
        "no file systems can be mounted here",
    )
    etc, state = hold / "etc/upper", hold / "var/lib/upper/drakcelery"
    if Path("/etc/drakcelery").exists():  # what is hidden from tests would be seen again
        os.mknod(etc / "drakcelery", stat.S_IFCHR)  # overlayfs: there is no such name
    put(
        etc / "karton/karton.ini",
        "[redis]\nhost=karton\n[s3]\naddress=http://s3\naccess_key=a\nsecret_key=b\n",
    )
    put(etc / "drakrun/install.json", "{}")
    if page == "migration.md":  # the machine has what it comes from
        for name in ("drakrun", "drakcore"):
            put(etc / name / "config.ini", "[redis]\nhost=karton\n[drakmon]\nsystem_disable=1\n")
    typed = [command.text for command in extract((ROOT / "docs" / page).read_text(), page)]
    commands = [text for text in typed if "init" in text]  # test_xen types the others
    next_steps = "grep -E '^  systemd-(sysusers|tmpfiles) ' first.txt | bash -eux"
    script = "\n".join(["drakcelery init --dry-run", *commands, "drakcelery init > first.txt", next_steps])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],  # noqa: S607 the shell that readers use
        cwd=hold,
        env={"PATH": f"{DRAKCELERY.parent}:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(hold)},
        preexec_fn=child,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    ours = settings.load(etc / "drakcelery/config.ini", environment={})
    assert (ours.redis.host, ours.slots) == ("karton", {"vm-1": "default"})
    group = next(line for line in (etc / "group").read_text().splitlines() if line.startswith("drakcelery:"))
    gid = int(group.split(":")[2])
    people = next(line for line in (etc / "group").read_text().splitlines() if "-operators:" in line)
    for path, mode, of in (
        (etc / "drakcelery/config.ini", "640", int(people.split(":")[2])),
        (state, "750", gid),
        (state / "workspaces", "2750", gid),
        (state / "engine", "700", gid),
    ):
        status = path.stat()
        assert (f"{status.st_mode & 0o7777:o}", status.st_uid, status.st_gid) == (mode, 0, of), path
    assert not (etc / "systemd/system/multi-user.target.wants/drakcelery-io.service").exists()
