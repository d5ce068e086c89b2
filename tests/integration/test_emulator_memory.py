"""What programs reserve, commit and free, and what Windows lets them read of itself, as C programs see it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.guest_programs import said

BITS = pytest.mark.parametrize("bits", [32, 64])


@BITS
def test_reserve_and_commit(tmp_path: Path, bits: int) -> None:
    """More is reserved than the program may have; what is committed of it is there, and nothing else."""
    source = r"""
    int main(void)
    {
        SIZE_T size = 512u << 20;
        char *all = VirtualAlloc(NULL, size, MEM_RESERVE, PAGE_READWRITE);
        MEMORY_BASIC_INFORMATION seen;
        if (all && ((ULONG_PTR)all & 0xFFFF) == 0) mark("reserved");
        if (!VirtualAlloc(all, 0x1000, MEM_RESERVE, PAGE_READWRITE) && GetLastError() == 487) mark("taken");
        VirtualQuery(all + 0x5000000, &seen, sizeof seen);
        if (seen.State == MEM_RESERVE && seen.AllocationBase == all) mark("no-memory-yet");
        char *part = VirtualAlloc(all + 0x5000000, 0x3000, MEM_COMMIT, PAGE_READWRITE);
        if (part == all + 0x5000000) { part[0x2fff] = 7; mark("committed"); }
        VirtualQuery(part, &seen, sizeof seen);
        if (seen.State == MEM_COMMIT && seen.AllocationBase == all) mark("there");
        if (VirtualAlloc(all + size, 0x1000, MEM_COMMIT, PAGE_READWRITE) == NULL) mark("outside");
        VirtualFree(part, 0x3000, MEM_DECOMMIT);
        part = VirtualAlloc(part, 0x3000, MEM_COMMIT, PAGE_READWRITE);
        if (part[0x2fff] == 0) mark("zero-again");
        if (!VirtualFree(part, 0, MEM_RELEASE) && VirtualFree(all, 0, MEM_RELEASE)) mark("freed");
        if (VirtualAlloc(all, size, MEM_RESERVE, PAGE_READWRITE) == all) mark("reserved-again");
        return 0;
    }
    """
    expected = ["reserved", "taken", "no-memory-yet", "committed", "there", "outside", "zero-again", "freed"]
    assert said(tmp_path, source, bits) == [*expected, "reserved-again"]


@BITS
def test_shared_data(tmp_path: Path, bits: int) -> None:
    """The page at 0x7FFE0000 has the version and a time that goes on, and cannot be written."""
    source = r"""
    static LONG CALLBACK caught(EXCEPTION_POINTERS *info)
    {
        mark(info->ExceptionRecord->ExceptionCode == 0xC0000005 ? "read-only" : "other");
        ExitProcess(0);
    }
    int main(void)
    {
        volatile char *page = (volatile char *)0x7FFE0000;
        OSVERSIONINFOW version = {sizeof version};
        FILETIME now;
        GetVersionExW(&version);
        if (*(DWORD *)(page + 0x26C) == version.dwMajorVersion) mark("version");
        if (*(WCHAR *)(page + 0x30) == 'C') mark("folder");
        if (*(DWORD *)(page + 0x3C0) >= 1 && page[0x274 + 10] == 1) mark("processors");
        GetSystemTimeAsFileTime(&now);
        LONG apart = *(LONG *)(page + 0x18) - (LONG)now.dwHighDateTime;
        if (-1 <= apart && apart <= 1) mark("clock");
        ULONGLONG before = *(volatile ULONGLONG *)(page + 0x8);
        Sleep(5000);
        ULONGLONG passed = *(volatile ULONGLONG *)(page + 0x8) - before;
        if (passed >= 50000000 && passed < 600000000) mark("slept");
        AddVectoredExceptionHandler(1, caught);
        page[0] = 1;
        return 0;
    }
    """
    assert said(tmp_path, source, bits) == ["version", "folder", "processors", "clock", "slept", "read-only"]


@BITS
def test_machine(tmp_path: Path, bits: int) -> None:
    """What runtimes ask for before they begin: processors, storage of fibers, a wait for oneself."""
    source = r"""
    #include <winternl.h>
    int main(void)
    {
        typedef void *(WINAPI *Get)(DWORD);
        DWORD_PTR ours = 0, all = 0;
        SYSTEM_INFO info;
        GetSystemInfo(&info);
        if (info.dwNumberOfProcessors && info.dwAllocationGranularity == 0x10000) mark("system");
        if (GetProcessAffinityMask(GetCurrentProcess(), &ours, &all) && ours && ours == all) mark("affinity");
        if (SetProcessPriorityBoost(GetCurrentProcess(), TRUE)) mark("boost");
        Get get = (Get)GetProcAddress(GetModuleHandleA("kernel32.dll"), "FlsGetValue2");
        DWORD index = FlsAlloc(NULL);
        FlsSetValue(index, (void *)77);
        SetLastError(5);
        if (get && get(index) == (void *)77 && GetLastError() == 5) mark("storage");
        if (WaitForSingleObject(GetCurrentProcess(), 20) == WAIT_TIMEOUT) mark("waited");
        return 0;
    }
    """
    assert said(tmp_path, source, bits) == ["system", "affinity", "boost", "storage", "waited"]
