"""What programs ask about processes and the machine, and how they talk with each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.emulating import Bench
from tests.guest_programs import build, marks, said

BITS = pytest.mark.parametrize("bits", [32, 64])


@BITS
def test_nobody_watches(tmp_path: Path, bits: int) -> None:
    """A program that looks for a debugger or a sandbox finds a user's machine, and its shell as parent."""
    source = r"""
    #include <winternl.h>
    #include <tlhelp32.h>
    #include <psapi.h>
    #include <string.h>
    #include <stdio.h>
    static NTSTATUS (NTAPI *query)(HANDLE, ULONG, PVOID, ULONG, PULONG);
    int main(void)
    {
        ULONG_PTR basic[6], port = 1;
        ULONG flags = 0, length, count = 0;
        HANDLE object = (HANDLE)1, all;
        DWORD pids[64], needed, parent = 0;
        HMODULE found[8];
        MEMORYSTATUSEX memory = {sizeof memory};
        POINT first, later;
        char text[MAX_PATH];
        query = (void *)GetProcAddress(GetModuleHandleA("ntdll"), "NtQueryInformationProcess");
        query(GetCurrentProcess(), 7, &port, sizeof port, NULL);
        query(GetCurrentProcess(), 31, &flags, sizeof flags, &length);
        mark(port == 0 && flags == 1 && length == 4 ? "no-port" : "debugged");
        mark(query(GetCurrentProcess(), 30, &object, sizeof object, NULL) == (NTSTATUS)0xC0000353 && !object
             && !IsDebuggerPresent() ? "no-object" : "debugged");
        query(GetCurrentProcess(), 0, basic, sizeof basic, NULL);
        mark(basic[4] == GetCurrentProcessId() && basic[1] ? "basic" : "wrong");
        PROCESSENTRY32 entry = {sizeof entry};
        all = CreateToolhelp32Snapshot(TH32CS_SNAPPROCESS, 0);
        for (BOOL more = Process32First(all, &entry); more; more = Process32Next(all, &entry)) {
            count++;
            if (entry.th32ProcessID == GetCurrentProcessId())
                parent = entry.th32ParentProcessID;
        }
        Process32First(all, &entry);
        do
            if (entry.th32ProcessID == parent)
                mark(entry.szExeFile);
        while (Process32Next(all, &entry));
        mark(parent == basic[5] && count > 8 ? "parent" : "wrong");
        mark(CloseHandle(OpenProcess(PROCESS_ALL_ACCESS, FALSE, parent))
             && CloseHandle(OpenProcess(PROCESS_ALL_ACCESS, FALSE, parent)) ? "opened-twice" : "wrong");
        mark(EnumProcesses(pids, sizeof pids, &needed) && needed == 4 * count ? "listed" : "wrong");
        MODULEENTRY32 module = {sizeof module};
        all = CreateToolhelp32Snapshot(TH32CS_SNAPMODULE, 0);
        Module32First(all, &module);
        mark(module.hModule == GetModuleHandleA(NULL) ? "module" : "wrong");
        EnumProcessModules(GetCurrentProcess(), found, sizeof found, &needed);
        GetModuleBaseNameA(GetCurrentProcess(), found[0], text, sizeof text);
        mark(!strcmp(text, module.szModule) && needed > sizeof found[0] ? "modules" : "wrong");
        needed = sizeof text;
        QueryFullProcessImageNameA(GetCurrentProcess(), 0, text, &needed);
        mark(strstr(text, module.szModule) ? "image" : "wrong");
        GlobalMemoryStatusEx(&memory);
        mark(memory.ullTotalPhys >= 4ULL << 30 && GetSystemMetrics(SM_CXSCREEN) >= 1024
             ? "machine" : "small");
        GetCursorPos(&first);
        Sleep(5000);
        GetCursorPos(&later);
        mark(first.x != later.x ? "moves" : "stands");
        needed = sizeof text;
        mark(GetUserNameA(text, &needed) && needed == strlen(text) + 1 ? "user" : "wrong");
        mark(!CloseHandle((HANDLE)0x1234) && GetLastError() == ERROR_INVALID_HANDLE ? "not-closed" : "wrong");
        mark(!OpenMutexA(SYNCHRONIZE, FALSE, "none") && GetLastError() == ERROR_FILE_NOT_FOUND
             ? "none" : "wrong");
        return 0;
    }
    """
    seen = ["no-port", "no-object", "basic", "explorer.exe", "parent"]
    more = [
        "opened-twice",
        "listed",
        "module",
        "modules",
        "image",
        "machine",
        "moves",
        "user",
        "not-closed",
        "none",
    ]
    assert said(tmp_path, source, bits, "-luser32", "-lpsapi") == seen + more


