"""What the shell offers where Redis does not answer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import click
import pytest

from drakcelery import garbage, lean
from drakcelery.cli import Sentences, completion, main


@pytest.mark.parametrize(
    "offers",
    [
        completion.uids,
        completion.ended,
        completion.slots,
        completion.hosts,
        completion.consumers,
        completion.watched_profiles,
        completion.watched_qualities,
        completion.quarantined,
    ],
    ids=lambda one: f"{one.__module__.rpartition('.')[2]}.{one.__name__}",
)
@pytest.mark.parametrize("says", [None, b""], ids=["nothing", "goodbye"])
def test_redis_is_asked_once(offers: Callable[..., Any], says: bytes | None, tmp_path: Path) -> None:
    """A server that is silent, or hangs up: somebody has pressed Tab, and nothing is tried again."""
    came: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    one, _ = server.accept()
                except OSError:
                    return
                came.append(one)
                if says is not None:
                    one.close()

        thread = threading.Thread(target=serve)
        thread.start()
        config = tmp_path / "drakcelery.ini"
        config.write_text(
            f"[redis]\nhost = 127.0.0.1\nport = {server.getsockname()[1]}\nsocket_timeout = 600\n"
            "[s3]\naddress = http://127.0.0.1:1\naccess_key = a\nsecret_key = b\n",
            encoding="utf-8",
        )
        context = click.Context(click.Command("status"))
        context.params = {"config": config}
        assert offers(context, click.Argument(["uid"]), "") == []
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    for one in came:
        one.close()
    assert len(came) == 1


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What a shell asks; a test's own process stays as it is."""
    monkeypatch.setattr(garbage, "spare", lambda: None)
    monkeypatch.setattr(lean, "start", lambda: None)
    return {
        "_DRAKCELERY_COMPLETE": "bash_complete",
        "COMP_WORDS": "drakcelery status ",
        "COMP_CWORD": "2",
    }


@pytest.mark.parametrize(
    "variables",
    [
        {"COMP_CWORD": "abc"},
        {"COMP_CWORD": ""},
        {"COMP_CWORD": "-1", "COMP_WORDS": "drakcelery nonsense"},
        {"COMP_CWORD": "9" * 5000},
        {"COMP_CWORD": "1", "COMP_WORDS": None},
        {"COMP_CWORD": None},
        {"_DRAKCELERY_COMPLETE": "zsh_complete", "COMP_CWORD": ""},
        {"_DRAKCELERY_COMPLETE": "fish_complete", "COMP_CWORD": None},
        {"_DRAKCELERY_COMPLETE": "ksh_complete"},
    ],
    ids=str,
)
def test_a_shell_that_asks_nonsense(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    asked: dict[str, str],
    variables: Mapping[str, str | None],
) -> None:
    """It gets nothing: whatever were printed would be in somebody's line."""
    for name, value in {**asked, **variables}.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        main()
    said = capfd.readouterr()
    assert (ended.value.code in (0, 1), said.out.strip(), said.err) == (True, "", "")


@pytest.mark.parametrize("error", [OSError("no"), KeyboardInterrupt(), ImportError("no such module")])
def test_an_error_while_it_is_answered(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    asked: dict[str, str],
    error: BaseException,
) -> None:
    """Whatever it is, and Ctrl-C too."""

    def fail(*_: object) -> NoReturn:
        click.echo("a warning", err=True)
        raise error

    monkeypatch.setattr(Sentences, "get_command", fail)
    for name, value in asked.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        main()
    assert capfd.readouterr() == ("\n", "")
