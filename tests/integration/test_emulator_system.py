"""What programs ask of the system in their start-up: memory, the machine, messages, sockets, packages."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from tests.emulating import Bench
from tests.guest_programs import BARE, PREFIXES, build, marks, said

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
        MEMORYSTATUSEX memory = {sizeof memory};
        MEMORYSTATUS before;
        DWORDLONG shared = *(volatile DWORD *)0x7FFE02E8 * (DWORDLONG)0x1000;
        GlobalMemoryStatusEx(&memory);
        if (memory.dwLength == sizeof memory && memory.ullTotalPhys == shared && memory.ullAvailPhys < shared
            && memory.ullTotalVirtual > memory.ullAvailVirtual)
            mark("memory");
        GlobalMemoryStatus(&before);
        if (before.dwLength == sizeof before && before.dwMemoryLoad == memory.dwMemoryLoad)
            mark("as-before");
        return 0;
    }
    """
    expected = ["system", "affinity", "boost", "storage", "waited", "memory", "as-before"]
    assert said(tmp_path, source, bits) == expected


@BITS
def test_gdi_plus_gives_functions_to_call(tmp_path: Path, bits: int) -> None:
    """A program that wants no thread of it calls what it got instead."""
    source = r"""
    typedef int (WINAPI *hook)(ULONG_PTR *);
    struct input { UINT version; void *debug; BOOL no_thread, no_codecs; } input = {1, NULL, TRUE, FALSE};
    struct output { hook begin; void (WINAPI *end)(ULONG_PTR); } output;
    int WINAPI GdiplusStartup(ULONG_PTR *, const struct input *, struct output *);
    void WINAPI GdiplusShutdown(ULONG_PTR);
    int main(void)
    {
        ULONG_PTR token = 0, hooked = 0;
        if (!GdiplusStartup(&token, &input, &output) && token) mark("started");
        if (!output.begin(&hooked)) mark("hooked");
        output.end(hooked);
        GdiplusShutdown(token);
        mark("over");
        return 0;
    }
    """
    assert said(tmp_path, source, bits, "-lgdiplus") == ["started", "hooked", "over"]


@BITS
def test_floating_point(tmp_path: Path, bits: int) -> None:
    """The first thread, and each that follows, computes in double precision and is told of no exception."""
    source = r"""
    static volatile double one = 1, three = 3, zero = 0;
    static DWORD WINAPI compute(void *name)
    {
        unsigned short control = 0;
        unsigned vector = 0;
        double third;
        __asm__ volatile("fnstcw %0" : "=m"(control));
        __asm__ volatile("stmxcsr %0" : "=m"(vector));
        __asm__ volatile("fldl %1; fldl %2; fdivrp; fstpl %0" : "=m"(third) : "m"(one), "m"(three));
        mark(control == 0x27f && vector == 0x1f80 && third == 1.0 / 3.0 && one / zero > 1e300
             ? name : "wrong");
        __asm__ volatile("fldcw %0" :: "m"(zero));
        return 0;
    }
    void _start(void)
    {
        compute("first");
        WaitForSingleObject(CreateThread(NULL, 0, compute, "second", 0, NULL), INFINITE);
        ExitProcess(0);
    }
    """
    assert said(tmp_path, source, bits, *BARE, "-msse2", "-lkernel32") == ["first", "second"]


