"""Calling conventions: functions that are found at run time, imported late, or not known at all."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.guest_programs import BARE, PREFIXES, said

BITS = pytest.mark.parametrize("bits", [32, 64])


@BITS
def test_a_function_that_windows_lacks_is_not_found(tmp_path: Path, bits: int) -> None:
    """As a newer C runtime's start-up asks for one; what it does instead runs, on a stack that is right."""
    source = r"""
    typedef PVOID (WINAPI *get_value)(DWORD);
    typedef BOOL (WINAPI *stack_guarantee)(PULONG);
    void _start(void)
    {
        volatile int guard = 42;
        HMODULE kernel = GetModuleHandleA("kernel32.dll");
        SetLastError(0);
        FARPROC none = GetProcAddress(kernel, "NoSuchFunctionEver");
        DWORD error = GetLastError();
        mark(none ? "found" : "missing");
        mark(error == ERROR_PROC_NOT_FOUND ? "told" : "untold");
        get_value newer = (get_value)GetProcAddress(kernel, "FlsGetValue2");
        if (newer)
            newer(1);
        stack_guarantee known = (stack_guarantee)GetProcAddress(kernel, "SetThreadStackGuarantee");
        ULONG size = 0;
        if (known)
            known(&size);
        mark(known && guard == 42 ? "right" : "astray");
        mark(GetProcAddress((HMODULE)0x1234, "CreateFileA") ? "found" : "none");
        ExitProcess(0);
    }
    """
    assert said(tmp_path, source, bits, *BARE, "-lkernel32") == ["missing", "told", "right", "none"]


@BITS
def test_the_programs_own_exports(tmp_path: Path, bits: int) -> None:
    """GetProcAddress on the program itself gives its function, by name and by number."""
    source = r"""
    __declspec(dllexport) int answer(void) { return 42; }
    typedef int (*function)(void);
    void _start(void)
    {
        HMODULE self = GetModuleHandleA(NULL);
        function named = (function)GetProcAddress(self, "answer");
        function numbered = (function)GetProcAddress(self, (LPCSTR)1);
        mark(named == answer && named() == 42 ? "named" : "wrong");
        mark(numbered == answer ? "numbered" : "wrong");
        mark(GetProcAddress(self, "question") ? "found" : "missing");
        ExitProcess(0);
    }
    """
    assert said(tmp_path, source, bits, *BARE, "-lkernel32") == ["named", "numbered", "missing"]


@BITS
def test_delay_loading(tmp_path: Path, bits: int) -> None:
    """ResolveDelayLoadedAPI loads the library, fills the slot and gives the function."""
    source = r"""
    typedef PVOID (WINAPI *resolver)(PVOID, PVOID, PVOID, PVOID, PVOID, ULONG);
    typedef BOOL (WINAPI *set_text)(LPCSTR, LPCSTR);
    typedef DWORD (WINAPI *get_text)(LPCSTR, LPSTR, DWORD);
    static const char dll[] = "kernel32.dll";
    static struct { WORD hint; char name[32]; } first = {0, "SetEnvironmentVariableA"},
        second = {0, "GetEnvironmentVariableA"}, third = {0, "NoSuchOne"};
    static PVOID slots[4];
    static ULONG_PTR names[4];
    static HMODULE handle;
    static struct { DWORD attributes, dll, module, slots, names, bound, unload, time; } descriptor;
    void _start(void)
    {
        char text[8] = "";
        ULONG_PTR base = (ULONG_PTR)GetModuleHandleA(NULL);
        names[0] = (ULONG_PTR)&first - base;
        names[1] = (ULONG_PTR)&second - base;
        names[2] = (ULONG_PTR)&third - base;
        descriptor.attributes = 1;
        descriptor.dll = (ULONG_PTR)dll - base;
        descriptor.module = (ULONG_PTR)&handle - base;
        descriptor.slots = (ULONG_PTR)slots - base;
        descriptor.names = (ULONG_PTR)names - base;
        resolver resolve = (resolver)GetProcAddress(GetModuleHandleA(dll), "ResolveDelayLoadedAPI");
        set_text set = (set_text)resolve((PVOID)base, &descriptor, NULL, NULL, &slots[0], 0);
        resolve((PVOID)base, &descriptor, NULL, NULL, &slots[1], 0);
        set("MARK", "late");
        ((get_text)slots[1])("MARK", text, sizeof text);
        mark(text);
        mark(slots[0] == (PVOID)set ? "filled" : "empty");
        mark(resolve((PVOID)base, &descriptor, NULL, NULL, &slots[2], 0) ? "found" : "missing");
        ExitProcess(0);
    }
    """
    assert said(tmp_path, source, bits, *BARE, "-lkernel32") == ["late", "filled", "missing"]


@BITS
def test_a_runtimes_variables_are_found_by_name(tmp_path: Path, bits: int) -> None:
    """As what UPX packed finds them: GetProcAddress gives the data that an import of it is linked to."""
    source = r"""
    __declspec(dllimport) extern char *_acmdln;
    __declspec(dllimport) extern int _fmode;
    int main(void)
    {
        HMODULE runtime = GetModuleHandleA("msvcrt.dll");
        mark((char **)GetProcAddress(runtime, "_acmdln") == &_acmdln ? "same" : "another");
        *(int *)GetProcAddress(runtime, "_fmode") = 0x8000;
        mark(_fmode == 0x8000 ? "data" : "no-data");
        return 0;
    }
    """
    assert said(tmp_path, source, bits) == ["same", "data"]


@BITS
def test_operators_of_mfc(tmp_path: Path, bits: int) -> None:
    """Programs of old get C++'s new and delete from mfc42.dll, by number."""
    new, delete = (823, 825) if bits == 32 else (6890, 6891)
    definitions, library = tmp_path / "mfc42.def", tmp_path / "libmfc42.a"
    definitions.write_text(f"LIBRARY MFC42.DLL\nEXPORTS\n make @{new} NONAME\n drop @{delete} NONAME\n")
    build_library = [f"{PREFIXES[bits]}-dlltool", "-d", str(definitions), "-l", str(library)]
    subprocess.run(build_library, check=True)
    source = r"""
    void *make(SIZE_T);
    void drop(void *);
    void _start(void)
    {
        char *place = make(40);
        place[39] = 7;
        mark(place ? "made" : "null");
        drop(place);
        mark("dropped");
        ExitProcess(0);
    }
    """
    assert said(tmp_path, source, bits, *BARE, f"-L{tmp_path}", "-lmfc42", "-lkernel32") == [
        "made",
        "dropped",
    ]
