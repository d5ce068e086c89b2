"""Real capa, with rules of our own, in its process."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from drakcelery import artifacts, capabilities
from drakcelery.artifacts.metadata import RunFacts
from drakcelery.behaviour.report import Report
from drakcelery.capabilities.job import Found, Job, Life, Limits, Logs
from drakcelery.capabilities.matching import match_rules
from drakcelery.doctor import CHECKS
from drakcelery.doctor.finding import Finding, Status
from drakcelery.doctor.runner import chosen, examine
from drakcelery.doctor.subject import Subject
from drakcelery.model.analysis import Execution, Outcome, Snapshot
from drakcelery.model.manifest import Manifest
from drakcelery.settings import DrakcelerySection, ReportSection, Settings
from drakcelery.testing import RECORDED
from tests import builders
from tests.waiting import wait_until

RULES = Path(__file__).parents[1] / "capa_rules"
OWN = (Life(pid=200, process=1, since=0.0, until=None),)
EXPLORER = {"PID": 100, "PPID": 4, "ProcessName": r"\Device\explorer.exe"}


@pytest.fixture
def limits(tmp_path: Path) -> Limits:
    """Our rules, and more time than capa takes."""
    return Limits(rules=RULES, cache=tmp_path / "cache", seconds=120, memory=1024**3)


def line(plugin: str, method: str, **fields: Any) -> str:
    """A line as DRAKVUF writes it."""
    head = {"Plugin": plugin, "TimeStamp": "1700000001.500000", "PID": 200, "PPID": 100, "TID": 7}
    rest = {"UserId": 1, "ProcessName": r"\Device\malwar.exe", "Method": method, "EventUID": "0x2"}
    return json.dumps(head | rest | fields, separators=(",", ":")) + "\n"


def api(method: str, *arguments: str, **fields: Any) -> str:
    """A call that apimon saw; without *arguments* as DRAKVUF writes it in v0.21."""
    given = {"Arguments": list(arguments)} if arguments else {}
    called = {"Event": "api_called", "CLSID": None, "CalledFrom": "0x1", "ReturnValue": "0x0"}
    return line("apimon", method, **called, **given, **fields)


def raw_log() -> Iterator[str]:
    """What DRAKVUF of v0.21 logs of a sample, and what explorer does beside it."""
    success = {"Status": "Success", "Arguments": "", "InjectedPid": 200}
    yield line("inject", "CreateProc", **success)
    for pid, name in ((100, "explorer.exe"), (200, "malwar.exe")):
        running = {"PPID": 4, "RunningProcess": rf"\Device\{name}", "Bitness": 64, "PID": pid}
        yield json.dumps({"Plugin": "procmon", "TimeStamp": "1700000000.000000"} | running) + "\n"
    yield api("IsDebuggerPresent", FromModule=None)
    name = r'Arg0=0x9:"C:\\Users\\u\\AppData\\Local\\Temp\\a.txt"'
    yield api("CreateFileW", name, 'Arg1=0x40000000:"GENERIC_WRITE"', TimeStamp="1700000002.500000")
    yield api("WriteFile", "Arg0=0x80", TimeStamp="1700000003.500000", FromModule="kernel32.dll")
    yield api("WinExec", 'Arg0=0x9:"cmd.exe /c dir"', **EXPLORER)
    system: dict[str, Any] = {"Module": "nt", "vCPU": 0, "CR3": "0x1ab000", "Syscall": 52, "NArgs": 2}
    newer = {"FromModule": None, "FromParentModule": None, "PreviousMode": "User"}
    yield line("syscall", "NtDelayExecution", **system, **newer, Alertable=0, DelayInterval="0x36ee80")
    yield line("syscall", "NtDelayExecution", **system, Alertable=0, DelayInterval="0x36ee80", **EXPLORER)


def collected(raw: Path, limits: Limits | None) -> tuple[Manifest, Report]:
    """Collect from *raw*; returns the report as well."""
    manifest = artifacts.collect(
        raw=raw,
        out=raw.parent / "out",
        analysis=builders.analysis(),
        outcome=Outcome(
            engine="drakvuf",
            snapshot=Snapshot(version=1, sha256="5" * 64),
            started=1700000000,
            finished=1700000010,
            execution=Execution.EXECUTED,
            complete=True,
        ),
        facts=RunFacts(sample_sha256="9" * 64, start_command="x", host="h", slot="vm-1", attempts=1),
        dumps_total_size=1000,
        dumps_single_size=1000,
        capa=limits,
    )
    return manifest, Report.model_validate_json((raw.parent / "out" / "report.json").read_bytes())


def found(tmp_path: Path, limits: Limits, *lines: str) -> Found:
    """What capa finds in *lines*."""
    log = tmp_path / "apimon.log"
    log.write_text("".join(lines), encoding="utf-8")
    return capabilities.find(Logs(paths=(log,), lives=OWN), limits)


def test_drakvuf(tmp_path: Path, limits: Limits) -> None:
    """Calls of one and of both plugins match, for the sample's processes only; ATT&CK and MBC are typed."""
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "drakmon.log").write_text("".join(raw_log()), encoding="utf-8")
    manifest, report = collected(raw, limits)
    assert report.capa is not None
    assert (report.capa.failure, report.capa.limit, report.capa.calls) == (None, None, 4)
    assert (report.capa.rules, report.capa.version) == (5, capabilities.version())
    assert manifest.metadata["capa"] == report.capa.model_dump()
    by_rule = {one.rule: one for one in report.capabilities}
    assert list(by_rule) == [
        "ask for a debugger",
        "delay for a minute",
        "write a file into the temporary directory",
    ]
    written = by_rule["write a file into the temporary directory"]
    assert [one.model_dump() for one in written.attack] == [
        {
            "id": "T1105",
            "tactic": "Command and Control",
            "technique": "Ingress Tool Transfer",
            "subtechnique": None,
        }
    ]
    assert [(one.id, one.objective, one.behavior, one.method) for one in written.mbc] == [
        ("C0052", "File System", "Write File", None)
    ]
    assert (written.namespace, written.count) == ("host-interaction/file-system/write", 1)
    assert (written.first, written.last, written.processes) == (1700000003.5, 1700000003.5, (1,))
    assert by_rule["ask for a debugger"].processes == (1,)


