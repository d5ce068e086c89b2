"""Time: every clock of Windows and of the C runtime tells the same, sleep counts, and zones agree."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.guest_programs import said

BITS = pytest.mark.parametrize("bits", [32, 64])


@BITS
def test_sleep_counts_on_every_clock(tmp_path: Path, bits: int) -> None:
    """What a program looks at to see whether somebody skips its sleep."""
    source = r"""
    #include <time.h>
    #include <stdio.h>
    #include <mmsystem.h>
    static ULONGLONG file_time(void)
    {
        FILETIME now;
        GetSystemTimeAsFileTime(&now);
        return ((ULONGLONG)now.dwHighDateTime << 32 | now.dwLowDateTime) / 10000;
    }
    static void look(ULONGLONG *all)
    {
        LARGE_INTEGER counter, frequency;
        QueryPerformanceCounter(&counter);
        QueryPerformanceFrequency(&frequency);
        all[0] = GetTickCount();
        all[1] = GetTickCount64();
        all[2] = timeGetTime();
        all[3] = file_time();
        all[4] = counter.QuadPart * 1000 / frequency.QuadPart;
        all[5] = time(NULL) * 1000ULL;
        all[6] = clock() * 1000ULL / CLOCKS_PER_SEC;
    }
    int main(void)
    {
        ULONGLONG before[7], after[7];
        char name[32];
        look(before);
        Sleep(600000);
        look(after);
        for (int i = 0; i < 7; i++) {
            ULONGLONG passed = after[i] - before[i];
            sprintf(name, "%d-%s", i, passed >= 599000 && passed < 630000 ? "ok" : "off");
            mark(name);
        }
        return 0;
    }
    """
    assert said(tmp_path, source, bits, "-lwinmm") == [f"{number}-ok" for number in range(7)]


@BITS
def test_a_program_that_looks_at_the_clock_again_and_again_gets_on(tmp_path: Path, bits: int) -> None:
    """Two minutes pass in seconds for one that waits without sleeping."""
    source = r"""
    int main(void)
    {
        DWORD start = GetTickCount();
        while (GetTickCount() - start < 120000)
            ;
        mark("waited");
        return 0;
    }
    """
    assert said(tmp_path, source, bits) == ["waited"]


@BITS
def test_zones_and_forms_of_time_agree(tmp_path: Path, bits: int) -> None:
    """The zone is UTC for Windows and the C runtime; conversions give back what they were given."""
    source = r"""
    #include <time.h>
    #include <string.h>
    int main(void)
    {
        SYSTEMTIME system, local, back;
        FILETIME file, other;
        TIME_ZONE_INFORMATION zone;
        time_t now = time(NULL);
        struct tm *parts = localtime(&now);
        WORD date, hour;
        GetSystemTime(&system);
        GetLocalTime(&local);
        mark(parts->tm_year + 1900 == local.wYear && parts->tm_hour == local.wHour ? "same" : "differ");
        mark(GetTimeZoneInformation(&zone) == TIME_ZONE_ID_UNKNOWN && zone.Bias == 0 ? "utc" : "other");
        _tzset();
        mark(_timezone == 0 && !wcsncmp(zone.StandardName, L"Coordinated", 11)
             && !strncmp(_tzname[0], "Coordinated", 11) ? "named" : "unnamed");
        mark(mktime(localtime(&now)) == now && mktime(gmtime(&now)) == now ? "whole" : "shifted");
        SYSTEMTIME leap = {2024, 2, 0, 29, 13, 5, 9, 250};
        SystemTimeToFileTime(&leap, &file);
        FileTimeToSystemTime(&file, &back);
        mark(back.wDay == 29 && back.wDayOfWeek == 4 && back.wMilliseconds == 250 ? "back" : "lost");
        FileTimeToLocalFileTime(&file, &other);
        mark(CompareFileTime(&file, &other) == 0 ? "equal" : "unequal");
        FileTimeToDosDateTime(&file, &date, &hour);
        DosDateTimeToFileTime(date, hour, &other);
        mark(CompareFileTime(&file, &other) == 1 ? "later" : "wrong");
        leap.wDay = 31;
        mark(SystemTimeToFileTime(&leap, &file) ? "taken" : "refused");
        return 0;
    }
    """
    seen = ["same", "utc", "named", "whole", "back", "equal", "later", "refused"]
    assert said(tmp_path, source, bits) == seen


@BITS
def test_files_have_times_of_the_same_clock(tmp_path: Path, bits: int) -> None:
    """When a file was made and written is what the clock said then, whoever asks; a program may set it."""
    source = r"""
    #include <stdio.h>
    #include <sys/stat.h>
    static LONGLONG number(FILETIME time)
    {
        return (LONGLONG)time.dwHighDateTime << 32 | time.dwLowDateTime;
    }
    static int near_to(LONGLONG one, LONGLONG other)
    {
        return one - other < 60 * 10000000LL && other - one < 60 * 10000000LL;
    }
    int main(void)
    {
        FILETIME now, created, accessed, written, old = {0xD53E8000, 0x019DB1DE};
        WIN32_FILE_ATTRIBUTE_DATA data;
        WIN32_FIND_DATAA found;
        BY_HANDLE_FILE_INFORMATION information;
        struct _stat64 status;
        DWORD done;
        HANDLE file = CreateFileA("C:\\t.txt", GENERIC_READ | GENERIC_WRITE, 0, NULL, CREATE_ALWAYS, 0, NULL);
        GetSystemTimeAsFileTime(&now);
        LONGLONG start = number(now);
        GetFileTime(file, &created, &accessed, &written);
        mark(near_to(number(created), start) && near_to(number(written), start) ? "made" : "wrong");
        Sleep(3600000);
        WriteFile(file, "text", 4, &done, NULL);
        GetFileTime(file, &created, NULL, &written);
        mark(near_to(number(created), start) && near_to(number(written), start + 36000000000LL)
             ? "written" : "wrong");
        Sleep(3600000);
        GetFileInformationByHandle(file, &information);
        GetFileAttributesExA("C:\\t.txt", GetFileExInfoStandard, &data);
        FindFirstFileA("C:\\t.*", &found);
        _stat64("C:\\t.txt", &status);
        mark(number(data.ftLastWriteTime) == number(written) && number(data.ftCreationTime) == number(created)
             && number(found.ftLastWriteTime) == number(written)
             && number(information.ftLastWriteTime) == number(written)
             && status.st_mtime == (number(written) - 116444736000000000LL) / 10000000
             && status.st_ctime == (number(created) - 116444736000000000LL) / 10000000 ? "alike" : "wrong");
        GetFileAttributesExA("C:\\Windows\\System32", GetFileExInfoStandard, &data);
        mark(number(data.ftCreationTime) < start - 864000000000LL ? "old" : "new");
        mark(SetFileTime(file, &old, NULL, NULL) ? "set" : "wrong");
        GetFileTime(file, &created, NULL, &accessed);
        mark(number(created) == number(old) && number(accessed) == number(written) ? "kept" : "lost");
        mark(GetFileTime((HANDLE)0x1234, &created, NULL, NULL) || GetLastError() != ERROR_INVALID_HANDLE
             ? "wrong" : "no-file");
        return 0;
    }
    """
    assert said(tmp_path, source, bits) == ["made", "written", "alike", "old", "set", "kept", "no-file"]


@BITS
def test_the_time_stamp_counter_sleeps_along(tmp_path: Path, bits: int) -> None:
    """A program that looks whether a Sleep is skipped may look at rdtsc too."""
    source = r"""
    #include <x86intrin.h>
    int main(void)
    {
        unsigned processor;
        ULONGLONG first = __rdtsc(), second = __rdtsc();
        mark(second > first && second - first < 100000000 ? "goes-on" : "wrong");
        Sleep(10000);
        ULONGLONG third = __rdtsc();
        mark(third - second > 5000000000ULL && third - second < 200000000000ULL ? "slept" : "skipped");
        Sleep(10000);
        ULONGLONG fourth = __rdtscp(&processor);
        mark(fourth - third > 5000000000ULL && fourth - third < 200000000000ULL ? "slept" : "skipped");
        return 0;
    }
    """
    assert said(tmp_path, source, bits) == ["goes-on", "slept", "slept"]
