"""`drakcelery up` and `down` as people type them: in the background, on a terminal, and after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from drakcelery.embedded.layout import home
from drakcelery.embedded.state import running
from drakcelery.embedded.supervision import marked
from tests.terminal import terminal
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("server_programs")

PROGRAM = Path(sys.executable).with_name("drakcelery")
LONG = 200.0
SAMPLE = home() / "samples" / "behaviour.exe"


def drakcelery(*words: str | Path, status: int = 0) -> str:
    """What a command prints on both its outputs; it has to end with *status*."""
    done = subprocess.run(
        (PROGRAM, *words), capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=400
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """A place for a stack, of which nothing is left."""
    where = tmp_path / "it's [/bold] here"
    yield where
    if where.exists():
        drakcelery("down", "--data-dir", where)
    assert not marked(str(where))


def test_a_stack_in_the_background(data_dir: Path) -> None:
    """It takes a sample as soon as `up --detach` returns, its log says what goes on, and `down` stops it.
    What has ended can be deleted."""
    where = ("--data-dir", data_dir)
    said = drakcelery("up", "--detach", "--slots", "2", *where).splitlines()
    uid = drakcelery("submit", SAMPLE, "--timeout", "20", *where).strip()  # in its first second
    assert said[0] == "drakcelery is up: 2 slots of the emulator engine."
    assert said[1].split()[0] == "Fleet"
    assert said[1].endswith("/fleet")
    log = data_dir / "log" / "stack.log"
    wait_until(
        lambda: f"{uid[:8]}  PUBLISHED  {SAMPLE.name}" in log.read_text(), "it is published", timeout=LONG
    )
    slots = json.loads(drakcelery("slots", "--json", *where))
    assert "vm-2" in json.dumps(slots)
    assert "already runs" in drakcelery("up", *where, status=1)
    assert "already runs" in drakcelery("up", "--detach", *where, status=1)
    assert "already runs" in drakcelery("up", "--reset", "--yes", *where, status=1)
    assert "give --yes" in drakcelery("delete", uid, *where, status=2)
    assert f'"uid": "{uid}"' in drakcelery("delete", uid, "--yes", "--json", *where)
    assert "no analysis" in drakcelery("status", uid, *where, status=1)
    assert drakcelery("down", *where) == "drakcelery is down.\n"
    assert not marked(str(data_dir))
    assert drakcelery("down", *where) == f"Nothing runs in {data_dir}.\n"
    assert "`drakcelery up --data-dir" in drakcelery("status", *where, status=1)


def test_a_stack_on_a_terminal(data_dir: Path) -> None:
    """Addresses stay in view, an analysis becomes a line as it ends; after a kill `down` finds nothing, and
    `up --reset` begins with nothing, if it is told so."""
    where = ("--data-dir", data_dir)
    with terminal((PROGRAM, "up", "--slots", "1", *where)) as screen:
        wait_until(
            lambda: screen.shows(r"Fleet +http://[\d.:]+/fleet"), "the addresses are shown", timeout=LONG
        )
        uid = drakcelery("submit", SAMPLE, "--timeout", "20", *where).strip()
        wait_until(
            lambda: screen.shows(rf"{uid[:8]}  PUBLISHED +{SAMPLE.name}"), "it is published", timeout=LONG
        )
        wait_until(lambda: screen.shows("0 under way, 1 published"), "the summary counts it")
        assert not screen.shows(r"\[info ")
        stack = running(data_dir)
        assert stack is not None
        os.kill(stack.pid, signal.SIGKILL)
        screen.process.wait(30)
    wait_until(lambda: not marked(str(data_dir)), "the keeper has ended the processes")
    assert (data_dir / "lock").read_text() == str(stack.pid)
    assert drakcelery("down", *where) == f"Nothing runs in {data_dir}.\n"
    assert "--yes" in drakcelery("up", "--reset", *where, status=2)
    drakcelery("up", "--reset", "--yes", "--detach", "--slots", "1", *where)
    assert json.loads(drakcelery("status", "--json", *where))["analyses"] == []


def test_hostile_directories(tmp_path: Path) -> None:
    """A sentence each, and nothing is started or removed."""
    (tmp_path / "thesis.txt").write_text("")
    for path, why in ((Path("/sys/x"), "cannot hold the data"), (tmp_path, "choose a directory")):
        assert why in drakcelery("up", "--data-dir", path, status=1)
        assert why in drakcelery("up", "--detach", "--data-dir", path, status=1)
    assert "nothing was removed" in drakcelery("up", "--reset", "--yes", "--data-dir", tmp_path, status=1)
    assert [one.name for one in tmp_path.iterdir()] == ["thesis.txt"]
    (tmp_path / "lock").write_text(str(os.getpid()))
    assert "Nothing runs" in drakcelery("down", "--data-dir", tmp_path)
