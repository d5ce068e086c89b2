"""Screenshots beside DRAKVUF: by DRAKVUF Sandbox's own screenshotter, in a call of its library.

The guest decides what they show, so their number and size are bounded here. A run without them is still a
run.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog

from drakcelery.engines import Detonation
from drakcelery.engines.drakvuf import commands
from drakcelery.engines.drakvuf.cell import kill_group
from drakcelery.engines.drakvuf.guest import Guest
from drakcelery.engines.drakvuf.library import Call
from drakcelery.engines.drakvuf.tool_output import end_of, readable

log = structlog.get_logger(__name__)

MOST_FILES = 30
"""As in DRAKVUF Sandbox, which takes one every five seconds if the screen has changed."""
MOST_BYTES = 64 * 1024**2
STOP_SECONDS = 8.0
"""Seconds from SIGTERM to SIGKILL; what was written by then is complete."""

NO_LIBRARY = "drakrun's library is not served here; see the check xen.library of drakcelery doctor"


@dataclass(kw_only=True)
class Screenshots:
    """The screenshots of a run."""

    trouble: str | None = None
    """Why they are missing, or not complete."""


def directory(raw: Path) -> Path:
    """Where ``screenshot_N.png`` lie."""
    return raw / "screenshots"


def index(raw: Path) -> Path:
    """A line of JSON for each: ``timestamp``, ``image_hash``, ``index`` (the N of its name)."""
    return raw / "screenshots.json"


@contextlib.contextmanager
def photographed(guest: Guest, job: Detonation, holder: str) -> Iterator[Screenshots]:
    """Take screenshots of the guest into ``job.raw`` inside the block, if the settings ask for them."""
    taken = Screenshots()
    if not guest.section.screenshots:
        yield taken
        return
    library = guest.tools.library
    command = commands.screenshots(guest.section.drakrun, guest.number, job.raw, MOST_FILES, MOST_BYTES)
    with (job.raw / "screenshots_stderr.log").open("w+b") as said:

        def start() -> Call | None:
            if library is None:
                return None
            return library.start(command, environment=guest.tools.environment, stdout=said, stderr=said)

        call = guest.cell.start(holder, start)
        try:
            yield taken
        finally:
            if call is None:
                taken.trouble = NO_LIBRARY
            else:
                _stop(call, guest.name)
                guest.cell.forget(call)
                lines = readable(end_of(said))
                log.info("tool_ended", tool="screenshots", code=call.returncode, stderr=list(lines))
    if taken.trouble is None and not any(directory(job.raw).glob("*.png")):
        taken.trouble = "none was taken"


def _stop(call: Call, slot: str) -> None:
    """Ask the call to end, then kill it. No other process gets its id before :meth:`Call.leave`."""
    call.terminate()
    try:
        call.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        kill_group(call.pid, slot=slot)
        call.wait()
    finally:
        call.leave()