@BITS
def test_pipes_by_name(tmp_path: Path, bits: int) -> None:
    """What one thread writes another one reads; who has gone away is noticed; handles are counted."""
    source = r"""
    #include <string.h>
    #include <stdio.h>
    #define NAME "\\\\.\\pipe\\drakcelery"
    static HANDLE reach(void)
    {
        return CreateFileA(NAME, GENERIC_READ | GENERIC_WRITE, 0, NULL, OPEN_EXISTING, 0, NULL);
    }
    static DWORD WINAPI client(void *unused)
    {
        DWORD done = 0;
        char text[8] = "";
        HANDLE pipe = reach();
        mark(WriteFile(pipe, "hello", 5, &done, NULL) && done == 5 ? "sent" : "lost");
        mark(reach() == INVALID_HANDLE_VALUE && GetLastError() == ERROR_PIPE_BUSY ? "busy" : "free");
        mark(ReadFile(pipe, text, 8, &done, NULL) && !strcmp(text, "answer") ? "answered" : "silent");
        CloseHandle(pipe);
        return 0;
    }
    int main(void)
    {
        DWORD done = 0;
        char text[16] = "";
        HANDLE read_end, write_end, again, thread;
        mark(reach() == INVALID_HANDLE_VALUE && GetLastError() == ERROR_FILE_NOT_FOUND ? "nobody" : "there");
        HANDLE pipe = CreateNamedPipeA(NAME, PIPE_ACCESS_DUPLEX, 0, 1, 64, 64, 0, NULL);
        thread = CreateThread(NULL, 0, client, NULL, 0, NULL);
        mark(ConnectNamedPipe(pipe, NULL) || GetLastError() == ERROR_PIPE_CONNECTED ? "connected" : "alone");
        mark(ReadFile(pipe, text, 16, &done, NULL) && done == 5 && !strcmp(text, "hello") ? "heard" : "deaf");
        WriteFile(pipe, "answer", 6, &done, NULL);
        WaitForSingleObject(thread, INFINITE);
        mark(!ReadFile(pipe, text, 16, &done, NULL) && GetLastError() == ERROR_BROKEN_PIPE
             ? "broken" : "whole");
        DisconnectNamedPipe(pipe);
        mark(WaitNamedPipeA(NAME, 10) && GetFileType(pipe) == FILE_TYPE_PIPE ? "again" : "wrong");
        CreatePipe(&read_end, &write_end, NULL, 0);
        DuplicateHandle(GetCurrentProcess(), write_end, GetCurrentProcess(), &again, 0, FALSE, 2);
        CloseHandle(write_end);
        WriteFile(again, "abc", 3, &done, NULL);
        CloseHandle(again);
        mark(PeekNamedPipe(read_end, NULL, 0, NULL, &done, NULL) && done == 3 ? "peeked" : "empty");
        ReadFile(read_end, text, 3, &done, NULL);
        mark(!PeekNamedPipe(read_end, NULL, 0, NULL, &done, NULL) && GetLastError() == ERROR_BROKEN_PIPE
             ? "over" : "wrong");
        return 0;
    }
    """
    run = Bench(tmp_path).detonate(build(tmp_path, source, bits))
    assert run.outcome.reason is None
    assert marks(run) == [
        *("nobody", "sent", "busy", "connected", "heard", "answered", "broken", "again", "peeked", "over")
    ]
    written = [line["FileName"] for line in run.lines("filetracer", "NtWriteFile")]
    assert written == ["\\\\.\\pipe\\drakcelery", "\\\\.\\pipe\\drakcelery", "\\Device\\NamedPipe"]


@BITS
def test_handles_of_one_thing(tmp_path: Path, bits: int) -> None:
    """A duplicate outlives what it was made from, and a name finds what there is; ports keep their order."""
    source = r"""
    int main(void)
    {
        DWORD done = 0;
        HANDLE me = GetCurrentProcess(), event = CreateEventA(NULL, TRUE, FALSE, "drakcelery-event"), again;
        DuplicateHandle(me, event, me, &again, 0, FALSE, DUPLICATE_SAME_ACCESS);
        CloseHandle(event);
        HANDLE named = OpenEventA(EVENT_MODIFY_STATE, FALSE, "drakcelery-event");
        mark(named && SetEvent(named) && !WaitForSingleObject(again, 0) ? "one-event" : "wrong");
        mark(DuplicateHandle(me, GetCurrentThread(), me, &again, 0, FALSE, DUPLICATE_SAME_ACCESS)
             && GetProcessId(me) == GetCurrentProcessId() && WaitForSingleObject(again, 0) == WAIT_TIMEOUT
             ? "thread" : "wrong");
        mark(!DuplicateHandle(me, (HANDLE)0x1234, me, &again, 0, FALSE, DUPLICATE_SAME_ACCESS)
             && GetLastError() == ERROR_INVALID_HANDLE ? "none" : "wrong");
        HANDLE port = CreateIoCompletionPort(INVALID_HANDLE_VALUE, NULL, 0, 0);
        ULONG_PTR key = 0;
        OVERLAPPED *which;
        PostQueuedCompletionStatus(port, 5, 6, NULL);
        PostQueuedCompletionStatus(port, 7, 8, NULL);
        mark(GetQueuedCompletionStatus(port, &done, &key, &which, 10) && done == 5 && key == 6
             ? "5" : "wrong");
        mark(GetQueuedCompletionStatus(port, &done, &key, &which, 10) && done == 7 && key == 8
             ? "7" : "wrong");
        mark(!GetQueuedCompletionStatus(port, &done, &key, &which, 10) && GetLastError() == WAIT_TIMEOUT
             ? "no-more" : "wrong");
        mark(CloseHandle(port) && CloseHandle(me) ? "closed" : "wrong");
        return 0;
    }
    """
    assert said(tmp_path, source, bits) == ["one-event", "thread", "none", "5", "7", "no-more", "closed"]
