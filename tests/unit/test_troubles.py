"""How a command ends where the system or Redis refuses: with a sentence on what to do, and no traceback."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from drakcelery.cli import cli
from drakcelery.embedded import lock
from drakcelery.settings import CONFIG_VARIABLE, DATA_DIR_VARIABLE


@pytest.fixture
def nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A directory without a configuration, and a port at which nobody listens."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(CONFIG_VARIABLE, raising=False)
    monkeypatch.setenv(DATA_DIR_VARIABLE, str(tmp_path / "stack"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        monkeypatch.setenv("DRAKCELERY_REDIS_HOST", "127.0.0.1")
        monkeypatch.setenv("DRAKCELERY_REDIS_PORT", str(port))
        yield port


def said(*words: str) -> str:
    """What a command says that fails."""
    done = CliRunner().invoke(cli, list(words))
    assert done.exit_code == 1
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ")
    return done.stderr


COMMANDS = (("status",), ("slots",), ("retry", "uid"), ("cancel", "uid"), ("hosts",), ("republish", "uid"))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: words[0])
@pytest.mark.usefixtures("nothing_runs")
def test_nothing_runs(command: tuple[str, ...]) -> None:
    """Each command says so, and how to start it."""
    assert "`drakcelery up` starts everything on this machine" in said(*command)


def test_a_stack_that_was_stopped(nothing_runs: int, tmp_path: Path) -> None:
    """How to start the one that was meant: this user's, or another."""
    for name, command in (
        ("stack", "`drakcelery up` starts"),
        ("a b", f"--data-dir '{tmp_path}/a b'` starts"),
    ):
        (tmp_path / name).mkdir()
        config = tmp_path / name / "drakcelery.ini"
        config.write_text(f"[redis]\nhost = 127.0.0.1\nport = {nothing_runs}\n")
        with lock.held(config.parent):
            assert "is starting or stopping" in said("status", "--data-dir", str(config.parent))
        told = said("status", "--data-dir", str(config.parent))
        assert f"The stack in {config.parent} is not running" in told
        assert command in told


def test_an_installation(nothing_runs: int, tmp_path: Path) -> None:
    """Which file names the address that does not answer, and who looks closer."""
    config = tmp_path / "config.ini"
    config.write_text(f"[redis]\nhost = 127.0.0.1\nport = {nothing_runs}\n")
    told = said("status", "--config", str(config))
    assert f"Its address is from {config}; `drakcelery doctor --only redis`" in told


def test_what_the_system_refuses(tmp_path: Path) -> None:
    """The file and the reason, wherever a command meets them."""
    place = tmp_path / "file"
    place.touch()
    told = said("up", "--data-dir", str(place / "below"))
    assert told.startswith(
        f"Error: {place / 'below'} cannot hold the data of an embedded stack: Not a directory"
    )


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (PermissionError(errno.EPERM, "Operation not permitted", "/sys/\x1b[31m"), "/sys/"),
        (OSError(errno.ENOSPC, "No space left on device"), "the output: No space left on device"),
        (
            ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
            "Error: Connection reset by peer",
        ),
        (OSError("cannot"), "Error: cannot"),
        (TimeoutError(), "Error: TimeoutError"),
    ],
)
def test_any_error_of_the_system(error: OSError, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is a sentence, without what a name does to a terminal."""

    def raising(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("drakcelery.embedded.run", raising)
    told = said("up")
    assert sentence in told
    assert "\x1b" not in told


def test_times_that_contradict() -> None:
    """Nothing is looked for between a time and one before it."""
    done = CliRunner().invoke(cli, ["find", "--since", "1h", "--until", "2h"])
    assert done.exit_code == 2
    assert "--since is later than --until" in done.stderr
