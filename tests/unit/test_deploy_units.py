"""The units: who runs what, with which rights, and how long it may take to stop."""

from __future__ import annotations

import configparser
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from drakcelery.deploy import accounts, units
from drakcelery.deploy.units import ROLES, Machine, Role
from tests.conftest import require

MACHINE = Machine(
    program=PurePosixPath("/bin/true"),
    config=PurePosixPath("/etc/drakcelery/config.ini"),
    state_dir=PurePosixPath("/var/lib/drakcelery"),
    user="drakcelery",
    engine="drakvuf",
    stop_seconds=1500,
    longest_run=1290,
    writes=(PurePosixPath("/var/lib/drakrun"),),
)
ENGINES = ("drakvuf", "emulator", "replay")
EXPOSURE = {True: 5.1, False: 1.8}
"""What systemd-analyze security may say at most, of 10: for the unit with root, and for all others."""


def service(role: str, machine: Machine = MACHINE) -> dict[str, str]:
    """The keys of a unit's [Service]; of one that stands there twice, both values."""
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # keys as they are, the documented way
    text = units.unit(ROLES[role], machine)
    parser.read_string(text)
    found = dict(parser["Service"])
    found["SystemCallFilter"] = " ".join(
        line.partition("=")[2] for line in text.splitlines() if line.startswith("SystemCallFilter=")
    )
    return found


def is_root(role: Role, engine: str) -> bool:
    """Whether a unit may be root's."""
    return role.name == "vm" and engine == "drakvuf"


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("role", ROLES.values(), ids=lambda one: one.name)
def test_only_the_vm_worker_of_a_xen_host_is_root(role: Role, engine: str) -> None:
    """Everything else runs as the service's user, and can gain no capability."""
    unit = service(role.name, replace(MACHINE, engine=engine))
    root = is_root(role, engine)
    assert unit["User"] == ("root" if root else "drakcelery")
    assert set(unit["CapabilityBoundingSet"].split()) == (set(units.CAPABILITIES) if root else set())
    assert unit["AmbientCapabilities"] == ""
    assert unit["NoNewPrivileges"] == "yes"


@pytest.mark.parametrize("role", ROLES.values(), ids=lambda one: one.name)
def test_what_workers_write_belongs_to_their_group(role: Role) -> None:
    """Root's files and the user's are open to one group, and to nobody else."""
    unit = service(role.name)
    assert (unit["Group"], unit["UMask"]) == ("drakcelery", "0007")


@pytest.mark.parametrize("role", ROLES.values(), ids=lambda one: one.name)
def test_sigterm_goes_to_the_main_process_only(role: Role) -> None:
    """Pool processes and guests are the worker's to stop; it comes back after a crash, however often."""
    unit = service(role.name)
    assert (unit["KillMode"], unit["Restart"]) == ("mixed", "on-failure")
    # A worker outlives what the kernel kills of it for its memory (R4)
    assert unit.get("OOMPolicy") == ("continue" if role.name in ("vm", "io") else None)
    assert "\nStartLimitIntervalSec=0\n" in units.unit(role, MACHINE)
    assert "\nAssertFileIsExecutable=/bin/true\n" in units.unit(role, MACHINE)


@pytest.mark.parametrize(("stop", "limit"), [(1500, 1200), (0, 1200), (60, 7200), (9000, 1)])
def test_vm_worker_may_stop_longer_than_an_analysis(stop: int, limit: int) -> None:
    """systemd waits for the guests of a worker as long as the worker itself does, and longer than any run."""
    unit = service("vm", replace(MACHINE, stop_seconds=stop, longest_run=limit))
    assert int(unit["TimeoutStopSec"]) > max(stop, limit)


def test_emulator_may_translate_code_and_leave_the_network() -> None:
    """The emulator needs writable code and namespaces of its own; no other unprivileged unit has them."""
    emulator = service("vm", replace(MACHINE, engine="emulator"))
    assert "MemoryDenyWriteExecute" not in emulator
    assert emulator["RestrictNamespaces"] == "user net"
    assert "landlock_restrict_self" in emulator["SystemCallFilter"].split()
    replay = service("vm", replace(MACHINE, engine="replay"))
    assert (replay["MemoryDenyWriteExecute"], replay["RestrictNamespaces"]) == ("yes", "yes")


