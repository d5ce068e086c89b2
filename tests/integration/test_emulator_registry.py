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


@BITS
def test_keys_are_deleted_as_windows_deletes_them(tmp_path: Path, bits: int) -> None:
    """One with keys below it stays; a tree goes as a whole, or is emptied; a handle says what is gone."""
    source = r"""
    #define HOME "Software\\Drakcelery"
    static LONG made(const char *name, HKEY *key)
    {
        return RegCreateKeyExA(HKEY_CURRENT_USER, name, 0, NULL, 0, KEY_ALL_ACCESS, NULL, key, NULL);
    }
    int main(void)
    {
        HKEY home, inner, other;
        DWORD keys, values;
        made(HOME "\\a\\b\\c", &inner);
        made(HOME "\\a\\d", &other);
        made(HOME, &home);
        RegSetValueExA(home, "v", 0, REG_SZ, (BYTE *)"1", 2);
        mark(RegDeleteKeyA(home, "a") == ERROR_ACCESS_DENIED ? "has-keys" : "wrong");
        mark(RegDeleteKeyExA(home, "a\\b", 0, 0) == ERROR_ACCESS_DENIED ? "has-a-key" : "wrong");
        mark(RegDeleteKeyA(home, "a\\d") ? "wrong" : "deleted");
        mark(RegSetValueExA(other, "v", 0, REG_SZ, (BYTE *)"1", 2) == ERROR_KEY_DELETED
             && RegOpenKeyExA(home, "a\\d", 0, KEY_READ, &other) == ERROR_FILE_NOT_FOUND ? "gone" : "back");
        mark(RegDeleteTreeA(home, "a\\x") == ERROR_FILE_NOT_FOUND ? "none" : "wrong");
        mark(RegDeleteTreeA(home, "a\\b") || RegOpenKeyExA(home, "a", 0, KEY_READ, &other)
             ? "wrong" : "tree");
        mark(RegDeleteTreeW(home, NULL) ? "wrong" : "emptied");
        RegQueryInfoKeyA(home, NULL, NULL, NULL, &keys, NULL, NULL, &values, NULL, NULL, NULL, NULL);
        mark(keys || values || RegOpenKeyExA(HKEY_CURRENT_USER, HOME, 0, KEY_READ, &other)
             ? "wrong" : "stays");
        for (int i = 0; i < 700; i++) {
            if (made(HOME "\\1\\2\\3\\4\\5\\6\\7\\8\\9\\10\\11\\12\\13\\14\\15\\16\\17\\18\\19\\20"
                     "\\21\\22\\23\\24\\25\\26\\27\\28\\29\\30\\31\\32\\33\\34\\35\\36\\37\\38\\39\\40"
                     "\\41\\42\\43\\44\\45\\46\\47\\48\\49\\50\\51\\52\\53\\54\\55\\56\\57\\58\\59\\60"
                     "\\61\\62\\63\\64\\65\\66\\67\\68\\69\\70\\71\\72\\73\\74\\75\\76\\77\\78\\79\\80"
                     "\\81\\82\\83\\84\\85\\86\\87\\88\\89\\90\\91\\92\\93\\94\\95\\96\\97\\98\\99", &inner)
                || !inner || RegDeleteTreeA(home, "1"))
                mark("full");
            inner = NULL;
        }
        mark("again-and-again");
        return 0;
    }
    """
    assert said(tmp_path, source, bits) == [
        *("has-keys", "has-a-key", "deleted", "gone", "none", "tree", "emptied", "stays", "again-and-again"),
    ]


