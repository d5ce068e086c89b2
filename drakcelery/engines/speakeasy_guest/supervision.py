"""The engine's side of the guest program: start it, follow it, kill it, from whatever process.

A record on disk says which process runs in a slot: its id, and when it started, so that another process
that got the same id later is left alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from drakcelery import safe_files
from drakcelery.engines import confinement
from drakcelery.engines.speakeasy_guest.job import MAX_STATE, Account, GuestJob, State, Told, parse_state
from drakcelery.engines.watching import LOOK_SECONDS, Watcher
from drakcelery.errors import EngineError
from drakcelery.model.news import EndedBy

log = structlog.get_logger(__name__)

START_LIMIT = 60.0
"""Seconds for the guest program to import Speakeasy and load a sample."""

GRACE = 20.0
"""Seconds for the guest program to stop and write its dumps after the timeout."""

DEATH_LIMIT = 10.0
"""Seconds for a killed process to be gone."""

EXIT_LIMIT = 2.0
"""Seconds for the guest program to exit once its output is closed."""

MAX_ERRORS = 200
"""Lines of the guest program's stderr that are kept."""

PROGRAM = "drakcelery.engines.speakeasy_guest"


@dataclass(kw_only=True)
class Guest:
    """The running guest program, as far as its states went."""

    process: subprocess.Popen[bytes]
    state: State | None = None
    detail: str = ""
    lacks: str = ""
    """What this machine lacks to confine it."""
    started: float | None = None
    account: Account = field(default_factory=Account)
    """What the run came to, as far as its last state says."""
    errors: deque[str] = field(default_factory=lambda: deque(maxlen=MAX_ERRORS))


