"""Processes forked from one that has imported what they need: importing it costs most of a start.

A fork goes through the command line as any process of ours does, up to where a worker or Flower would replace
itself by Celery: it goes on as that. Those of a fleet find all of drakcelery imported. Those that people type
find other people's libraries and the settings; what else of drakcelery they need, they import as ever.

The commands themselves are started in tests/acceptance, each at least once, and by the fleets that have
several versions, or several machines.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any, Literal

from drakcelery import lean
from drakcelery.embedded import supervision

_FLEET = (
    *("celery.bin.worker", "celery.apps.worker", "celery.concurrency.prefork", "celery.worker.autoscale"),
    *("celery.worker.components", "celery.worker.consumer", "celery.worker.strategy"),
    *("drakcelery.celery", "drakcelery.cli.roles", "drakcelery.cli.karton_roles", "drakcelery.cli.services"),
    "drakcelery.cli.karton_system",
    *("drakcelery.ingress", "drakcelery.engines.replay", "drakcelery.telemetry.exposition"),
    *("karton.system.system", "kombu.transport.redis", "kombu.transport.pyamqp"),
)
"""What processes of a fleet import, directly or not."""
_TYPED = (
    *("celery.bin.celery", "celery.bin.control", "celery.app.control", "celery.app.log", "celery.events"),
    *("kombu.transport.redis", "redis", "minio", "karton.core.karton", "karton.core.task"),
    *("flower.app", "flower.urls", "rich.console", "rich.table", "structlog", "orjson", "psutil"),
    "drakcelery.settings",
)
"""What commands that people type, and Flower, import of what changes nothing in how ours are imported."""
IMPORTED = {"fleet": _FLEET, "typed": _TYPED}
Kind = Literal["fleet", "typed"]
PROGRAMS = ("drakcelery", "celery")
NEVER = 10**9
"""Seconds between two rounds of Karton's collector, which takes the FINISHED tasks that tests look at."""


class Fork:
    """A process, for who started it as one of :class:`subprocess.Popen`."""

    def __init__(self, stem: Stem, pid: int) -> None:
        self._stem = stem
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """How it ended; None while it lives. The pid is its own until this has said how."""
        if self.returncode is None:
            self.returncode = self._stem.ask(poll=self.pid)
        return self.returncode

    def terminate(self) -> None:
        """SIGTERM."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGTERM)

    def wait(self, timeout: float | None = None) -> int:
        """How it ended, once it has. Raises :class:`subprocess.TimeoutExpired`."""
        if self.poll() is None:
            handle = os.pidfd_open(self.pid)
            try:
                _ended(handle, timeout)
            finally:
                os.close(handle)
        status = self.poll()
        if status is None:
            raise subprocess.TimeoutExpired(["fork", str(self.pid)], timeout or 0)
        return status


def _ended(handle: int, timeout: float | None) -> None:
    """Return once a process has ended, or after *timeout* seconds."""
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    poll.poll(None if timeout is None else timeout * 1000)


class Stem:
    """The process that has imported everything; it ends with this one."""

    def __init__(self, kind: Kind) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.forks", kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            start_new_session=True,
            preexec_fn=supervision._die_with(os.getpid()),
        )

    def start(
        self,
        arguments: Sequence[str],
        *,
        program: str = "drakcelery",
        environment: Mapping[str, str],
        directory: Path,
        log: Path,
        errors: Path | None = None,
    ) -> Fork:
        """Fork ``PROGRAM ARGUMENTS``, in a session of its own; it appends to *log*, or *errors* to that."""
        assert program in PROGRAMS, program
        wanted = {"environment": dict(environment), "directory": str(directory), "log": str(log)}
        return Fork(self, int(self.ask(start=[program, *arguments], errors=str(errors or log), **wanted)))

    def ask(self, **request: Any) -> Any:
        """Let it do something; its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the process that forks the others has ended; it says why on stderr"
        return json.loads(answer)

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@cache
def stem(kind: Kind = "fleet") -> Stem:
    """That of this process, which serves fleet after fleet, or all that is typed."""
    made = Stem(kind)
    atexit.register(made.close)
    return made


# In the other process


def serve(requests: IO[bytes], answers: IO[bytes]) -> list[str] | None:
    """Do what is asked, until nobody asks any more. Returns in each fork, with its arguments."""
    while line := requests.readline():
        request = json.loads(line)
        if "poll" in request:
            answer = _status(request["poll"])
        else:
            begun, beginning = os.pipe()
            answer = os.fork()
            if answer == 0:
                _become(request, (begun, beginning))
                return list(request["start"])
            os.close(beginning)
            os.read(begun, 1)  # returns once it has closed its end: from then on it may be signalled
            os.close(begun)
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()
    return None


def _status(pid: int) -> int | None:
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def _become(request: Mapping[str, Any], inherited: tuple[int, int]) -> None:
    """What lies between fork and exec elsewhere; closes what is *inherited*."""
    supervision._die_with(_PARENT)()
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    log, errors = (
        os.open(request[name], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666) for name in ("log", "errors")
    )
    for source, target in ((nothing, 0), (log, 1), (errors, 2)):
        os.dup2(source, target)
    os.closerange(3, max(nothing, log, errors, *inherited) + 1)
    os.chdir(request["directory"])
    os.environ.clear()
    os.environ.update(request["environment"])


def _go_on(_program: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Be the Celery process that this one is to be replaced by."""
    module = command[2]
    os.environ.update(environment)
    sys.argv = [module.replace(".", " "), *command[3:]]
    importlib.import_module(f"{module}.__main__").main()


def _run(program: str, arguments: list[str]) -> None:
    """Be that program."""
    os.execve = _go_on  # type: ignore[assignment]
    if program == "drakcelery":
        from drakcelery.cli import main

        main(arguments)
    else:
        from celery.__main__ import main as celery

        sys.argv = [program, *arguments]
        celery()


def _prepare(kind: str) -> None:
    """Import what the forks need."""
    if kind == "typed":
        lean.start()
    for name in IMPORTED[kind]:
        importlib.import_module(name)
    if kind == "fleet":
        from karton.system import SystemService

        SystemService.GC_INTERVAL = NEVER
    gc.freeze()


_PARENT = os.getpid()

if __name__ == "__main__":
    _prepare(sys.argv[1])
    wanted = serve(sys.stdin.buffer, sys.stdout.buffer)
    if wanted is not None:
        _run(wanted[0], wanted[1:])
