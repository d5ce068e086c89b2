"""Runs the tools: within bounds, in groups of their own, with nothing of our environment."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

import structlog

from drakcelery.engines.drakvuf import launch
from drakcelery.engines.drakvuf.cell import Cell, kill_group
from drakcelery.engines.drakvuf.commands import Command
from drakcelery.engines.drakvuf.library import Call, Library
from drakcelery.engines.drakvuf.tool_output import PRINTED_BYTES, end_of, ending, quoted, readable, whole
from drakcelery.errors import EngineError, blamed_by

if TYPE_CHECKING:
    from drakcelery.settings import DrakvufSection

log = structlog.get_logger(__name__)

SIZE_SECONDS = 0.5
"""Seconds between two looks at how much a tool has printed."""
STANDARD_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Overdue(EngineError):
    """A tool took longer than it may."""


class Overfull(EngineError):
    """A tool printed more than it may."""


def search_path(section: DrakvufSection) -> str:
    """The search path: first the directories of programs that the settings name by a path; drakrun uses it,
    too."""
    programs = [Path(program) for program in (section.drakrun, section.drakvuf, section.xl)]
    named = [str(program.parent) for program in programs if program.is_absolute()]
    return ":".join(dict.fromkeys([*named, *STANDARD_PATH.split(":")]))


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The result of a tool."""

    name: str
    code: int
    """Exit code; negative: the signal that it died of."""
    output: str
    """Its stdout, unchanged; if it is long, only the end."""
    said: str
    """Its stderr, likewise."""

    @property
    def errors(self) -> tuple[str, ...]:
        """The last lines of its stderr, printable."""
        return readable(self.said)

    def trouble(self, what: str) -> EngineError:
        """The error that says *what* failed, why, and what the tool said last."""
        return EngineError(
            f"{what}: {self.name} {ending(self.code)}{quoted(self.errors)}", blames=blamed_by(self.said)
        )


@dataclass(frozen=True, kw_only=True)
class Tools:
    """How tools are started on this host."""

    path: str = STANDARD_PATH
    environment: Mapping[str, str] = field(default_factory=dict)
    library: Library | None = None
    """Does what :meth:`run` has to do without a new interpreter, if a resident serves it."""

    def __post_init__(self) -> None:
        """Make the environment that tools get instead of ours, which holds secrets."""
        fixed = {"PATH": self.path, "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}
        object.__setattr__(self, "environment", {**self.environment, **fixed})

    def find(self, program: str) -> Path | None:
        """Where *program* is; None if it is not, or cannot be executed."""
        found = shutil.which(program, path=self.path)
        return Path(found) if found else None

    def ask(self, command: Command, *, seconds: float) -> Finished:
        """Run a program that only reads and ends at once: for a tenth of the cost of :meth:`run`, and not
        tied to us.

        Raises:
            Overdue: it takes longer than *seconds*.
            Overfull: it prints more than :data:`PRINTED_BYTES`.
        """
        name, begun = called(command), time.monotonic()
        program = self.find(command[0]) or command[0]
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            try:
                process = subprocess.Popen(
                    [program, *command[1:]],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=errors,
                    env=self.environment,
                    cwd="/",
                )
            except OSError as error:
                said = f"{command[0]}: {error.strerror}\n"
                return Finished(name=name, code=launch.NOT_STARTED, output="", said=said)
            try:
                code = _wait(process, begun, seconds, output, errors)
            except (Overdue, Overfull) as error:
                process.kill()
                process.wait()
                raise type(error)(f"{name} {error}") from None
            return Finished(name=name, code=code, output=whole(output), said=end_of(errors))

    def spawn(
        self,
        command: Command,
        *,
        stdout: IO[bytes],
        stderr: IO[bytes],
        stdin: int = subprocess.DEVNULL,
        cwd: Path = Path("/"),
    ) -> subprocess.Popen[bytes]:
        """Start *command* in a group of its own; it dies with this process."""
        return subprocess.Popen(
            [sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), *command],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=self.environment,
            cwd=cwd,
            start_new_session=True,
        )

    def run(
        self,
        command: Command,
        *,
        seconds: float,
        cell: Cell | None = None,
        holder: str | None = None,
        held_open: bool = False,
        quiet: bool = False,
    ) -> Finished:
        """Run *command* to its end, for *holder* of *cell* if there is one, and log what it said.

        *held_open*: it gets a pipe as stdin that nobody writes to, instead of ``/dev/null``. *quiet*: do not
        log how it ended. If a command is lost with the resident, it is run again as a program.

        Raises:
            Overdue: it takes longer than *seconds*.
            Overfull: it prints more than :data:`PRINTED_BYTES`.
            EngineError: *holder* has lost the guest.
        """
        name = called(command)
        begun = time.monotonic()
        for library in (self.library, None) if self.library else (None,):
            with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
                start = functools.partial(self._start, command, library, output, errors, held_open=held_open)
                process = cell.start(holder, start) if cell else start()
                try:
                    code = _wait(process, begun, seconds, output, errors)
                except (Overdue, Overfull) as error:
                    said = _killed(process, cell, errors)
                    _report(name, None, begun, said)
                    raise type(error)(f"{name} {error}{quoted(said)}") from None
                finally:
                    _let_go(process, cell)
                finished = Finished(name=name, code=code, output=end_of(output), said=end_of(errors))
            if not (isinstance(process, Call) and process.is_lost):
                break
        if not quiet:
            _report(name, code, begun, finished.errors)
        return finished

    def _start(
        self,
        command: Command,
        library: Library | None,
        output: IO[bytes],
        errors: IO[bytes],
        *,
        held_open: bool,
    ) -> subprocess.Popen[bytes] | Call:
        """Start *command* through the *library*, or as a program if the library cannot do it."""
        if library is not None:
            call = library.start(command, environment=self.environment, stdout=output, stderr=errors)
            if call is not None:
                return call
        stdin = subprocess.PIPE if held_open else subprocess.DEVNULL
        return self.spawn(command, stdout=output, stderr=errors, stdin=stdin)


