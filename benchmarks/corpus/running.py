"""Running a program of the corpus as the product does, and what became of it."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import MutableMapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmarks.corpus import startup
from benchmarks.corpus.programs import Program
from drakcelery.engines import Detonation
from drakcelery.engines.emulator import Emulator, create
from drakcelery.errors import EngineError, UnsupportedSample
from drakcelery.model.analysis import Execution, Outcome
from drakcelery.model.plugins import DEFAULT_PLUGINS
from drakcelery.settings import DrakcelerySection, Settings

Verdict = Literal["ended", "limit", "broke off", "not executed", "refused", "failed", "hang"]
"""What became of a program:

``ended``: it ended by itself; ``limit``: the time ended it; ``broke off``: the emulation did, or the
program used up its instructions; ``not executed``: the engine says that Windows would not start it;
``refused``: the engine takes no such file; ``failed``: the engine itself failed; ``hang``: it had to be
killed.
"""

COMPLETE: tuple[Verdict, ...] = ("ended", "limit")
"""Of these, everything that the program did in its time is known."""

EVENT_PLUGINS = ("filetracer", "regmon", "procmon", "socketmon", "memdump")
"""Logs of what a program does to others; ``apimon`` has its calls."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What became of one program."""

    name: str
    kind: str
    bits: int
    library: bool
    starts: bool
    verdict: Verdict
    past_start_up: bool
    reason: str = ""
    last_call: str = ""
    calls: int = 0
    events: int = 0
    seconds: float = 0.0
    """Wall time, the start of the guest's process included."""
    missing: dict[str, int] = field(default_factory=dict)
    """Functions that are not imitated, and how often they were called."""
    problems: dict[str, int] = field(default_factory=dict)
    """Functions whose imitation raised an error."""
    traceback: str = ""
    """What the guest's process said on stderr when it died of an exception of Python's."""

    def to_json(self) -> dict[str, Any]:
        """As it stands in the file."""
        return asdict(self)


class Stderr:
    """Keeps what the guests said on stderr: a structlog processor, which passes nothing on."""

    def __init__(self) -> None:
        self.said: dict[str, list[str]] = {}

    def __call__(self, _logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
        """Note the end of an emulation."""
        if event.get("event") == "emulation_ended":
            self.said[event["uid"]] = list(event["errors"])
        return ""

    def traceback(self, uid: str) -> str:
        """The last line of an exception, or nothing."""
        lines = self.said.get(uid, [])
        return lines[-1] if any(line.startswith("Traceback") for line in lines) else ""


ENDS = frozenset({"ExitProcess", "exit", "_exit", "_c_exit", "quick_exit", "RtlExitUserProcess"})
"""Functions that end a program with an exit code."""
ERROR_ENDS = frozenset({"abort", "_amsg_exit", "FatalAppExitA", "FatalAppExitW", "RaiseFailFastException"})
"""How a runtime ends a program that it could not start."""


@dataclass
class Seen:
    """What a log says."""

    calls: int = 0
    events: int = 0
    last_call: str = ""
    exit_code: int = 0
    called: set[str] = field(default_factory=set)
    missing: Counter[str] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)

    def take(self, record: dict[str, Any]) -> None:
        """Another line. One for many equal calls stands at each power of two, and counts for half of it."""
        if record["Plugin"] != "apimon":
            self.events += record["Plugin"] in EVENT_PLUGINS
            return
        times = record.get("Repeated", 2) // 2
        name = f"{record.get('Module', '?')}.{record['Method']}"
        self.calls += times
        self.called.add(record["Method"])
        self.last_call = name
        if record["Method"] in ENDS and record["Arguments"]:
            self.exit_code = int(record["Arguments"][0].rpartition("=")[2], 16)
        if record.get("Unsupported"):
            self.missing[name] += times
            self.last_call += " (not imitated)"
        if "Problem" in record:
            self.problems[f"{name}: {record['Problem']}"] += times

    def is_past(self, kind: str, *, ended: bool) -> bool:
        """Whether a program of *kind* got past its start-up; *ended*: by itself."""
        if startup.is_past(self.called - ENDS - ERROR_ENDS, kind):
            return True
        return ended and not self.exit_code and self.called.isdisjoint(ERROR_ENDS)

    @classmethod
    def of(cls, log: Path) -> Seen:
        """Read a log; a line that is cut off is skipped."""
        seen = cls()
        if log.exists():
            with log.open("rb") as lines:
                for line in lines:
                    try:
                        seen.take(json.loads(line))
                    except ValueError:
                        continue
        return seen


class Runner:
    """The engine with the limits that a new installation has, below a directory of its own."""

    def __init__(self, *, timeout: int, stderr: Stderr) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="emulated-"))
        self._directory.chmod(0o755)
        self._timeout = timeout
        self._stderr = stderr
        self._engine: Emulator = create(
            Settings(drakcelery=DrakcelerySection(state_dir=self._directory / "state"))
        )

    def close(self) -> None:
        """Remove what is left."""
        shutil.rmtree(self._directory, ignore_errors=True)

    def run(self, program: Program, file: Path, slot: str) -> Report:
        """Detonate *file* in *slot*."""
        work = self._directory / slot
        shutil.rmtree(work, ignore_errors=True)
        for name in ("sample", "raw"):
            (work / name).mkdir(parents=True)
        sample = work / "sample" / f"malwar{program.suffix}"
        shutil.copy(file, sample)
        job = Detonation(
            uid=program.name,
            slot=slot,
            sample=sample,
            extension=program.suffix[1:],
            magic="PE32",
            start_command=program.command,
            plugins=DEFAULT_PLUGINS,
            timeout=self._timeout,
            raw=work / "raw",
            hooks=None,
        )
        begun = time.monotonic()
        try:
            self._engine.accept(job)
            self._engine.prepare(job)
            outcome = self._engine.run(job)
        except UnsupportedSample as error:
            return self._report(program, "refused", str(error))
        except EngineError as error:
            return self._report(program, "failed", str(error), seconds=time.monotonic() - begun)
        seen, seconds = Seen.of(job.log), time.monotonic() - begun
        verdict, reason = _verdict(outcome), outcome.reason or ""
        if verdict == "ended" and not seen.is_past(program.kind, ended=True):
            verdict, reason = "broke off", f"the runtime gave up, with exit code {seen.exit_code:#x}"
        return self._report(program, verdict, reason, seconds=seconds, seen=seen)

    def _report(
        self, program: Program, verdict: Verdict, reason: str, *, seconds: float = 0, seen: Seen | None = None
    ) -> Report:
        seen = seen or Seen()
        return Report(
            name=program.name,
            kind=program.kind,
            bits=program.bits,
            library=program.library,
            starts=program.starts,
            verdict=verdict,
            past_start_up=seen.is_past(program.kind, ended=verdict == "ended"),
            reason=reason,
            last_call=seen.last_call,
            calls=seen.calls,
            events=seen.events,
            seconds=round(seconds, 1),
            missing=dict(seen.missing.most_common()),
            problems=dict(seen.problems.most_common()),
            traceback=self._stderr.traceback(program.name),
        )


def _verdict(outcome: Outcome) -> Verdict:
    reason = outcome.reason or ""
    if outcome.execution is Execution.NOT_EXECUTED:
        return "not executed"
    if "had to be killed" in reason:
        return "hang"
    if not outcome.complete:
        return "broke off"
    return "limit" if "stopped at the timeout" in reason else "ended"
