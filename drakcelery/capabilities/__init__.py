"""What capa finds in the calls of a sample's processes: ATT&CK and MBC, by the operator's rules.

capa runs in a process of its own (``python -m drakcelery.capabilities``), which is bounded in time and
memory; whatever becomes of it, the analysis goes on.
"""

from __future__ import annotations

import importlib.metadata
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from drakcelery import safe_files
from drakcelery.behaviour.report import Report
from drakcelery.capabilities.job import Found, Job, Limits, Logs
from drakcelery.capabilities.own import lives
from drakcelery.model.metadata import CapaRun

COMMAND = (sys.executable, "-I", "-m", "drakcelery.capabilities")
DISTRIBUTION = "flare-capa"
NOT_INSTALLED = "capa is not installed: pip install drakcelery[capa]"
LOGS = ("apimon.log", "syscall.log")
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
"""Nothing else: secrets live in the environment."""


def with_capabilities(report: Report, directory: Path, limits: Limits) -> Report:
    """*report* with what capa finds in those of :data:`LOGS` that are in *directory*. Raises nothing for what
    becomes of capa: ``report.capa`` tells of that."""
    logs = tuple(path for name in LOGS if (path := directory / name).is_file())
    found = find(Logs(paths=logs, lives=tuple(lives(report))), limits)
    return report.model_copy(update={"capa": found.run, "capabilities": found.capabilities})


def find(logs: Logs, limits: Limits) -> Found:
    """What capa finds in *logs*; in a process of its own, unless there is nothing to look at."""
    installed = version()
    if installed is None:
        return Found(run=CapaRun(version="", failure=NOT_INSTALLED))
    if not logs.paths or not logs.lives:
        return Found(run=CapaRun(version=installed))
    begun = time.monotonic()
    found = ask(_job(logs, limits))
    run = found.run.model_copy(update={"version": installed, "seconds": round(time.monotonic() - begun, 3)})
    return found.model_copy(update={"run": run})


def try_rules(limits: Limits) -> CapaRun:
    """Whether capa takes its rules; it is given no call."""
    installed = version()
    if installed is None:
        return CapaRun(version="", failure=NOT_INSTALLED)
    run = ask(_job(Logs(paths=(), lives=()), limits)).run
    return run.model_copy(update={"version": installed})


def _job(logs: Logs, limits: Limits) -> Job:
    return Job(parent=os.getpid(), logs=logs, limits=limits)


def version() -> str | None:
    """capa's version; None if it is not installed."""
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return None


def ask(job: Job, command: Sequence[str] = COMMAND) -> Found:
    """Let *command* do *job*; it and all that it started is gone afterwards."""
    seconds = job.limits.seconds
    try:
        safe_files.close_directory(job.limits.cache)
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_ENVIRONMENT,
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        return _failed(f"capa cannot be started: {error}")
    try:
        answer, _ = process.communicate(job.model_dump_json().encode(), timeout=seconds)
    except subprocess.TimeoutExpired:
        return _failed(f"capa ran into the limit of {seconds} s")
    finally:
        _end(process)
    try:
        return Found.model_validate_json(answer)
    except ValidationError:
        return _failed(f"capa died ({_ending(process)}), maybe of its limit of {job.limits.memory} bytes")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill it with its children; its group is there as long as it was not waited for."""
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    process.wait()


def _ending(process: subprocess.Popen[bytes]) -> str:
    code = process.returncode
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _failed(why: str) -> Found:
    return Found(run=CapaRun(version="", failure=why))
