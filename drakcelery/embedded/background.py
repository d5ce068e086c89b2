"""An embedded stack in a process of its own, for a block of code: the demo and the tests."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from drakcelery.embedded.configuration import Overrides
from drakcelery.embedded.plan import write_private
from drakcelery.embedded.state import Running, running
from drakcelery.embedded.supervision import GRACE, Server, tail
from drakcelery.errors import StackError

LAST_WORDS = "drakcelery: "
"""Stands before the sentence with which a stack's process ends."""

_START_TIMEOUT = 120.0
_STOP_MARGIN = 60.0


@contextlib.contextmanager
def background(
    data_dir: Path,
    *,
    slots: Mapping[str, str] | None = None,
    overrides: Overrides | None = None,
    procfile: Path | None = None,
    grace: float = GRACE,
) -> Iterator[Running]:
    """Run a :class:`~drakcelery.embedded.stack.Stack` (which explains the arguments) for the block.

    It is stopped when the block ends, and it ends with this process. Its own output is in
    ``<data_dir>/log/stack.log``.

    Raises:
        StackError: it does not start, or ended before the block did.
    """
    data_dir = data_dir.absolute()
    arguments = {
        "data_dir": str(data_dir),
        "slots": None if slots is None else dict(slots),
        "overrides": {section: dict(pairs) for section, pairs in (overrides or {}).items()},
        "procfile": str(procfile.absolute()) if procfile else None,
        "grace": grace,
    }
    server = _start(data_dir, arguments)
    try:
        server.wait_ready(lambda: _is_up(data_dir, server), timeout=_START_TIMEOUT)
        found = running(data_dir)
        if found is None or found.pid != server.pid:
            raise StackError(_last_words(server.log))
        yield found
        if not server.is_running:
            raise StackError(_last_words(server.log))
    finally:
        server.stop(grace=grace + _STOP_MARGIN)


def _start(data_dir: Path, arguments: Mapping[str, object]) -> Server:
    """Start the stack's process, which finds its *arguments* in a file."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    (data_dir / "log").mkdir(mode=0o700, exist_ok=True)
    request = data_dir / "background.json"
    write_private(request, json.dumps(arguments))
    return Server.start(
        "the embedded stack",
        (sys.executable, "-m", "drakcelery.embedded", str(request)),
        log=data_dir / "log" / "stack.log",
        environment=os.environ,
    )


def _is_up(data_dir: Path, server: Server) -> bool:
    """Whether the stack is up, or has ended: its own sentence says more about that than we could."""
    found = running(data_dir)
    return not server.is_running or (found is not None and found.pid == server.pid)


def _last_words(log: Path) -> str:
    """The sentence with which the stack ended; the end of its output where it had no time for one."""
    _, found, sentence = log.read_text(encoding="utf-8", errors="replace").rpartition(LAST_WORDS)
    return sentence.strip() if found else f"the embedded stack ended by itself{tail(log)}"
