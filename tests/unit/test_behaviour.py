"""The report: what is read of the log while it is split, and that nothing in a line breaks it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drakcelery.behaviour import files as files_module
from drakcelery.behaviour.reader import Reader
from drakcelery.behaviour.report import Report
from drakcelery.model.analysis import Execution
from tests import reference
from tests.examples import examples
from tests.guest_log import Log, collected, opened, reported
from tests.hostile import KEYS, METHODS, PLUGINS, VALUES, Line

SCHEMA = reference.ROOT / "docs" / "report.schema.json"


def schema() -> str:
    """The JSON Schema of the report, as it is published."""
    return json.dumps(Report.model_json_schema(), indent=2) + "\n"


def test_the_schema_is_published() -> None:
    """docs/report.schema.json is the model's; `python -m tests.unit.test_behaviour` writes it."""
    assert SCHEMA.read_text(encoding="utf-8") == schema()


def test_processes(tmp_path: Path) -> None:
    """What the sample is and started is told from what Windows runs, with command line, exit and killer."""
    log = Log().started()
    log.add(
        "procmon",
        "NtCreateUserProcess",
        Status="0x0",
        NewPid=300,
        CommandLine=r"\"C:\\Program Files\\x.exe\" -a \303\244",
        ImagePathName=r"C:\Program Files\x.exe",
        Bitness=32,
    )
    log.add("procmon", "NtTerminateProcess", ExitPid=300, ExitStatus="0x7", ExitStatusStr="x")
    log.add("procmon", "MmCleanProcessAddressSpace", pid=100, ppid=4, ExitPid=300)
    report = reported(log, tmp_path)
    explorer, sample, child = report.processes
    assert (explorer.origin, sample.origin, child.origin) == ("windows", "sample", "started")
    assert (sample.parent, child.parent, sample.bits) == (explorer.seqid, sample.seqid, 32)
    assert child.command_line == '"C:\\Program Files\\x.exe" -a ä'
    assert (child.exit_code, child.killed_by) == (7, sample.seqid)
    assert (child.started, child.ended) == (1700000004.5, 1700000006.5)
    assert report.ending.observed == "activity"


def test_files(tmp_path: Path) -> None:
    """Created, written by a handle, renamed and deleted files; what is only read is not in the list."""
    log = Log().started()
    opened(log, r"\??\C:\Users\user\a.txt", "0x10")
    log.add("filetracer", "NtWriteFile", FileName=r"\Users\user\a.txt", FileHandle="0x10")
    log.add("filetracer", "NtWriteFile", FileName=r"\Users\user\a.txt", FileHandle="0x10")
    opened(log, r"\??\C:\Windows\win.ini", "0x14", rights="FILE_READ_DATA | SYNCHRONIZE", result=1)
    move: Line = {"FileSrc": r"\??\C:\b.tmp", "FileDst": r"\??\C:\b.EXE", "FileHandle": "0x18"}
    log.add("filetracer", "NtSetInformationFile", Operation="FileRenameInformation", **move)
    opened(log, r"\??\C:\c.txt", "0x1c", rights="DELETE", result=1)
    gone: Line = {"FileName": r"\c.txt", "FileHandle": "0x1c"}
    log.add("filetracer", "NtSetInformationFile", Operation="FileDispositionInformation", **gone)
    startup = r"\??\C:\ProgramData\Microsoft\Windows\Start Menu\Programs\Startup\x.lnk"
    opened(log, startup, "0x20")
    log.add("fileextractor", "NtClose", FileName=r"\??\C:\Users\user\a.txt", FileHash="AB" * 32)
    report = reported(log, tmp_path)
    by_path = {one.path: one for one in report.files}
    assert set(by_path) == {r"C:\Users\user\a.txt", r"C:\b.tmp", r"C:\c.txt", startup[4:]}
    written = by_path[r"C:\Users\user\a.txt"]
    assert (written.actions, written.count, written.processes) == (("created", "written"), 3, (1,))
    assert (written.first, written.last, written.sha256) == (1700000004.5, 1700000006.5, "ab" * 32)
    moved = by_path[r"C:\b.tmp"]
    assert (moved.actions, moved.renamed_to, moved.executable) == (("renamed",), r"C:\b.EXE", True)
    assert by_path[r"C:\c.txt"].actions == ("deleted",)
    assert by_path[startup[4:]].autostart == "Startup folder"


