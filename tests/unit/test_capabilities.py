"""Which calls capa is given, and in which form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from drakcelery.behaviour.report import Injection, Origin, Report, ReportedProcess
from drakcelery.capabilities.calls import Calls, Entry
from drakcelery.capabilities.job import Life
from drakcelery.capabilities.own import Owners, lives
from drakcelery.testing import RECORDED

SAMPLE = Life(pid=200, process=1, since=0.0, until=None)


def line(plugin: str, method: str, **fields: Any) -> bytes:
    """A line as DRAKVUF writes it."""
    head = {"Plugin": plugin, "TimeStamp": "1700000001.500000", "PID": 200, "PPID": 100, "TID": 7}
    rest = {"UserId": 1, "ProcessName": r"\Device\malwar.exe", "Method": method, "EventUID": "0x2"}
    return json.dumps(head | rest | fields, separators=(",", ":")).encode() + b"\n"


def api(method: str, *arguments: str, **fields: Any) -> bytes:
    """A call that apimon saw."""
    called = {"Event": "api_called", "CLSID": None, "CalledFrom": "0x1", "ReturnValue": "0x0"}
    return line("apimon", method, **called, Arguments=list(arguments), **fields)


def entry(written: bytes) -> Entry | None:
    """What capa gets of it."""
    return Calls(Owners([SAMPLE])).entry(written)


def test_an_api_call() -> None:
    """Number and text of a pointer are two arguments; what DRAKVUF escaped is as it was."""
    text = r'Arg1=0x12ff:"C:\\x\\\"y\".txt"'
    made = entry(api("CreateFileW", "Arg0=0x40000000", text, 'Arg2=0x0:""', FromModule=None))
    assert made == {
        "Plugin": "apimon",
        "Event": "api_called",
        "ReturnValue": "0x0",
        "Arguments": ["Arg0=0x40000000", "Arg1=0x12ff", r'Arg1.text=C:\x\"y".txt', "Arg2=0x0"],
        "TimeStamp": "1700000001.500000",
        "PID": 2,
        "PPID": 0,
        "TID": 7,
        "ProcessName": r"\Device\malwar.exe",
        "Method": "CreateFileW",
    }


def test_an_api_call_without_arguments() -> None:
    """It has an empty list of them, whatever the line has in their place."""
    odd: tuple[Any, ...] = (None, "x", [None, 1, {}])
    for arguments in ({}, *({"Arguments": one} for one in odd)):
        made = entry(line("apimon", "GetTickCount", Event="api_called", **arguments))
        assert made is not None
        assert made["Arguments"] == []
        assert made["ReturnValue"] == ""


def test_a_system_call() -> None:
    """Numbers become texts, and what is null, or no argument, is left out."""
    common = {"Module": "nt", "vCPU": 0, "CR3": "0x1ab000", "Syscall": 176, "NArgs": 4}
    newer = {"FromModule": None, "FromParentModule": None, "PreviousMode": "User"}
    given = {"Handle": "0x1c", "Size": 16, "Name": '0x5:"Global\\once"', "Odd": None, "More": [], "Is": True}
    made = entry(line("syscall", "NtCreateMutant", **common, **newer, **given))
    assert made is not None
    known = {
        "Plugin",
        "Module",
        "Syscall",
        "NArgs",
        "TimeStamp",
        "PID",
        "PPID",
        "TID",
        "ProcessName",
        "Method",
    }
    assert {key: value for key, value in made.items() if key not in known} == {
        "Handle": "0x1c",
        "Size": "0x10",
        "Name": "0x5",
        "Name.text": r"Global\once",
    }


def test_what_is_no_call_of_the_samples() -> None:
    """Other processes, other plugins, other events and what cannot be read is left out."""
    assert entry(api("Sleep", PID=201)) is None
    assert entry(api("Sleep", PID="200")) is None
    assert entry(api("Sleep", TimeStamp=None)) is None
    assert entry(line("apimon", "", Event="dll_loaded", DllName="x", Rva={"a": 1})) is None
    assert entry(line("regmon", "NtSetValueKey")) is None
    assert entry(b'{"Plugin":"apimon","PID":200,') is None
    assert entry(b"") is None


def test_a_pid_that_is_given_again() -> None:
    """Whose a call is follows from its time."""
    calls = Calls(Owners([SAMPLE.model_copy(update={"since": 1700000002.0, "until": 1700000003.0})]))
    times = ("1700000001.999999", "1700000002.000000", "1700000003.000000")
    assert [calls.entry(api("Sleep", TimeStamp=time)) is not None for time in times] == [False, True, False]


def test_a_repeated_call() -> None:
    """A call that a thread has just made is given once; of another thread, or much later, again."""
    calls = Calls(Owners([SAMPLE]))
    assert calls.entry(api("Sleep", "Arg0=0x1")) is not None
    assert calls.entry(api("Sleep", "Arg0=0x1")) is None
    assert calls.entry(api("Sleep", "Arg0=0x1", TID=8)) is not None
    assert all(calls.entry(api("Sleep", f"Arg0=0x{number}")) is not None for number in range(2, 12))
    assert calls.entry(api("Sleep", "Arg0=0x1")) is not None


def test_too_many_calls(tmp_path: Path) -> None:
    """It is known whether there were more than are given."""
    log = tmp_path / "apimon.log"
    log.write_bytes(b"".join(api("Sleep", f"Arg0=0x{number}") for number in range(5)))
    for most, is_cut in ((4, True), (5, False)):
        calls = Calls(Owners([SAMPLE]), most)
        assert len(list(calls.entries([log]))) == calls.read == most
        assert calls.is_cut is is_cut


def test_the_samples_processes() -> None:
    """Those of Windows are not looked at; a process into which the sample wrote is one from then on."""

    def process(seqid: int, pid: int, origin: Origin, started: float | None = None) -> ReportedProcess:
        return ReportedProcess(seqid=seqid, pid=pid, origin=origin, started=started)

    recorded = Report.model_validate_json((RECORDED / "report.json").read_bytes())
    report = recorded.model_copy(
        update={
            "processes": (
                process(0, 0, "sample"),
                process(1, 4, "windows"),
                process(2, 100, "injected"),
                process(3, 200, "sample", 10.0),
                process(4, 300, "started", 20.0),
                process(5, 300, "windows", 30.0),
            ),
            "injections": (
                Injection(count=1, first=15.0, processes=(3,), target=2, methods=("x",)),
                Injection(count=1, first=16.0, processes=(4,), target=2, methods=("x",)),
            ),
        }
    )
    assert {one.process: (one.pid, one.since, one.until) for one in lives(report)} == {
        2: (100, 15.0, None),
        3: (200, 10.0, None),
        4: (300, 20.0, 30.0),
    }
