"""The emulator on programs with an ordinary C runtime: msvcrt.dll and the UCRT, 32 and 64 bit."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from tests.emulating import Bench, Run
from tests.mingw import build, import_library

FOLDER = "\\??\\C:\\Users\\Public\\"


@pytest.fixture(params=["msvcrt", "ucrt"])
def runtime(request: pytest.FixtureRequest) -> Literal["msvcrt", "ucrt"]:
    """Which C runtime the program is linked with."""
    value: Literal["msvcrt", "ucrt"] = request.param
    return value


@pytest.fixture(params=[32, 64])
def bits(request: pytest.FixtureRequest) -> int:
    """Which processor the program is for."""
    value: int = request.param
    return value


def ended(run: Run) -> int:
    """The exit code of a run that came to its own end."""
    assert run.outcome.reason is None
    (end,) = run.lines("procmon", "NtTerminateProcess")
    return int(end["ExitStatus"], 16)


def file_events(run: Run) -> list[tuple[str, str, str]]:
    """What happened to files below C:\\Users\\Public: the method, the file, and how much or what."""
    events = []
    for line in run.lines("filetracer"):
        name = line.get("FileName", line.get("FileSrc", ""))
        if name.startswith(FOLDER):
            detail = line.get("Length") or line.get("CreateDisposition") or line.get("Operation") or ""
            events.append((line["Method"], name.removeprefix(FOLDER), detail))
    return events


def test_files(tmp_path: Path, bits: int, runtime: Literal["msvcrt", "ucrt"]) -> None:
    """What a program writes and reads by stdio and low-level I/O is what filetracer shows, in order."""
    run = Bench(tmp_path).detonate(build("files", tmp_path, bits, runtime=runtime))
    assert ended(run) == 0  # each result was checked by the program itself
    lines, data, wide, low = (
        f"drakcelery\\{name}" for name in ("lines.txt", "data.bin", "wide.txt", "low.bin")
    )
    moved, absent = "drakcelery\\moved.bin", "drakcelery\\absent.bin"
    events = [event for event in file_events(run) if event[0] != "NtQueryAttributesFile"]
    assert events == [
        ("NtCreateFile", "drakcelery", ""),
        ("NtCreateFile", lines, "CREATE_ALWAYS"),
        ("NtWriteFile", lines, "0x1b"),
        ("NtCreateFile", lines, "OPEN_ALWAYS"),
        ("NtWriteFile", lines, "0x5"),
        ("NtCreateFile", lines, "OPEN_EXISTING"),
        ("NtReadFile", lines, "0x20"),
        ("NtCreateFile", data, "CREATE_ALWAYS"),
        ("NtWriteFile", data, "0xa"),
        ("NtWriteFile", data, "0x2"),
        ("NtReadFile", data, "0x3"),
        ("NtReadFile", data, "0xa"),
        ("NtCreateFile", wide, "CREATE_ALWAYS"),
        ("NtWriteFile", wide, "0xf"),
        ("NtCreateFile", wide, "OPEN_EXISTING"),
        ("NtReadFile", wide, "0xf"),
        ("NtCreateFile", low, "CREATE_ALWAYS"),
        ("NtWriteFile", low, "0x9"),
        ("NtReadFile", low, "0x5"),
        ("NtSetInformationFile", low, "FileRenameInformation"),
        ("NtSetInformationFile", moved, "FileDispositionInformation"),
        ("NtCreateFile", moved, "OPEN_EXISTING"),
    ]
    asked = {event[1] for event in file_events(run) if event[0] == "NtQueryAttributesFile"}
    assert asked == {low, absent}


def test_functions(tmp_path: Path, bits: int, runtime: Literal["msvcrt", "ucrt"]) -> None:
    """Arguments, environment, setjmp, formats, strings, numbers, time, characters, handles, folders, code."""
    program = build("functions", tmp_path, bits, runtime=runtime)
    run = Bench(tmp_path).detonate(program, '%f "first argument" second')
    assert ended(run) == 0, "the exit code is the line of the check that failed"
    assert not [line for line in run.lines("apimon") if "crt" in line["Module"] and "Unsupported" in line]


def test_ending(tmp_path: Path, bits: int, runtime: Literal["msvcrt", "ucrt"]) -> None:
    """What atexit noted runs from last to first, and the exit code is the program's."""
    run = Bench(tmp_path).detonate(build("ending", tmp_path, bits, runtime=runtime))
    assert ended(run) == 17
    assert [event[2] for event in file_events(run) if event[0] == "NtWriteFile"] == ["0x18", "0x16"]


def test_abort(tmp_path: Path, bits: int, runtime: Literal["msvcrt", "ucrt"]) -> None:
    """The handler of its signal runs first; the process ends with 3."""
    run = Bench(tmp_path).detonate(build("aborting", tmp_path, bits, runtime=runtime), "%f abort")
    assert ended(run) == 3
    assert [event[2] for event in file_events(run) if event[0] == "NtWriteFile"] == ["0x2"]


@pytest.mark.parametrize(("how", "line"), [("list", "calc.exe -one"), ("vector", "calc.exe -two")])
def test_another_program_in_its_place(tmp_path: Path, bits: int, how: str, line: str) -> None:
    """What _exec... starts is a process, and the program is over."""
    run = Bench(tmp_path).detonate(build("aborting", tmp_path, bits), f"%f {how}")
    assert ended(run) == 0
    assert [event["CommandLine"] for event in run.lines("procmon", "NtCreateUserProcess")] == [line]


