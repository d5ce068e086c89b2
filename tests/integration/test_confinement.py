"""What the emulator's process can still do: nothing but its work, as root and as an ordinary user."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from drakcelery.doctor import engine as doctor
from drakcelery.doctor.finding import Status
from drakcelery.engines import confinement, landlock, privileges
from drakcelery.engines.confinement import Lack, Measure
from drakcelery.settings import Settings
from tests.conftest import require
from tests.integration import intruder
from tests.reference import ROOT

ORDINARY = 54321
"""A user and a group that nothing belongs to."""

STARTER = """
import dataclasses, os, subprocess, sys
from pathlib import Path
from drakcelery.engines import Detonation
from drakcelery.engines.emulator import Emulator
from drakcelery.engines.speakeasy_guest import supervision
from drakcelery.settings import DrakcelerySection, Settings
work, arguments, program = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
start = subprocess.Popen
subprocess.Popen = lambda command, **more: start([*command[:2], program], **more)  # for ours
emulator = Emulator(Settings(drakcelery=DrakcelerySection(state_dir=work / "state")))
job = dataclasses.replace(emulator._guest_job(Detonation(
    uid="u", slot="s", sample=work / "sample" / "malwar.exe", extension="exe", magic="", plugins=(),
    start_command="%f", timeout=60, raw=work / "raw", hooks=None)), arguments=arguments)
guest = supervision.start(work / "state" / "s.json", job, begin=supervision.begin)
supervision.follow(guest, 60)
print(guest.state, *guest.errors, sep="\\n")
"""


@dataclass(frozen=True, kw_only=True)
class Intruder:
    """What the intruder told."""

    results: dict[str, str]
    lacks: list[str]
    user: int


@pytest.fixture
def work() -> Iterator[Path]:
    """A workspace that an ordinary user can reach: not below pytest's own directory, which is root's."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        path.chmod(0o755)
        for name in ("sample", "raw", "elsewhere"):
            (path / name).mkdir(mode=0o700)
        (path / "elsewhere").chmod(0o777)  # anybody may write here, and yet not the guest
        shutil.copy(ROOT / "samples" / "behaviour.exe", path / "sample" / "malwar.exe")
        (path / "config.ini").write_text("[redis]\npassword = secret\n")
        (path / "config.ini").chmod(0o640)
        yield path


