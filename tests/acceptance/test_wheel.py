"""The wheel with its constraints, installed as docs/install.md says, with a network and without one."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from drakcelery import __version__
from tests.commands import extract
from tests.reference import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

PAGE = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
OPT, BIN = "/opt/drakcelery", "/usr/local/bin"
PIPS = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_COMPILE": "0"}
"""Byte code takes two thirds of pip's time, and most of it is never run here."""


def typed(heading: str) -> list[str]:
    """The commands below a heading of docs/install.md, up to the next one."""
    part = PAGE.split(f"\n{heading}\n", 1)[1].split("\n## ", 1)[0].split("\n### ", 1)[0]
    return [one.text for one in extract(part, "docs/install.md")]


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make wheel` makes of the wheel and the constraints."""
    place = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(place)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    constraints = [sys.executable, "-m", "distribution", "constraints", str(place / "constraints.txt")]
    subprocess.run(constraints, cwd=ROOT, check=True, capture_output=True)
    return place


def follow(commands: list[str], here: Path, root: Path) -> None:
    """Type *commands* in the directory *here*, with the paths of the machine below *root*."""
    (root / "bin").mkdir(parents=True)
    script = "\n".join(commands).replace(OPT, str(root / "opt")).replace(BIN, str(root / "bin"))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", script],  # noqa: S607 the shell of who reads it
        cwd=here,
        env={**os.environ, "PATH": path, **PIPS},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


def versions(python: Path) -> dict[str, str]:
    """What is installed beside a Python."""
    program = (
        "import json; from importlib.metadata import distributions;"
        "print(json.dumps({one.name: one.version for one in distributions()}))"
    )
    shown = subprocess.run([python, "-I", "-c", program], check=True, capture_output=True, text=True).stdout
    found: dict[str, str] = json.loads(shown)
    return found


def test_wheel_with_and_without_a_network(dist: Path, tmp_path: Path) -> None:
    """Both ways bring the tested versions and nothing of the development tools, and the command works."""
    follow(typed("## The wheel"), dist, tmp_path / "online")
    said = subprocess.run(
        [tmp_path / "online/bin/drakcelery", "--version"], check=True, capture_output=True, text=True
    ).stdout
    assert said.strip() == f"drakcelery, version {__version__}"
    assert (tmp_path / "online/opt").readlink() == tmp_path / f"online/opt-{__version__}"
    follow(typed("### Without a network"), dist, tmp_path / "offline")
    online, offline = (versions(tmp_path / kind / "opt/bin/python") for kind in ("online", "offline"))
    assert online == offline
    assert online["celery"] == importlib.metadata.version("celery")
    assert "pytest" not in online
