"""DRAKVUF and tcpdump beside each other: started, watched, stopped."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import structlog

from drakcelery.engines import Detonation
from drakcelery.engines.drakvuf import commands
from drakcelery.engines.drakvuf.cell import kill_group
from drakcelery.engines.drakvuf.execution import STOPPED, End, Ended
from drakcelery.engines.drakvuf.guest import Guest
from drakcelery.engines.drakvuf.tool_output import end_of, ending, quoted, readable
from drakcelery.engines.drakvuf.tools import stop
from drakcelery.engines.watching import Watcher
from drakcelery.errors import EngineError, blamed_by

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.1
SIZE_SECONDS = 1.0
"""Seconds between two measurements of what the run has written."""
GUEST_SECONDS = 5.0
"""Seconds between two checks whether the guest is there, and is kept in."""
GONE_SECONDS = 5.0
"""How long DRAKVUF may take to notice that its guest has gone."""
STOP_SECONDS = 10.0
"""Seconds from SIGTERM to SIGKILL, as in DRAKVUF Sandbox."""
GENTLE_SECONDS = 30.0
"""The same, if it is stopped although it is well: then what its plugins write at the end is wanted."""
LISTEN_SECONDS = 15.0
"""Seconds for tcpdump to begin."""
TRAFFIC_STOP_SECONDS = 5.0
INJECTION_BYTES = 64 * 1024
"""Bytes of DRAKVUF's log in which its own injection is looked for; it comes first."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of a run."""

    grace: int
    """Seconds beyond the timeout, for the injection and the last dumps."""
    output: int
    """Bytes that a run may write."""
    watcher: Watcher | None = None
    """Ends it when nothing new comes."""


@dataclass(kw_only=True)
class Traffic:
    """The recording of a guest's traffic."""

    process: subprocess.Popen[bytes]
    trouble: str | None = None
    """Why it is not complete."""


@contextlib.contextmanager
def recorded(guest: Guest, job: Detonation, holder: str) -> Iterator[Traffic]:
    """Record the guest's bridge into ``job.pcap`` inside the block. Raises :class:`EngineError`."""
    command = commands.tcpdump(guest.section.tcpdump, guest.number, job.pcap)
    with stderr_of(job, "tcpdump").open("w+b") as errors:
        process = guest.cell.start(
            holder, lambda: guest.tools.spawn(command, stdout=errors, stderr=errors, cwd=job.raw)
        )
        traffic = Traffic(process=process)
        try:
            deadline = time.monotonic() + LISTEN_SECONDS
            while not job.pcap.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    how = "does not begin" if process.returncode is None else ending(process.returncode)
                    said = _said(errors)
                    raise EngineError(
                        f"no traffic can be recorded: tcpdump {how}{quoted(said)}",
                        blames=blamed_by("\n".join(said)),
                    )
                time.sleep(POLL_SECONDS)
            yield traffic
            if process.poll() is not None:
                guest.cell.check(holder)
                traffic.trouble = f"traffic is missing: tcpdump {ending(process.returncode)}"
        finally:
            stop(process, seconds=TRAFFIC_STOP_SECONDS, slot=guest.name)
            guest.cell.forget(process)
            log.info("tool_ended", tool="tcpdump", code=process.returncode, stderr=list(_said(errors)))


def watched(guest: Guest, job: Detonation, holder: str, command: commands.Command, limits: Limits) -> Ended:
    """Run DRAKVUF by *command* until it ends or has to be ended, with its log in ``job.log``.

    Raises:
        EngineError: the guest was destroyed or is not kept in any more, or DRAKVUF does not die.
    """
    guest.check_isolation(holder)
    begun = time.monotonic()
    with job.log.open("wb") as out, stderr_of(job, "drakvuf").open("w+b") as errors:
        process = guest.cell.start(
            holder, lambda: guest.tools.spawn(command, stdout=out, stderr=errors, cwd=job.raw)
        )
        killed = False
        try:
            end = _follow(guest, job, holder, process, limits)
            seconds = int(time.monotonic() - begun)
            killed = end is not End.ITSELF and not stop(process, seconds=_patience(end), slot=guest.name)
        finally:
            if process.poll() is None:
                kill_group(process.pid, slot=guest.name)
                process.wait()
            guest.cell.forget(process)
            said = readable(end_of(errors))
            log.info("tool_ended", tool="drakvuf", code=process.returncode, stderr=list(said))
    guest.cell.check(holder)
    if end is End.ITSELF and process.returncode >= 0 and guest.is_alive() is False:
        end = End.GUEST_GONE
    return Ended(
        end=end,
        code=process.returncode,
        killed=killed,
        seconds=seconds,
        timeout=job.longest,
        limit=_words(end, job, limits),
        injection=_injection(job.log),
        errors=said,
    )


def _words(end: End, job: Detonation, limits: Limits) -> str:
    if end is End.OUTPUT:
        return f"it had written {limits.output} bytes, the [drakvuf] output_limit"
    return f"{job.longest} s and {limits.grace} s of grace"


def _patience(end: End) -> float:
    """How many seconds DRAKVUF has for its own end."""
    return GENTLE_SECONDS if end in STOPPED else STOP_SECONDS


def _follow(
    guest: Guest, job: Detonation, holder: str, process: subprocess.Popen[bytes], limits: Limits
) -> End:
    """Wait until DRAKVUF ends, or there is a reason to end it."""
    begun = asked = measured = time.monotonic()
    deadline = begun + job.longest + limits.grace
    gone: float | None = None
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(POLL_SECONDS)
            return End.ITSELF
        now = time.monotonic()
        if now >= deadline:
            return End.DEADLINE
        if gone is not None:
            if now - gone >= GONE_SECONDS:
                return End.GUEST_GONE
        elif now - asked >= GUEST_SECONDS:
            asked = now
            guest.check_isolation(holder)
            gone = now if guest.is_alive() is False else None
        if now - measured >= SIZE_SECONDS:
            measured = now
            if written(job) > limits.output:
                return End.OUTPUT
        if limits.watcher is not None and (why := limits.watcher.check()) is not None:
            return End.QUIET if why == "quiet" else End.TIMEOUT


def written(job: Detonation) -> int:
    """Bytes that the run has written so far, whatever wrote them; links are not followed."""
    size = 0
    for folder, _, names in os.walk(job.raw):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # renamed meanwhile
                size += Path(folder, name).lstat().st_size
    return size


def traces(job: Detonation) -> Path:
    """The directory to which ipt and codemon write."""
    return job.raw / "ipt"


def stderr_of(job: Detonation, tool: str) -> Path:
    """Where a tool that runs beside the guest says what went wrong: its size counts as the run's."""
    return job.raw / f"{tool}_stderr.log"


def _said(file: IO[bytes]) -> tuple[str, ...]:
    return readable(end_of(file))


def _injection(path: Path) -> Mapping[str, object] | None:
    """The record of the sample's injection, which is the first that DRAKVUF writes."""
    with path.open("rb") as file:
        for line in file.read(INJECTION_BYTES).splitlines():
            if record := commands.parse_injection(line):
                return record
    return None
