"""An embedded stack in a process of its own: for a block of code (the demo, the tests), or from now on."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from drakcelery.embedded import directory, lock
from drakcelery.embedded.configuration import Overrides
from drakcelery.embedded.plan import write_private
from drakcelery.embedded.readiness import READY_SECONDS
from drakcelery.embedded.state import Running, running
from drakcelery.embedded.supervision import GRACE, Server, end_marked, tail
from drakcelery.errors import StackError

LAST_WORDS = "drakcelery: "
"""Stands before the sentence with which a stack's process ends."""

LOG_NAME = "stack.log"
_START_TIMEOUT = READY_SECONDS + 150.0
"""Longer than the stack itself waits, for its servers too, since it knows what it waited for."""
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
    server = _start(data_dir, slots=slots, overrides=overrides, procfile=procfile, grace=grace)
    try:
        yield _wait_up(data_dir, server)
        if not server.is_running:
            raise StackError(_last_words(server.log))
    finally:
        _stop(data_dir, server, grace)


def detach(data_dir: Path, *, slots: Mapping[str, str], overrides: Overrides) -> Running:
    """Start a stack that outlives this process, and return when it is up.

    Raises:
        StackError: it does not start, or one runs there already; nothing was started.
    """
    data_dir = data_dir.absolute()
    directory.prepare(data_dir)
    with lock.held(data_dir):
        pass  # none runs there, whose log would be taken away from it
    server = _start(data_dir, slots=slots, overrides=overrides, outlives=True)
    try:
        return _wait_up(data_dir, server)
    except BaseException:  # Ctrl-C too
        _stop(data_dir, server, GRACE)
        raise


def _stop(data_dir: Path, server: Server, grace: float) -> None:
    """Stop the stack. If that is interrupted, by another Ctrl-C, it is killed: nobody writes to *data_dir*
    any more once this has ended."""
    try:
        server.stop(grace=grace + _STOP_MARGIN)
    except BaseException:
        server.stop(grace=0)
        end_marked(str(data_dir), grace=0)
        raise


def _wait_up(data_dir: Path, server: Server) -> Running:
    """The stack, once it is up. Raises :class:`StackError`, with the sentence with which it ended."""
    server.wait_ready(lambda: _is_up(data_dir, server), timeout=_START_TIMEOUT)
    found = running(data_dir)
    if found is None or found.pid != server.pid:
        raise StackError(_last_words(server.log))
    return found


def _start(
    data_dir: Path,
    *,
    slots: Mapping[str, str] | None,
    overrides: Overrides | None,
    procfile: Path | None = None,
    grace: float = GRACE,
    outlives: bool = False,
) -> Server:
    """Start the stack's process, which finds its arguments in a file."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    (data_dir / "log").mkdir(mode=0o700, exist_ok=True)
    arguments = {
        "data_dir": str(data_dir),
        "slots": None if slots is None else dict(slots),
        "overrides": {section: dict(pairs) for section, pairs in (overrides or {}).items()},
        "procfile": str(procfile.absolute()) if procfile else None,
        "grace": grace,
        "tells": outlives,
    }
    request = data_dir / "background.json"
    write_private(request, json.dumps(arguments))
    return Server.start(
        "the embedded stack",
        (sys.executable, "-m", "drakcelery.embedded", str(request)),
        log=data_dir / "log" / LOG_NAME,
        environment=os.environ,
        outlives=outlives,
    )


def _is_up(data_dir: Path, server: Server) -> bool:
    """Whether the stack is up, or has ended: its own sentence says more about that than we could."""
    found = running(data_dir)
    return not server.is_running or (found is not None and found.pid == server.pid)


def _last_words(log: Path) -> str:
    """The sentence with which the stack ended; the end of its output where it had no time for one."""
    _, found, sentence = log.read_text(encoding="utf-8", errors="replace").rpartition(LAST_WORDS)
    return sentence.strip() if found else f"the embedded stack ended by itself{tail(log)}"