def intrude(work: Path, *, confined: bool, become: Callable[[], None] | None = None) -> Intruder:
    """Let the intruder try, as the guest program of an engine that is *become*."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        told = {
            "secret": str(work / "config.ini"),
            "elsewhere": str(work / "elsewhere"),
            "port": server.getsockname()[1],
            "confined": confined,
        }
        done = subprocess.run(
            [sys.executable, "-c", STARTER, str(work), json.dumps(told), intruder.__file__],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            preexec_fn=become,
        )
    assert done.stdout.startswith("finished"), done.stdout + done.stderr
    return Intruder(**json.loads((work / "raw" / "drakmon.log").read_bytes()))


def ordinary(work: Path) -> Callable[[], None]:
    """What to call in a child of root to be an ordinary user, to whom *work* belongs."""
    for path in (work, *work.rglob("*")):
        os.chown(path, ORDINARY, ORDINARY)

    def become() -> None:
        privileges.open_way([Path(sys.prefix), Path(sys.base_prefix), ROOT])
        os.setgroups([])
        os.setgid(ORDINARY)
        os.setuid(ORDINARY)

    return become


def assert_held(found: Intruder) -> None:
    """All that must not be done failed, and all that is its work did not."""
    own = {name: found.results.pop(name) for name in ("write the output", "start a thread")}
    assert set(own.values()) == {intruder.DONE}
    assert found.lacks == []
    assert [name for name, end in found.results.items() if end == intruder.DONE] == []


def test_root_is_held(work: Path) -> None:
    """Started by root, the guest is another user without any right, with nothing but its output (S6)."""
    require(os.geteuid() == 0, "only root can start it as root")
    found = intrude(work, confined=True)
    assert found.user >= privileges.FIRST_USER
    assert_held(found)


def test_an_ordinary_user_is_held(work: Path) -> None:
    """Started by the user who owns the configuration and the engine, the guest has neither (S6)."""
    found = intrude(work, confined=True, become=ordinary(work) if os.geteuid() == 0 else None)
    assert_held(found)


def test_the_intruder_is_able(work: Path) -> None:
    """An ordinary user whom nothing holds does all that needs no right of root: the tests above bite."""
    found = intrude(work, confined=False, become=ordinary(work) if os.geteuid() == 0 else None)
    failed = {name for name, end in found.results.items() if end != intruder.DONE}
    assert failed <= {"become root", "mount", "make a user namespace"}


@pytest.mark.parametrize(
    ("breaks", "measure", "remedy"),
    [
        ("privileges.leave_network = refuse", Measure.NETWORK, "user.max_user_namespaces"),
        ("privileges._exists = lambda number: False", Measure.USER, "as a user of its own"),
        ("privileges.drop_capabilities = refuse", Measure.CAPABILITIES, "systemd units again"),
        ("landlock.version = lambda: 0", Measure.FILES, "Landlock (5.13 or newer"),
        ("seccomp.LIBRARY = 'libseccomp.so.none'", Measure.CALLS, "apt install libseccomp2"),
    ],
)
def test_what_is_lacking_is_said(tmp_path: Path, breaks: str, measure: Measure, remedy: str) -> None:
    """A machine that lacks a part says so, with what to do, and has the other parts nevertheless (S6)."""
    if measure is Measure.USER:
        require(os.geteuid() == 0, "only root changes its user")
    program = (
        "from pathlib import Path\n"
        "from drakcelery.engines import confinement, landlock, privileges, seccomp\n"
        "def refuse(): raise PermissionError(1, 'Operation not permitted')\n"
        f"{breaks}\n"
        "confinement.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, check=True)
    (lack,) = (Lack(**{**one, "measure": Measure(one["measure"])}) for one in json.loads(done.stdout))
    assert lack.measure is measure
    assert remedy in lack.remedy()
    assert lack.said().startswith("the emulator ")


@pytest.mark.parametrize(
    ("lacks", "status"),
    [([], Status.OK), ([Lack(measure=Measure.FILES, why="this kernel has no Landlock")], Status.WARNING)],
)
def test_the_doctor_looks_at_the_confinement(
    monkeypatch: pytest.MonkeyPatch, lacks: list[Lack], status: Status
) -> None:
    """The doctor warns of what is lacking, and of how to better it."""

    class Subject:
        settings = Settings()

    subject: Any = Subject()
    monkeypatch.setattr(Settings, "engine", "emulator")
    monkeypatch.setattr(confinement, "find_lacks", lambda: lacks)
    verdict = doctor._confinement(subject)
    assert verdict.status is status
    if lacks:
        assert "no Landlock" in verdict.said
        assert "kernel with Landlock" in (verdict.remedy or "")


SPEAKS_UTF_16 = """
import os
from pathlib import Path
from drakcelery.engines import confinement

os.umask(0o077)
lacks = confinement.limit(memory=2**30, file=2**20, cpu=60) + confinement.lock_down(os.getppid())
Path("said").write_bytes("said".encode("utf-16le"))
"""


def test_a_narrow_umask_closes_nothing(tmp_path: Path) -> None:
    """Python's own files can be read in there, also where its starter lets nobody else into what it makes.

    The stack's processes have such a umask: real programs broke off at the first name in UTF-16.
    """
    command = [sys.executable, "-I", "-c", SPEAKS_UTF_16]
    subprocess.run(command, cwd=tmp_path, env=confinement.ENVIRONMENT, check=True)
    privileges.reclaim(tmp_path)
    assert (tmp_path / "said").read_text("utf-16le") == "said"


def test_this_machine_lacks_nothing() -> None:
    """The trial in a process of its own finds here what there is; so do the tests above."""
    require(landlock.version() > 0, "this kernel has no Landlock")
    assert confinement.find_lacks() == []
