"""The emulator on files in memory and on pipes: what a program writes there gets to where it belongs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.emulating import Bench
from tests.guest_programs import BARE, build, marks, said

VIEWS = r"""
#define PATH "C:\\Users\\Public\\mapped.bin"
static BOOL same(const char *one, const char *other, DWORD size)
{
    while (size--) if (one[size] != other[size]) return FALSE;
    return TRUE;
}
void _start(void)
{
    static char text[16];
    DWORD done;
    HANDLE file = CreateFileA(PATH, GENERIC_READ | GENERIC_WRITE, 0, 0, CREATE_ALWAYS, 0, 0);
    if (!CreateFileMappingA(file, 0, PAGE_READWRITE, 0, 0, 0) && GetLastError() == ERROR_FILE_INVALID)
        mark("empty");
    HANDLE map = CreateFileMappingA(file, 0, PAGE_READWRITE, 0, 0x20010, 0);
    if (GetFileSize(file, 0) == 0x20010) mark("longer");
    char *all = MapViewOfFile(map, FILE_MAP_ALL_ACCESS, 0, 0, 0);
    char *part = MapViewOfFile(map, FILE_MAP_WRITE, 0, 0x20000, 16);
    if (!MapViewOfFile(map, FILE_MAP_READ, 0, 0x100, 16) && GetLastError() == ERROR_MAPPED_ALIGNMENT)
        mark("not-aligned");
    if (!MapViewOfFile(map, FILE_MAP_READ, 0, 0x30000, 16)) mark("beyond");
    lstrcpyA(all + 0x20000, "seen by both");
    if (same(part, "seen by both", 13)) mark("one-memory");
    UnmapViewOfFile(part);
    SetFilePointer(file, 0x20000, 0, FILE_BEGIN);
    if (ReadFile(file, text, 16, &done, 0) && done == 16 && same(text, "seen by both", 13))
        mark("in-the-file");
    lstrcpyA(all, "at the end");
    UnmapViewOfFile(all);
    CloseHandle(map); CloseHandle(file);
    file = CreateFileA(PATH, GENERIC_READ, FILE_SHARE_READ, 0, OPEN_EXISTING, 0, 0);
    map = CreateFileMappingA(file, 0, PAGE_READONLY, 0, 0, 0);
    for (int time = 0; time < 2; time++) {
        all = MapViewOfFile(map, FILE_MAP_READ, 0, 0, 0x1000);
        part = MapViewOfFile(map, FILE_MAP_READ, 0, 0x20000, 16);
        if (same(all, "at the end", 11) && same(part, "seen by both", 13)) mark("read");
        UnmapViewOfFile(all);
        UnmapViewOfFile(part);
    }
    HANDLE named = CreateFileMappingA(INVALID_HANDLE_VALUE, 0, PAGE_READWRITE, 0, 0x1000, "Local\\shared");
    lstrcpyA(MapViewOfFile(named, FILE_MAP_ALL_ACCESS, 0, 0, 0), "shared");
    all = MapViewOfFile(OpenFileMappingA(FILE_MAP_READ, FALSE, "Local\\shared"), FILE_MAP_READ, 0, 0, 0);
    if (same(all, "shared", 7)) mark("by-name");
    if (CreateFileMappingA(INVALID_HANDLE_VALUE, 0, PAGE_READWRITE, 0, 0x1000, "Local\\shared")
        && GetLastError() == ERROR_ALREADY_EXISTS) mark("exists");
    if (!OpenFileMappingA(FILE_MAP_READ, FALSE, "none") && GetLastError() == ERROR_FILE_NOT_FOUND)
        mark("none");
    ExitProcess(0);
}
"""

COHERENT = r"""
int main(void)
{
    char text[8] = {0};
    DWORD done;
    HANDLE file = CreateFileA(PATH, GENERIC_READ | GENERIC_WRITE, 0, 0, CREATE_ALWAYS, 0, 0);
    HANDLE map = CreateFileMappingA(file, 0, PAGE_READWRITE, 0, 0x2100, 0), other = 0;
    char *view = MapViewOfFile(map, FILE_MAP_ALL_ACCESS, 0, 0, 0);
    mark(!CreateFileMappingA(file, 0, PAGE_READONLY, 0, 0x9000, 0)
         && GetLastError() == ERROR_NOT_ENOUGH_MEMORY ? "too-long" : "wrong");
    memcpy(view + 0x1000, "view", 4);
    SetFilePointer(file, 0x1000, 0, FILE_BEGIN);
    mark(ReadFile(file, text, 4, &done, 0) && done == 4 && !memcmp(text, "view", 4) ? "read" : "stale");
    char *copy = MapViewOfFile(map, FILE_MAP_COPY, 0, 0, 0);
    mark(copy != view && !memcmp(copy + 0x1000, "view", 4) ? "copied" : "shared");
    memcpy(copy + 0x1000, "mine", 4);
    SetFilePointer(file, 0x1000, 0, FILE_BEGIN);
    mark(FlushViewOfFile(copy, 0) && UnmapViewOfFile(copy) && !memcmp(view + 0x1000, "view", 4)
         && ReadFile(file, text, 4, &done, 0) && !memcmp(text, "view", 4) ? "private" : "public");
    memcpy(view + 0x20f0, "tail", 4);
    SetFilePointer(file, 0x20f4, 0, FILE_BEGIN);
    WriteFile(file, "file", 4, &done, 0);
    mark(!memcmp(view + 0x20f0, "tailfile", 8) ? "seen" : "unseen");
    SetFilePointer(file, 0x100, 0, FILE_BEGIN);
    mark(!SetEndOfFile(file) && GetLastError() == ERROR_USER_MAPPED_FILE ? "held" : "cut");
    mark(CreateFileA(PATH, GENERIC_WRITE, FILE_SHARE_READ, 0, CREATE_ALWAYS, 0, 0) == INVALID_HANDLE_VALUE
         && GetLastError() == ERROR_USER_MAPPED_FILE ? "kept" : "emptied");
    mark(!LocalFree(0) && LocalFree(view) == view && GetLastError() == ERROR_INVALID_HANDLE
         && GlobalFree(view + 16) == view + 16 && !HeapFree(GetProcessHeap(), 0, view)
         && !VirtualFree(view, 0, MEM_RELEASE) && !UnmapViewOfFile(text) ? "refused" : "freed");
    DuplicateHandle(GetCurrentProcess(), map, GetCurrentProcess(), &other, 0, FALSE, DUPLICATE_SAME_ACCESS);
    mark(CloseHandle(map) && !MapViewOfFile(map, FILE_MAP_READ, 0, 0, 0)
         && MapViewOfFile(other, FILE_MAP_READ, 0, 0, 0) == view ? "another" : "lost");
    CloseHandle(other);
    UnmapViewOfFile(view);
    other = CreateFileMappingA(INVALID_HANDLE_VALUE, 0, PAGE_READWRITE, 0, 0x1000, NULL);
    copy = (char *)(sizeof view == 8 ? 0x700000000000 : 0x50000000);
    mark(!MapViewOfFileEx(other, FILE_MAP_WRITE, 0, 0, 0, view) && GetLastError() == ERROR_INVALID_ADDRESS
         && MapViewOfFileEx(other, FILE_MAP_WRITE, 0, 0, 0, copy) == copy ? "there" : "elsewhere");
    strcpy(copy, "written");
    view[0] = '!';
    mark(UnmapViewOfFile(view) && !UnmapViewOfFile(view) ? "gone" : "there");
    mark(SetEndOfFile(file) && GetFileSize(file, 0) == 0x100 ? "shorter" : "wrong");
    for (int time = 0; time < 3000; time++) {
        map = CreateFileMappingA(INVALID_HANDLE_VALUE, 0, PAGE_READWRITE, 0, 0x1000, "Local\\again");
        if (!map || GetLastError() == ERROR_ALREADY_EXISTS) return 1;
        view = MapViewOfFile(map, FILE_MAP_WRITE, 0, 0, 0);
        if (!view || *view) return 2;
        *view = 1;
        UnmapViewOfFile(view);
        CloseHandle(map);
    }
    mark("again");
    return 0;
}
"""

MANY = r"""
#include <io.h>
int main(void)
{
    WIN32_FIND_DATAA found;
    struct _finddata_t data;
    HANDLE handle = 0, port, other;
    DWORD bytes;
    ULONG_PTR key;
    OVERLAPPED *done;
    for (int time = 0; time < 5000; time++) {
        handle = FindFirstFileA("C:\\Windows\\*", &found);
        if (handle == INVALID_HANDLE_VALUE || !FindClose(handle)) return 1;
    }
    mark(!FindNextFileA(handle, &found) && GetLastError() == ERROR_INVALID_HANDLE && !FindClose(handle)
         ? "searches" : "wrong");
    for (int time = 0; time < 1500; time++) {
        intptr_t search = _findfirst("C:\\Windows\\*", &data);
        if (search == -1 || _findclose(search)) return 2;
    }
    mark("crt");
    for (int time = 0; time < 1500; time++) {
        port = CreateIoCompletionPort(INVALID_HANDLE_VALUE, 0, 0, 0);
        if (!port || !CloseHandle(port)) return 3;
    }
    mark(!PostQueuedCompletionStatus(port, 0, 0, 0) && GetLastError() == ERROR_INVALID_HANDLE
         ? "ports" : "wrong");
    port = CreateIoCompletionPort(INVALID_HANDLE_VALUE, 0, 0, 0);
    DuplicateHandle(GetCurrentProcess(), port, GetCurrentProcess(), &other, 0, FALSE, DUPLICATE_SAME_ACCESS);
    CloseHandle(port);
    mark(PostQueuedCompletionStatus(other, 1, 2, 0)
         && GetQueuedCompletionStatus(other, &bytes, &key, &done, 0) && key == 2 ? "another" : "lost");
    return 0;
}
"""

PIPE = r"""
void _start(void)
{
    static char text[16];
    HANDLE out, in;
    DWORD done, left;
    if (CreatePipe(&out, &in, 0, 0) && PeekNamedPipe(out, 0, 0, 0, &left, 0) && left == 0) mark("empty");
    WriteFile(in, "hello", 5, &done, 0);
    if (PeekNamedPipe(out, text, 2, &done, &left, 0) && done == 2 && left == 5 && text[1] == 'e')
        mark("peeked");
    if (ReadFile(out, text, 16, &done, 0) && done == 5 && !lstrcmpA(text, "hello")) mark("read");
    CloseHandle(in);
    if (!ReadFile(out, text, 16, &done, 0) && GetLastError() == ERROR_BROKEN_PIPE && done == 0)
        mark("broken");
    ExitProcess(0);
}
"""


@pytest.mark.parametrize("bits", [32, 64])
def test_files_in_memory(tmp_path: Path, bits: int) -> None:
    """Views of one mapping are one memory, which gets into the file; errors are Windows'."""
    run = Bench(tmp_path).detonate(build(tmp_path, VIEWS, bits, *BARE, "-nostdlib", "-lkernel32"))
    assert run.outcome.reason is None
    wanted = "empty longer not-aligned beyond one-memory in-the-file read read by-name exists none"
    assert [mark for mark in marks(run) if mark != "mapped.bin"] == wanted.split()
    written = [line for line in run.lines("filetracer", "NtWriteFile") if "mapped.bin" in line["FileName"]]
    assert [line["Length"] for line in written] == ["0x10", "0x1000"]


