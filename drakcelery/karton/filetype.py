"""What kind of file something is, by libmagic.

libmagic is written in C, and samples are made by people who know its faults. So it looks at samples in a
separate, long-lived process (``python -m drakcelery.karton.filetype``). A sample that crashes it, or keeps it
busy forever, costs that process and not the ingress, which would meet the same sample again at its next
start.
"""

from __future__ import annotations

import atexit
import fcntl
import resource
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pylibmagic  # noqa: F401 brings the library that the next import looks for

# isort: split
import magic
import structlog

from drakcelery.errors import BadTask

COMMAND = (sys.executable, "-I", "-m", "drakcelery.karton.filetype")
LIMIT = 30.0
"""Seconds for one sample, and for the process to start."""
MEMORY = 1024**3
"""Bytes of address space for the process."""
TRIES = 2
"""One process may have died for another reason; if a second one dies too, it was the sample."""

_LENGTH = struct.Struct("!I")

log = structlog.get_logger(__name__)


class _Looker:
    """The process, started when it is needed. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.end)

    def describe(self, head: bytes) -> str:
        """As :func:`describe`."""
        with self._lock:
            for _ in range(TRIES):
                if (answer := self._ask(head)) is not None:
                    return answer
        raise BadTask("libmagic does not survive this sample: what kind of file it is cannot be said")

    def end(self) -> None:
        """End the process, whatever it does."""
        if self._process is None:
            return
        self._process.kill()
        self._process.communicate()
        self._process = None

    def _ask(self, head: bytes) -> str | None:
        """None if the process died, or had to be killed."""
        try:
            with self._watched() as process:
                if process.stdin is None or process.stdout is None:  # which pipes never are
                    return None
                process.stdin.write(_LENGTH.pack(len(head)) + head)
                process.stdin.flush()
                size = process.stdout.read(_LENGTH.size)
                if len(size) == _LENGTH.size:
                    return process.stdout.read(*_LENGTH.unpack(size)).decode("utf-8", "replace")
        except BrokenPipeError:
            log.debug("libmagic_took_nothing")
        self._mourn()
        return None

    @contextmanager
    def _watched(self) -> Iterator[subprocess.Popen[bytes]]:
        if self._process is None:
            self._process = subprocess.Popen(
                COMMAND,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={"LANG": "C.UTF-8"},
                start_new_session=True,
            )
            with suppress(OSError):  # not fatal: a smaller pipe takes sixteen steps
                fcntl.fcntl(self._process.stdin or -1, fcntl.F_SETPIPE_SZ, 1024**2)
        timer = threading.Timer(LIMIT, self._process.kill)
        timer.daemon = True
        timer.start()
        try:
            yield self._process
        finally:
            timer.cancel()

    def _mourn(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:  # something was still to be written
                    continue
        log.warning("libmagic_died", code=process.wait())


_looker = _Looker()


def describe(head: bytes) -> str:
    """libmagic's description of a file that begins with *head*.

    Raises:
        BadTask: libmagic crashes or takes too long, twice.
    """
    return _looker.describe(head)


def describe_file(path: Path) -> str:
    """libmagic's description of the file at *path*, which the user trusts; in this process."""
    return str(magic.from_file(str(path)))


def serve() -> None:
    """Answer until standard input ends."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    asked, answers = sys.stdin.buffer, sys.stdout.buffer
    while len(size := asked.read(_LENGTH.size)) == _LENGTH.size:
        head = asked.read(*_LENGTH.unpack(size))
        text = str(magic.from_buffer(head)).encode("utf-8", "replace")
        answers.write(_LENGTH.pack(len(text)) + text)
        answers.flush()


if __name__ == "__main__":
    serve()
