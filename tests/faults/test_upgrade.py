"""A rolling upgrade: this version beside the last one, host by host, with samples in flight."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import pytest

from drakcelery.embedded.services import Services
from drakcelery.model.analysis import State
from tests.conftest import require
from tests.faults.fleet import Fleet, Options
from tests.faults.watch import wait_gone, wait_published, wait_state
from tests.reference import ROOT
from tests.servers import lent
from tests.waiting import wait_until

LAST = "8a65398e1dea"
"""The commit of the last landed version."""
HOSTS = ("rack-1", "rack-2")
NEWER, OLDER = HOSTS
pytestmark = pytest.mark.slow
RUN_SECONDS = 2
OF_OLDER = {OLDER: {"drakcelery": {"lease_seconds": "9", "look_ahead": "1"}}}
"""Settings of a host that nobody has changed yet."""


@pytest.fixture(scope="session")
def last_version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last version as its wheel installs it, built from its commit.

    A shallow clone does not have the commit. There it is this version, installed a second time: what the test
    then shows is that a process does not rely on what another one has imported, and the mixed settings.
    """
    directory = tmp_path_factory.mktemp("last")
    git = shutil.which("git")
    require(git is not None, "git is not installed")
    commit = LAST if _has(str(git), LAST) or not _is_shallow(str(git)) else "HEAD"
    archived = subprocess.run(
        [str(git), "-C", str(ROOT), "archive", "--output", str(directory / "last.tar"), commit],
        check=False,
        capture_output=True,
    )
    require(archived.returncode == 0, f"the commit {commit} is not here: {archived.stderr.decode()}")
    with tarfile.open(directory / "last.tar") as archive:
        archive.extractall(directory / "source", filter="data")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(directory)],
        cwd=directory / "source",
        check=True,
        capture_output=True,
    )
    (wheel,) = directory.glob("*.whl")
    with zipfile.ZipFile(wheel) as contents:
        contents.extractall(directory / "site")  # noqa: S202  # our own wheel
    # Else each of its processes would compile it: they start at the same time
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(directory / "site")], check=True)
    return directory / "site"


def _has(git: str, commit: str) -> bool:
    asked = [git, "-C", str(ROOT), "cat-file", "-e", f"{commit}^{{commit}}"]
    return subprocess.run(asked, check=False, capture_output=True).returncode == 0


def _is_shallow(git: str) -> bool:
    asked = [git, "-C", str(ROOT), "rev-parse", "--is-shallow-repository"]
    return subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip() == "true"


class MixedFleet(Fleet):
    """A fleet whose processes run one of two versions each."""

    def __init__(self, directory: Path, services: Services, last: Path) -> None:
        """*last* is where the last version is installed; every process begins with it."""
        self._last = last
        self.upgraded: set[str] = set()
        options = Options(hosts=HOSTS, slots=2, run_seconds=RUN_SECONDS, of_host=OF_OLDER)
        super().__init__(directory, services, options)

    def environment(self, name: str) -> dict[str, str]:
        """The last version lies before ours, which the environment of the tests has."""
        return {} if name in self.upgraded or name == "system" else {"PYTHONPATH": str(self._last)}

    def is_fork(self, name: str) -> bool:
        """What has been imported is this version."""
        return name in self.upgraded or name == "system"

    def code(self, name: str) -> Path:
        """The package that a process runs."""
        found = package(self.environment(name).get("PYTHONPATH"))
        own = Path(f"/proc/{self.processes[name].running.pid}/environ").read_bytes().split(b"\0")
        assert (f"PYTHONPATH={self._last}".encode() in own) == (name not in self.upgraded)
        return found

    def end(self, *names: str, number: signal.Signals = signal.SIGTERM) -> None:
        """End processes; with SIGKILL those of their pools as well."""
        for name in names:
            self.signal(name, number, group=number is signal.SIGKILL)
        for name in names:
            process = self.processes[name].running
            wait_until(lambda process=process: process.poll() is not None, f"{name} ends")  # type: ignore[misc] # mypy cannot type a lambda with a default

    def upgrade(self, *names: str, number: signal.Signals = signal.SIGTERM) -> None:
        """End processes and start them again with this version."""
        self.upgraded.update(names)
        self._change(names, number)

    def roll_back(self, *names: str, number: signal.Signals = signal.SIGTERM) -> None:
        """End processes and start them again with the last version."""
        self.upgraded.difference_update(names)
        self._change(names, number)

    def _change(self, names: tuple[str, ...], number: signal.Signals) -> None:
        self.end(*names, number=number)
        self.respawn()
        self.wait_ready()
        for name in names:
            assert self.code(name) == (ROOT if name in self.upgraded else self._last) / "drakcelery"


