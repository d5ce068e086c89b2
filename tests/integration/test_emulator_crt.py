"""The emulator on programs with an ordinary C runtime: msvcrt.dll and the UCRT, 32 and 64 bit."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from tests.emulating import Bench, Run
from tests.mingw import build

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
    """Arguments, environment, constructors, setjmp, sorting, formats, strings, numbers, memory and time."""
    program = build("functions", tmp_path, bits, runtime=runtime)
    run = Bench(tmp_path).detonate(program, '%f "first argument" second')
    assert ended(run) == 0, "the exit code is the line of the check that failed"
    assert not [line for line in run.lines("apimon") if "crt" in line["Module"] and "Unsupported" in line]


def test_ending(tmp_path: Path, bits: int, runtime: Literal["msvcrt", "ucrt"]) -> None:
    """What atexit noted runs from last to first, and the exit code is the program's."""
    run = Bench(tmp_path).detonate(build("ending", tmp_path, bits, runtime=runtime))
    assert ended(run) == 17
    assert [event[2] for event in file_events(run) if event[0] == "NtWriteFile"] == ["0x18", "0x16"]
