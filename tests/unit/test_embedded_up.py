"""What `drakcelery up` and `down` decide: what is a problem, whose a directory is, which process it is."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from drakcelery.embedded import directory, lock, screen, stopping
from drakcelery.embedded.lines import Quiet, starting
from drakcelery.embedded.problems import STARTING, Problem, problem
from drakcelery.embedded.size import slots, slots_for
from drakcelery.errors import StackError
from drakcelery.model.halt import Halt
from drakcelery.settings import DATA_DIR_VARIABLE, load
from tests.builders import record

AT = "2026-11-30T00:01:02.000000Z"
GIB = 1024**3
SLEEP = (sys.executable, "-c", "import time; time.sleep(60)")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            f"{AT} [warning  ] redis_away                     error='Timeout \\'x\\'' host=embedded",
            "ingress: does not reach Redis (Valkey), and waits: Timeout 'x'",
        ),
        (
            f'{AT} [warning  ] stage_postponed  attempt=1 error="it\'s away" uid=6f2c5a0e-9d7c-4f55',
            "analysis 6f2c5a0e…: S3 (SeaweedFS) does not answer; the stage is tried again later: it's away",
        ),
        (
            f"{AT} [error    ] library                        [celery.worker] host=embedded message='broken'",
            "ingress: broken",
        ),
        (
            '{"timestamp": "t", "level": "error", "action": "part_failed", "error": "\\u001b[31m"}',
            "ingress: part failed: \ufffd[31m",
        ),
        (
            f"{AT} [critical ] thread_crashed   thread=x",
            "ingress: a part of it ended with an error that nobody",
        ),
        (f"{AT} [warning  ] takes_nothing    reason=no_space", "ingress: takes nothing: no_space"),
    ],
)
def test_problems_are_told_in_sentences(line: str, told: str) -> None:
    """In either form of the log, with the name of the process or the analysis, and harmless to a terminal."""
    found = problem("ingress", line)
    assert found is not None
    assert str(found).startswith(told)


@pytest.mark.parametrize(
    "line",
    [
        f"{AT} [info     ] bound                          identity=karton.drakrun-prod",
        f"{AT} [warning  ] library                        [py.warnings] message='no active log consumer'",
        f"{AT} [error    ] analysis_failed                error='no' uid=6f2c",
        "absolutely not recommended!",
        "worker: Warm shutdown (MainProcess)",
        '{"level": "error", "action"',
        '["error"]',
        "",
        f"{AT} [error    ]",
    ],
)
def test_all_else_is_quiet(line: str) -> None:
    """Neither what goes well, nor what the analysis' own line says, nor what is no line of a log."""
    assert problem("vm", line) is None


@pytest.mark.parametrize("reason", [*STARTING, Halt.NO_SPACE])
def test_a_start_is_no_problem(reason: Halt) -> None:
    """That a worker has yet to come is none, however slow the machine; that the disk is full is one."""
    line = f"{AT} [warning  ] takes_nothing     reason={reason.value} why='{reason.words}'"
    assert problem("vm", line) is not None
    assert (problem("vm", line, starting=True) is None) == (reason in STARTING)


def test_a_problem_that_goes_on_is_told_once() -> None:
    """Another one is told all the same."""
    quiet, first = Quiet(), Problem(process="vm", uid=None, sentence="away")
    other = Problem(process="io", uid=None, sentence="away")
    assert [quiet.lets_pass(one) for one in (first, first, other)] == [True, False, True]


def test_a_start_says_what_it_waits_for() -> None:
    """By the names that people know."""
    assert starting(["vm", "flower"]) == "Starting … waiting for the vm worker, Flower"


