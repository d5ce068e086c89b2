"""What the shell offers where Redis does not answer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from drakcelery.cli import completion


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
