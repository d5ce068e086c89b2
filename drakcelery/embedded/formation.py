"""The Procfile's processes, run by honcho's library.

honcho reads the Procfile, starts each process in a session of its own and passes its output on line by line.
Its ``Manager`` is not used: it signals whole process groups, so that the pool processes of a Celery worker
die in the middle of a task while the worker wants to finish it; it forks a process for each one; and its wait
before SIGKILL begins only when one of them has ended.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from honcho.colour import get_colours
from honcho.environ import parse_procfile
from honcho.printer import Message, Printer
from honcho.process import Process

from drakcelery.embedded.layout import home
from drakcelery.embedded.supervision import end_marked, printable, rotate
from drakcelery.errors import StackError

_BACKLOG = 10_000
"""Lines of output not yet written; beyond that the processes wait on their pipes."""

_OUTPUT_TIMEOUT = 5.0
"""Seconds to wait for the last output once every process has ended."""


def read_procfile(path: Path) -> dict[str, str]:
    """The commands of a Procfile by process name, in their order.

    Raises:
        StackError: there is none, or it names no process.
    """
    try:
        commands = dict(parse_procfile(path.read_text(encoding="utf-8")).processes)
    except (OSError, UnicodeDecodeError) as error:
        raise StackError(f"{path}: {error}") from None
    if not commands:
        raise StackError(f"{path}: names no process; a line is NAME: COMMAND")
    return commands


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A process that ended by itself."""

    name: str
    status: int
    """As :attr:`subprocess.Popen.returncode`: negative where a signal ended it."""


@dataclass(kw_only=True)
class _Member:
    process: Process
    thread: threading.Thread
    pid: int | None = None
    status: int | None = None
    told: bool = field(default=False)
    """Whether it got its SIGTERM."""


class Formation:
    """The processes of a Procfile, started and stopped together."""

    def __init__(
        self,
        commands: Mapping[str, str],
        *,
        environment: Mapping[str, str],
        logs: Path,
        terminal: TextIO | None,
        heard: Callable[[str, str], None] | None = None,
        mark: str,
    ) -> None:
        """*heard* is told each line of each process, by the process' name."""
        self._heard = heard
        self._events: queue.Queue[Message] = queue.Queue(_BACKLOG)
        self._output = _Output(logs, terminal, names=tuple(commands))
        self._mark = mark
        colours = get_colours()
        self._members: dict[str, _Member] = {}
        for name, command in commands.items():
            # exec: the shell gives way to the program, which then gets the signals.
            process = Process(
                f"exec {command}",
                name=name,
                colour=next(colours),
                env={**environment, "HONCHO_PROCESS_NAME": name},
                cwd=str(home()),
            )
            thread = threading.Thread(
                target=self._attend, args=(process,), name=f"attend-{name}", daemon=True
            )
            self._members[name] = _Member(process=process, thread=thread)

    def start(self) -> None:
        """Start all of them."""
        for member in self._members.values():
            member.thread.start()

    def watch(self, *, seconds: float) -> Ended | None:
        """Pass output on for *seconds*; a process that has ended by itself ends the wait."""
        self._pump(seconds)
        for name, member in self._members.items():
            if (status := _status(member)) is not None:
                return Ended(name=name, status=status)
        return None

    def stop(self, *, grace: float) -> None:
        """SIGTERM to each process; SIGKILL after *grace* seconds to what is left, at any depth."""
        deadline = time.monotonic() + grace
        while time.monotonic() < deadline:
            alive = [member for member in self._members.values() if _status(member) is None]
            if not alive:
                break
            for member in alive:
                _terminate(member)
            self._pump(0.1)
        end_marked(self._mark, grace=0)
        deadline = time.monotonic() + _OUTPUT_TIMEOUT
        while time.monotonic() < deadline and any(one.thread.is_alive() for one in self._members.values()):
            self._pump(0.1)
        self._pump(0.1)
        self._output.close()

    def _attend(self, process: Process) -> None:
        """One process's thread: starts it and passes its output on until it ends."""
        try:
            process.run(self._events)
        except OSError as error:
            now = datetime.datetime.now(tz=datetime.UTC)
            for kind, data in (("line", f"cannot start: {error}\n"), ("stop", {"returncode": 127})):
                self._events.put(Message(kind, data, now, process.name, process.colour))

    def _pump(self, seconds: float) -> None:
        """Handle what the processes send during *seconds*."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                message = self._events.get(timeout=left)
            except queue.Empty:
                return
            member = self._members[message.name]
            if message.type == "line":
                line = self._output.write(message)
                if self._heard is not None:
                    self._heard(message.name, line)
            elif message.type == "start":
                member.pid = message.data["pid"]
            else:
                member.status = message.data["returncode"]


def _status(member: _Member) -> int | None:
    """How the process ended; None while it runs.

    honcho tells only when the output is closed, and a grandchild may hold that open: so look at the process
    itself, and leave it to honcho to reap it.
    """
    if member.status is not None or member.pid is None:
        return member.status
    try:
        result = os.waitid(os.P_PID, member.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:  # reaped meanwhile: honcho's message is on its way
        return None
    if result is None:
        return None
    return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status


def _terminate(member: _Member) -> None:
    if member.pid is not None and not member.told:
        member.told = True
        with contextlib.suppress(ProcessLookupError):  # it ended, and honcho reaped it, just now
            os.kill(member.pid, signal.SIGTERM)


class _Output:
    """Each process's lines to its log file and, unless quiet, to the terminal with a prefix."""

    def __init__(self, logs: Path, terminal: TextIO | None, *, names: tuple[str, ...]) -> None:
        self._printer = None if terminal is None else Printer(terminal, width=max(map(len, names)))
        self._files: dict[str, TextIO] = {}
        for name in names:
            rotate(logs / f"{name}.log")
            self._files[name] = (logs / f"{name}.log").open("w", encoding="utf-8", buffering=1)

    def write(self, message: Message) -> str:
        """Write one line of output, and return it as it was written."""
        raw = message.data
        text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw
        line = printable(text.rstrip("\r\n"))
        self._files[message.name].write(f"{line}\n")
        if self._printer is not None:
            self._printer.write(message._replace(data=line))
        return line

    def close(self) -> None:
        """Close the log files."""
        for file in self._files.values():
            file.close()