def begin() -> subprocess.Popen[bytes]:
    """The guest program's process, which waits for its job. Raises :class:`OSError`."""
    return subprocess.Popen(
        [sys.executable, "-I", "-m", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=confinement.ENVIRONMENT,
        cwd="/",
        start_new_session=True,
    )


def start(record: Path, guest_job: GuestJob, *, begin: Callable[[], subprocess.Popen[bytes]]) -> Guest:
    """Start the guest program and note it in *record* for :func:`kill`; only then does it get its job.

    Raises:
        EngineError: it cannot be started.
    """
    try:
        safe_files.close_directory(record.parent)
        process = begin()
    except OSError as error:
        raise EngineError(f"The emulator cannot be started: {error}.") from error
    try:
        note = json.dumps({"pid": process.pid, "start": _start_ticks(process.pid)}).encode()
        safe_files.replace(record, note, durable=False)
    except OSError as error:
        _kill_group(process.pid)
        process.wait(DEATH_LIMIT)
        raise EngineError(f"The emulator cannot be started: {error}.") from error
    _send(process, guest_job.to_json())
    return Guest(process=process)


def _send(process: subprocess.Popen[bytes], line: bytes) -> None:
    """Hand over the job. A guest program that dies before it reads one says why on stderr."""
    if process.stdin is not None:
        try:
            process.stdin.write(line)
            process.stdin.close()
        except BrokenPipeError:
            log.warning("guest_took_no_job", pid=process.pid)


def follow(guest: Guest, timeout: int, watcher: Watcher | None = None) -> EndedBy:
    """Follow the guest program until it closes its output; returns what ended it.

    SIGTERM at the timeout, or when *watcher* says so; SIGKILL after :data:`GRACE`, or when it does not start
    in :data:`START_LIMIT`.
    """
    deadline = time.monotonic() + START_LIMIT
    ended: EndedBy = "itself"
    asked_to_stop = killed = False
    with selectors.DefaultSelector() as selector:
        for stream in (guest.process.stdout, guest.process.stderr):
            if stream is not None:
                selector.register(stream, selectors.EVENT_READ, bytearray())
        while selector.get_map():
            wait = max(deadline - time.monotonic(), 0)
            ready = selector.select(wait if watcher is None or asked_to_stop else min(wait, LOOK_SECONDS))
            for key, _ in ready:
                was_started = guest.started
                if not _read(guest, key):
                    selector.unregister(key.fileobj)
                if guest.started and not was_started:
                    deadline = time.monotonic() + timeout
            why = _watch(guest, watcher) if selector.get_map() and not asked_to_stop else None
            if time.monotonic() < deadline and why is None:
                continue
            if killed:
                break  # its pipes are held by something else; destroy sees to the rest
            if guest.started and not asked_to_stop:
                asked_to_stop, ended = True, why or "timeout"
                deadline = time.monotonic() + GRACE
                guest.process.send_signal(signal.SIGTERM)
            else:
                killed = True
                deadline = time.monotonic() + DEATH_LIMIT
                _kill_group(guest.process.pid)
    with contextlib.suppress(subprocess.TimeoutExpired):  # closed its output and goes on: to be killed
        guest.process.wait(EXIT_LIMIT)
    return ended


def _watch(guest: Guest, watcher: Watcher | None) -> EndedBy | None:
    """Why *watcher* wants the run to end; None if it does not."""
    if watcher is None or not guest.started:
        return None
    watcher.begin()
    return watcher.check()


def _read(guest: Guest, key: selectors.SelectorKey) -> bool:
    """Take in what one stream has; False at its end. Lines are cut at :data:`MAX_STATE` bytes."""
    data = os.read(key.fd, 65536)
    if not data:
        return False
    buffer: bytearray = key.data
    buffer += data
    *lines, rest = bytes(buffer).split(b"\n")
    buffer[:] = rest[:MAX_STATE]
    for line in lines:
        if key.fileobj is guest.process.stderr:
            guest.errors.append(line[:MAX_STATE].decode("utf-8", "replace"))
        elif told := parse_state(line[:MAX_STATE]):
            _note(guest, told)
    return True


def _note(guest: Guest, told: Told) -> None:
    guest.state = told.state
    if told.state is State.READY:
        guest.lacks = told.detail
    elif told.state is State.STARTED:
        guest.started = guest.started or time.time()
    else:
        guest.detail, guest.account = told.detail, told.account


def kill(record: Path, *, slot: str, only: Guest | None = None) -> None:
    """End the process that *record* names, and its group; nothing to end is fine.

    *only*: unless it is another guest than that: who got the slot after this one was ended keeps it.

    Raises:
        EngineError: it does not die, or *record* cannot be understood.
    """
    try:
        known = json.loads(_recorded(record))
        pid, ticks = int(known["pid"]), int(known["start"])
        if pid <= 1:
            raise ValueError(f"process {pid}")
    except FileNotFoundError:
        return
    except (ValueError, KeyError, TypeError, safe_files.UnsafeFile) as error:
        raise EngineError(
            f"Slot {slot}: {record} is unreadable ({error}), so a guest may still run. "
            f"End it (python -m {PROGRAM}) and remove the file."
        ) from None
    if only is not None and pid != only.process.pid:
        return
    now = _start_ticks(pid)
    if now is None or now == ticks:  # where it is gone, what it may have left in its group goes too
        _kill_group(pid)
        deadline = time.monotonic() + DEATH_LIMIT
        while _start_ticks(pid) == ticks:
            if time.monotonic() > deadline:
                raise EngineError(f"Slot {slot}: the emulator (process {pid}) does not die of SIGKILL.")
            time.sleep(0.01)
        if now is not None:
            log.info("guest_killed", slot=slot, pid=pid)
    record.unlink(missing_ok=True)


def _recorded(record: Path) -> bytes:
    """What a record says; one that another user has put there kills nobody."""
    with os.fdopen(safe_files.open_regular(record), "rb") as file:
        if (owner := os.fstat(file.fileno()).st_uid) != os.geteuid():
            raise safe_files.unsafe(record, f"belongs to the user {owner}")
        return file.read(MAX_STATE)


def reap(guest: Guest) -> None:
    """Take the exit code of a killed guest program and close its streams."""
    guest.process.wait(DEATH_LIMIT)
    for stream in (guest.process.stdin, guest.process.stdout, guest.process.stderr):
        if stream is not None:
            stream.close()


def _start_ticks(pid: int) -> int | None:
    """When a process started (``/proc/pid/stat``, ticks after boot); None if it is gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(b")")[2].split()
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        log.debug("guest_gone", pid=pid)
    except PermissionError as error:
        raise EngineError(
            f"The emulator (process {pid}) belongs to another user and cannot be ended."
        ) from error
