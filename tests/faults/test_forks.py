"""A fork is what its command would be: the same words, the same end, a session of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.acceptance.deployment import PROGRAMS, execute, run
from tests.faults import forks

CONFIG = "[drakcelery]\nhost = rack-1\nstate_dir = /dev/null/state\n[s3]\naccess_key = a\nsecret_key = b\n"
"""With a directory that nobody can make."""


def environment(tmp_path: Path) -> dict[str, str]:
    """That of a process with the configuration above."""
    config = tmp_path / "config.ini"
    config.write_text(CONFIG)
    return {**os.environ, "DRAKCELERY_CONFIG": str(config)}


def fork(arguments: Sequence[str], tmp_path: Path) -> tuple[int, str]:
    """How a fork ended, and what it said."""
    log = tmp_path / "log"
    one = forks.stem().start(arguments, environment=environment(tmp_path), directory=tmp_path, log=log)
    return one.wait(60), log.read_text()


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("drakcelery", ("--version",)),
        ("drakcelery", ("status", "--config", "missing.ini")),
        ("drakcelery", ("report", "nowhere")),
        ("celery", ("-A", "drakcelery", "inspect", "nothing")),
    ],
)
def test_what_is_typed_ends_as_a_process_of_its_own(
    tmp_path: Path, program: str, arguments: tuple[str, ...]
) -> None:
    """With the same status, output and errors."""
    environment(tmp_path)
    own = execute(PROGRAMS / program, *arguments, config=tmp_path / "config.ini")
    done = run(program, *arguments, config=tmp_path / "config.ini")
    assert (done.returncode, done.stdout) == (own.returncode, own.stdout)
    # Before the error, click names the program as it was started
    assert done.stderr.splitlines()[-1:] == own.stderr.splitlines()[-1:]


@pytest.mark.parametrize(
    "arguments", [("--version",), ("worker", "xm"), ("worker", "io"), ("ingress", "--config", "missing.ini")]
)
def test_it_ends_as_its_command_does(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Wrong or right, whether it stays drakcelery or goes on as Celery."""
    done = subprocess.run(
        [sys.executable, "-m", "drakcelery", *arguments],
        env=environment(tmp_path),
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert fork(arguments, tmp_path) == (done.returncode, done.stdout)


def test_it_is_killed_with_its_group(tmp_path: Path) -> None:
    """Nobody else is: it has a session of its own, from the moment on in which it is known."""
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it takes connections, and never answers
        redis = {"DRAKCELERY_REDIS_HOST": "127.0.0.1", "DRAKCELERY_REDIS_PORT": str(silent.getsockname()[1])}
        one, other = (
            forks.stem().start(
                ["system"],
                environment=environment(tmp_path) | redis,
                directory=tmp_path,
                log=tmp_path / "log",
            )
            for _ in range(2)
        )
        assert os.getsid(one.pid) == one.pid
        os.killpg(one.pid, signal.SIGKILL)
        assert one.wait(60) == -signal.SIGKILL
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(0)
        os.killpg(other.pid, signal.SIGKILL)
        assert other.wait(60) == -signal.SIGKILL
