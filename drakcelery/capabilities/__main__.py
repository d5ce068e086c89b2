"""The process with capa: takes a job from standard input, and answers on standard output.

It asks capa's own modules instead of its command, which writes every match with all of its features.
"""

from __future__ import annotations

import ctypes
import logging
import os
import resource
import signal
import sys
import time
from typing import TextIO

from drakcelery.capabilities.job import Found, Job, Limits
from drakcelery.model.metadata import CapaRun

PR_SET_PDEATHSIG = 1
"""``prctl(2)``: the signal that a process gets when its parent dies."""
NICENESS = 5
"""Guests of the same machine come first."""


def main() -> None:
    """Do the job."""
    begun = time.monotonic()
    answer = _only_way_out()
    job = Job.model_validate_json(sys.stdin.buffer.read())
    _bound(job.parent, job.limits)
    try:
        found = _answer(job, begun)
    except MemoryError:
        found = _failed(f"capa ran into the limit of {job.limits.memory} bytes of memory")
    except Exception as error:  # noqa: BLE001 whatever it is, the report tells of it
        found = _failed(f"capa failed: {type(error).__name__}: {error}"[:500])
    with answer:
        answer.write(found.model_dump_json())


def _only_way_out() -> TextIO:
    """Standard output, for the answer only: what capa or a library of its prints goes nowhere."""
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    return answer


def _bound(parent: int, limits: Limits) -> None:
    """Set the limits; end with *parent*, which may be gone already."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)
    os.nice(NICENESS)
    logging.disable()
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory, limits.memory))
    resource.setrlimit(resource.RLIMIT_CPU, (limits.seconds, limits.seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _answer(job: Job, begun: float) -> Found:
    try:
        from drakcelery.capabilities import matching
    except ImportError as error:
        return _failed(f"capa cannot be imported: {error}")
    return matching.match_rules(job, deadline=begun + job.limits.seconds * matching.SHARE)


def _failed(why: str) -> Found:
    return Found(run=CapaRun(version="", failure=why))


if __name__ == "__main__":
    main()
