"""Functions of ours, and of Speakeasy's where its own word about the stack is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.guest_programs import BARE, said

BITS = pytest.mark.parametrize("bits", [32, 64])


@BITS
def test_the_version_is_compared(tmp_path: Path, bits: int) -> None:
    """Major before minor; a newer Windows than the emulated one is not claimed; the stack is right after."""
    source = r"""
    static void ask(DWORD major, DWORD minor, BYTE condition, const char *name)
    {
        OSVERSIONINFOEXW wanted = {sizeof wanted};
        wanted.dwMajorVersion = major;
        wanted.dwMinorVersion = minor;
        ULONGLONG mask = VerSetConditionMask(0, VER_MAJORVERSION, condition);
        mask = VerSetConditionMask(mask, VER_MINORVERSION, condition);
        if (VerifyVersionInfoW(&wanted, VER_MAJORVERSION | VER_MINORVERSION, mask))
            mark(name);
        else if (GetLastError() != ERROR_OLD_WIN_VERSION)
            mark("untold");
    }
    void _start(void)
    {
        volatile int guard = 42;
        ask(5, 2, VER_GREATER_EQUAL, "xp-or-newer");
        ask(6, 1, VER_EQUAL, "seven");
        ask(6, 2, VER_GREATER_EQUAL, "eight-or-newer");
        ask(10, 0, VER_LESS, "older-than-ten");
        OSVERSIONINFOEXA station = {sizeof station};
        station.wProductType = VER_NT_WORKSTATION;
        if (VerifyVersionInfoA(&station, VER_PRODUCT_TYPE,
                               VerSetConditionMask(0, VER_PRODUCT_TYPE, VER_EQUAL)))
            mark("workstation");
        mark(guard == 42 ? "right" : "astray");
        ExitProcess(0);
    }
    """
    assert said(tmp_path, source, bits, *BARE, "-lkernel32") == [
        *("xp-or-newer", "seven", "older-than-ten", "workstation", "right")
    ]


@BITS
def test_automation_strings(tmp_path: Path, bits: int) -> None:
    """They know their length, zeros in them included; NULL is an empty one, and may be freed."""
    source = r"""
    #include <oleauto.h>
    void _start(void)
    {
        BSTR text = SysAllocString(L"abc"), part = SysAllocStringLen(L"a\0cdef", 3);
        BSTR bytes = SysAllocStringByteLen("xyz", 3), none = SysAllocString(NULL);
        mark(SysStringLen(text) == 3 && SysStringByteLen(text) == 6 && !text[3] ? "text" : "wrong");
        mark(SysStringLen(part) == 3 && part[2] == 'c' && !part[3] ? "part" : "wrong");
        mark(SysStringByteLen(bytes) == 3 && SysStringLen(bytes) == 1 ? "bytes" : "wrong");
        mark(!none && !SysStringLen(NULL) ? "none" : "wrong");
        SysFreeString(NULL);
        SysFreeString(part);
        mark(SysReAllocString(&text, L"longer") && SysStringLen(text) == 6 ? "again" : "wrong");
        VARIANT first, second;
        VariantInit(&first);
        first.vt = VT_BSTR;
        first.bstrVal = text;
        VariantInit(&second);
        VariantCopy(&second, &first);
        mark(second.bstrVal != text && SysStringLen(second.bstrVal) == 6 ? "copied" : "wrong");
        VariantClear(&second);
        mark(second.vt == VT_EMPTY ? "cleared" : "wrong");
        ExitProcess(0);
    }
    """
    assert said(tmp_path, source, bits, *BARE, "-loleaut32", "-lkernel32") == [
        *("text", "part", "bytes", "none", "again", "copied", "cleared")
    ]


@BITS
def test_the_stack_is_as_windows_leaves_it(tmp_path: Path, bits: int) -> None:
    """Also after functions of which Speakeasy takes another number of words than Windows."""
    source = r"""
    void _start(void)
    {
        char text[32];
        volatile int guard = 42;
        DWORD count = 0;
        for (int i = 0; i < 4; i++) {
            MoveToEx(NULL, 1, 2, NULL);
            LineTo(NULL, 3, 4);
            GetProcessHandleCount(GetCurrentProcess(), &count);
        }
        const char *words[] = {"ab", "cd"};
        wvsprintfA(text, "%s%s", (va_list)words);
        mark(guard == 42 ? text : "astray");
        ExitProcess(0);
    }
    """
    assert said(tmp_path, source, bits, *BARE, "-lgdi32", "-luser32", "-lkernel32") == ["abcd"]


@BITS
def test_what_wsprintf_writes_is_a_whole_text(tmp_path: Path, bits: int) -> None:
    """With its zero, over a longer one that was there before; wide and narrow, bounded by 1024 characters."""
    source = r"""
    #include <shlwapi.h>
    int main(void)
    {
        char text[2048], long_one[2000];
        WCHAR wide[64];
        memset(text, 'x', sizeof text);
        int length = wsprintfA(text, "%s-%d-%02x", "a", -5, 7);
        mark(length == 7 && !strcmp(text, "a--5-07") ? "narrow" : "wrong");
        length = wsprintfA(text, "%S|%c|%lu", L"wide", 'q', 9ul);
        mark(length == 8 && !strcmp(text, "wide|q|9") ? "mixed" : "wrong");
        memset(wide, 1, sizeof wide);
        length = wsprintfW(wide, L"%s %S %I64d", L"w", "n", 5000000000LL);
        mark(length == 14 && !wcscmp(wide, L"w n 5000000000") ? "wide" : "wrong");
        mark(wnsprintfA(text, 4, "%d", 123456) && !strcmp(text, "123") ? "cut" : "wrong");
        memset(long_one, 'y', sizeof long_one);
        long_one[1999] = 0;
        mark(wsprintfA(text, "%s", long_one) == 1023 && strlen(text) == 1023 ? "bounded" : "unbounded");
        return 0;
    }
    """
    seen = ["narrow", "mixed", "wide", "cut", "bounded"]
    assert said(tmp_path, "#include <string.h>\n" + source, bits, "-lshlwapi") == seen


@pytest.mark.parametrize("bits", [32])
def test_a_function_may_return_into_another(tmp_path: Path, bits: int) -> None:
    """A program jumps to one with the address of the next on the stack, as packers and shellcode do."""
    source = r"""
    void _start(void)
    {
        mark("before");
        void *exit = ExitProcess, *set = SetLastError, *beep = MessageBeep;
        __asm__ volatile("pushl $0\n pushl $0\n pushl $5\n pushl %0\n pushl $6\n pushl %1\n jmp *%2"
                         : : "r"(exit), "r"(set), "r"(beep));
    }
    """
    assert said(tmp_path, source, bits, *BARE, "-luser32", "-lkernel32") == ["before"]


@BITS
def test_an_exception_of_a_c_plus_plus_runtime_in_a_dll(tmp_path: Path, bits: int) -> None:
    """_CxxThrowException raises what a handler can see: its code, the object and what types it has."""
    source = r"""
    __declspec(dllimport) void __stdcall _CxxThrowException(void *object, void *types);
    static int object, types;
    static LONG CALLBACK see(EXCEPTION_POINTERS *info)
    {
        EXCEPTION_RECORD *record = info->ExceptionRecord;
        mark(record->ExceptionCode == 0xe06d7363 && record->ExceptionFlags == 1 ? "thrown" : "wrong");
        mark(record->NumberParameters == (sizeof(void *) == 8 ? 4 : 3) ? "parameters" : "wrong");
        mark(record->ExceptionInformation[1] == (ULONG_PTR)&object ? "object" : "wrong");
        mark(record->ExceptionInformation[2] == (ULONG_PTR)&types ? "types" : "wrong");
        ExitProcess(0);
        return 0;
    }
    void _start(void)
    {
        AddVectoredExceptionHandler(1, see);
        _CxxThrowException(&object, &types);
        mark("returned");
    }
    """
    assert said(tmp_path, source, bits, *BARE, "-lkernel32", "-lmsvcrt") == [
        *("thrown", "parameters", "object", "types")
    ]


def test_the_processor_tells_what_it_can_do(tmp_path: Path) -> None:
    """32-bit Go programs end where cpuid denies MMX; DLLs that every Windows has are found."""
    source = r"""
    void _start(void)
    {
        unsigned a = 1, b, c, d;
        __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d));
        mark(d & 1 << 23 && d & 1 << 4 && d & 1 ? "able" : "unable");
        a = 0;
        __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d));
        mark(a >= 1 && d == 0x69746e65 ? "named" : "changed");
        mark(LoadLibraryA("winmm.dll") && LoadLibraryA("version.dll") ? "found" : "missing");
        ExitProcess(0);
    }
    """
    assert said(tmp_path, source, 32, *BARE, "-lkernel32") == ["able", "named", "found"]


@BITS
def test_guids_and_their_text(tmp_path: Path, bits: int) -> None:
    """As Windows writes them, in both widths; code that hides in their text comes out again."""
    source = r"""
    #include <objbase.h>
    #include <rpc.h>
    static const WCHAR TEXT_[] = L"{00112233-4455-6677-8899-AABBCCDDEEFF}";
    static const BYTE BYTES[16] = {0x33, 0x22, 0x11, 0, 0x55, 0x44, 0x77, 0x66,
                                   0x88, 0x99, 0xAA, 0xBB, 0xCC, 0xDD, 0xEE, 0xFF};
    static BOOL same(const void *one, const void *other)
    {
        for (int at = 0; at < 16; at++)
            if (((BYTE *)one)[at] != ((BYTE *)other)[at]) return FALSE;
        return TRUE;
    }
    void _start(void)
    {
        GUID one, other;
        WCHAR text[40];
        unsigned char *narrow;
        unsigned short *wide;
        mark(UuidFromStringA((unsigned char *)"00112233-4455-6677-8899-aabbccddeeff", &one) == RPC_S_OK
             && same(&one, BYTES) ? "from-text" : "wrong");
        mark(UuidFromStringA((unsigned char *)"none", &other) == RPC_S_INVALID_STRING_UUID
             ? "none" : "wrong");
        mark(UuidToStringA(&one, &narrow) == RPC_S_OK
             && !lstrcmpA((char *)narrow, "00112233-4455-6677-8899-aabbccddeeff") ? "narrow" : "wrong");
        mark(UuidToStringW(&one, &wide) == RPC_S_OK
             && !lstrcmpW((WCHAR *)wide, L"00112233-4455-6677-8899-aabbccddeeff") ? "wide" : "wrong");
        RpcStringFreeA(&narrow);
        mark(!narrow ? "freed" : "wrong");
        mark(StringFromGUID2(&one, text, 40) == 39 && !lstrcmpW(text, TEXT_)
             && !StringFromGUID2(&one, text, 38) ? "braces" : "wrong");
        mark(CLSIDFromString(TEXT_, &other) == S_OK && same(&other, BYTES)
             && CLSIDFromString(L"none", &other) == CO_E_CLASSSTRING ? "class" : "wrong");
        mark(CoCreateGuid(&one) == S_OK && UuidCreate(&other) == RPC_S_OK && !same(&one, &other)
             && one.Data3 >> 12 == 4 ? "made" : "wrong");
        ExitProcess(0);
    }
    """
    assert said(tmp_path, source, bits, *BARE, "-lkernel32", "-lole32", "-lrpcrt4") == [
        *("from-text", "none", "narrow", "wide", "freed", "braces", "class", "made")
    ]


@BITS
def test_functions_of_api_sets(tmp_path: Path, bits: int) -> None:
    """They are those of the libraries behind the sets, also where their names end in A or W."""
    source = r"""
    void _start(void)
    {
        STARTUPINFOW info = {0};
        GetStartupInfoW(&info);
        const WCHAR *line = GetCommandLineW();
        mark(line && line[0] == '"' && info.cb == sizeof info ? "known" : "wrong");
        ExitProcess(0);
    }
    """
    assert said(tmp_path, source, bits, *BARE, "-lmincore", "-lkernel32") == ["known"]
    assert b"api-ms-win-core-processenvironment" in (tmp_path / f"program{bits}.exe").read_bytes()
