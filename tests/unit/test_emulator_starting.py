"""Which programs a command line starts."""

from __future__ import annotations

import time

import pytest

from drakcelery.engines.speakeasy_guest.programs.starting import (
    MAX_COMMANDS,
    Started,
    followed,
    program_of,
    split,
)

FILES = {
    "c:\\t\\a.exe": "C:\\T\\a.exe",
    "c:\\t\\c d.exe": "C:\\T\\c d.exe",
    "c:\\t\\l.dll": "C:\\T\\l.dll",
    "c:\\t\\go.bat": "C:\\T\\go.bat",
    "c:\\t\\round.cmd": "C:\\T\\round.cmd",
}
BATCH = {
    "C:\\T\\go.bat": '@echo off\r\nping -n 3 127.0.0.1 >nul\r\n@start "" C:\\T\\a.exe x\r\ndel %0\r\n',
    "C:\\T\\round.cmd": "C:\\T\\round.cmd\r\nC:\\T\\round.cmd\r\n",
}


def find(path: str) -> str | None:
    """A file of the program's."""
    return FILES.get(path.lower())


def started(line: str) -> list[Started]:
    """What a line starts."""
    return list(followed(line, find, lambda path: BATCH[path]))


@pytest.mark.parametrize(
    ("line", "program", "rest"),
    [
        ("a.exe x y", "a.exe", "x y"),
        ('"C:\\a b\\c.exe" -x', "C:\\a b\\c.exe", "-x"),
        ('"no end', "no end", ""),
        ("", "", ""),
        ("   ", "", ""),
    ],
)
def test_program_and_arguments(line: str, program: str, rest: str) -> None:
    """Up to the second quote, or to the first blank."""
    assert split(line) == (program, rest)


def test_a_path_with_blanks_and_no_quotes() -> None:
    """It is found as CreateProcess finds it, if it is there."""
    assert program_of("C:\\T\\c d.exe -x", find) == ("C:\\T\\c d.exe", "-x")
    assert program_of("C:\\T\\c d -x", find) == ("C:\\T\\c d", "-x")
    assert program_of("C:\\U\\c d.exe -x", find) == ("C:\\U\\c", "d.exe -x")


@pytest.mark.parametrize(
    "line",
    [
        "C:\\T\\a.exe",
        "C:\\T\\a.exe -x",
        "C:\\T\\a",
        "cmd /c C:\\T\\a.exe",
        "cmd.exe /d /s /c C:\\T\\a.exe -x",
        "C:\\Windows\\System32\\cmd.exe /k C:\\T\\a.exe",
        'cmd /c start "" C:\\T\\a.exe',
        'cmd /c "start /b /wait C:\\T\\a.exe -x"',
        'cmd /c start "title" /min /d "C:\\x y" C:\\T\\a.exe',
        "cmd /c echo x & C:\\T\\a.exe && del x",
        "cmd /c ping 127.0.0.1 -n 3 > nul & start C:\\T\\a.exe",
        "cmd /c call C:\\T\\a.exe",
        "cmd /c cmd /c C:\\T\\a.exe",
        "explorer.exe C:\\T\\a.exe",
        "C:\\T\\go.bat",
        "cmd /c C:\\T\\go.bat",
    ],
)
def test_a_program_that_is_there_is_followed(line: str) -> None:
    """By itself, through cmd.exe in its forms, through explorer and a batch file."""
    assert [one.path for one in started(line)] == ["C:\\T\\a.exe"]


def test_quotes_around_all_of_it() -> None:
    """cmd.exe takes off the quotes around a whole command, and keeps those around a name."""
    assert [one.path for one in started('cmd /c ""C:\\T\\c d.exe" -x"')] == ["C:\\T\\c d.exe"]
    assert [one.path for one in started('cmd /c "C:\\T\\c d.exe"')] == ["C:\\T\\c d.exe"]


@pytest.mark.parametrize(
    ("line", "container", "export"),
    [
        ("rundll32 C:\\T\\l.dll,Run", "rundll32.exe", "Run"),
        ('rundll32.exe "C:\\T\\l.dll",#3 x', "rundll32.exe", "#3"),
        ("C:\\Windows\\System32\\rundll32.exe C:\\T\\l.dll,_Run@16", "rundll32.exe", "_Run@16"),
        ("regsvr32 /s C:\\T\\l.dll", "regsvr32.exe", "DllRegisterServer"),
        ('regsvr32 /s /u "C:\\T\\l.dll"', "regsvr32.exe", "DllUnregisterServer"),
        ("cmd /c start rundll32 C:\\T\\l.dll,Run", "rundll32.exe", "Run"),
    ],
)
def test_a_dll_is_followed_in_its_loader(line: str, container: str, export: str) -> None:
    """With the export that the command names."""
    (one,) = started(line)
    assert (one.path, one.container, one.export) == ("C:\\T\\l.dll", container, export)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "cmd",
        "cmd /c",
        "cmd /c echo C:\\T\\a.exe",
        "notepad.exe C:\\T\\a.exe",
        "rundll32",
        "rundll32 shell32.dll,Control_RunDLL",
        "regsvr32 /s /i:http://x scrobj.dll",
        "C:\\T\\round.cmd",
        "cmd /c " * 1000 + "C:\\T\\a.exe",
        "&" * 10_000,
        'start ""',
    ],
)
def test_what_starts_nothing_of_the_programs_own(line: str) -> None:
    """Programs of Windows are not followed, and nothing goes round in circles."""
    assert started(line) == []


def test_batch_files_that_run_one_another_end() -> None:
    """Each runs all of them, many times: so many commands are looked at, and no more."""
    names = [f"C:\\T\\{name}.bat" for name in "abcdefgh"]
    text = "\r\n".join(names * 8)
    reads: list[str] = []

    def read(path: str) -> str:
        reads.append(path)
        return text

    assert list(followed(names[0], lambda path: path if path in names else None, read)) == []
    assert 4 < len(reads) <= MAX_COMMANDS


def test_blanks_without_end() -> None:
    """A line of blanks takes no longer than its length says."""
    begun = time.process_time()
    assert started(f"rundll32 x{' ' * 32_000},") == []
    assert time.process_time() - begun < 2
