"""A slot's directory below ``state_dir/engine``: who holds its guest, and which processes belong to it.

Any process may end a slot's guest at any time, even while another process works with it. So every process
that is started for a guest is noted here, and none is started for a holder that has lost the guest. A lock
keeps starting and ending apart; the kernel releases it when its holder ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import structlog

from drakcelery import safe_files
from drakcelery.engines.evidence import boot_id
from drakcelery.errors import EngineError

log = structlog.get_logger(__name__)

DEATH_LIMIT = 10.0
"""Seconds for killed processes to be gone."""

MOST_NOTED = 64 * 1024
"""Bytes of a file in a slot's directory."""


@dataclass(frozen=True, kw_only=True)
class Held:
    """Who holds the guest, and what it was restored from."""

    holder: str
    snapshot_version: int
    snapshot_sha256: str


class Leader(Protocol):
    """A process that leads a group of its own."""

    @property
    def pid(self) -> int:
        """Its number, and its group's."""


Started = TypeVar("Started", bound="Leader | None")


class Cell:
    """One slot's directory. Cheap to make; keeps nothing in memory."""

    def __init__(self, directory: Path, *, lock_limit: float) -> None:
        """*lock_limit*: seconds to wait for a process that is ending the guest."""
        self._directory = directory
        self._lock_limit = lock_limit

    @property
    def slot(self) -> str:
        """The slot's name."""
        return self._directory.name

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from starting or ending anything. Raises :class:`EngineError` after a
        while."""
        self._make()
        deadline = time.monotonic() + self._lock_limit
        descriptor = safe_files.open_regular(self._directory / "lock", os.O_RDWR | os.O_CREAT)
        with os.fdopen(descriptor, "a") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise EngineError(
                            f"slot {self.slot}: another process has been ending its guest "
                            f"for {self._lock_limit:.0f} s"
                        ) from None
                    time.sleep(0.05)
            try:
                yield
            finally:
                # Closing is not enough: a process that was forked meanwhile has the file open as well
                fcntl.flock(file, fcntl.LOCK_UN)

    def acquire(self, held: Held) -> None:
        """Note the guest's holder. Raises :class:`EngineError` if there is one already."""
        with self.locked():
            if self.held() is not None:
                raise EngineError(f"slot {self.slot} holds a guest already; it must be destroyed first")
            safe_files.replace(self._guest, json.dumps(asdict(held)).encode(), durable=False)

    def held(self) -> Held | None:
        """Who holds the guest; None if nobody does."""
        try:
            return Held(**json.loads(safe_files.read(self._guest, most=MOST_NOTED)))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, safe_files.UnsafeFile):
            return Held(holder="", snapshot_version=0, snapshot_sha256="")

    def check(self, holder: str) -> Held:
        """Raises :class:`EngineError` unless *holder* still has the guest."""
        held = self.held()
        if held is None or held.holder != holder:
            raise EngineError(f"the guest in slot {self.slot} was destroyed meanwhile")
        return held

    def start(self, holder: str | None, launch: Callable[[], Started]) -> Started:
        """Start a process for *holder*; None: for the caller, which has :meth:`locked` the slot to end its
        guest.

        *launch* may have nothing to start and return None.
        """
        with contextlib.ExitStack() as stack:
            if holder is not None:
                stack.enter_context(self.locked())
                self.check(holder)
            process = launch()
            if process is None:
                return process
            note = f"{start_ticks(process.pid)} {boot_id()}".encode()
            safe_files.replace(self._directory / f"{process.pid}.process", note, durable=False)
            return process

    def forget(self, process: Leader) -> None:
        """Forget *process*, which is over and left nothing behind that must be ended."""
        (self._directory / f"{process.pid}.process").unlink(missing_ok=True)

    def vacate(self) -> bool:
        """Take the guest from its holder and kill all that was started for it. Call it only while
        :meth:`locked`.

        True if there was a holder or a process. Raises :class:`EngineError` if a process does not die.
        """
        had_holder = self._guest.exists()
        self._guest.unlink(missing_ok=True)
        records = sorted(self._directory.glob("*.process"))
        for record in records:
            self._kill(record)
        return had_holder or bool(records)

    @property
    def _guest(self) -> Path:
        return self._directory / "guest.json"

    def _make(self) -> None:
        """Make the directory, which no other user may enter: root kills what is noted there."""
        for path in (self._directory.parent, self._directory):
            try:
                safe_files.close_directory(path)
            except safe_files.UnsafeFile as error:
                raise EngineError(f"{path} {error.strerror}: remove it, and see who made it") from None

    def _kill(self, record: Path) -> None:
        group, ticks, boot = _noted(record)
        now = start_ticks(group) if group else None
        # If the leader is gone, what it left in its group is killed too; another process with its id is not
        if group and boot == boot_id() and (now is None or str(now) == ticks):
            kill_group(group, slot=self.slot)
        record.unlink(missing_ok=True)


def _noted(record: Path) -> tuple[int, str, str]:
    """Process group, start and boot that a note names; group 0 if the note is not ours.

    Groups 0 and 1 are never ours, and a note of another user must not make us kill anything.
    """
    try:
        with os.fdopen(safe_files.open_regular(record), "rb") as file:
            status, text = os.fstat(file.fileno()), file.read(MOST_NOTED)
        if status.st_uid != os.geteuid():
            raise safe_files.unsafe(record, f"belongs to the user {status.st_uid}")
        ticks, boot = text.decode("ascii").split()
        group = int(record.stem)
    except (OSError, ValueError) as error:  # not ours, or written by half when the machine went down
        log.warning("process_note_ignored", file=str(record), error=str(error))
        return 0, "", ""
    return (group if group > 1 else 0), ticks, boot


def kill_group(group: int, *, slot: str) -> None:
    """SIGKILL for a process group, until it is empty.

    Raises:
        EngineError: a process is left after :data:`DEATH_LIMIT` seconds.
    """
    deadline = time.monotonic() + DEATH_LIMIT
    while members := _members(group):
        with contextlib.suppress(ProcessLookupError):  # they ended meanwhile
            os.killpg(group, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise EngineError(
                f"slot {slot}: process {members[0]} does not die of SIGKILL: it waits for the kernel or Xen"
            )
        time.sleep(0.02)


def _members(group: int) -> list[int]:
    """The living processes of a group, without zombies."""
    running = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())
    return [pid for pid in running if (fields := _stat(pid)) and int(fields[2]) == group]


def start_ticks(pid: int) -> int | None:
    """When a process started (ticks after boot); None if it is gone, or a zombie."""
    fields = _stat(pid)
    return int(fields[19]) if fields else None


def _stat(pid: int) -> list[bytes] | None:
    """``/proc/<pid>/stat`` from the state on (``proc(5)``); None if the process is gone, or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(b")")[2].split()
    return None if fields[0] in (b"Z", b"X") else fields
