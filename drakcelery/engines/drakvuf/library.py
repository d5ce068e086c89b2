"""Calls to the process that stays in drakrun's own interpreter (:mod:`.resident`), from any worker process.

If no such process serves, or it cannot do what is asked, :class:`~.tools.Tools` runs the command instead.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import structlog

from drakcelery import safe_files
from drakcelery.engines.drakvuf.cell import kill_group, start_ticks

log = structlog.get_logger(__name__)

SOCKET = "drakrun.socket"
"""Below ``state_dir/engine``."""
ANSWER_SECONDS = 5.0
"""Seconds for a child to start; calls wait while another resident starts."""
MOST_BYTES = 64 * 1024
"""Of a message."""
DEATH_SECONDS = 10.0
"""Seconds until the end of a killed call must be reported."""

_CREDENTIALS = struct.Struct("3i")


class Nonsense(Exception):
    """The answer is not one of the resident's."""


class Call:
    """One call, as far as it is a process: its leader is the resident's child, in a group of its own."""

    def __init__(self, connection: socket.socket, argv: Sequence[str], pid: int) -> None:
        self._connection = connection
        self._argv = argv
        self.pid = pid
        self._ticks = start_ticks(pid)
        self.returncode: int | None = None
        self.is_lost = False
        """True if the resident is gone, and nobody knows how far the call got."""

    def wait(self, seconds: float | None = None) -> int:
        """Its exit code, as from :class:`subprocess.Popen`. Without *seconds*: after it was killed.

        Raises:
            subprocess.TimeoutExpired: it goes on.
            EngineError: what it left behind does not die.
        """
        if self.returncode is None:
            limit = DEATH_SECONDS if seconds is None else seconds
            try:
                self.returncode = _integer(_receive(self._connection, limit), "code")
            except TimeoutError:
                if seconds is not None:
                    raise subprocess.TimeoutExpired(list(self._argv), seconds) from None
                self.returncode = self._lose("does not say that a killed call is over")
            except (OSError, Nonsense) as error:
                self.returncode = self._lose(str(error) or type(error).__name__)
            self.leave()
        return self.returncode

    def terminate(self) -> None:
        """Ask it to end. Once the resident is gone, its process id may be another's."""
        if start_ticks(self.pid) == self._ticks:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

    def leave(self) -> None:
        """Close the connection; if the call still goes on, it is ended."""
        self._connection.close()

    def _lose(self, why: str) -> int:
        log.warning("library_call_lost", call=list(self._argv[1:3]), reason=why)
        if start_ticks(self.pid) in (None, self._ticks):  # what it left in its group goes with it
            kill_group(self.pid, slot="none")
        self.is_lost = True
        return -signal.SIGKILL


class Library:
    """Sends the calls, through a socket below ``state_dir/engine``. Keeps no state."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def start(
        self,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        stdout: IO[bytes],
        stderr: IO[bytes],
    ) -> Call | None:
        """Begin *argv*; None if the resident cannot do it, and nothing has begun."""
        connection = self._connect()
        if connection is None:
            return None
        message = json.dumps({"argv": list(argv), "environment": dict(environment)}).encode()
        try:
            if len(message) > MOST_BYTES:
                raise Nonsense(f"{len(message)} bytes are too long for a call")
            socket.send_fds(connection, [message], [stdout.fileno(), stderr.fileno()])
            answer = _receive(connection, ANSWER_SECONDS)
            if "refused" in answer:
                log.debug("library_refuses", call=list(argv[1:3]), reason=str(answer["refused"])[:200])
                connection.close()
                return None
            call = Call(connection, argv, _integer(answer, "pid"))
            if call.pid <= 1:
                raise Nonsense("no process has this number")
            connection.sendall(b"go")
        except (OSError, Nonsense) as error:
            connection.close()  # its child, if there is one, does not begin
            log.warning("library_does_not_answer", reason=str(error) or type(error).__name__)
            return None
        return call

    def answers(self) -> bool:
        """Whether a resident serves, and is not stuck."""
        connection = self._connect()
        if connection is None:
            return False
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"ping")
            return bool(_readable(connection, ANSWER_SECONDS)) and connection.recv(16) == b"pong"
        return False

    def _connect(self) -> socket.socket | None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.settimeout(ANSWER_SECONDS)
        try:
            with reached(self._directory) as path:
                connection.connect(path)
            found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            if _CREDENTIALS.unpack(found)[1] != os.geteuid():
                raise safe_files.unsafe(SOCKET, "is another user's")
        except OSError as error:
            connection.close()
            if not isinstance(error, FileNotFoundError | ConnectionRefusedError):
                log.warning("library_does_not_answer", reason=str(error))
            return None
        return connection


@contextlib.contextmanager
def reached(directory: Path) -> Iterator[str]:
    """A path to the socket in *directory* that is short enough for the kernel, however long *directory* is.

    Raises:
        OSError: there is no such directory.
    """
    descriptor = safe_files.open_directory(directory)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET}"
    finally:
        os.close(descriptor)


def _readable(connection: socket.socket, seconds: float) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(max(0.0, seconds) * 1000))


def _receive(connection: socket.socket, seconds: float) -> Mapping[str, object]:
    """One answer. Raises TimeoutError, other OSErrors, and :class:`Nonsense`."""
    deadline = time.monotonic() + seconds
    while not _readable(connection, deadline - time.monotonic()):
        if time.monotonic() >= deadline:
            raise TimeoutError(f"no answer in {seconds:.0f} s")
    data = connection.recv(MOST_BYTES)
    if not data:
        raise ConnectionResetError("it is gone")
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise Nonsense(f"it says {data[:100]!r}")
    return answer


def _integer(answer: Mapping[str, object], key: str) -> int:
    value = answer.get(key)
    if type(value) is not int or abs(value) > 1 << 31:
        raise Nonsense(f"it says {str(dict(answer))[:100]!r} where {key} is due")
    return value
