"""How samples are started."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drakcelery.model.extensions import EXTENSIONS
from drakcelery.model.start_command import dll_command, start_command
from tests.programs import launcher


@pytest.mark.parametrize(
    ("extension", "command"),
    [
        ("exe", "%f"),
        ("bat", "%f"),
        ("cmd", "%f"),
        ("com", "%f"),
        ("ps1", "powershell.exe -executionpolicy bypass -File %f"),
        ("vbe", "wscript.exe %f"),
        ("hta", "mshta.exe %f"),
        ("docx", "cmd.exe /C start winword.exe /t %f"),
        ("xlsm", "cmd.exe /C start excel.exe /t %f"),
        ("ppt", "cmd.exe /C start powerpnt.exe /t %f"),
        ("ppsx", "cmd.exe /C start powerpnt.exe /t %f"),
        ("xlsb", "cmd.exe /C start excel.exe /t %f"),
        ("wsf", "wscript.exe %f"),
        ("msi", "msiexec.exe /qb /i %f"),
        ("jar", "javaw.exe -jar %f"),
        ("chm", "hh.exe %f"),
        ("lnk", 'cmd.exe /C start "" %f'),
        ("pdf", 'cmd.exe /C start "" %f'),
    ],
)
def test_by_extension(extension: str, command: str, tmp_path: Path) -> None:
    """Each kind of file is opened by its program."""
    assert start_command(tmp_path / "unused", extension) == command


def test_every_extension_has_a_command(tmp_path: Path) -> None:
    """Whatever ingress lets through can be started; a broken DLL is registered."""
    broken = tmp_path / "broken.dll"
    broken.write_bytes(b"MZ\0\0")
    for extension in EXTENSIONS:
        assert "%f" in start_command(broken, extension)


CLASSIFIED = (
    *("exe", "dll", "com", "jar", "swf", "lnk", "chm", "msi", "pdf", "rtf"),
    *("vbs", "vbe", "js", "jse", "wsh", "wsf", "hta", "cmd", "bat", "ps1"),
    *("doc", "docx", "xls", "xlsx", "ppt", "pptx"),
)
"""What karton-classifier 2.1 sends as win32; of further Office forms those whose names begin like these."""


def test_whatever_the_classifier_sends_can_be_started() -> None:
    """No kind that comes through Karton's own front door is refused."""
    assert set(CLASSIFIED) <= EXTENSIONS


@pytest.mark.parametrize(
    ("exports", "command"),
    [
        ([], "regsvr32 /s %f"),
        ([(1, "Alpha"), (2, "DllRegisterServer")], "regsvr32 /s %f"),
        ([(1, "Alpha"), (2, "MyDllMain")], "rundll32 %f,MyDllMain"),
        ([(1, None), (2, "Beta@8")], "rundll32 %f,Beta@8"),
        ([(1, "_Other@4"), (2, "_DllMain@12")], "rundll32 %f,_DllMain@12"),
        ([(7, None), (8, None)], "rundll32 %f,#7"),
        ([(1, "?run@@YAXXZ")], "rundll32 %f,?run@@YAXXZ"),
    ],
)
def test_dll_by_exports(exports: list[tuple[int, str | None]], command: str) -> None:
    """A DLL registers itself if it can, else its most promising export is called, by its whole name (H8)."""
    assert dll_command(exports) == command


def test_a_program_without_exports() -> None:
    """A real PE without exports is registered."""
    assert start_command(launcher(64), "dll") == "regsvr32 /s %f"


@given(
    st.lists(
        st.tuples(
            st.integers(1, 65535), st.none() | st.from_regex(r"[A-Za-z_@?$.~0-9]{1,40}", fullmatch=True)
        )
    )
)
def test_commands_are_one_line(exports: list[tuple[int, str | None]]) -> None:
    """Exports never make more than one argument."""
    command = dll_command([(number, name) for number, name in exports])
    assert len(command.split()) in (2, 3)