def test_the_emulator(limits: Limits) -> None:
    """The same rules match the emulator's lines, whose process procmon does not list."""
    recorded = Report.model_validate_json((RECORDED / "report.json").read_bytes())
    report = capabilities.with_capabilities(recorded, RECORDED, limits)
    assert report.capa is not None
    assert report.capa.failure is None
    assert {one.rule: [technique.id for technique in one.attack] for one in report.capabilities} == {
        "run a command of the shell": ["T1059.003"],
        "write a file into the temporary directory": ["T1105"],
    }
    origins = {one.seqid: one.origin for one in report.processes}
    assert {origins[seqid] for one in report.capabilities for seqid in one.processes} == {"sample"}


def test_without_capa_and_without_calls(tmp_path: Path, limits: Limits) -> None:
    """Where it is not set up the report does not mention it; where nothing was called it is not asked."""
    raw = tmp_path / "raw"
    raw.mkdir()
    manifest, report = collected(raw, None)
    assert (report.capa, report.capabilities, "capa" in manifest.metadata) == (None, (), False)
    _, report = collected(raw, limits)
    assert report.capa is not None
    assert (report.capa.rules, report.capa.calls, report.capa.failure) == (None, 0, None)


def test_time(tmp_path: Path, limits: Limits) -> None:
    """When the time is over, what was found until then is kept, and it is said that more was to look at; no
    thread takes all of it."""
    log = tmp_path / "apimon.log"
    calls = (api("WinExec", f'Arg0=0x9:"cmd.exe /c {number}"', TID=number // 500) for number in range(1000))
    log.write_text("".join(calls), encoding="utf-8")
    limits.cache.mkdir()
    job = Job(parent=os.getpid(), logs=Logs(paths=(log,), lives=OWN), limits=limits)
    ticks = itertools.count()
    answer = match_rules(job, deadline=200, clock=lambda: next(ticks))
    assert (answer.run.limit, answer.run.failure) == ("time", None)
    assert 100 < answer.run.calls <= 200
    [found] = answer.capabilities
    assert (found.rule, found.count) == ("run a command of the shell", answer.run.calls)
    whole = match_rules(job, deadline=5000, clock=lambda: next(ticks))
    assert (whole.run.limit, whole.run.calls) == (None, 1000)


def test_what_takes_too_long(tmp_path: Path, limits: Limits) -> None:
    """A process that does not end is killed with what it started, and its analysis goes on."""
    child = tmp_path / "child"
    program = (
        "import pathlib, subprocess, sys, time; "
        "started = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
        f"pathlib.Path({str(child)!r}).write_text(str(started.pid)); time.sleep(600)"
    )
    job = Job(
        parent=os.getpid(), logs=Logs(paths=(), lives=()), limits=limits.model_copy(update={"seconds": 3})
    )
    answer = capabilities.ask(job, (sys.executable, "-c", program))
    assert answer.run.failure == "capa ran into the limit of 3 s"
    pid = int(child.read_text())
    wait_until(
        lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE,
        "what it started is gone",
    )


def test_a_worker_that_is_killed(tmp_path: Path, limits: Limits) -> None:
    """Its capa does not go on without it."""
    log = tmp_path / "apimon.log"
    calls = (api("WinExec", f'Arg0=0x9:"cmd.exe /c {number}"') for number in range(40_000))
    log.write_text("".join(calls), encoding="utf-8")
    program = (
        "import sys; from drakcelery import capabilities; "
        "from drakcelery.capabilities.job import Limits, Logs; "
        "capabilities.find(Logs.model_validate_json(sys.argv[1]), Limits.model_validate_json(sys.argv[2]))"
    )
    logs = Logs(paths=(log,), lives=OWN)
    command = [sys.executable, "-c", program, logs.model_dump_json(), limits.model_dump_json()]
    with subprocess.Popen(command) as worker:
        try:
            wait_until(lambda: psutil.Process(worker.pid).children(), "it has asked capa")
            [capa] = psutil.Process(worker.pid).children()
            of_time = (limits.seconds, limits.seconds)
            wait_until(lambda: capa.rlimit(psutil.RLIMIT_CPU) == of_time, "capa has set its limits")
            capa.suspend()  # by itself it does not end now
        finally:
            worker.kill()
    try:
        wait_until(lambda: not capa.is_running() or capa.status() == psutil.STATUS_ZOMBIE, "capa is gone")
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            capa.kill()


def test_memory(tmp_path: Path, limits: Limits) -> None:
    """Too little memory is told as that."""
    calls = [api("WinExec", f'Arg0=0x9:"cmd.exe /c {number}"') for number in range(60_000)]
    answer = found(tmp_path, limits.model_copy(update={"memory": 96 * 1024**2}), *calls)
    assert answer.run.failure is not None
    assert "limit of 100663296 bytes" in answer.run.failure


def test_a_process_that_dies(limits: Limits) -> None:
    """It is told by which signal."""
    job = Job(parent=os.getpid(), logs=Logs(paths=(), lives=()), limits=limits)
    killed = f"import os; os.kill(os.getpid(), {signal.SIGSEGV.value})"
    answer = capabilities.ask(job, (sys.executable, "-c", killed))
    assert answer.run.failure == "capa died (SIGSEGV), maybe of its limit of 1073741824 bytes"


def test_what_somebody_prints(limits: Limits) -> None:
    """What capa or one of its libraries prints is no part of the answer."""
    job = Job(parent=os.getpid(), logs=Logs(paths=(), lives=()), limits=limits)
    talking = (
        "import os; from drakcelery.capabilities import __main__ as it; answer = it._answer\n"
        "def told(*given):\n print('Loading rules', flush=True); os.write(1, b'x' * 10**6)\n"
        " return answer(*given)\n"
        "it._answer = told; it.main()"
    )
    answer = capabilities.ask(job, (sys.executable, "-c", talking))
    assert (answer.run.failure, answer.run.rules) == (None, 5)


def test_rules_that_cannot_be_read(tmp_path: Path, limits: Limits) -> None:
    """A rule that capa refuses is named; so is a directory without rules, and one that is not there."""
    rules = tmp_path / "rules"
    ours = limits.model_copy(update={"rules": rules})
    said = [found(tmp_path, ours, api("Sleep")).run.failure]
    rules.mkdir()
    said.append(found(tmp_path, ours, api("Sleep")).run.failure)
    shutil.copytree(RULES, rules, dirs_exist_ok=True)
    (rules / "odd.yml").write_text("rule:\n  meta:\n    name: x\n", encoding="utf-8")
    said.append(found(tmp_path, ours, api("Sleep")).run.failure)
    assert [str(one).removeprefix(f"capa's rules cannot be read: {rules}") for one in said] == [
        ": it is no directory",
        ": invalid rule set: no rules selected",
        "/odd.yml: invalid rule: please specify at least one of this rule's (static/dynamic) scopes",
    ]


def test_the_cache(tmp_path: Path, limits: Limits) -> None:
    """The rules as capa has read them are kept, closed to others; half a file of them is made anew, and a
    rule that changes is read again."""
    call = api("WinExec", 'Arg0=0x9:"cmd.exe /c dir"')
    rules = tmp_path / "rules"
    shutil.copytree(RULES, rules)
    ours = limits.model_copy(update={"rules": rules})
    assert len(found(tmp_path, ours, call).capabilities) == 1
    assert limits.cache.stat().st_mode & 0o777 == 0o700
    (kept,) = limits.cache.iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(whole[: len(whole) // 2])
    assert len(found(tmp_path, ours, call).capabilities) == 1
    (kept,) = limits.cache.iterdir()
    assert kept.stat().st_size > len(whole) // 2
    (rules / "run-a-shell.yml").unlink()
    assert not found(tmp_path, ours, call).capabilities


def test_the_doctor(tmp_path: Path) -> None:
    """It says whether capa takes the rules, before the first sample, and leaves nothing in state_dir."""
    state_dir = tmp_path / "state"

    def finding(rules: Path | None) -> Finding:
        ours = Settings(
            report=ReportSection(capa_rules=rules), drakcelery=DrakcelerySection(state_dir=state_dir)
        )
        [*_, last] = examine(chosen(CHECKS, ["report.capa"]), Subject(lambda: ours))
        return last

    assert finding(None).status is Status.SKIPPED
    sound = finding(RULES)
    assert sound.status is Status.OK, sound
    assert sound.said == f"capa {capabilities.version()} takes the 5 rules in {RULES}"
    broken = finding(tmp_path / "rules")
    assert broken.status is Status.FAILED
    assert broken.said == f"capa's rules cannot be read: {tmp_path / 'rules'}: it is no directory"
    assert broken.remedy is not None
    assert "[report] capa_rules" in broken.remedy
    assert not state_dir.exists()


def test_not_installed(limits: Limits, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said how to install it."""
    monkeypatch.setattr(capabilities, "DISTRIBUTION", "flare-capa-that-is-not-there")
    answer = capabilities.find(Logs(paths=(), lives=()), limits)
    assert answer.run.failure == "capa is not installed: pip install drakcelery[capa]"