@pytest.mark.parametrize("bits", [32, 64])
def test_a_file_and_its_views_are_one(tmp_path: Path, bits: int) -> None:
    """What either has the other sees, not what is in a copy; the file keeps its length; no view is freed."""
    source = f'#include <string.h>\n#define PATH "C:\\\\ProgramData\\\\one.bin"\n{COHERENT}'
    assert said(tmp_path, source, bits) == [
        *("too-long", "read", "copied", "private", "seen", "held", "kept", "refused", "another", "there"),
        *("gone", "shorter", "again"),
    ]


@pytest.mark.parametrize("bits", [32, 64])
def test_handles_that_are_closed_are_free(tmp_path: Path, bits: int) -> None:
    """Searches and ports may be opened without end if each is closed; a duplicate lasts by itself."""
    assert said(tmp_path, MANY, bits) == ["searches", "crt", "ports", "another"]


@pytest.mark.parametrize("bits", [32, 64])
def test_a_pipe(tmp_path: Path, bits: int) -> None:
    """What is written at one end is read at the other, once."""
    run = Bench(tmp_path).detonate(build(tmp_path, PIPE, bits, *BARE, "-nostdlib", "-lkernel32"))
    assert run.outcome.reason is None
    assert marks(run) == ["empty", "peeked", "read", "broken"]