def test_registry_services_and_tasks(tmp_path: Path) -> None:
    """Values and their autostart places; what services.exe and the scheduler note there is named as such."""
    log = Log().started()
    run = r"\REGISTRY\USER\S-1-5\Software\Microsoft\Windows\CurrentVersion\Run"
    log.add("regmon", "NtOpenKey", Key=run)
    log.add("regmon", "NtSetValueKey", Key=run, ValueName="x", Value="old")
    log.add("regmon", "NtSetValueKey", Key=run.upper(), ValueName="X", Value="new")
    log.add("regmon", "NtDeleteValueKey", Key=run, ValueName="y")
    log.add("regmon", "NtDeleteKey", Key=r"\REGISTRY\MACHINE\SOFTWARE\z")
    service = r"\REGISTRY\MACHINE\SYSTEM\ControlSet001\Services\Evil"
    log.add("regmon", "NtSetValueKey", Key=service, ValueName="ImagePath", Value=r"C:\evil.exe")
    task = r"\REGISTRY\MACHINE\SOFTWARE\Microsoft\Windows NT\CurrentVersion\Schedule\TaskCache\Tree\Daily"
    log.add("regmon", "NtSetValueKey", Key=task, ValueName="Id", Value="{1}")
    opened(log, r"\??\C:\Windows\System32\Tasks\Daily", "0x20")
    report = reported(log, tmp_path)
    first, deleted, key, *_ = report.registry
    assert (first.key, first.value_name, first.value, first.count) == (run, "x", "new", 2)
    assert (first.action, first.autostart) == ("set", "Run key")
    assert (deleted.action, deleted.value_name, deleted.autostart) == ("deleted", "y", None)
    assert (key.action, key.value_name) == ("deleted", None)
    assert [(one.name, one.actions, one.program) for one in report.services] == [
        ("Evil", ("created",), r"C:\evil.exe")
    ]
    assert [(one.name, one.evidence) for one in report.tasks] == [("Daily", ("registry", "file"))]


def test_calls(tmp_path: Path) -> None:
    """Services by their handles, mutexes, and functions that say much, by DRAKVUF's form of arguments."""
    log = Log().started()
    named = ["Arg0=0x1", r'Arg1=0x2:"Evil"', "Arg2=0x0", *["Arg3=0x0"] * 4, r'Arg7=0x9:"C:\\x\\evil.exe"']
    called: Line = {"Event": "api_called", "CLSID": None, "FromModule": None}
    log.add("apimon", "CreateServiceW", Arguments=named, ReturnValue="0x50", **called)
    log.add("apimon", "StartServiceW", Arguments=["Arg0=0x50", "Arg1=0x0"], ReturnValue="0x1", **called)
    log.add("apimon", "CreateMutexA", Arguments=["Arg0=0x0", "Arg1=0x1", 'Arg2=0x7:"Only me"'], **called)
    log.add("syscall", "NtCreateMutant", Module="nt", ObjectAttributes="Global\\other")
    log.add("apimon", "GetTickCount", Arguments=[], **called)
    report = reported(log, tmp_path)
    assert [(one.name, one.actions, one.program) for one in report.services] == [
        ("Evil", ("created", "started"), r"C:\x\evil.exe")
    ]
    assert [one.name for one in report.mutexes] == ["Only me", "Global\\other"]
    assert [(one.function, one.category, one.count) for one in report.calls] == [
        ("CreateService", "service", 1),
        ("StartService", "service", 1),
    ]


def test_network_and_wmi(tmp_path: Path) -> None:
    """Names and connections, of the socket's owner; what WMI was asked."""
    log = Log().started()
    log.add("socketmon", "DnsQuery_W", DnsName="Evil.example.")
    sent: Line = {"Protocol": "TCPv4", "RemoteIp": "192.0.2.7", "RemotePort": 443, "OwnerPID": 200}
    log.add("socketmon", "TcpCreateAndConnectTcbComplete", pid=100, ppid=4, LocalPort=1, **sent)
    log.add("socketmon", "TcpCreateAndConnectTcbComplete", pid=100, ppid=4, LocalPort=2, **sent)
    log.add("wmimon", "ExecQuery", Command="SELECT * FROM Win32_Process")
    report = reported(log, tmp_path)
    assert [(one.name, one.processes) for one in report.network.names] == [("evil.example", (1,))]
    [connection] = report.network.connections
    assert (connection.protocol, connection.address, connection.port) == ("TCPv4", "192.0.2.7", 443)
    assert (connection.count, connection.processes) == (2, (1,))
    assert [(one.method, one.text) for one in report.wmi] == [("ExecQuery", "SELECT * FROM Win32_Process")]


