"""Processes in the report: which one a handle or a pid stands for, and those that procmon does not name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from drakcelery.behaviour import assembly
from drakcelery.behaviour.handles import Handles
from tests.guest_log import Log, reported
from tests.hostile import Line

DUMP: Line = {"DumpReason": "x", "DumpAddr": "0x1000", "DumpSize": "0x2"}


def other(log: Log, pid: int) -> None:
    """A process that was there before."""
    head = {"Plugin": "procmon", "TimeStamp": "1700000000.000000"}
    log.lines.append({**head, "PID": pid, "PPID": 4, "RunningProcess": f"other{pid}.exe"})


def opened(log: Log, pid: int) -> None:
    """The sample opened the process *pid*, always with the same handle."""
    log.add("procmon", "NtOpenProcess", ProcessHandle="0x44", ClientID=pid)


def written(log: Log, *, result: str = "0x1") -> None:
    """The sample wrote into the process of that handle."""
    called: dict[str, Any] = {"Event": "api_called", "Arguments": ["Arg0=0x44"], "ReturnValue": result}
    log.add("apimon", "WriteProcessMemory", **called)


def test_a_handle_that_is_used_again_at_once(tmp_path: Path) -> None:
    """In the same block of the log, in which procmon's lines are read before all others."""
    log = Log().started()
    other(log, 300)
    other(log, 400)
    for pid in (300, 400, 100):
        opened(log, pid)
        if pid != 100:
            written(log)
    report = reported(log, tmp_path)
    targets = [report.processes[one.target].pid for one in report.injections]
    assert targets == [300, 400]
    assert all(one.count == 1 for one in report.injections)


def test_what_a_handle_stands_for() -> None:
    """Since the last event before; nothing before the first; and the oldest handle goes for a new one."""
    handles = Handles(2)
    for number, meaning in ((5, 50), (8, 80)):
        handles.add((1, 4), number, meaning)
    assert [handles.at((1, 4), number) for number in (4, 5, 7, 8, 99, 0)] == [None, 50, 50, 80, 80, 80]
    handles.forget()
    assert (handles.at((1, 4), 7), handles.at((1, 4), 9)) == (None, 80)
    handles.add((1, 8), 10, 100)
    handles.add((1, 12), 11, 110)
    assert (len(handles), handles.at((1, 4), 9), handles.at((1, 12), 11)) == (2, None, 110)


@pytest.mark.parametrize(
    ("milliseconds", "is_known"),
    [(900_000, True), (-30000.0, True), (29_999, False), (None, False), ("x", False), ([], False)],
)
def test_a_process_that_only_sleeps(tmp_path: Path, milliseconds: object, is_known: bool) -> None:
    """One that sleeps until nobody watches any more is in the report, although no other line is its own."""
    log = Log()
    log.add("delaymon", "NtDelayExecution", DelayIntervalMs=milliseconds)
    report = reported(log, tmp_path)
    assert [process.origin for process in report.processes] == ["sample"] * is_known


@pytest.mark.parametrize(
    ("function", "result", "is_injection"),
    [
        ("WriteProcessMemory", "0x0", False),
        ("CreateRemoteThread", "0x0", False),
        ("CreateRemoteThread", "0x8", True),
        ("RtlCreateUserThread", "0x0", True),
        ("RtlCreateUserThread", "0xc0000022", False),
    ],
)
def test_an_injection_that_failed(tmp_path: Path, function: str, result: str, is_injection: bool) -> None:
    """Is none."""
    log = Log().started()
    opened(log, 100)
    log.add("apimon", function, Event="api_called", Arguments=["Arg0=0x44"], ReturnValue=result)
    assert bool(reported(log, tmp_path).injections) is is_injection


def test_an_injection_without_procmon(tmp_path: Path) -> None:
    """memdump names the pid of the target, of which nothing else is known."""
    log = Log()
    log.add("memdump", "NtWriteVirtualMemory", **DUMP, DumpFilename="1000_aa", TargetPID=300)
    report = reported(log, tmp_path)
    [injection] = report.injections
    sample, target = report.processes
    assert (sample.pid, sample.origin, injection.processes) == (200, "sample", (sample.seqid,))
    assert (target.pid, target.origin, target.injected_by) == (300, "injected", (sample.seqid,))
    assert injection.target == target.seqid


def test_the_parent_as_windows_says(tmp_path: Path) -> None:
    """A process that gets another parent keeps it in the report; v0.21's tree has the pid above that."""
    log = Log().started()
    other(log, 300)
    created: Line = {"Status": "0x0", "NewPid": 400, "CommandLine": "x", "ImagePathName": "x"}
    log.add("procmon", "NtCreateUserProcess", **created)
    log.add("procmon", "NtProtectVirtualMemory", pid=400, ppid=300)
    log.add("procmon", "NtQueryVirtualMemory", pid=400, ppid=300)
    moved = reported(log, tmp_path).processes[-1]
    assert (moved.pid, moved.ppid, moved.parent) == (400, 300, 2)
    [tree] = [
        one for one in json.loads((tmp_path / "out" / "process_tree.json").read_bytes()) if one["pid"] == 300
    ]
    assert [(one["pid"], one["ppid"]) for one in tree["children"]] == [(400, 4)]


def test_processes_that_procmon_does_not_name_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log can name as many pids as it has lines; the sample's own is among those that are listed."""
    monkeypatch.setattr(assembly, "MOST_UNLISTED", 3)
    log = Log()
    for pid in range(1000, 1010):
        log.add(
            "memdump", "NtWriteVirtualMemory", pid=pid, **DUMP, DumpFilename=f"{pid}_aa", TargetPID=pid + 99
        )
    log.add("regmon", "NtSetValueKey", Key="k", ValueName="x", Value="y")
    report = reported(log, tmp_path)
    assert len(report.processes) == 3
    assert [one.pid for one in report.processes if one.origin == "sample"] == [200]
    assert report.left_out["processes"] > 0
    known = {one.seqid for one in report.processes}
    assert {number for one in (*report.dumps, *report.registry) for number in one.processes} <= known
