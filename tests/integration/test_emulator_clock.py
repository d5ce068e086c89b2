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