@BITS
def test_messages_of_its_own(tmp_path: Path, bits: int) -> None:
    """``FormatMessage`` finds what is in the program's message table, in its language."""
    words = "Hello %1!\r\n\0".encode("utf-16-le") + b"\0\0"
    entry = struct.pack("<HH", 4 + len(words), 1) + words
    (tmp_path / "messages.bin").write_bytes(struct.pack("<IIII", 1, 500, 501, 16) + entry + entry)
    (tmp_path / "messages.rc").write_text('LANGUAGE 9, 1\n1 11 "messages.bin"\n', encoding="ascii")
    windres = f"{PREFIXES[bits]}-windres"
    assert shutil.which(windres)
    subprocess.run([windres, "messages.rc", "messages.o"], cwd=tmp_path, check=True)
    source = r"""
    int main(void)
    {
        WCHAR *text = NULL, *arguments[] = {L"World"};
        DWORD flags = FORMAT_MESSAGE_FROM_HMODULE | FORMAT_MESSAGE_ALLOCATE_BUFFER;
        flags |= FORMAT_MESSAGE_ARGUMENT_ARRAY;
        if (FormatMessageW(flags, NULL, 501, 0, (WCHAR *)&text, 0, (va_list *)arguments)
            && !lstrcmpW(text, L"Hello World!\r\n")) mark("own");
        if (FormatMessageW(flags, NULL, 500, 0x409, (WCHAR *)&text, 0, (va_list *)arguments)) mark("english");
        if (!FormatMessageW(flags, NULL, 500, 0x407, (WCHAR *)&text, 0, NULL)) mark("no-german");
        if (!FormatMessageW(flags, NULL, 502, 0, (WCHAR *)&text, 0, (va_list *)arguments)) mark("unknown");
        return 0;
    }
    """
    flags = ("-x", "none", str(tmp_path / "messages.o"))
    assert said(tmp_path, source, bits, *flags) == ["own", "english", "no-german", "unknown"]


@BITS
def test_faults_use_up_the_instructions(tmp_path: Path, bits: int) -> None:
    """A program that faults again and again comes to its limit of instructions; one with few faults ends."""
    source = r"""
    static volatile LONG caught;
    static LONG CALLBACK handler(EXCEPTION_POINTERS *info)
    {
        caught++;
    #ifdef _WIN64
        info->ContextRecord->Rip += 2;
    #else
        info->ContextRecord->Eip += 2;
    #endif
        return EXCEPTION_CONTINUE_EXECUTION;
    }
    int main(int count, char **arguments)
    {
        LONG wanted = count > 1 ? 0x7fffffff : 20;
        AddVectoredExceptionHandler(1, handler);
        while (caught < wanted) { for (volatile int i = 0; i < 50; i++); __asm__ volatile ("ud2"); }
        mark("over");
        return 0;
    }
    """
    program = build(tmp_path, source, bits)
    bench = Bench(tmp_path, max_instructions=2_000_000)
    few = bench.detonate(program, timeout=50)
    assert (marks(few), few.outcome.reason) == (["over"], None)
    endless = bench.detonate(program, "%f endless", timeout=50)
    assert marks(endless) == []
    assert endless.outcome.reason == "stopped after 2000000 instructions"


@BITS
def test_security_interface(tmp_path: Path, bits: int) -> None:
    """A program finds the functions of security packages by their table, and that there is no package."""
    source = r"""
    #define SECURITY_WIN32
    #include <security.h>
    int main(void)
    {
        PSecurityFunctionTableW table = InitSecurityInterfaceW();
        PSecPkgInfoW info = NULL;
        ULONG count = 5;
        if (table && table->dwVersion == 1) mark("table");
        if (!table->EnumerateSecurityPackagesW(&count, &info) && !count) mark("none");
        if (table->QuerySecurityPackageInfoW(L"NTLM", &info) == SEC_E_SECPKG_NOT_FOUND) mark("no-ntlm");
        if (!table->FreeContextBuffer(info)) mark("freed");
        return 0;
    }
    """
    assert said(tmp_path, source, bits, "-lsecur32") == ["table", "none", "no-ntlm", "freed"]


@BITS
def test_sockets_of_a_version(tmp_path: Path, bits: int) -> None:
    """``WSAStartup`` gives the version that is asked for, 2.2 at most."""
    source = r"""
    #include <winsock2.h>
    int main(void)
    {
        WSADATA data;
        if (!WSAStartup(MAKEWORD(2, 2), &data) && data.wVersion == 0x202) mark("2.2");
        if (data.szDescription[0] == 'W' && !lstrcmpA(data.szSystemStatus, "Running")) mark("text");
        WSAStartup(MAKEWORD(1, 1), &data);
        if (data.wVersion == 0x101 && data.iMaxSockets == 0x7fff) mark("1.1");
        if (!WSAStartup(MAKEWORD(3, 0), &data) && data.wVersion == 0x202) mark("highest");
        if (WSAStartup(0, &data) == WSAVERNOTSUPPORTED) mark("refused");
        return 0;
    }
    """
    assert said(tmp_path, source, bits, "-lws2_32") == ["2.2", "text", "1.1", "highest", "refused"]