@functools.cache
def package(path: str | None) -> Path:
    """Where a process finds drakcelery that has *path* as its PYTHONPATH."""
    found = subprocess.run(
        [sys.executable, "-c", "import drakcelery; print(drakcelery.__file__)"],
        env=os.environ | ({"PYTHONPATH": path} if path else {}),
        cwd="/",
        check=True,
        capture_output=True,
        text=True,
    )
    return Path(found.stdout.strip()).parent


@pytest.fixture
def fleet(
    services: Services,
    tmp_path: Path,
    last_version: Path,
) -> Iterator[MixedFleet]:
    """All of the last version."""
    with (
        lent(services) as servers,
        MixedFleet(tmp_path / "fleet", servers, last_version) as ours,
    ):
        for name in set(ours.processes) - {"system"}:
            assert ours.code(name) == last_version / "drakcelery"
        yield ours


def in_flight(fleet: MixedFleet, when: str) -> list[str]:
    """Samples for each host and for any; one runs on each host, or did, when this returns."""
    uids = [f"{when}-{number}" for number in range(6)]
    for uid, host in zip_longest(uids, HOSTS):
        fleet.push(uid, host=host)
    for uid in uids[: len(HOSTS)]:
        wait_state(fleet, uid, State.RUNNING, State.COLLECTING, State.UPLOADING, State.PUBLISHED)
    return uids


def of(host: str) -> tuple[str, str]:
    """The workers of a host."""
    return f"vm@{host}", f"io@{host}"


def outlive(fleet: MixedFleet, dead: str) -> None:
    """What runs on a host that dies permanently goes on at one of the other version, exactly once."""
    uids = [f"without-{dead}-{number}" for number in range(4)]
    for uid in uids:
        fleet.hold(uid)  # else the first may be over before the last one runs
        fleet.push(uid)
    for uid in uids:
        wait_state(fleet, uid, State.RUNNING)
    fleet.end(*of(dead), number=signal.SIGKILL)
    lost = {record.uid for record in fleet.ledger.live() if record.host == dead}
    assert len(lost) == 2
    fleet.let_go(*uids)

    def ended() -> bool:
        return all((record := fleet.record(uid)) is not None and record.state.is_over for uid in uids)

    wait_until(ended, "the samples are over, without their host")
    wait_published(fleet, *uids)
    for uid in uids:
        record = fleet.record(uid)
        assert record is not None
        assert record.attempts == (2 if uid in lost else 1)
    fleet.respawn()
    fleet.wait_ready()


@pytest.mark.parametrize(
    ("order", "dead", "number"),
    [
        pytest.param(
            (of(NEWER), ("ingress",), of(OLDER)), (NEWER, OLDER, None), signal.SIGTERM, id="hosts-first"
        ),
        pytest.param(
            (("ingress",), of(NEWER), of(OLDER)),
            (None, None, None),
            signal.SIGKILL,
            id="ingress-first-and-killed",
        ),
    ],
)
def test_a_rolling_upgrade(
    fleet: MixedFleet,
    order: tuple[tuple[str, ...], ...],
    dead: tuple[str | None, ...],
    number: signal.Signals,
) -> None:
    """Whoever is upgraded first, in an orderly way or not, each sample is published exactly once.

    So it is where a host dies between two steps: the older version finds that the newer one is dead, beside
    an older ingress, and the other way round, beside a newer one.
    """
    uids = in_flight(fleet, "before")
    for step, names in enumerate(order):
        fleet.upgrade(*names, number=number)
        if (host := dead[step]) is not None:
            wait_published(fleet, *uids)
            outlive(fleet, host)
        uids += in_flight(fleet, f"after-{step}")
    wait_published(fleet, *uids)
    for uid in uids:
        wait_gone(fleet, uid)


def test_roll_back(fleet: MixedFleet) -> None:
    """An upgrade is taken back in mid-flight, process by process: each sample is published exactly once.

    The last version goes on with what this one has begun, on the hosts' disks and in Redis.
    """
    steps = (("ingress",), of(OLDER), of(NEWER))
    fleet.upgrade(*(name for names in steps for name in names))
    uids = in_flight(fleet, "upgraded")
    for step, names in enumerate(steps):
        fleet.roll_back(*names)
        uids += in_flight(fleet, f"back-{step}")
    wait_published(fleet, *uids)
    for uid in uids:
        wait_gone(fleet, uid)
