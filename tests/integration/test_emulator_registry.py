"""The registry: what a program writes it can read, list and delete, and regmon tells it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.emulating import Bench
from tests.guest_programs import build, marks, said

BITS = pytest.mark.parametrize("bits", [32, 64])


@BITS
def test_what_is_written_is_read(tmp_path: Path, bits: int) -> None:
    """Each kind of value with its bytes; keys and values are listed, and gone when they are deleted."""
    source = r"""
    #include <string.h>
    #define HOME "Software\\Drakcelery\\Tool"
    int main(void)
    {
        HKEY key, below;
        DWORD made, number = 77, kind, size, keys, values;
        char text[64], name[64];
        BYTE bytes[] = {1, 2, 3};
        RegCreateKeyExA(HKEY_CURRENT_USER, HOME, 0, NULL, 0, KEY_ALL_ACCESS, NULL, &key, &made);
        mark(made == REG_CREATED_NEW_KEY ? "new" : "old");
        RegCreateKeyExA(HKEY_CURRENT_USER, HOME, 0, NULL, 0, KEY_ALL_ACCESS, NULL, &key, &made);
        mark(made == REG_OPENED_EXISTING_KEY ? "there" : "new-again");
        RegSetValueExA(key, "number", 0, REG_DWORD, (BYTE *)&number, 4);
        RegSetValueExA(key, "text", 0, REG_SZ, (BYTE *)"hello", 6);
        RegSetValueExW(key, L"wide", 0, REG_SZ, (BYTE *)L"wide", 10);
        RegSetValueExA(key, "bytes", 0, REG_BINARY, bytes, 3);
        number = 0, size = 4;
        RegQueryValueExA(key, "NUMBER", NULL, &kind, (BYTE *)&number, &size);
        mark(kind == REG_DWORD && size == 4 && number == 77 ? "number" : "no-number");
        size = sizeof text;
        RegQueryValueExA(key, "text", NULL, &kind, (BYTE *)text, &size);
        mark(kind == REG_SZ && size == 6 && !strcmp(text, "hello") ? "text" : "no-text");
        size = sizeof text;
        RegQueryValueExA(key, "wide", NULL, &kind, (BYTE *)text, &size);
        mark(size == 5 && !strcmp(text, "wide") ? "narrowed" : "wrong");
        size = 1;
        made = RegQueryValueExA(key, "bytes", NULL, NULL, (BYTE *)text, &size);
        mark(made == ERROR_MORE_DATA && size == 3 ? "too-small" : "wrong");
        size = 64;
        made = RegQueryValueExA(key, "absent", NULL, NULL, (BYTE *)text, &size);
        mark(made == ERROR_FILE_NOT_FOUND ? "absent" : "wrong");
        size = sizeof text;
        mark(RegGetValueA(HKEY_CURRENT_USER, HOME, "text", RRF_RT_REG_SZ, NULL, text, &size) == 0
             && RegGetValueA(HKEY_CURRENT_USER, HOME, "number", RRF_RT_REG_SZ, NULL, text, &size) == 1630
             ? "got" : "wrong");
        RegCreateKeyA(key, "one", &below);
        RegCreateKeyA(key, "two\\three", &below);
        RegCloseKey(below);
        RegQueryInfoKeyA(key, NULL, NULL, NULL, &keys, NULL, NULL, &values, NULL, NULL, NULL, NULL);
        mark(keys == 2 && values == 4 ? "counted" : "miscounted");
        for (DWORD i = 0; size = sizeof name, !RegEnumKeyExA(key, i, name, &size, 0, 0, 0, 0); i++)
            mark(name);
        for (DWORD i = 0; size = sizeof name, !RegEnumValueA(key, i, name, &size, 0, &kind, 0, 0); i++)
            mark(name);
        RegDeleteValueA(key, "text");
        size = 64;
        mark(RegQueryValueExA(key, "text", NULL, NULL, (BYTE *)text, &size) ? "deleted" : "kept");
        RegDeleteKeyA(key, "one");
        mark(RegOpenKeyExA(key, "one", 0, KEY_READ, &below) ? "gone" : "left");
        mark(RegCloseKey(key) == 0 && RegCloseKey(key) == ERROR_INVALID_HANDLE ? "closed" : "open");
        return 0;
    }
    """
    assert said(tmp_path, source, bits) == [
        *("new", "there", "number", "text", "narrowed", "too-small", "absent", "got", "counted"),
        *("one", "two", "number", "text", "wide", "bytes", "deleted", "gone", "closed"),
    ]


@BITS
def test_what_every_windows_has(tmp_path: Path, bits: int) -> None:
    """The Run key that was there keeps what is written; regmon has each question and change."""
    source = r"""
    int main(void)
    {
        HKEY key;
        char text[64];
        DWORD size = sizeof text, count = 0;
        const char *nt = "SOFTWARE\\Microsoft\\Windows NT\\CurrentVersion";
        const char *uninstall = "SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\Uninstall";
        const char *run = "Software\\Microsoft\\Windows\\CurrentVersion\\Run";
        RegOpenKeyExA(HKEY_LOCAL_MACHINE, nt, 0, KEY_READ, &key);
        RegQueryValueExA(key, "ProductName", NULL, NULL, (BYTE *)text, &size);
        mark(text);
        RegOpenKeyExA(HKEY_LOCAL_MACHINE, uninstall, 0, KEY_READ, &key);
        while (!RegEnumKeyA(key, count, text, sizeof text))
            count++;
        mark(count > 1 ? "programs" : "none");
        RegOpenKeyExA(HKEY_CURRENT_USER, run, 0, KEY_SET_VALUE, &key);
        RegSetValueExA(key, "updater", 0, REG_SZ, (BYTE *)"C:\\u.exe", 9);
        RegCloseKey(key);
        RegOpenKeyExA(HKEY_CURRENT_USER, run, 0, KEY_READ, &key);
        size = sizeof text;
        mark(RegQueryValueExA(key, "updater", NULL, NULL, (BYTE *)text, &size) ? "lost" : "kept");
        return 0;
    }
    """
    run = Bench(tmp_path).detonate(build(tmp_path, source, bits))
    assert run.outcome.reason is None
    assert marks(run) == ["Windows 10 Pro", "programs", "kept"]
    (written,) = run.lines("regmon", "NtSetValueKey")
    assert (written["ValueName"], written["Value"]) == ("updater", "C:\\u.exe")
    asked = [line["ValueName"] for line in run.lines("regmon", "NtQueryValueKey")]
    assert asked == ["ProductName", "updater"]
    assert {line["Key"].rpartition("\\")[2] for line in run.lines("regmon", "NtEnumerateKey")} == {
        "Uninstall"
    }