@BITS
def test_no_objects_of_the_shell(tmp_path: Path, bits: int) -> None:
    """What there is no object for fails and gives none; a thread's apartment is what it entered."""
    source = r"""
    #define COBJMACROS
    #include <shlobj.h>
    int main(void)
    {
        IShellFolder *desktop = (IShellFolder *)1;
        IMalloc *memory = (IMalloc *)1;
        if (FAILED(SHGetDesktopFolder(&desktop)) && !desktop) mark("desktop");
        if (FAILED(SHGetMalloc(&memory)) && !memory) mark("memory");
        int kind = 7, more = 7;
        mark(CoGetApartmentType(&kind, &more) == CO_E_NOTINITIALIZED && CoInitializeEx(NULL, 0) == S_OK
             && CoInitializeEx(NULL, 0) == S_FALSE && CoInitialize(NULL) == RPC_E_CHANGED_MODE
             && !CoGetApartmentType(&kind, &more) && kind == 1 && !more ? "shared" : "wrong");
        CoUninitialize();
        CoUninitialize();
        mark(OleInitialize(NULL) == S_OK && !CoGetApartmentType(&kind, &more) && kind == 3
             ? "main" : "wrong");
        return 0;
    }
    """
    assert said(tmp_path, source, bits, "-lshell32", "-lole32") == ["desktop", "memory", "shared", "main"]


@BITS
def test_what_nobody_made_is_not_there(tmp_path: Path, bits: int) -> None:
    """Files but for those of Windows itself, and a window of the handle 0."""
    source = r"""
    static void look(const char *path, const char *name)
    {
        HANDLE file = CreateFileA(path, GENERIC_READ, 0, NULL, OPEN_EXISTING, 0, NULL);
        mark(file != INVALID_HANDLE_VALUE ? name : GetLastError() == ERROR_FILE_NOT_FOUND ? "none" : "odd");
        CloseHandle(file);
    }
    int main(void)
    {
        look("C:\\Users\\user\\Desktop\\settings.txt", "settings");
        look("C:\\Program Files\\Other\\other.exe", "other");
        look("C:\\Windows\\notepad.exe", "notepad");
        mark(IsWindow(NULL) || DestroyWindow(NULL) ? "window" : "no-window");
        return 0;
    }
    """
    assert said(tmp_path, source, bits) == ["none", "none", "notepad", "no-window"]


@BITS
def test_variables_of_the_environment(tmp_path: Path, bits: int) -> None:
    """One that is not set is not an empty one; lengths are without a zero, needed room is with it."""
    source = r"""
    int main(void)
    {
        char text[64] = "before";
        wchar_t wide[64];
        SetLastError(0);
        if (!GetEnvironmentVariableA("NOT_SET", text, 64) && GetLastError() == 203 && *text) mark("unset");
        SetEnvironmentVariableA("Own", "value");
        if (GetEnvironmentVariableW(L"OWN", wide, 64) == 5 && !lstrcmpW(wide, L"value")) mark("value");
        if (GetEnvironmentVariableA("own", text, 5) == 6 && text[0] == 'b') mark("room");
        SetEnvironmentVariableA("own", "");
        SetLastError(203);
        if (!GetEnvironmentVariableA("own", text, 64) && !GetLastError() && !text[0]) mark("empty");
        SetEnvironmentVariableA("own", NULL);
        if (!GetEnvironmentVariableA("own", text, 64) && GetLastError() == 203) mark("removed");
        return 0;
    }
    """
    assert said(tmp_path, source, bits) == ["unset", "value", "room", "empty", "removed"]
