"""Starting, watching and ending processes so that none is left behind."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

import psutil

from drakcelery.errors import StackError

MARK = "DRAKSTACK_DATA_DIR"
"""The environment variable by which every process of a stack, at any depth, is known: its data directory.
Not of the ``DRAKCELERY_`` family, because it is no setting."""

GRACE = 10.0
"""Seconds that the processes have to finish what they do before they are killed; what is cut off goes on at
the next start."""

_PR_SET_PDEATHSIG = 1
"""``prctl(2)``: the signal that this process gets when its parent dies."""

_LIBC = ctypes.CDLL(None, use_errno=True)

_TAIL_LINES = 12
_TAIL_BYTES = 16 * 1024


class Server:
    """A server under our supervision: own session, output to a file, dead when we are dead unless it is to
    outlive us."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.log = log
        self._process = process

    @classmethod
    def start(
        cls,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str],
        outlives: bool = False,
    ) -> Self:
        """Start *command*, its output going to *log*. Whether it *outlives* this process."""
        rotate(log)
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                cwd=log.parent,
                start_new_session=True,
                umask=0o077,  # its sockets and files are for this user
                preexec_fn=None if outlives else _die_with(os.getpid()),
            )
        return cls(name, process, log)

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process is alive."""
        return self._process.poll() is None

    def wait_ready(self, is_ready: Callable[[], bool], *, timeout: float) -> None:
        """Return when *is_ready* says so.

        Raises:
            StackError: the server ended, or was not ready within *timeout* seconds; with its last output.
        """
        deadline = time.monotonic() + timeout
        while not is_ready():
            if not self.is_running:
                raise StackError(
                    f"{self.name} ended with status {self._process.returncode} while starting{tail(self.log)}"
                )
            if time.monotonic() > deadline:
                raise StackError(f"{self.name} was not ready within {timeout:.0f} s{tail(self.log)}")
            time.sleep(0.05)

    def stop(self, *, grace: float) -> None:
        """SIGTERM; SIGKILL after *grace* seconds. A server that ended already is fine."""
        if self.is_running:
            self._process.terminate()
            try:
                self._process.wait(grace)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()


def _die_with(parent: int) -> Callable[[], None]:
    """What the child does between fork and exec: ask the kernel for SIGKILL when its parent dies."""

    def ask() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)

    return ask


def marked(mark: str) -> list[psutil.Process]:
    """Every process whose environment carries *mark*, this one aside."""
    return [process for process in _others() if _mark_of(process) == mark]


def _others() -> Iterator[psutil.Process]:
    own = os.getpid()
    return (process for process in psutil.process_iter() if process.pid != own)


def _mark_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(MARK)
    except (psutil.Error, OSError):  # another user's, or gone
        return None


def end_marked(mark: str, *, grace: float) -> None:
    """End every process that carries *mark*: SIGTERM, after *grace* seconds SIGKILL, until none is left.

    Raises:
        StackError: a process survives SIGKILL (it hangs in the kernel).
    """
    if grace > 0:
        signalled = _signal_marked(mark, signal.SIGTERM)
        psutil.wait_procs(signalled, timeout=grace)
    deadline = time.monotonic() + 10
    while left := _signal_marked(mark, signal.SIGKILL):
        psutil.wait_procs(left, timeout=0.2)
        if time.monotonic() > deadline:
            raise StackError(f"processes survive SIGKILL: {', '.join(str(one.pid) for one in left)}")


def _signal_marked(mark: str, number: signal.Signals) -> list[psutil.Process]:
    found = [process for process in marked(mark) if _is_alive(process)]
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
    return found


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def rotate(log: Path) -> None:
    """Keep the last run's log as ``<name>.1``; older ones go."""
    if log.exists():
        log.replace(log.with_name(f"{log.name}.1"))


def tail(log: Path) -> str:
    """The end of *log*, as the end of a sentence."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        lines = file.read().decode("utf-8", "replace").splitlines()[-_TAIL_LINES:]
    return "".join((f"; the end of {log}:", *(f"\n  {printable(line)}" for line in lines)))


_CONTROL = dict.fromkeys((*range(9), *range(10, 32), *range(127, 160)), "�")


def printable(line: str) -> str:
    """*line* without control characters: what a sample made others log must not drive a terminal."""
    return line.translate(_CONTROL)
