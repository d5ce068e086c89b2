"""How 32-bit functions take their arguments: the tables, and where they come from."""

from __future__ import annotations

import struct

import pytest

from drakcelery.engines.speakeasy_guest.calling import import_libraries, stdcall
from drakcelery.engines.speakeasy_guest.calling.import_libraries import FOLDERS, TABLE, Import
from tests.conftest import require


def test_the_table_is_what_the_import_libraries_say() -> None:
    """Generated again, it is the same."""
    require(all(folder.is_dir() for folder in FOLDERS), "mingw-w64's import libraries are not installed")
    assert import_libraries.table(import_libraries.collect(FOLDERS)) == TABLE.read_text()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("CreateFileA", 7),
        ("CreateFileW", 7),
        ("CreateFile", None),
        ("FlsGetValue2", 1),
        ("GetTempPath2W", 2),
        ("NtCreateFile", 11),
        ("ZwCreateFile", 11),
        ("wsprintfA", 0),
        ("WSAStartup", 2),
        ("SysAllocString", 1),
        ("BCryptGenRandom", 4),
        ("InterlockedCompareExchange", 3),
        ("SetWindowLongPtrA", None),
        ("RtlVirtualUnwind", None),
    ],
)
def test_words(name: str, words: int | None) -> None:
    """Each function of Windows has its count; one of 64-bit Windows only has none."""
    assert stdcall.words_of(stdcall.load(), name) == words


@pytest.mark.parametrize(
    ("module", "name", "in_32", "in_64"),
    [
        ("kernel32", "CreateFileW", True, True),
        ("kernel32", "RtlVirtualUnwind", False, True),
        ("KERNEL32", "NoSuchFunction", False, False),
        ("api-ms-win-core-file-l1-1-0", "NoSuchFunction", False, False),
        ("thirdparty", "Run", False, True),
        ("msvcrt", "puts", True, True),
    ],
)
def test_what_a_program_may_find(module: str, name: str, in_32: bool, in_64: bool) -> None:
    """In 32 bits a function of unknown words does not exist; in 64 bits another module may have any."""
    table = stdcall.load()
    assert stdcall.may_exist(table, module, name, bits=32) is in_32
    assert stdcall.may_exist(table, module, name, bits=64) is in_64


def test_names_behind_numbers() -> None:
    """ws2_32 and oleaut32 are imported by number."""
    assert stdcall.name_of("WS2_32", "ordinal_4") == "connect"
    assert stdcall.name_of("oleaut32", "ordinal_2") == "SysAllocString"
    assert stdcall.name_of("msi", "ordinal_8") == "MsiCloseHandle"
    assert stdcall.name_of("comctl32", "ordinal_17") == "ordinal_17"
    assert stdcall.name_of("ws2_32", "ordinal_x") == "ordinal_x"


def test_an_archive_that_is_none() -> None:
    """It is refused, and an odd member is passed over."""
    with pytest.raises(ValueError, match="no archive"):
        list(import_libraries.members(b"MZ"))
    assert import_libraries.read_import(b"") is None
    assert import_libraries.read_import(struct.pack("<HHIIIHH", 0x14C, 0, 0, 20, 0, 0, 0)) is None


def test_names_with_a_and_w_are_written_once() -> None:
    """Where both take the same."""
    functions = [Import(name=name, kind=kind) for name, kind in (("FA", "2"), ("FW", "2"), ("GA", "1"))]
    text = import_libraries.table(functions)
    assert [line for line in text.splitlines() if line[0] != "#"] == ["1 GA", "2 F*"]