def test_visual_cpp(tmp_path: Path, bits: int) -> None:
    """Exceptions' methods, new and delete, and functions with operands on the x87's stack."""
    assert ended(Bench(tmp_path).detonate(build("cplusplus", tmp_path, bits))) == 0


def test_guarded_blocks(tmp_path: Path, runtime: Literal["msvcrt", "ucrt"]) -> None:
    """In 64 bits a fault goes to the filter that guards it; where main's start-up does, it is a signal."""
    assert ended(Bench(tmp_path).detonate(build("guarded", tmp_path, 64, runtime=runtime))) == 0


def test_guarded_blocks_of_32_bits(tmp_path: Path) -> None:
    """The filter is asked, the block at last runs while it is left, and the program goes on behind it."""
    assert ended(Bench(tmp_path).detonate(build("guarded32", tmp_path, 32))) == 0


def test_a_wide_main(tmp_path: Path, bits: int) -> None:
    """Its arguments are wide; what it runs by _wpopen is a process, _dup2 and tables for the end work."""
    run = Bench(tmp_path).detonate(build("wide_main", tmp_path, bits, "-municode"), '%f "one two" three')
    assert ended(run) == 0
    started = [line["CommandLine"] for line in run.lines("procmon", "NtCreateUserProcess")]
    assert started == ["cmd.exe /c dir"]


def test_catching(tmp_path: Path, bits: int) -> None:
    """What is thrown is caught by its type, what lies between is destroyed, and the program goes on."""
    assert ended(Bench(tmp_path).detonate(build("catching", tmp_path, bits))) == 0


def test_catching_by_compressed_tables(tmp_path: Path) -> None:
    """A catch that throws again is left for the outer one, and every object is destroyed once, in order."""
    library = import_library("VCRUNTIME140_1.dll", ("__CxxFrameHandler4",), tmp_path)
    assert ended(Bench(tmp_path).detonate(build("catching4", tmp_path, 64, str(library)))) == 0


def test_hostile_sizes(tmp_path: Path, bits: int) -> None:
    """Widths, counts and positions beyond all bounds end a call, in a bounded time."""
    assert ended(Bench(tmp_path).detonate(build("hostile", tmp_path, bits), timeout=30)) == 0


@pytest.fixture(scope="module", params=[32, 64])
def intruder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of behaviour.c."""
    folder = tmp_path_factory.mktemp("behaviour")
    program = build("behaviour", folder, request.param, "-lws2_32", "-lwininet", "-ladvapi32")
    run = Bench(folder).detonate(program)
    assert ended(run) == 0
    return run


def test_persistence(intruder: Run) -> None:
    """The Run key, the copy of itself and the service are to be seen."""
    (value,) = intruder.lines("regmon", "NtSetValueKey")
    assert value["Key"].endswith("\\Software\\Microsoft\\Windows\\CurrentVersion\\Run")
    assert (value["ValueName"], value["Value"]) == ("drakcelery-crt", "C:\\Users\\user\\Desktop\\malwar.exe")
    copied = [event for event in file_events(intruder) if event[1] == "drakcelery-crt.exe"]
    assert [event[0] for event in copied] == ["NtCreateFile", "NtWriteFile"]
    (service,) = intruder.lines("apimon", "CreateServiceA")
    assert '"C:\\Users\\Public\\drakcelery-crt.exe"' in service["Arguments"][7]
    assert len(intruder.lines("apimon", "StartServiceA")) == 1


def test_conversations(intruder: Run) -> None:
    """Names, connections and what was sent over them, by sockets and by WinINet."""
    names = [line["DnsName"] for line in intruder.lines("socketmon", "DnsQuery_W")]
    assert names == ["tcp.drakcelery.invalid", "inet.drakcelery.invalid"]
    ports = [line["RemotePort"] for line in intruder.lines("socketmon", "TcpCreateAndConnectTcbComplete")]
    assert [int(port) for port in ports] == [8080, 80]
    sent = b"".join(bytes(packet) for packet in intruder.packets())
    assert b"HELLO 7 drakcelery-crt\r\n" in sent
    assert b"GET /inet?n=1 HTTP/1.1\r\n" in sent


def test_injection(intruder: Run) -> None:
    """What was written into another process is a dump, and its thread's start a call."""
    (written,) = intruder.lines("memdump", "NtWriteVirtualMemory")
    assert b"drakcelery-injected-mark" in intruder.dumps()[written["DumpFilename"]]
    (start,) = intruder.lines("apimon", "CreateRemoteThread")
    assert start["Arguments"][3] == f"Arg3={written['DumpAddr']}"
    for name in ("GetThreadContext", "SetThreadContext", "ResumeThread"):
        assert len(intruder.lines("apimon", name)) == 1


def test_programs_and_threads(intruder: Run) -> None:
    """What system and _spawnl start are processes, and a thread of _beginthreadex runs."""
    started = [line["CommandLine"] for line in intruder.lines("procmon", "NtCreateUserProcess")]
    assert started == ["notepad.exe", "cmd.exe /c echo drakcelery-crt", "calc.exe /c"]
    assert ("NtWriteFile", "drakcelery-crt-thread.txt", "0x4") in file_events(intruder)


def test_winhttp(tmp_path: Path, bits: int) -> None:
    """A request by WinHTTP is in the traffic."""
    run = Bench(tmp_path).detonate(build("winhttp", tmp_path, bits, "-lwinhttp"))
    assert ended(run) == 0
    assert [line["DnsName"] for line in run.lines("socketmon", "DnsQuery_W")] == ["http.drakcelery.invalid"]
    assert any(b"GET /http?n=2 HTTP/1.1\r\n" in bytes(packet) for packet in run.packets())
