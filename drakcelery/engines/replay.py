"""Plays a recorded run: for load tests, demonstrations and benchmarks. It detonates nothing.

Its guest is a file, one for each slot, so that everything around an engine is real: a slot can hold one guest
only, a guest outlives a worker that dies, and destroying it ends the run.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import random
import re
import shutil
import time
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import structlog

from drakcelery import safe_files
from drakcelery.artifacts.lines import plugin_of
from drakcelery.artifacts.log import LINE_LIMIT
from drakcelery.engines import Detonation
from drakcelery.engines.timed_log import TimedLog, pieces
from drakcelery.engines.watching import Watcher, watcher_of
from drakcelery.errors import EngineError, SettingsError
from drakcelery.model.analysis import Execution, Outcome, Snapshot
from drakcelery.model.news import EndedBy

if TYPE_CHECKING:
    from drakcelery.settings import Settings

POLL_SECONDS = 0.05
"""How soon a run notices that its guest was destroyed."""

_DUMP = re.compile(r"([a-f0-9]{4,16})_([a-f0-9]{16})")

log = structlog.get_logger(__name__)


class ReplayEngine:
    """Plays the run recorded in *run_dir*: ``drakmon.log``, ``dumps/`` and ``dump.pcap``, each optional."""

    def __init__(
        self,
        *,
        run_dir: Path,
        guests: Path,
        restore_seconds: float,
        run_seconds: float,
        run_spread: float,
        timed: bool,
        log_factor: int,
        dumps_factor: int,
    ) -> None:
        self._run_dir = run_dir
        self._guests = guests
        self._restore_seconds = restore_seconds
        self._run_seconds = run_seconds
        self._run_spread = run_spread
        self._timed = timed
        self._log_factor = log_factor
        self._dumps_factor = dumps_factor

    def version(self) -> str:
        """``replay`` and the beginning of the recorded log's sha256."""
        return f"replay {self._snapshot.sha256[:12]}"

    def lacks(self) -> Sequence[str]:
        """Nothing: nothing is detonated."""
        return ()

    def obstacle(self, *, fresh: bool = False) -> str | None:  # noqa: ARG002 the protocol's
        """None: its guests share no network."""
        return None

    def snapshot_id(self) -> str | None:
        """None: its guests are not restored from a snapshot."""
        return None

    def attend(self) -> None:
        """Nothing."""

    def accept(self, job: Detonation) -> None:
        """Accept any sample."""

    def prepare(self, job: Detonation) -> Snapshot:
        """Create the slot's guest, which takes ``restore_seconds``."""
        safe_files.close_directory(self._guests)
        try:
            with self._guest(job.slot).open("x", encoding="utf-8") as file:
                file.write(job.uid)
        except FileExistsError:
            raise EngineError(f"slot {job.slot} holds a guest already; it must be destroyed first") from None
        self._wait(job, self._restore_seconds)
        return self._snapshot

    def run(self, job: Detonation) -> Outcome:
        """Play the record in ``run_seconds``, more or less by ``run_spread``, at most the timeout.

        The output is written at the beginning, since it must be complete when the guest ends; if that takes
        longer than the run, the run takes longer, too. With ``timed`` the log's lines come at their own times
        instead, as far apart as they were recorded, or all of them within ``run_seconds``.
        """
        started = int(time.time())
        watcher = watcher_of(job)
        if watcher is not None:
            watcher.begin()
        ended = self._run(job, watcher)
        watch, news = watcher.finish(ended) if watcher is not None else (None, None)
        return Outcome(
            engine=self.version(),
            snapshot=self._snapshot,
            started=started,
            finished=int(time.time()),
            execution=Execution.EXECUTED,
            complete=True,
            reason=watch.words if watch is not None and ended == "quiet" else None,
            watch=watch,
            news=news,
        )

    def _run(self, job: Detonation, watcher: Watcher | None) -> EndedBy:
        """Play all, or the log at the times of its lines; returns what ended it."""
        seconds = self._run_seconds * random.lognormvariate(0, self._run_spread)
        begun = time.monotonic()
        self._check(job)
        with contextlib.ExitStack() as stack:
            lines = self._timed_log(seconds, stack) if self._timed else None
            self._play(job)
            out = None if lines is None else stack.enter_context(job.log.open("wb", buffering=0))
            seconds = seconds if lines is None else lines.length
            while (passed := time.monotonic() - begun) < min(seconds, job.longest):
                if lines is not None and out is not None:
                    _play_lines(lines.until(passed), out, job.plugins, copies=self._log_factor)
                why = watcher.check() if watcher is not None else None
                if why is not None:
                    return why
                self._wait(job, min(POLL_SECONDS, max(seconds - passed, 0)))
            if lines is not None and out is not None:
                rest = lines.until(min(seconds, job.longest))
                _play_lines(rest, out, job.plugins, copies=self._log_factor)
        self._check(job)
        return "itself" if seconds < job.longest else "timeout"

    def _timed_log(self, seconds: float, stack: contextlib.ExitStack) -> TimedLog | None:
        recorded = self._run_dir / "drakmon.log"
        if not recorded.is_file():
            return None
        return stack.enter_context(contextlib.closing(TimedLog(recorded, seconds)))

    def destroy(self, slot: str) -> None:
        """Remove the slot's guest; its run ends within :data:`POLL_SECONDS`."""
        self._guest(slot).unlink(missing_ok=True)

    @functools.cached_property
    def _snapshot(self) -> Snapshot:
        """The recorded log stands for the snapshot: its age, its sha256."""
        recorded = self._run_dir / "drakmon.log"
        if not recorded.is_file():
            return Snapshot(version=0, sha256=hashlib.sha256().hexdigest())
        with recorded.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return Snapshot(version=int(recorded.stat().st_mtime), sha256=sha256)

    def _guest(self, slot: str) -> Path:
        return self._guests / f"{slot}.guest"

    def _check(self, job: Detonation) -> None:
        """Raise :class:`EngineError` unless the job's own guest is alive."""
        try:
            holder = self._guest(job.slot).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise EngineError(f"the guest in slot {job.slot} is gone") from None
        if holder != job.uid:
            raise EngineError(f"the guest in slot {job.slot} is that of analysis {holder}")

    def _wait(self, job: Detonation, seconds: float) -> None:
        end = time.monotonic() + seconds
        self._check(job)
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(POLL_SECONDS, left))
            self._check(job)

    def _play(self, job: Detonation) -> None:
        recorded_log = self._run_dir / "drakmon.log"
        if recorded_log.is_file() and not self._timed:
            with job.log.open("wb") as out:
                for _ in range(self._log_factor):
                    self._check(job)
                    _play_log(recorded_log, out, job.plugins)
        if (recorded_dumps := self._run_dir / "dumps").is_dir():
            job.dumps.mkdir(exist_ok=True)
            for copy in range(self._dumps_factor):
                self._check(job)
                _play_dumps(recorded_dumps, job.dumps, copy)
        if (recorded_pcap := self._run_dir / "dump.pcap").is_file():
            shutil.copyfile(recorded_pcap, job.pcap)
        log.info("run_replayed", uid=job.uid, slot=job.slot, run_dir=str(self._run_dir))


