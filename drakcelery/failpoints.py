"""Failpoints: where the fault suite makes things go wrong. Free when off, as they are in production.

Each place between two side effects has a name (:data:`POINTS`) and calls :func:`reach`. A process is armed
with a plan, the directory that ``DRAKCELERY_FAULTS`` names; the suite puts a file ``<uid>`` there that holds
``<point> <action>``. The first process that reaches the point removes the file and does the action. With
``<point> <action> always`` each process does it, and adds a byte to ``<uid>.done``:

=============  =============================================================
``child``      kill -9 of this process
``worker``     kill -9 of the worker that this process belongs to, and of itself
``exception``  an error that nobody expects
``sigterm``    SIGTERM to the worker; the stage goes on
``hold``       nothing goes on until the suite puts a file ``<uid>.go`` there
=============  =============================================================
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

POINTS = (
    "ingress.accepted",
    "ingress.opened",
    "ingress.sent",
    "prepare.entered",
    "prepare.workspace_made",
    "prepare.sample_fetched",
    "prepare.restored",
    "prepare.saved",
    "prepare.ready",
    "prepare.completed",
    "run.entered",
    "run.running",
    "run.detonated",
    "run.saved",
    "run.vacated",
    "run.completed",
    "collect.entered",
    "collect.collected",
    "collect.uploaded",
    "collect.noted",
    "collect.saved",
    "collect.completed",
    "upload.entered",
    "upload.uploaded",
    "upload.completed",
    "publish.entered",
    "publish.published",
    "publish.removed",
)
"""Every failpoint, in the order of the road."""
REUSE_POINTS = (
    "ingress.reuse_checked",
    "ingress.reuse_copied",
    "ingress.reuse_complete",
    "ingress.reuse_published",
    "ingress.twin_waits",
)
"""Those of a task that agrees to reuse, which takes another road."""

HELD_SECONDS = 0.05
"""Seconds within which a process that is held notices that it may go on."""


@dataclass
class _Process:
    """The fault plan of this process, which its forks inherit."""

    plan: Path | None = None


_PROCESS = _Process()


class InjectedError(Exception):
    """What the action ``exception`` raises."""


def arm(plan: Path | None) -> None:
    """Let this process, and those it forks, follow *plan*."""
    _PROCESS.plan = plan


def reach(point: str, uid: str) -> None:
    """This process is at *point* with the analysis *uid*."""
    if _PROCESS.plan is None:
        return
    file = _PROCESS.plan / uid
    try:
        planned, action, *always = file.read_text().split()
        if planned != point:
            return
        done = file.with_name(f"{uid}.done")
        if always:
            with done.open("a") as count:
                count.write("x")
        else:
            file.rename(done)
    except FileNotFoundError:
        return
    if action == "hold":
        while not file.with_name(f"{uid}.go").exists():
            time.sleep(HELD_SECONDS)
        return
    # An ingress has no pool: it is the worker itself
    _act(action, worker=os.getpid() if point.startswith("ingress.") else os.getppid())


def _act(action: str, *, worker: int) -> None:
    if action == "exception":
        raise InjectedError("the fault suite wants this")
    if action == "sigterm":
        os.kill(worker, signal.SIGTERM)
        return
    if action == "worker":
        os.kill(worker, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
