"""The console, messages and random numbers: what programs in Go and Rust cannot start without."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.guest_programs import BARE, said


@pytest.mark.parametrize("bits", [32, 64])
def test_what_is_written_counts_as_written(tmp_path: Path, bits: int) -> None:
    """Each way to write tells the true count; modes and types are those of a console, or of a file."""
    source = r"""
    #include <bcrypt.h>
    void _start(void)
    {
        DWORD written = 0, mode = 0;
        HANDLE out = GetStdHandle(STD_OUTPUT_HANDLE), in = GetStdHandle(STD_INPUT_HANDLE);
        CONSOLE_SCREEN_BUFFER_INFO info;
        WCHAR *text = NULL;
        char small[4];
        UCHAR bytes[16] = {0};
        mark(WriteConsoleW(out, L"hello", 5, &written, NULL) && written == 5 ? "wide" : "wide-lost");
        mark(WriteConsoleA(out, "hello", 3, &written, NULL) && written == 3 ? "narrow" : "narrow-lost");
        mark(WriteFile(out, "hello!", 6, &written, NULL) && written == 6 ? "file" : "file-lost");
        mark(GetConsoleMode(out, &mode) && mode == 3 ? "mode" : "no-mode");
        mark(GetFileType(out) == FILE_TYPE_CHAR && GetFileType(in) == FILE_TYPE_CHAR ? "char" : "other");
        HANDLE file = CreateFileA("C:\\Users\\x.txt", GENERIC_WRITE, 0, NULL, CREATE_ALWAYS, 0, NULL);
        mark(GetConsoleMode(file, &mode) ? "console" : "no-console");
        mark(GetFileType(file) == FILE_TYPE_DISK ? "disk" : "other");
        mark(GetConsoleOutputCP() ? "page" : "no-page");
        mark(GetConsoleScreenBufferInfo(out, &info) && info.dwSize.X > 0 ? "screen" : "no-screen");
        mark(ReadConsoleA(in, small, 4, &written, NULL) && written == 0 ? "end" : "typed");
        DWORD flags = FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_ALLOCATE_BUFFER;
        DWORD length = FormatMessageW(flags, NULL, 2, 0, (LPWSTR)&text, 0, NULL);
        mark(length == 44 && text[0] == L'T' && text[44] == 0 ? "message" : "no-message");
        mark(FormatMessageA(FORMAT_MESSAGE_FROM_SYSTEM, NULL, 2, 0, small, 4, NULL) ? "fits" : "too-small");
        DWORD_PTR arguments[2] = {(DWORD_PTR)"now", 7};
        char built[32];
        FormatMessageA(FORMAT_MESSAGE_FROM_STRING | FORMAT_MESSAGE_ARGUMENT_ARRAY, "%2!d!-%1%n", 0, 0, built,
                       sizeof built, (va_list *)arguments);
        built[5] = 0;
        mark(built);
        mark(BCryptGenRandom(NULL, bytes, 16, 2) == 0 && (bytes[0] | bytes[15]) ? "random" : "zeros");
        ExitProcess(0);
    }
    """
    seen = [
        "wide",
        "narrow",
        "file",
        "mode",
        "char",
        "no-console",
        "disk",
        "page",
        "screen",
        "end",
        "message",
    ]
    assert said(tmp_path, source, bits, *BARE, "-lkernel32", "-lbcrypt") == [
        *seen,
        "too-small",
        "7-now",
        "random",
    ]