def test_state_is_written_by_those_who_keep_it() -> None:
    """Both workers may write to the state directory; nobody else may write anywhere."""
    writers = {role for role in ROLES if "/var/lib/drakcelery" in service(role).get("ReadWritePaths", "")}
    assert writers == {"vm", "io"}
    assert all(service(role)["ProtectSystem"] == "strict" for role in ROLES)


def test_program_below_home_stays_readable() -> None:
    """A unit whose program lies in a home directory can start it."""
    assert service("io")["ProtectHome"] == "yes"
    at_home = replace(MACHINE, program=PurePosixPath("/home/a/venv/bin/drakcelery"))
    assert service("io", at_home)["ProtectHome"] == "read-only"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A directory of units for each engine."""
    require(shutil.which("systemd-analyze") is not None, "systemd-analyze is not installed (package systemd)")
    directories = {}
    for engine in ENGINES:
        directories[engine] = tmp_path_factory.mktemp(engine)
        for role in ROLES.values():
            path = directories[engine] / units.unit_name(role.name)
            path.write_text(units.unit(role, replace(MACHINE, engine=engine)))
    return directories


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze, which needs no running systemd for this."""
    return subprocess.run(
        ["systemd-analyze", *map(str, arguments)],  # noqa: S607 the system's own
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_systemd_accepts_the_units(written: dict[str, Path], engine: str) -> None:
    """systemd-analyze verify has nothing to say of any of them."""
    done = analyze("verify", "--man=no", *sorted(written[engine].glob("*.service")))
    about_ours = [line for line in (done.stdout + done.stderr).splitlines() if "drakcelery" in line]
    assert (done.returncode, about_ours) == (0, [])


def test_verify_notices_a_slip(tmp_path: Path) -> None:
    """The check above tells a misspelt key from a good one."""
    require(shutil.which("systemd-analyze") is not None, "systemd-analyze is not installed (package systemd)")
    path = tmp_path / "drakcelery-io.service"
    path.write_text(units.unit(ROLES["io"], MACHINE).replace("KillMode", "KilMode"))
    assert "KilMode" in analyze("verify", "--man=no", path).stderr


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("role", ROLES.values(), ids=lambda one: one.name)
def test_exposure_is_low(written: dict[str, Path], role: Role, engine: str) -> None:
    """systemd's own score: next to nothing without root, medium for the worker of a Xen host."""
    unit = written[engine] / units.unit_name(role.name)
    done = analyze("security", "--offline=true", "--no-pager", unit)
    require("Overall exposure" in done.stdout, "this systemd-analyze cannot judge unit files (252 can)")
    score = float(done.stdout.split("Overall exposure level for ")[1].split(": ")[1].split()[0])
    assert score <= EXPOSURE[is_root(role, engine)], done.stdout


def test_user_and_directory(tmp_path: Path) -> None:
    """systemd's own tools make the user, and a directory whose content both workers share."""
    for program in ("systemd-sysusers", "systemd-tmpfiles"):
        require(shutil.which(program) is not None, f"{program} is not installed (package systemd)")
    for path, text in (
        ("etc/sysusers.d/drakcelery.conf", accounts.sysusers(MACHINE)),
        ("etc/tmpfiles.d/drakcelery.conf", accounts.tmpfiles(MACHINE)),
    ):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text(text)
    subprocess.run(
        ["systemd-sysusers", f"--root={tmp_path}"],  # noqa: S607 the system's own
        check=True,
        capture_output=True,
    )
    passwd = (tmp_path / "etc/passwd").read_text()
    assert "drakcelery" in passwd
    assert "/var/lib/drakcelery:/usr/sbin/nologin" in passwd
    assert json.dumps(passwd).count("drakcelery") >= 2
