"""The remote-control commands as Celery sees them, apart from what they do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.worker.control import Panel
from click.testing import CliRunner

from drakcelery.cli import cli
from drakcelery.errors import StackError
from drakcelery.worker import remote_control
from drakcelery.worker.mailbox import SILENT, answered_by
from tests.reference import ROOT

OURS = {
    name: info
    for name, info in Panel.meta.items()
    if Panel.data[name].__module__ == remote_control.__name__ and name in Panel.data
}


def test_commands_are_registered() -> None:
    """Celery lists each with its kind, and says what it takes."""
    inspecting = {"slots", "analysis", "analysis_log"}
    assert set(OURS) == inspecting | {"drain", "undrain", "quarantine", "release", "canary", "cancel"}
    assert {name for name, info in OURS.items() if info.type == "inspect"} == inspecting
    for info in OURS.values():
        assert info.visible
        assert len(info.help.split()) > 2
        assert bool(info.args) == bool(info.signature)


@pytest.mark.parametrize("name", sorted(OURS))
def test_commands_are_documented(name: str) -> None:
    """docs/commands.md has a row for each."""
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert f"| `{OURS[name].type} {name}" in text


def is_vm(hostname: str) -> bool:
    return hostname.startswith("vm@")


class State(dict[str, Any]):
    """What Celery hands to a handler, as far as it is looked at here."""

    def __init__(self, hostname: str) -> None:
        super().__init__()
        self.hostname = hostname


def test_others_are_silent() -> None:
    """A worker of another role does not even look at the arguments."""

    @answered_by(is_vm)
    def ask(_state: Any, uid: str = "") -> Any:
        return uid

    assert ask(State("io@rack-1"), nonsense=1) is SILENT
    assert ask(State("vm@rack-1"), uid="a") == "a"


def test_what_goes_wrong_is_a_sentence() -> None:
    """Unknown arguments and our own errors come back as Celery's commands say them."""

    @answered_by(is_vm)
    def ask(_state: Any, uid: str = "") -> Any:
        raise StackError(f"no {uid}")

    assert ask(State("vm@rack-1"), uid="a") == {"error": "no a"}
    assert ask(State("vm@rack-1"), nonsense=1) == {
        "error": "ask: got an unexpected keyword argument 'nonsense'"
    }


def test_silence_reaches_the_mailbox() -> None:
    """A node of our app sends no reply where its handler said nothing, and any other reply as usual."""
    app = Celery(broker="memory://", control="drakcelery.worker.mailbox:Control")
    handlers = {"quiet": lambda _state: SILENT, "loud": lambda _state: {"ok": 1}}
    with app.connection_for_write() as connection:
        mailbox = app.control.mailbox(connection)  # type: ignore[attr-defined] # the stubs lack it
        node = mailbox.Node("vm@rack-1", state={}, channel=connection.channel(), handlers=handlers)
        sent: list[Any] = []
        node.mailbox._publish_reply = lambda data, *_, **__: sent.append(data)
        for method in handlers:
            node.dispatch(method, reply_to={"exchange": "x", "routing_key": "y"}, ticket="t")
    assert sent == [{"vm@rack-1": {"ok": 1}}]


@pytest.mark.parametrize(
    ("text", "read"),
    [(None, ("rack-1", None)), ("vm-1", ("rack-1", "vm-1")), ("rack-2/vm-1", ("rack-2", "vm-1"))],
)
def test_slots_are_named(text: object, read: tuple[str, str | None]) -> None:
    """No slot is the whole host; a bare slot is one of whoever is asked."""
    assert remote_control._slot_name(text, "rack-1") == read


@pytest.mark.parametrize(
    "text", ["", "a/b/c", "/vm-1", "rack-1/", "../x", "vm 1", "vm-1\n", 7, ["vm-1"], "x" * 99]
)
def test_wrong_names_are_refused(text: object) -> None:
    """Whatever comes over the broker is checked, and shown shortened."""
    with pytest.raises(StackError, match="expected the name of a slot") as caught:
        remote_control._slot_name(text, "rack-1")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("by", ["", "a\nb", "\x1b[2J", "x" * 101, 7, None])
def test_who_asks_is_checked(by: object) -> None:
    """It is printed on terminals and pages."""
    with pytest.raises(StackError, match="expected who asks"):
        remote_control._asker(by)


def read(path: Path, offset: int = 0, most: int = 100) -> tuple[list[str], int]:
    return remote_control.read_log(path, offset, most)


def test_a_log_is_read_by_whole_lines(tmp_path: Path) -> None:
    """A line that is still being written comes when it is whole; nothing is read twice or skipped."""
    log = tmp_path / "log"
    log.write_bytes(b"one\ntwo\nthr")
    assert read(log) == (["one", "two"], 8)
    assert read(log, 8) == ([], 8)
    log.write_bytes(b"one\ntwo\nthree\n\nfive\n")
    assert read(log, 8) == (["three", "", "five"], 20)
    assert read(log, 500) == ([], 500)


def test_a_piece_is_bounded(tmp_path: Path) -> None:
    """However long the log, and each of its lines."""
    log = tmp_path / "log"
    log.write_bytes(b"a" * 250 + b"\n" + b"b" * 60 + b"\n" + b"c" * 60 + b"\n")
    pieces, offset = [], 0
    while (found := read(log, offset))[0]:
        pieces.append(found[0])
        offset = found[1]
    assert pieces == [["a" * 100], ["a" * 100], ["a" * 50], ["b" * 60], ["c" * 60]]


def test_only_a_file_is_a_log(tmp_path: Path) -> None:
    """The vm worker is root: it follows no link, and waits for no pipe."""
    secret = tmp_path / "secret"
    secret.write_text("secret\n")
    (tmp_path / "link").symlink_to(secret)
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", "missing", "."):
        assert read(tmp_path / name) == ([], 0)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    """They are shown as what they are not, and a line is a line only by its newline."""
    log = tmp_path / "log"
    log.write_bytes(b"a\xffb\xe2\x80\xa8c\x0bd\n")
    assert read(log)[0] == ["a\ufffdb\u2028c\x0bd"]


@pytest.mark.parametrize(
    "words",
    [
        ["drain"],
        ["drain", "a/b/c"],
        ["drain", "rack-1/"],
        ["quarantine", "rack-1"],
        ["release", "rack 1/vm-1"],
    ],
)
def test_wrong_usage(words: list[str]) -> None:
    """A host that is none is wrong usage, before anything is asked of anyone."""
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 2, done.output
