"""What ordinary programs seldom do and hostile ones may: each run ends in time, and tells what was seen."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from drakcelery.engines.speakeasy_guest.configuration import SHELL_PID
from tests.emulating import Bench, Run
from tests.guest_programs import PREFIXES, PRELUDE, build, marks

BITS = pytest.mark.parametrize("bits", [32, 64])


def library(folder: Path, source: str, bits: int, exports: str = "") -> Path:
    """A DLL with the exports of a definition file, or what *source* exports."""
    program, definition = folder / f"library{bits}.dll", folder / "library.def"
    definition.write_text(f"LIBRARY library\nEXPORTS\n{exports}", encoding="latin-1")
    command = [f"{PREFIXES[bits]}-gcc", "-x", "c", "-", "-x", "none", "-w", "-shared", "-o", str(program)]
    if exports:
        command.append(str(definition))
    subprocess.run(command, input=PRELUDE + source, text=True, check=True, capture_output=True)
    return program


def detonate(folder: Path, source: str, bits: int, *flags: str) -> Run:
    """Build and run a program."""
    return Bench(folder).detonate(build(folder, source, bits, *flags), timeout=60)


@BITS
def test_names_of_files_that_are_none(tmp_path: Path, bits: int) -> None:
    """Devices, pipes, shares, control characters, thousands of folders: nothing hangs, each is seen."""
    source = r"""
    static char deep[30000];
    static void try(const char *name)
    {
        CloseHandle(CreateFileA(name, GENERIC_WRITE, 0, NULL, CREATE_ALWAYS, 0, NULL));
        CreateDirectoryA(name, NULL);
        RemoveDirectoryA(name);
        DeleteFileA(name);
    }
    int main(void)
    {
        for (int i = 0; i < 29999; i++)
            deep[i] = i % 2 ? '\\' : 'a';
        deep[1] = ':';
        deep[2] = '\\';
        const char *names[] = {
            "\\\\server\\share\\x", "\\\\.\\pipe\\x", "\\\\.\\PhysicalDrive0", "CON", "nul", deep,
            "\\\\", "\\", "", "..\\..\\..\\..\\x", "C:\\x\x1b[2J\n\"}", "C:\\x:stream",
        };
        for (int i = 0; i < sizeof names / sizeof *names; i++)
            try(names[i]);
        mark("end");
        return 0;
    }
    """
    run = detonate(tmp_path, source, bits)
    assert (run.outcome.reason, run.outcome.complete, marks(run)) == (None, True, ["end"])
    created = [line["FileName"] for line in run.lines("filetracer", "NtCreateFile")]
    assert '\\??\\C:\\x\x1b[2J\n"}' in created
    assert "\\\\server\\share\\x" in created
    assert "\\??\\C:\\x" in created
    assert all(32 <= byte < 127 for line in run.job.log.read_bytes().splitlines() for byte in line)


@BITS
def test_hundreds_of_files(tmp_path: Path, bits: int) -> None:
    """A program that encrypts a disk is done in time, and every file of it is in the log."""
    source = r"""
    int main(void)
    {
        char before[64], after[64];
        DWORD done;
        int failed = 0;
        for (int i = 0; i < 400; i++) {
            wsprintfA(before, "C:\\Users\\user\\Documents\\%d.doc", i);
            wsprintfA(after, "%s.locked", before);
            HANDLE file = CreateFileA(before, GENERIC_WRITE, 0, NULL, CREATE_ALWAYS, 0, NULL);
            WriteFile(file, "x", 1, &done, NULL);
            CloseHandle(file);
            failed += !MoveFileA(before, after) || MoveFileA(before, after);
        }
        mark(failed ? "wrong" : "end");
        return 0;
    }
    """
    run = detonate(tmp_path, source, bits)
    assert (run.outcome.reason, marks(run)) == (None, ["end"])
    renamed = [line for line in run.lines("filetracer") if line.get("Operation") == "FileRenameInformation"]
    assert len({line["FileDst"] for line in renamed}) == 400


@BITS
def test_a_long_text_is_no_wait(tmp_path: Path, bits: int) -> None:
    """A megabyte of text for functions of Windows is read at once, and cut in the log."""
    source = r"""
    int main(void)
    {
        char *text = VirtualAlloc(NULL, 1 << 21, MEM_COMMIT | MEM_RESERVE, PAGE_READWRITE);
        for (int i = 0; i < 1 << 20; i++)
            text[i] = 'a';
        OutputDebugStringA(text);
        CreateMutexA(NULL, FALSE, text);
        mark(lstrlenA(text) == 1 << 20 ? "end" : "wrong");
        return 0;
    }
    """
    run = detonate(tmp_path, source, bits)
    assert (run.outcome.reason, marks(run)) == (None, ["end"])


@BITS
def test_a_thread_that_is_over_leaves_nothing(tmp_path: Path, bits: int) -> None:
    """Its stack is free when another one is made: many, one after the other, take little memory."""
    source = r"""
    static char *lowest = (char *)-1, *highest;
    static DWORD WINAPI run(void *nothing)
    {
        char here;
        lowest = &here < lowest ? &here : lowest;
        highest = &here > highest ? &here : highest;
        return 0;
    }
    int main(void)
    {
        for (int i = 0; i < 40; i++) {
            HANDLE thread = CreateThread(NULL, 0, run, NULL, 0, NULL);
            WaitForSingleObject(thread, INFINITE);
            CloseHandle(thread);
        }
        mark(highest - lowest < 1 << 22 ? "little" : "much");
        return 0;
    }
    """
    run = detonate(tmp_path, source, bits)
    assert (run.outcome.reason, marks(run)) == (None, ["little"])


@BITS
def test_connections_by_ipv6(tmp_path: Path, bits: int) -> None:
    """Address and port are in the log and in the traffic; a numeric address is not looked up as a name."""
    source = r"""
    #include <winsock2.h>
    #include <ws2tcpip.h>
    #include <wininet.h>
    int main(void)
    {
        WSADATA data;
        struct addrinfo *found = NULL;
        WSAStartup(0x202, &data);
        SOCKET one = socket(AF_INET6, SOCK_STREAM, 0);
        getaddrinfo("2001:db8::7", "4443", NULL, &found);
        mark(found && found->ai_family == AF_INET6 && found->ai_addrlen == 28 ? "family" : "wrong");
        mark(!connect(one, found->ai_addr, found->ai_addrlen) ? "connected" : "wrong");
        send(one, "PING six", 8, 0);
        closesocket(one);
        getaddrinfo(NULL, "80", NULL, &found);
        InternetOpenUrlA(InternetOpenA("a", 0, NULL, NULL, 0), "http://[2001:db8::8]:8080/x", NULL, 0, 0, 0);
        return 0;
    }
    """
    run = detonate(tmp_path, source, bits, "-lws2_32", "-lwininet")
    assert (run.outcome.reason, marks(run)) == (None, ["family", "connected"])
    opened = run.lines("socketmon", "TcpCreateAndConnectTcbComplete")
    assert [(line["Protocol"], line["RemoteIp"], line["RemotePort"]) for line in opened] == [
        ("TCPv6", "2001:db8::7", 4443),
        ("TCPv6", "2001:db8::8", 8080),
    ]
    assert run.lines("socketmon", "DnsQuery_W") == []
    assert b"PING six" in b"".join(bytes(packet) for packet in run.packets())


@BITS
@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("rundll32 %f,Run", None),
        ("rundll32 %f,#7", None),
        ("rundll32 %f,Started", None),
        ("rundll32 %f,Nowhere", "the DLL has no export Nowhere"),
    ],
)
def test_exports_of_a_dll(tmp_path: Path, bits: int, command: str, reason: str | None) -> None:
    """One of a number only, one that another DLL does, and one that none does; a name need not be UTF-8."""
    source = 'void Run(void) { mark("run"); } BOOL WINAPI DllMain(void *i, DWORD r, void *x) { return TRUE; }'
    exports = "Run\nsecret = Run @7 NONAME\n\xe9t\xe9 = Run\n"
    exports += "Started = kernel32.GetTickCount\nNowhere = nodll.nothing\n"
    run = Bench(tmp_path).detonate(library(tmp_path, source, bits, exports), command)
    assert (run.outcome.reason, run.outcome.complete) == (reason, True)
    assert marks(run) == (["run"] if command.endswith(("Run", "#7")) else [])
    assert len(run.lines("apimon", "GetTickCount")) == command.endswith("Started")


@BITS
def test_a_dll_that_ends_the_process(tmp_path: Path, bits: int) -> None:
    """What DllMain ends is over: its export is not called."""
    source = r"""
    __declspec(dllexport) void Run(void) { mark("never"); }
    BOOL WINAPI DllMain(void *i, DWORD reason, void *x)
    {
        mark("main");
        ExitProcess(5);
    }
    """
    run = Bench(tmp_path).detonate(library(tmp_path, source, bits), "rundll32 %f,Run")
    assert (run.outcome.reason, marks(run)) == (None, ["main"])


@BITS
def test_a_dll_that_refuses(tmp_path: Path, bits: int) -> None:
    """Its export is called nevertheless, and the reason says that Windows would not."""
    source = r"""
    __declspec(dllexport) void Run(void) { mark("run"); }
    BOOL WINAPI DllMain(void *i, DWORD reason, void *x) { return FALSE; }
    """
    run = Bench(tmp_path).detonate(library(tmp_path, source, bits), "rundll32 %f,Run")
    assert run.outcome.reason == "its DllMain refused to be loaded: Windows would not call Run"
    assert marks(run) == ["run"]


@BITS
def test_a_callback_that_ends_the_process(tmp_path: Path, bits: int) -> None:
    """Nothing of a program runs behind a TLS callback that ends it."""
    source = r"""
    static void NTAPI first(void *image, DWORD reason, void *reserved)
    {
        mark("first");
        ExitProcess(9);
    }
    __attribute__((section(".CRT$XLB"), used)) PIMAGE_TLS_CALLBACK entry = first;
    int main(void)
    {
        mark("never");
        return 0;
    }
    """
    run = detonate(tmp_path, source, bits)
    assert (run.outcome.reason, marks(run)) == (None, ["first"])


@BITS
def test_other_processes(tmp_path: Path, bits: int) -> None:
    """One that is listed can be opened and written to; one that was started suspended goes on."""
    source = r"""
    #include <tlhelp32.h>
    int main(void)
    {
        STARTUPINFOA how = {sizeof how};
        PROCESS_INFORMATION made;
        PROCESSENTRY32 one = {sizeof one};
        unsigned char code[64];
        SIZE_T done;
        HANDLE list = CreateToolhelp32Snapshot(TH32CS_SNAPPROCESS, 0);
        memset(code, 0x90, sizeof code);
        code[63] = 0xC3;
        for (BOOL there = Process32First(list, &one); there && lstrcmpiA(one.szExeFile, "explorer.exe");)
            there = Process32Next(list, &one);
        HANDLE shell = OpenProcess(PROCESS_ALL_ACCESS, FALSE, one.th32ProcessID);
        void *room = VirtualAllocEx(shell, NULL, 4096, MEM_COMMIT | MEM_RESERVE, PAGE_EXECUTE_READWRITE);
        mark(WriteProcessMemory(shell, room, code, sizeof code, &done) && done == 64 ? "written" : "wrong");
        mark(CreateRemoteThread(shell, NULL, 0, room, NULL, 0, NULL) ? "thread" : "wrong");
        CreateProcessA(NULL, "notepad.exe", NULL, NULL, FALSE, CREATE_SUSPENDED, NULL, NULL, &how, &made);
        room = VirtualAllocEx(made.hProcess, NULL, 4096, MEM_COMMIT | MEM_RESERVE, PAGE_EXECUTE_READWRITE);
        WriteProcessMemory(made.hProcess, room, code, sizeof code, &done);
        mark(QueueUserAPC(room, made.hThread, 1) ? "queued" : "wrong");
        mark(ResumeThread(made.hThread) == 1 ? "resumed" : "wrong");
        return 0;
    }
    """
    run = detonate(tmp_path, source, bits)
    assert (run.outcome.reason, run.outcome.complete) == (None, True)
    assert marks(run) == ["written", "thread", "queued", "resumed"]
    opened = run.lines("procmon", "NtOpenProcess")[0]["ClientID"]
    written = run.lines("memdump", "NtWriteVirtualMemory")
    assert (opened, written[0]["TargetPID"]) == (SHELL_PID, SHELL_PID)
    assert len(run.lines("apimon", "ResumeThread")) == 1
