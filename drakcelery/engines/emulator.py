"""The engine for hosts without Xen: Speakeasy, in a process of its own behind limits."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from drakcelery.engines import Detonation, confinement, loading, privileges
from drakcelery.engines.loading import Refused
from drakcelery.engines.speakeasy_guest import configuration, launch, supervision
from drakcelery.engines.speakeasy_guest.configuration import USUAL
from drakcelery.engines.speakeasy_guest.job import GuestJob, State
from drakcelery.engines.speakeasy_guest.supervision import Guest
from drakcelery.engines.watching import watcher_of
from drakcelery.errors import EngineError, UnsupportedSample, blamed_by
from drakcelery.model.analysis import Execution, MissingFunction, Outcome, Snapshot
from drakcelery.model.emulated_guest import EmulatedGuest
from drakcelery.model.news import EndedBy, WatchRun
from drakcelery.model.program_file import headers

if TYPE_CHECKING:
    from drakcelery.settings import Settings

log = structlog.get_logger(__name__)

SPARE_CPU = 60
"""Seconds of processor time beyond the timeout: loading, dumps."""

MAX_HEAD = 1024 * 1024
"""Bytes that are read of a file that is no PE."""

COM_DESCRIPTOR = 14
"""Data directory that every .NET assembly has."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """A sample, as far as it matters before it is loaded."""

    is_dll: bool
    refused: Refused | None
    """Why Windows does not start it."""


def create(settings: Settings) -> Emulator:
    """The engine with the limits of *settings*."""
    return Emulator(settings)


class Emulator:
    """Runs EXE and DLL files, 32 and 64 bit; see :class:`~drakcelery.engines.Engine`."""

    def __init__(self, settings: Settings) -> None:
        self._limits = settings.emulator
        self._dump_limit = settings.drakcelery.dumps_single_size
        self._dumps_limit = settings.drakcelery.dumps_total_size
        self._guest_of = settings.emulated_guest
        self._profiles = settings.emulator_profiles
        self._records = settings.drakcelery.state_dir / "engine"
        self.begin = supervision.begin

    def version(self) -> str:
        """``emulator speakeasy-1.5.11``."""
        return f"emulator speakeasy-{importlib.metadata.version('speakeasy-emulator')}"

    def obstacle(self, *, fresh: bool = False) -> str | None:  # noqa: ARG002 the protocol's
        """None: its guests share no network."""
        return None

    def snapshot_id(self) -> str | None:
        """What its profiles say of their guests, as a mark; None if there are none."""
        return " ".join(f"{name}:{_digest(one)[:12]}" for name, one in sorted(self._profiles.items())) or None

    def accept(self, job: Detonation) -> None:
        """Refuse anything but a Windows program, and what cannot be started as asked.

        Raises:
            UnsupportedSample: with a sentence that names the engine to use instead, if one runs it.
            EngineError: the sample cannot be read.
        """
        program = _inspect(job.sample, job.magic, job.extension)
        try:
            launch.parse(job.start_command, is_dll=program.is_dll)
        except ValueError as error:
            raise UnsupportedSample(f"Start command: {error}. {_ELSEWHERE}") from None
        _check_wishes(job)

    def prepare(self, job: Detonation) -> Snapshot:
        """Clear the slot; there is no VM to restore. Raises :class:`~drakcelery.errors.EngineError`."""
        self.destroy(job.slot)
        return self._snapshot(job.slot)

    def _snapshot(self, slot: str) -> Snapshot:
        return Snapshot(version=configuration.CONFIGURATION_DATE, sha256=_digest(self._guest_of(slot)))

    def run(self, job: Detonation) -> Outcome:
        """Emulate for ``job.timeout`` seconds at most. The guest program is gone when this returns.

        Raises:
            EngineError: the guest program did not come up, or could not write.
            UnsupportedSample: as :meth:`accept`.
        """
        program = _inspect(job.sample, job.magic, job.extension, self._guest_of(job.slot))
        guest_job = self._guest_job(job)
        if program.refused is not None:
            return self._not_started(job, guest_job, program.refused)
        begun = int(time.time())
        record = self._records / f"{job.slot}.json"
        guest, watcher = supervision.start(record, guest_job, begin=self.begin), watcher_of(job)
        try:
            ended = supervision.follow(guest, job.longest, watcher)
        finally:
            supervision.kill(record, slot=job.slot, only=guest)
            supervision.reap(guest)
            _reclaim(job.raw)
        _log_end(job, guest, ended)
        watch, news = watcher.finish(ended) if watcher is not None else (None, None)
        execution, reason = _execution(guest, _stopped(job, ended, watch))
        account = guest.account
        return Outcome(
            engine=self.version(),
            snapshot=self._snapshot(job.slot),
            started=int(guest.started or begun),
            finished=int(time.time()),
            execution=execution,
            complete=execution is Execution.EXECUTED and account.complete,
            missing=tuple(MissingFunction(**dataclasses.asdict(one)) for one in account.missing),
            start_command=guest_job.command_line(),
            reason=reason,
            watch=watch,
            news=news,
        )

    def destroy(self, slot: str) -> None:
        """Kill what runs in *slot*; fine if nothing does. Raises :class:`~drakcelery.errors.EngineError`."""
        supervision.kill(self._records / f"{slot}.json", slot=slot)

    def lacks(self) -> Sequence[str]:
        """What this machine lacks to confine a guest. Raises :class:`~drakcelery.errors.EngineError`."""
        return [f"{lack.said()}; to better it, {lack.remedy()}" for lack in confinement.find_lacks()]

    def attend(self) -> None:
        """Do nothing."""

    def _not_started(self, job: Detonation, guest_job: GuestJob, refused: Refused) -> Outcome:
        """The outcome if Windows does not start the sample. It is not emulated, since no guest would run
        it."""
        now = int(time.time())
        return Outcome(
            engine=self.version(),
            snapshot=self._snapshot(job.slot),
            started=now,
            finished=now,
            execution=Execution.NOT_EXECUTED,
            complete=False,
            start_command=guest_job.command_line(),
            reason=f"Windows does not start the file: {refused.why} (error {refused.code})",
            windows_error=refused.code,
        )

    def _guest_job(self, job: Detonation) -> GuestJob:
        program = _inspect(job.sample, job.magic, job.extension)
        how = launch.parse(job.start_command, is_dll=program.is_dll)
        return GuestJob(
            parent=os.getpid(),
            sample=str(job.sample),
            log=str(job.log),
            dumps=str(job.dumps),
            pcap=str(job.pcap),
            plugins=job.plugins,
            container=how.container,
            export=how.export,
            arguments=how.arguments,
            hooks=None if job.hooks is None else str(job.hooks),
            memory_limit=self._limits.memory_limit,
            file_limit=self._limits.file_limit,
            cpu_limit=job.longest + SPARE_CPU,
            max_instructions=self._limits.max_instructions,
            dump_limit=min(self._dump_limit, self._limits.file_limit),
            dumps_limit=self._dumps_limit,
            guest=self._guest_of(job.slot),
        )


def _check_wishes(job: Detonation) -> None:
    """Refuse what only Windows itself could do. Raises :class:`UnsupportedSample`."""
    if job.start_method not in (None, "createproc"):
        raise UnsupportedSample(f"Start method: {job.start_method} needs a Windows guest. {_ELSEWHERE}")
    if job.guest_working_directory is not None:
        raise UnsupportedSample(f"Working directory: an emulated program has none. {_ELSEWHERE}")
    if job.net_enable:
        raise UnsupportedSample(f"Network: an emulated guest reaches none. {_ELSEWHERE}")


def _reclaim(raw: Path) -> None:
    try:
        privileges.reclaim(raw)
    except OSError as error:
        raise EngineError(f"The emulator's output cannot be taken over: {error}.") from error


_ELSEWHERE = "Use a host with the drakvuf engine for it."
_WHAT = "The emulator engine runs 32- and 64-bit Windows EXE and DLL files; this is"


@functools.cache
def _digest(guest: EmulatedGuest) -> str:
    return configuration.digest(guest)


def _inspect(sample: Path, magic: str, extension: str, guest: EmulatedGuest = USUAL) -> Program:
    """What *sample* is to *guest*.

    Raises:
        UnsupportedSample: it is nothing that this engine could start, and Windows might.
        EngineError: it cannot be read.
    """
    try:
        size = sample.stat().st_size
        with sample.open("rb") as file:
            head = file.read(MAX_HEAD)
        with headers(sample) as image:
            refused = loading.refused(image, size) or loading.lacking(image)
            refused = refused or loading.refused_by(image, guest)
            is_dll = bool(image.FILE_HEADER.Characteristics & loading.IMAGE_FILE_DLL)
            directories = image.OPTIONAL_HEADER.DATA_DIRECTORY
            is_dotnet = len(directories) > COM_DESCRIPTOR and directories[COM_DESCRIPTOR].VirtualAddress != 0
    except OSError as error:
        raise EngineError(f"The sample cannot be read: {error}.") from error
    except Exception:  # noqa: BLE001  # pefile raises many things on hostile headers; all mean the same
        if refused := loading.unreadable(head, size):
            return Program(is_dll=extension == "dll", refused=refused)
        raise UnsupportedSample(f"{_WHAT} {loading.described(head, magic, extension)}.") from None
    if is_dotnet and refused is None:
        raise UnsupportedSample(f"{_WHAT} a .NET assembly ({magic}). {_ELSEWHERE}")
    return Program(is_dll=is_dll, refused=refused)


def _stopped(job: Detonation, ended: EndedBy, watch: WatchRun | None) -> str | None:
    """Why it was stopped, in words; None if it was not."""
    if ended == "itself":
        return None
    if watch is not None and ended == "quiet":
        return watch.words
    seconds = watch.seconds if watch is not None and job.longest > job.timeout else job.timeout
    return f"stopped at the timeout of {seconds} s"


def _log_end(job: Detonation, guest: Guest, ended: EndedBy) -> None:
    log.info(
        "emulation_ended",
        uid=job.uid,
        state=guest.state,
        detail=guest.detail,
        unconfined=guest.lacks or None,
        exit_code=guest.process.returncode,
        timed_out=ended == "timeout",
        errors=list(guest.errors)[-3:],
        complete=guest.account.complete,
        api_calls=guest.account.calls,
        in_start_up=guest.account.in_start_up,
    )


def _execution(guest: Guest, stopped: str | None) -> tuple[Execution, str | None]:
    """What became of the sample, which was *stopped* for a reason. Raises :class:`EngineError` if that is our
    fault."""
    if guest.state is None or guest.state is State.BROKEN:
        why = guest.detail or (guest.errors[-1] if guest.errors else f"exit code {guest.process.returncode}")
        raise EngineError(f"The emulator failed: {why}.", blames=blamed_by(why))
    if guest.state is State.REJECTED and guest.started is None:
        return Execution.NOT_EXECUTED, f"the emulator cannot load the file: {guest.detail}"
    if guest.started is None:
        return Execution.NOT_EXECUTED, f"the file was not loaded: {guest.detail or _ending(guest)}"
    reasons = [stopped] if stopped else []
    if guest.state in (State.FINISHED, State.REJECTED):
        reasons.append(guest.detail)
    elif stopped:
        reasons.append("the emulator had to be killed, so dumps of its last state are missing")
    else:
        reasons.append(
            f"the emulator died ({_ending(guest)}), maybe of its memory limit; what was seen is kept"
        )
    return Execution.EXECUTED, "; ".join(filter(None, reasons)) or None


def _ending(guest: Guest) -> str:
    code = guest.process.returncode
    return signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