def _play_log(recorded: Path, out: BinaryIO, plugins: Container[str]) -> None:
    """Append a recorded log, without what other plugins than *plugins* wrote; unreadable lines stay."""
    with recorded.open("rb") as file:
        _play_lines(pieces(file), out, plugins)


def _play_lines(pieces: Iterator[bytes], out: BinaryIO, plugins: Container[str], *, copies: int = 1) -> None:
    """Write lines, or pieces of those that are too long, *copies* times each."""
    whole = True  # whether the piece before ended its line
    for piece in pieces:
        begins, whole = whole, piece.endswith(b"\n")
        plugin = plugin_of(piece) if begins and len(piece) < LINE_LIMIT else None
        if plugin is None or plugin in plugins:
            out.write((piece if whole or len(piece) == LINE_LIMIT else piece + b"\n") * copies)


def _play_dumps(recorded: Path, dumps: Path, copy: int) -> None:
    """Copy the recorded dumps; those of a further *copy* lie that many bytes higher, or get a number."""
    for source in sorted(recorded.iterdir(), key=lambda path: (path.stat().st_mtime_ns, path.name)):
        if not source.is_file():
            continue
        name = source.name
        if copy and (match := _DUMP.fullmatch(name)):
            name = f"{(int(match[1], 16) + copy) % 2**64:0{len(match[1])}x}_{match[2]}"
        elif copy:
            name = f"{name}.{copy}"
        shutil.copyfile(source, dumps / name)


def create(settings: Settings) -> ReplayEngine:
    """The engine that ``[replay]`` describes. Raises :class:`~drakcelery.errors.SettingsError`."""
    section = settings.replay
    if section.run_dir is None:
        raise SettingsError(
            "[replay] run_dir: expected the directory of a recorded run (drakmon.log, dumps/, …)"
        )
    if not section.run_dir.is_dir():
        raise SettingsError(f"[replay] run_dir = {str(section.run_dir)!r}: expected a directory")
    return ReplayEngine(
        run_dir=section.run_dir,
        guests=settings.drakcelery.state_dir / "engine",
        restore_seconds=section.restore_seconds,
        run_seconds=section.run_seconds,
        run_spread=section.run_spread,
        timed=section.timed,
        log_factor=section.log_factor,
        dumps_factor=section.dumps_factor,
    )
