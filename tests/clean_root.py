"""A Debian with nothing on it, made by debootstrap from where this machine gets its own packages.

It is kept below ``build/``, and each test works on a copy.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from distribution.environment import DEBIANS, PYTHON
from tests.conftest import require
from tests.reference import ROOT

DEBOOTSTRAP = "/usr/sbin/debootstrap"
INCLUDED = (PYTHON, "systemd", "zlib1g", "libgcc-s1", "libstdc++6", "init-system-helpers")
"""What the package depends on: nothing is fetched while it is installed."""
CHANGING = (
    "proc",
    "tmp",
    "root",
    "var/cache",
    "var/log",
    "var/lib/dpkg",
    "var/lib/apt",
    "var/lib/systemd",
    "run",
)
"""Directories in which the system keeps its own books."""
ACCOUNTS = {f"etc/{name}{end}" for name in ("passwd", "group", "shadow", "gshadow") for end in ("", "-")}


class CleanRoot:
    """A copy, in which commands run as root's."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def run(self, *command: str, fails: bool = False) -> str:
        """What a command prints; it has its own processes and mounts, and ends with them."""
        done = subprocess.run(
            [*namespaces(self.place / "proc"), "chroot", str(self.place), *command],
            env={
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                "DEBIAN_FRONTEND": "noninteractive",
                "LC_ALL": "C.UTF-8",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert (done.returncode != 0) == fails, f"{command}\n{done.stdout}"
        return done.stdout

    def files(self) -> set[str]:
        """Every path but those of the system's own books."""
        found = (path.relative_to(self.place) for path in self.place.rglob("*"))
        names = {str(path) for path in found if not any(path.is_relative_to(top) for top in CHANGING)}
        return names - ACCOUNTS - {"etc/.pwd.lock"}

    def rights(self, path: str) -> str:
        """Mode, owner and group, such as ``0640 root drakcelery``."""
        return self.run("stat", "--format", "%04a %U %G", path).strip()


def namespaces(proc: Path) -> Sequence[str]:
    """What runs a command apart."""
    return ("unshare", "--mount", "--pid", "--fork", "--kill-child", f"--mount-proc={proc}")


def clean_root(place: Path) -> CleanRoot:
    """A copy at *place*; skips where this machine has not what it takes."""
    for program in (DEBOOTSTRAP, "dpkg-deb", "unshare"):
        require(shutil.which(program) is not None, f"{program} is not installed (packages debootstrap, dpkg)")
    require(os.geteuid() == 0, "only root can make another root directory")
    may = subprocess.run([*namespaces(Path("/proc")), "true"], capture_output=True, text=True, check=False)
    if may.returncode != 0:
        pytest.skip(f"nothing can be mounted here: {may.stderr}")
    subprocess.run(["cp", "--archive", str(_base()), str(place)], check=True)  # noqa: S607 the system's own
    return CleanRoot(place)


def debian() -> str:
    """The release of this machine, if it is one that has the Python that the package is made for."""
    release = platform.freedesktop_os_release()
    if release.get("ID") != "debian" or not DEBIANS.is_file():
        pytest.skip(
            f"{release.get('PRETTY_NAME', 'this system')} has no {DEBIANS}, for which the package would be"
        )
    return release.get("VERSION_CODENAME", "")


def _base() -> Path:
    """The directory that is copied, made if it is not there."""
    suite = debian()
    mirror = _mirror(suite)
    require(bool(mirror), f"apt has no lists of {suite}: apt-get update")
    place = ROOT / "build" / "debootstrap" / f"{suite}-{PYTHON}"
    if not place.is_dir():
        draft = place.with_name(f"{place.name}.{os.getpid()}")
        included = f"--include={','.join(INCLUDED)}"
        done = subprocess.run(
            [DEBOOTSTRAP, "--variant=minbase", included, suite, str(draft), mirror],
            capture_output=True,
            text=True,
            check=False,
        )
        require(done.returncode == 0, f"debootstrap failed: {done.stdout[-500:]}{done.stderr[-500:]}")
        _cut_off(draft)
        draft.rename(place)
    return place


def _cut_off(root: Path) -> None:
    """Leave apt nothing that it could get: what the package recommends is no part of the tests."""
    (root / "etc" / "apt" / "sources.list").write_text("")
    fetched = [*(root / "var/cache/apt/archives").glob("*.deb"), *(root / "var/lib/apt/lists").glob("*")]
    for path in fetched:
        if path.is_file():
            path.unlink()


def _mirror(suite: str) -> str:
    """Where this machine's apt gets that release from."""
    shown = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)", "Created-By: Packages"],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    lines = (line.partition(" ") for line in shown.splitlines())
    return next((uri for name, _, uri in lines if name == suite), "")