@pytest.mark.parametrize(
    ("height", "width", "last"),
    [(24, 80, "  Try     drakcelery submit"), (12, 60, "  Redis "), (10, 40, "  Fleet   http://")],
)
def test_a_small_terminal_shows_what_is_under_way(
    height: int, width: int, last: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the addresses only as many stay as leave room for analyses, and for how to stop it."""
    live = [record().model_copy(update={"uid": f"uid-{number}"}) for number in range(40)]
    changes = SimpleNamespace(live=live, waiting=0, ended=Counter(), read=list)
    monkeypatch.setattr(screen, "Changes", lambda _: changes)
    monkeypatch.setattr(screen, "make_ledger", lambda _: None)
    output = io.StringIO()
    console = Console(file=output, width=width, height=height, force_terminal=True, color_system=None)
    places = {"Fleet": "http://x/fleet", "Flower": "http://x", "S3": "x", "Redis": "x"}
    with screen.Screen(console, Path("/d")) as shown:
        shown.is_up(load(environment={}), places)
    frame = output.getvalue().rpartition("drakcelery is up")[2]
    rows = frame.rpartition("\x1b[?25h")[0].rstrip("\n").splitlines()
    assert [row for row in rows if row.startswith("  ")][-1].startswith(last)
    assert sum("uid-" in row for row in rows) >= screen.LEAST
    assert any(" more" in row for row in rows)
    assert rows[-1].endswith("stops it.")
    assert len(rows) < height


@pytest.mark.parametrize(
    ("cores", "memory", "many"),
    [(1, 2 * GIB, 1), (2, 24 * GIB, 2), (8, 8 * GIB, 3), (64, 256 * GIB, 8), (4, GIB, 1)],
)
def test_slots_fit_the_machine(cores: int, memory: int, many: int) -> None:
    """One for each core, as far as memory goes, but not more than eight, and always one."""
    assert slots_for(cores, memory) == many
    assert list(slots(many)) == [f"vm-{number}" for number in range(1, many + 1)]


def _made(data_dir: Path) -> Path:
    """A directory as a stack leaves it."""
    data_dir.mkdir(mode=0o700)
    for name in ("valkey", "log", "state"):
        (data_dir / name).mkdir()
        (data_dir / name / "file").write_text("content")
    for name in ("services.json", "lock", "drakcelery.ini", ".running.json.17"):
        (data_dir / name).write_text("")
    return data_dir


def test_a_directory_is_emptied(tmp_path: Path) -> None:
    """All goes but the lock, which another start may be waiting for; a link's target stays."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("")
    data_dir = _made(tmp_path / "ours")
    (data_dir / "seaweedfs").symlink_to(outside)
    assert directory.size(data_dir) >= len("content") * 3
    directory.empty(data_dir)
    assert [one.name for one in data_dir.iterdir()] == ["lock"]
    assert (outside / "kept").exists()


@pytest.mark.parametrize("kind", ["strange file", "no plan", "link", "file"])
def test_a_directory_that_is_not_ours_is_not_emptied(tmp_path: Path, kind: str) -> None:
    """Nothing of it is removed."""
    data_dir = tmp_path / "ours"
    if kind == "file":
        data_dir.write_text("")
    else:
        _made(data_dir)
    if kind == "strange file":
        (data_dir / "thesis.txt").write_text("")
    elif kind == "no plan":
        (data_dir / "services.json").unlink()
    elif kind == "link":
        data_dir.rename(tmp_path / "other")
        data_dir.symlink_to(tmp_path / "other")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(StackError, match=r"nothing was removed|nothing to empty"):
        directory.empty(data_dir)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_directory_in_use_is_not_emptied(tmp_path: Path) -> None:
    """A stack runs there."""
    data_dir = _made(tmp_path / "ours")
    with lock.held(data_dir), pytest.raises(StackError, match="already runs"):
        directory.empty(data_dir)
    assert (data_dir / "valkey" / "file").exists()


def test_what_is_said_of_a_stack_can_be_pasted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the directory, unless that is this user's: another would be stopped or started otherwise."""
    data_dir = _made(tmp_path / "a b")
    stop = f"`drakcelery down --data-dir '{data_dir}'`"
    with lock.held(data_dir):
        with pytest.raises(StackError, match=re.escape(stop)), lock.held(data_dir):
            pass
        monkeypatch.setenv(DATA_DIR_VARIABLE, str(data_dir))
        with pytest.raises(StackError, match="`drakcelery down`"), lock.held(data_dir):
            pass


def test_a_directory_of_others_is_refused(tmp_path: Path) -> None:
    """One that any user can write to, that holds something else, or that cannot be made."""
    shared, home, crowd = tmp_path / "shared", tmp_path / "home", tmp_path / "crowd"
    for path in (shared, home, crowd):
        path.mkdir()
    shared.chmod(0o777)
    crowd.chmod(0o1777)
    (crowd / "file").write_text("")
    (home / "thesis.txt").write_text("")
    for path, why in (
        (shared, "chmod o-w"),
        (crowd, "in use for something else"),  # such as /tmp, where others need to write
        (home, r"thesis\.txt"),
        (Path("/sys/x"), "cannot hold the data"),
    ):
        with pytest.raises(StackError, match=why):
            directory.prepare(path)


@pytest.mark.parametrize("name", ["a\nb", "a\udcff", "a\x1b[2Jb", "a\x85b"])
def test_a_directory_that_no_configuration_can_name_is_refused(tmp_path: Path, name: str) -> None:
    """Its line would end early, or could not be written; nothing is made there."""
    with pytest.raises(StackError, match="choose another --data-dir") as raised:
        directory.prepare(tmp_path / name)
    assert str(raised.value).isprintable()
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("kind", ["link", "pipe", "directory"])
def test_a_lock_that_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    """It neither blocks nor leads elsewhere."""
    path = tmp_path / lock.NAME
    if kind == "link":
        path.symlink_to("elsewhere")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises((StackError, OSError)):
        lock.holder(tmp_path)
    with pytest.raises((StackError, OSError)):
        stopping.stop(tmp_path)
    with pytest.raises((StackError, OSError)), lock.held(tmp_path):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_the_pid_of_a_stale_file_is_left_alone(tmp_path: Path) -> None:
    """A killed stack's number may be another process' by now: nothing holds the lock, so nothing is ended."""
    with subprocess.Popen(SLEEP) as other:
        (tmp_path / lock.NAME).write_text(str(other.pid))
        assert not stopping.stop(tmp_path)
        assert other.poll() is None
        other.kill()


def test_a_pid_that_does_not_hold_the_lock_is_left_alone(tmp_path: Path) -> None:
    """Even while a stack runs there: somebody has written another number into the file."""
    with subprocess.Popen(SLEEP) as other, lock.held(tmp_path):
        (tmp_path / lock.NAME).write_text(str(other.pid))
        with pytest.raises(StackError, match="stop it where it was started"):
            stopping.stop(tmp_path)
        assert other.poll() is None
        other.kill()


def test_the_holder_of_the_lock_is_stopped(tmp_path: Path) -> None:
    """It gets SIGTERM, and the call returns once it has ended."""
    (tmp_path / lock.NAME).write_text("")
    code = (
        "import fcntl, os, signal, sys; f = open(sys.argv[1], 'r+'); fcntl.flock(f, fcntl.LOCK_EX); "
        "f.write(str(os.getpid())); f.flush(); print(flush=True); signal.pause()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / lock.NAME)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert stopping.stop(tmp_path)
        assert holder.wait(30) == -signal.SIGTERM
    assert not stopping.stop(tmp_path)


def test_nothing_runs_where_nothing_is(tmp_path: Path) -> None:
    """A directory that is not there is none in which something runs."""
    assert not stopping.stop(tmp_path / "none")
