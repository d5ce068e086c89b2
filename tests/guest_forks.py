"""Guest programs of the emulator, forked from a process that has imported Speakeasy: two thirds of a start.

A fork goes through the guest program from its first line, confinement included. How the program itself is
started is tested in tests/integration/test_emulator.py.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import os
import select
import socket
import subprocess
import sys
import threading
import time
from functools import cache
from pathlib import Path
from typing import IO, cast

from drakcelery.engines import confinement

PR_SET_CHILD_SUBREAPER = 36
"""Of ``linux/prctl.h``."""
LOOK_SECONDS = 0.001


class Fork:
    """A guest program, for who started it as one of :class:`subprocess.Popen`."""

    def __init__(self, pid: int, *, stdin: IO[bytes], stdout: IO[bytes], stderr: IO[bytes]) -> None:
        self.pid = pid
        self.stdin, self.stdout, self.stderr = stdin, stdout, stderr
        self.returncode: int | None = None

    def send_signal(self, number: int) -> None:
        """Send it, unless it was seen to be over."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def wait(self, timeout: float) -> int:
        """How it ended, once it has. Raises :class:`subprocess.TimeoutExpired`."""
        if self.returncode is None:
            watched = os.pidfd_open(self.pid)
            try:
                if not select.select([watched], [], [], timeout)[0]:
                    raise subprocess.TimeoutExpired(["fork", str(self.pid)], timeout)
            finally:
                os.close(watched)
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode


class Stem:
    """The process that has imported everything; it ends with this one."""

    def __init__(self) -> None:
        self._line, other = socket.socketpair()
        self._busy = threading.Lock()
        with other:
            self._process = subprocess.Popen(
                [sys.executable, "-I", __file__, str(other.fileno())],
                pass_fds=[other.fileno()],
                env=confinement.ENVIRONMENT,
                cwd="/",
            )

    def fork(self) -> Fork:
        """A guest program that waits for its job: a child of this process."""
        pipes = [os.pipe() for _ in range(3)]
        (job, to_job), (states, to_states), (errors, to_errors) = pipes
        theirs = [job, to_states, to_errors]
        with self._busy:
            _adopt(True)
            try:
                socket.send_fds(self._line, [b"f"], theirs)
                answer = self._line.recv(64)
                assert answer, "the process that forks guests has ended; it says why on stderr"
                pid = int(answer)
                while _parent(pid) != os.getpid():
                    time.sleep(LOOK_SECONDS)
            finally:
                _adopt(False)
        for number in theirs:
            os.close(number)
        return Fork(
            pid, stdin=os.fdopen(to_job, "wb"), stdout=os.fdopen(states, "rb"), stderr=os.fdopen(errors, "rb")
        )

    def close(self) -> None:
        """End it."""
        self._line.close()
        self._process.wait()


@cache
def stem() -> Stem:
    """That of this process."""
    made = Stem()
    atexit.register(made.close)
    return made


def begin() -> subprocess.Popen[bytes]:
    """As :func:`drakcelery.engines.speakeasy_guest.supervision.begin`, which takes two thirds of a second."""
    return cast("subprocess.Popen[bytes]", stem().fork())


def _adopt(yes: bool) -> None:
    """Whether orphans below this process become its children."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, int(yes), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])


# In the other process


def serve(line: socket.socket) -> bool:
    """Fork for who asks, until nobody does any more. True in each fork."""
    while True:
        message, theirs, _, _ = socket.recv_fds(line, 1, 3)
        if not message:
            return False
        between = os.fork()
        if between == 0:
            between, guest = os.getpid(), os.fork()
            if guest:
                line.send(b"%d" % guest)
                os._exit(0)
            line.close()
            _become(theirs, orphan_of=between)
            return True
        os.waitpid(between, 0)
        for number in theirs:
            os.close(number)


def _become(theirs: list[int], *, orphan_of: int) -> None:
    """What lies between fork and exec elsewhere, once the process between has ended."""
    while os.getppid() == orphan_of:
        time.sleep(LOOK_SECONDS)
    os.setsid()
    for target, source in enumerate(theirs):
        os.dup2(source, target)
    os.closerange(3, max(theirs) + 1)


if __name__ == "__main__":
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type] # as the guest program does
    from drakcelery.engines.speakeasy_guest import __main__ as program

    importlib.import_module("drakcelery.engines.speakeasy_guest.windows")
    gc.freeze()
    with socket.socket(fileno=int(sys.argv[1])) as inherited:
        forked = serve(inherited)
    if forked:
        sys.exit(program.main())
