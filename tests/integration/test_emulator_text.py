"""Text: code pages, languages and their forms, configuration files; and the drive that they lie on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.emulating import Bench
from tests.guest_programs import build, marks, said

BITS = pytest.mark.parametrize("bits", [32, 64])


@BITS
def test_code_pages(tmp_path: Path, bits: int) -> None:
    """Characters become the bytes of the code page that is named, and back; what does not fit is said."""
    source = r"""
    #include <string.h>
    int main(void)
    {
        WCHAR wide[16];
        char narrow[16];
        BOOL lost = FALSE;
        CPINFO info;
        int count = MultiByteToWideChar(CP_UTF8, 0, "\xc3\xa4\xe2\x82\xac", -1, wide, 16);
        mark(count == 3 && wide[0] == 0xe4 && wide[1] == 0x20ac && !wide[2] ? "from-utf8" : "wrong");
        count = WideCharToMultiByte(CP_UTF8, 0, L"\x00e4\x20ac", 2, narrow, 16, NULL, NULL);
        mark(count == 5 && !memcmp(narrow, "\xc3\xa4\xe2\x82\xac", 5) ? "to-utf8" : "wrong");
        count = WideCharToMultiByte(CP_ACP, 0, L"\x20ac\x4e00", -1, narrow, 16, NULL, &lost);
        mark(count == 3 && !strcmp(narrow, "\x80?") && lost ? "to-ansi" : "wrong");
        count = MultiByteToWideChar(CP_ACP, 0, "\x81", 1, wide, 16);
        mark(count == 1 && wide[0] == 0x81 ? "undefined" : "wrong");
        mark(MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, "\xff", 1, wide, 16) == 0
             && GetLastError() == ERROR_NO_UNICODE_TRANSLATION ? "invalid" : "wrong");
        mark(WideCharToMultiByte(CP_ACP, 0, L"four", -1, NULL, 0, NULL, NULL) == 5 ? "counted" : "wrong");
        mark(WideCharToMultiByte(CP_ACP, 0, L"four", -1, narrow, 4, NULL, NULL) == 0
             && GetLastError() == ERROR_INSUFFICIENT_BUFFER ? "too-small" : "wrong");
        mark(MultiByteToWideChar(CP_ACP, 0, "room", -1, wide, 4) == 0
             && !memcmp(wide, L"room", 8) && !memcmp(narrow, "four", 4) ? "what-fits" : "wrong");
        mark(GetCPInfo(932, &info) && info.MaxCharSize == 2 && GetACP() == 1252 && GetOEMCP() == 437
             && !IsValidCodePage(7) ? "pages" : "wrong");
        return 0;
    }
    """
    seen = [
        "from-utf8",
        "to-utf8",
        "to-ansi",
        "undefined",
        "invalid",
        "counted",
        "too-small",
        "what-fits",
        "pages",
    ]
    assert said(tmp_path, source, bits) == seen


@BITS
def test_short_strings(tmp_path: Path, bits: int) -> None:
    """Byte for byte, each with a whole zero; in order, as words are sorted; what cannot be read is 0."""
    source = r"""
    #include <string.h>
    int main(void)
    {
        WCHAR wide[8];
        char narrow[8];
        memset(wide, 0xff, sizeof wide);
        lstrcpyW(wide, L"a");
        lstrcatW(wide, L"\xd800");
        mark(!memcmp(wide, L"a\xd800\0", 6) && wide[3] == 0xffff ? "wide" : "wrong");
        memset(narrow, 0xff, sizeof narrow);
        lstrcpyA(narrow, "\xe4");
        char *there = lstrcatA(narrow, "\x81");
        mark(there == narrow && !memcmp(narrow, "\xe4\x81\0\xff", 4) ? "narrow" : "wrong");
        there = lstrcpynA(narrow, "\xe4\xf6\xfc", 3);
        mark(there == narrow && !memcmp(narrow, "\xe4\xf6\0\xff", 4) ? "cut" : "wrong");
        mark(lstrcmpA("apple", "Banana") < 0 && lstrcmpW(L"banana", L"Apple") > 0 && lstrcmpA("a", "A") < 0
             && !lstrcmpiW(L"a", L"A") && lstrcmpiA("b", "A") > 0 && lstrcmpA(NULL, "") < 0
             ? "order" : "wrong");
        mark(!lstrlenA(NULL) && !lstrlenW((WCHAR *)8) && !lstrcpyA(narrow, (char *)8)
             && !lstrcatA((char *)8, "a") && lstrlenA(narrow) == 2 ? "unreadable" : "wrong");
        return 0;
    }
    """
    assert said(tmp_path, source, bits) == ["wide", "narrow", "cut", "order", "unreadable"]


@BITS
def test_the_language_is_english(tmp_path: Path, bits: int) -> None:
    """For Windows and the C runtime: names, numbers, dates, order and case; the keyboard too."""
    source = r"""
    #include <locale.h>
    #include <string.h>
    int main(void)
    {
        WCHAR wide[64];
        char text[64];
        DWORD number = 0;
        SYSTEMTIME when = {2024, 2, 4, 29, 13, 5, 9};
        mark(!strcmp(setlocale(LC_ALL, NULL), "C") && !*localeconv()->thousands_sep ? "plain" : "wrong");
        mark(!strcmp(setlocale(LC_ALL, ""), "English_United States.1252") ? "named" : "wrong");
        mark(!strcmp(localeconv()->thousands_sep, ",") && !setlocale(LC_ALL, "Klingon") ? "comma" : "wrong");
        GetLocaleInfoA(LOCALE_USER_DEFAULT, LOCALE_SISO639LANGNAME, text, sizeof text);
        GetLocaleInfoW(LOCALE_USER_DEFAULT, LOCALE_ILANGUAGE | LOCALE_RETURN_NUMBER, (WCHAR *)&number, 2);
        mark(!strcmp(text, "en") && number == 0x409 ? "english" : "wrong");
        mark(GetUserDefaultUILanguage() == 0x409 && GetUserDefaultLangID() == 0x409
             && LOWORD(GetKeyboardLayout(0)) == 0x409 ? "keyboard" : "wrong");
        LCMapStringW(LOCALE_USER_DEFAULT, LCMAP_UPPERCASE, L"stra\x00df" L"e \x00e4", -1, wide, 64);
        mark(!wcscmp(wide, L"STRA\x00df" L"E \x00c4") ? "upper" : "wrong");
        mark(CompareStringA(0x409, NORM_IGNORECASE, "ABC", -1, "abd", 3) == CSTR_LESS_THAN
             && CompareStringW(0x409, NORM_IGNORECASE, L"AbC", -1, L"aBc", -1) == CSTR_EQUAL
             ? "order" : "wrong");
        GetDateFormatA(0x409, 0, &when, "ddd, dd MMM yy 'at' yyyy-MM-dd", text, sizeof text);
        mark(!strcmp(text, "Thu, 29 Feb 24 at 2024-02-29") ? "date" : "wrong");
        GetTimeFormatA(0x409, 0, &when, NULL, text, sizeof text);
        mark(!strcmp(text, "1:05:09 PM") ? "time" : "wrong");
        return 0;
    }
    """
    seen = ["plain", "named", "comma", "english", "keyboard", "upper", "order", "date", "time"]
    assert said(tmp_path, source, bits) == seen


@BITS
def test_configuration_files(tmp_path: Path, bits: int) -> None:
    """Sections and keys are read, listed, written and taken out; the file's events are to be seen."""
    source = r"""
    #include <stdio.h>
    #include <string.h>
    #define INI "C:\\Users\\Public\\tool.ini"
    int main(void)
    {
        char text[64];
        FILE *file = fopen(INI, "w");
        fputs("; made by hand\n[net]\nhost = \"evil.example\"\nPort=4444\n\n[other]\nport=1\n", file);
        fclose(file);
        mark(GetPrivateProfileIntA("NET", "port", 7, INI) == 4444 ? "number" : "wrong");
        mark(GetPrivateProfileStringA("net", "host", "", text, 64, INI) == 12 && !strcmp(text, "evil.example")
             ? "text" : "wrong");
        mark(GetPrivateProfileStringA("net", "none", "default", text, 4, INI) == 3 && !strcmp(text, "def")
             ? "default" : "wrong");
        int length = GetPrivateProfileStringA("net", NULL, "", text, 64, INI);
        mark(length == 10 && !memcmp(text, "host\0Port\0", 11) ? "keys" : "wrong");
        mark(GetPrivateProfileSectionNamesA(text, 64, INI) == 10 && !memcmp(text, "net\0other\0", 11)
             ? "sections" : "wrong");
        WritePrivateProfileStringA("net", "id", "seven", INI);
        WritePrivateProfileStringA("net", "port", NULL, INI);
        mark(GetPrivateProfileStringA("net", "id", "", text, 64, INI) == 5
             && GetPrivateProfileIntA("net", "port", -1, INI) == -1 ? "changed" : "wrong");
        mark(GetPrivateProfileIntA("other", "port", 0, INI) == 1 ? "untouched" : "wrong");
        return 0;
    }
    """
    run = Bench(tmp_path).detonate(build(tmp_path, source, bits))
    assert run.outcome.reason is None
    seen = ["number", "text", "default", "keys", "sections", "changed", "untouched"]
    assert [mark for mark in marks(run) if mark != "tool.ini"] == seen
    written = [
        line for line in run.lines("filetracer", "NtWriteFile") if line["FileName"].endswith("tool.ini")
    ]
    assert len(written) == 3