def test_dumps_and_injections(tmp_path: Path) -> None:
    """Who wrote into whom, by memdump and by the handle of an opened process; which dumps are in the zip."""
    log = Log().started()
    log.add("procmon", "NtOpenProcess", ProcessHandle="0x44", ClientID=100)
    log.add("apimon", "CreateRemoteThread", Event="api_called", Arguments=["Arg0=0x44", "Arg1=0x0"])
    dump: Line = {"DumpReason": "Interesting", "DumpAddr": "0x1000", "DumpSize": "0x2"}
    name = "1000_00000000000000aa"
    log.add("memdump", "NtWriteVirtualMemory", **dump, DumpFilename=name, TargetPID=100, WriteAddr="0x5")
    log.add("memdump", "NtFreeVirtualMemory", **dump, DumpFilename="2000_00000000000000bb")
    created: Line = {"Status": "0x0", "NewPid": 300, "CommandLine": "", "ImagePathName": "x"}
    log.add("procmon", "NtCreateUserProcess", pid=100, ppid=4, **created)
    raw = log.write(tmp_path / "raw")
    (raw / "dumps").mkdir()
    (raw / "dumps" / name).write_bytes(b"MZ")
    collected(raw)
    report = Report.model_validate_json((tmp_path / "out" / "report.json").read_bytes())
    [injection] = report.injections
    assert (injection.target, injection.processes) == (0, (1,))
    assert injection.methods == ("CreateRemoteThread", "NtWriteVirtualMemory")
    assert [one.origin for one in report.processes] == ["injected", "sample", "started"]
    assert report.processes[0].injected_by == (1,)
    assert [(one.name, one.size, one.in_zip) for one in report.dumps] == [
        (name, 2, True),
        ("2000_00000000000000bb", 2, False),
    ]


def test_an_injection_by_the_handle_of_a_new_process(tmp_path: Path) -> None:
    """Also of one that is made of a section, as process doppelgänging does it."""
    log = Log().started()
    made: Line = {"Status": "0x0", "ProcessHandle": "0x48", "NewPid": 300}
    log.add("procmon", "NtCreateProcessEx", **made)
    log.add("syscall", "NtWriteVirtualMemory", Module="nt", ProcessHandle="0x48")
    found = reported(log, tmp_path)
    [injection] = found.injections
    assert (found.processes[injection.target].pid, injection.processes) == (300, (1,))


@pytest.mark.parametrize(
    ("changes", "observed", "said"),
    [
        ({}, "nothing", "The sample did nothing that lasts"),
        (
            {"complete": False, "reason": "the emulation broke off."},
            "broke_off",
            "Nothing was seen of the sample, but the run broke off: the emulation broke off. So",
        ),
        (
            {"execution": Execution.NOT_EXECUTED, "reason": "error 193"},
            "not_executed",
            "not executed: error 193.",
        ),
        ({"complete": None}, "nothing", "is not known, because the host has an older version"),
    ],
)
def test_nothing_seen_and_nothing_done(
    tmp_path: Path, changes: dict[str, Any], observed: str, said: str
) -> None:
    """They are different words, and different sentences."""
    log = Log().started()
    log.add("regmon", "NtSetValueKey", pid=100, ppid=4, Key="k", ValueName="by Windows")
    ending = reported(log, tmp_path, **changes).ending
    assert ending.observed == observed
    assert said in ending.summary


def test_an_empty_log(tmp_path: Path) -> None:
    """Nothing is known then; there is a report, and no tree, as without procmon."""
    report = reported(Log(), tmp_path)
    assert report.ending.observed == "no_log"
    assert not (tmp_path / "out" / "process_tree.json").exists()


def test_a_full_list_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond its limit a list takes no more names; those that it has are still counted."""
    monkeypatch.setattr(files_module, "MOST", 3)
    log = Log().started()
    for number in range(5):
        opened(log, f"\\??\\C:\\{number}", "0x10")
    opened(log, "\\??\\C:\\0", "0x10")
    report = reported(log, tmp_path)
    assert [(one.path, one.count) for one in report.files] == [("C:\\0", 2), ("C:\\1", 1), ("C:\\2", 1)]
    assert report.left_out == {"files": 2}


def test_a_failure_of_the_report_is_only_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The analysis has everything else; metadata and log say why there is no report."""

    def broken(_self: Reader, _groups: object) -> None:
        raise KeyError("a bug")

    raw = Log().started().write(tmp_path / "raw")
    whole = {one.name for one in collected(raw).artifacts}
    monkeypatch.setattr(Reader, "read", broken)
    manifest = collected(raw)
    assert {one.name for one in manifest.artifacts} == whole - {"report.json", "process_tree.json"}
    assert manifest.metadata["report_failure"] == "KeyError: 'a bug'"
    assert "report_failed" in capsys.readouterr().out


LINES = st.fixed_dictionaries(
    {"Plugin": st.sampled_from(PLUGINS), "Method": st.sampled_from(METHODS) | VALUES},
    optional=dict.fromkeys(KEYS, VALUES),
)


@examples(60)
@given(st.lists(LINES, max_size=30))
def test_whatever_a_line_says(tmp_path_factory: pytest.TempPathFactory, lines: list[Line]) -> None:
    """Any type, size, pid and order: there is a report, and it has the form that is published."""
    log = Log()
    log.lines = lines
    raw = log.write(tmp_path_factory.mktemp("lines") / "raw")
    manifest = collected(raw)
    assert "report_failure" not in manifest.metadata
    Report.model_validate_json((raw.parent / "out" / "report.json").read_bytes())


if __name__ == "__main__":
    SCHEMA.write_text(schema(), encoding="utf-8")