@BITS
def test_narrow_texts_are_of_one_code_page(tmp_path: Path, bits: int) -> None:
    """What was written as a narrow text is the same wide, and back: of each character of code page 1252."""
    source = r"""
    #include <stdio.h>
    #include <stdlib.h>
    #include <string.h>
    int main(void)
    {
        char all[] = "\x80\x81\x8d\x8e\x90\x99\x9d\x9f\xa0\xdf\xff", text[64], path[MAX_PATH];
        const WCHAR *same = L"\x20ac\x81\x8d\x17d\x90\x2122\x9d\x178\xa0\xdf\xff";
        WCHAR wide[64], wide_path[MAX_PATH];
        DWORD size = sizeof wide;
        HKEY key;
        FILE *file;
        RegCreateKeyA(HKEY_CURRENT_USER, "Software\\\x80uro", &key);
        RegSetValueExA(key, "\x80", 0, REG_SZ, (BYTE *)all, sizeof all);
        mark(RegOpenKeyW(HKEY_CURRENT_USER, L"Software\\\x20acuro", &key) ? "no-key" : "key");
        mark(RegQueryValueExW(key, L"\x20ac", NULL, NULL, (BYTE *)wide, &size) || wcscmp(wide, same)
             ? "no-value" : "value");
        size = sizeof text;
        mark(RegQueryValueExA(key, "\x80", NULL, NULL, (BYTE *)text, &size) || strcmp(text, all)
             ? "no" : "back");
        SetEnvironmentVariableA("N\x80", all);
        mark(GetEnvironmentVariableW(L"N\x20ac", wide, 64) != 11 || wcscmp(wide, same) ? "no" : "variable");
        mark(!getenv("N\x80") || strcmp(getenv("N\x80"), all) ? "no" : "getenv");
        mark(MultiByteToWideChar(CP_ACP, 0, all, -1, wide, 64) != 12 || wcscmp(wide, same)
             ? "no" : "converted");
        CreateDirectoryA("C:\\\x80", NULL);
        file = fopen("C:\\\x80\\\x99.txt", "w");
        fclose(file);
        mark(GetFileAttributesW(L"C:\\\x20ac\\\x2122.txt") == INVALID_FILE_ATTRIBUTES ? "no" : "file");
        WIN32_FIND_DATAA found;
        FindFirstFileA("C:\\\x80\\*.txt", &found);
        mark(strcmp(found.cFileName, "\x99.txt") ? "no" : "found");
        WritePrivateProfileStringA("s", "k", all, "C:\\\x80\\a.ini");
        GetPrivateProfileStringW(L"s", L"k", L"", wide, 64, L"C:\\\x20ac\\a.ini");
        mark(wcscmp(wide, same) ? "no" : "profile");
        file = fopen("C:\\w.ini", "wb");
        fwrite(L"\xfeff[s]\r\nk=\x4e2d\r\n", 2, 10, file);
        fclose(file);
        WritePrivateProfileStringW(L"s", L"l", L"\x6587", L"C:\\w.ini");
        GetPrivateProfileStringW(L"s", L"k", L"", wide, 64, L"C:\\w.ini");
        GetPrivateProfileStringW(L"s", L"l", L"", wide + 1, 63, L"C:\\w.ini");
        mark(wcscmp(wide, L"\x4e2d\x6587") ? "no" : "wide-profile");
        return 0;
    }
    """
    assert said(tmp_path, source, bits) == [
        *("key", "value", "back", "variable", "getenv", "converted", "file", "found", "profile"),
        "wide-profile",
    ]


@BITS
def test_variables_in_values(tmp_path: Path, bits: int) -> None:
    """Some functions fill them in and say that it is plain text; with a flag they do not."""
    source = r"""
    #include <shlwapi.h>
    #define GET(flags) (size = sizeof text, kind = 0, RegGetValueA(key, NULL, "v", flags, &kind, text, &size))
    int main(void)
    {
        HKEY key;
        DWORD kind, size;
        char text[64];
        SetEnvironmentVariableA("ANIMAL", "crab");
        RegCreateKeyA(HKEY_CURRENT_USER, "Software\\Drakcelery", &key);
        RegSetValueExA(key, "v", 0, REG_EXPAND_SZ, (BYTE *)"a %ANIMAL%", 11);
        mark(!GET(RRF_RT_ANY) && kind == REG_SZ && size == 7 && !strcmp(text, "a crab") ? "filled" : "wrong");
        mark(!GET(RRF_RT_REG_SZ) && !strcmp(text, "a crab") ? "plain" : "wrong");
        mark(!GET(RRF_RT_REG_EXPAND_SZ | RRF_NOEXPAND) && kind == REG_EXPAND_SZ && size == 11
             && !strcmp(text, "a %ANIMAL%") ? "as-it-is" : "wrong");
        mark(GET(RRF_RT_REG_SZ | RRF_NOEXPAND) == ERROR_UNSUPPORTED_TYPE ? "not-plain" : "wrong");
        mark(GET(RRF_RT_REG_EXPAND_SZ) == ERROR_INVALID_PARAMETER ? "refused" : "wrong");
        size = sizeof text;
        mark(!SHGetValueA(key, NULL, "v", &kind, text, &size) && kind == REG_SZ && !strcmp(text, "a crab")
             ? "shell" : "wrong");
        size = sizeof text;
        mark(!RegQueryValueExA(key, "v", NULL, &kind, (BYTE *)text, &size) && kind == REG_EXPAND_SZ
             && size == 11 ? "raw" : "wrong");
        return 0;
    }
    """
    seen = ["filled", "plain", "as-it-is", "not-plain", "refused", "shell", "raw"]
    assert said(tmp_path, source, bits, "-ladvapi32", "-lshlwapi") == seen