@BITS
def test_drives_and_folders(tmp_path: Path, bits: int) -> None:
    """One drive, with NTFS and room; a walk through folders gives dots, folders and files, by both ways."""
    source = r"""
    #include <io.h>
    #include <direct.h>
    #include <stdio.h>
    #include <string.h>
    #define HOME "C:\\Users\\Public\\walk\\"
    int main(void)
    {
        char text[64], kind[16];
        DWORD serial = 0;
        ULARGE_INTEGER mine, total;
        WIN32_FIND_DATAA found;
        struct _finddata_t entry;
        int windows = 0, runtime = 0;
        mark(GetLogicalDriveStringsA(64, text) == 4 && !memcmp(text, "C:\\\0", 5) && GetLogicalDrives() == 4
             ? "drives" : "wrong");
        mark(GetDriveTypeA("C:\\") == DRIVE_FIXED ? "fixed" : "wrong");
        mark(GetDriveTypeA("Q:\\") == DRIVE_NO_ROOT_DIR ? "only" : "wrong");
        GetDiskFreeSpaceExA("C:\\", &mine, &total, NULL);
        mark(total.QuadPart > mine.QuadPart && mine.QuadPart > 100ULL << 30 ? "room" : "wrong");
        GetVolumeInformationA("C:\\", NULL, 0, &serial, NULL, NULL, kind, sizeof kind);
        mark(serial && !strcmp(kind, "NTFS") ? "volume" : "wrong");
        _mkdir(HOME);
        _mkdir(HOME "inner");
        fclose(fopen(HOME "a.txt", "w"));
        HANDLE search = FindFirstFileA(HOME "*", &found);
        do
            windows = windows * 10 + (found.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY ? 1 : 2);
        while (FindNextFileA(search, &found));
        intptr_t handle = _findfirst(HOME "*.*", &entry);
        do
            runtime = runtime * 10 + (entry.attrib & _A_SUBDIR ? 1 : 2);
        while (!_findnext(handle, &entry));
        mark(windows == 1112 && runtime == 1112 ? "walked" : "wrong");
        mark(_rmdir(HOME) == -1 && _rmdir(HOME "inner") == 0 && _rmdir(HOME "inner") == -1
             ? "removed" : "wrong");
        return 0;
    }
    """
    marked = said(tmp_path, source, bits)
    assert [mark for mark in marked if mark not in ("walk", "inner", "a.txt")] == [
        *("drives", "fixed", "only", "room", "volume", "walked", "removed")
    ]


@BITS
def test_a_text_of_any_length(tmp_path: Path, bits: int) -> None:
    """A text that ends with a zero is converted whole, however long it is."""
    source = r"""
    #include <stdlib.h>
    #define LENGTH 100000
    int main(void)
    {
        char *text = malloc(LENGTH + 1), *back = malloc(LENGTH + 1);
        WCHAR *wide = malloc((LENGTH + 1) * 2);
        memset(text, 'a', LENGTH);
        text[LENGTH] = 0;
        mark(MultiByteToWideChar(CP_ACP, 0, text, -1, NULL, 0) == LENGTH + 1 ? "measured" : "cut");
        mark(MultiByteToWideChar(CP_ACP, 0, text, -1, wide, LENGTH + 1) == LENGTH + 1 && !wide[LENGTH]
             ? "wide" : "wrong");
        mark(WideCharToMultiByte(CP_UTF8, 0, wide, -1, back, LENGTH + 1, NULL, NULL) == LENGTH + 1
             && !memcmp(text, back, LENGTH + 1) ? "narrow" : "wrong");
        return 0;
    }
    """
    assert said(tmp_path, source, bits) == ["measured", "wide", "narrow"]