def _wait(process: subprocess.Popen[bytes] | Call, begun: float, seconds: float, *printed: IO[bytes]) -> int:
    """Its exit code. *printed* are the files that it prints to.

    Raises:
        Overdue: it goes on *seconds* after it has *begun*.
        Overfull: it has printed too much.
    """
    while True:
        left = begun + seconds - time.monotonic()
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(max(0.0, min(left, SIZE_SECONDS)))
        if left <= SIZE_SECONDS:
            raise Overdue(f"did not end within {seconds:.0f} s")
        if any(os.fstat(file.fileno()).st_size > PRINTED_BYTES for file in printed):
            raise Overfull(f"was ended: it printed more than {PRINTED_BYTES // 1024**2} MiB")


def _killed(process: subprocess.Popen[bytes] | Call, cell: Cell | None, errors: IO[bytes]) -> tuple[str, ...]:
    """Kill a tool that takes too long; returns what it had said until then."""
    kill_group(process.pid, slot=cell.slot if cell else "none")
    process.wait()
    return readable(end_of(errors))


def _let_go(process: subprocess.Popen[bytes] | Call, cell: Cell | None) -> None:
    """Close our handles of a tool that has ended or is left alone."""
    if isinstance(process, Call):
        process.leave()
    elif process.stdin:
        process.stdin.close()
    if cell and process.returncode is not None:
        cell.forget(process)


def stop(process: subprocess.Popen[bytes], *, seconds: float, slot: str) -> bool:
    """Ask a running tool to end, then kill it. False if it had to be killed."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        kill_group(process.pid, slot=slot)
        process.wait()
        return False
    return True


def called(command: Command) -> str:
    """``drakrun vm-start`` for its command line: the words that name it."""
    words = [word for word in command[1:3] if word.isascii() and word.replace("-", "").isalpha()]
    return " ".join([Path(command[0]).name, *(word for word in words if not word.startswith("-"))])


def _report(name: str, code: int | None, begun: float, errors: tuple[str, ...]) -> None:
    """Log how a tool ended; *code* None: it was killed for taking too long."""
    say = log.info if code == 0 else log.warning
    say("tool_ended", tool=name, code=code, seconds=round(time.monotonic() - begun, 3), stderr=list(errors))
