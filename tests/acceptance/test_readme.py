"""Every command in the README, run for real, in the README's order."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from drakcelery.cli import cli
from drakcelery.embedded.state import running
from tests.acceptance.deployment import run_here, typist
from tests.commands import extract
from tests.conftest import require
from tests.reference import ROOT
from tests.waiting import wait_until

STACK = "drakcelery up"
SUITE = "make test"
NEEDED = (
    *(".venv", "Makefile", "README.md", "pyproject.toml", "requirements.lock", "samples", "examples"),
    "tests",
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A directory that looks like the checkout, so that what the commands write does not land in it."""
    require((ROOT / ".venv" / ".installed").is_file(), "the environment was not made by `make install`")
    for name in NEEDED:
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def environment(home: Path) -> dict[str, str]:
    """A fresh user's: no settings, and a home of its own."""
    ours = {
        name: value for name, value in os.environ.items() if not name.startswith(("DRAKCELERY_", "KARTON_"))
    }
    return {**ours, "HOME": str(home), "XDG_STATE_HOME": str(home / ".local" / "state")}


def run(script: str, checkout: Path) -> str:
    """Run *script* as a person's shell would; fails with all its output."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],  # noqa: S607 the shell that README's readers use
        cwd=checkout,
        env=environment(checkout),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_readme(checkout: Path) -> None:
    """A newcomer who types the README from top to bottom gets where it says."""
    commands = [command.text for command in extract((ROOT / "README.md").read_text())]
    assert commands.count(STACK) == commands.count(SUITE) == 1
    before, after = commands[: commands.index(STACK)], commands[commands.index(STACK) + 1 :]

    # The suite runs this very test: that the target is there and runs it must do
    before.remove(SUITE)
    assert "pytest" in run("make --dry-run test", checkout)
    shown = run("\n".join(before), checkout)
    assert "PUBLISHED" in shown
    assert "filetracer.log" in shown

    bash = shutil.which("bash")
    assert bash is not None
    data_dir = checkout / ".local" / "state" / "drakcelery"
    with (
        (checkout / "up.log").open("wb") as log,
        subprocess.Popen(
            [bash, "-c", f"PATH=.venv/bin:$PATH exec {STACK}"],
            cwd=checkout,
            env=environment(checkout),
            stdout=log,
            stderr=subprocess.STDOUT,
        ) as stack,
    ):
        try:
            wait_until(lambda: running(data_dir) or stack.poll() is not None, "the stack is up", timeout=300)
            assert stack.poll() is None, (checkout / "up.log").read_text()
            # A person reads on while the workers start
            found = running(data_dir)
            assert found is not None
            wait_until(lambda: "free" in run_here(cli, "slots", **typist(found.config))[1], "a free slot")
            shown = run("\n".join(after), checkout)
        finally:
            stack.send_signal(signal.SIGINT)
            assert stack.wait(60) == 0
    assert "memory dumps" in shown
    assert (checkout / "analysis" / "metadata.json").is_file()
