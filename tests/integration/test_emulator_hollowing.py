"""The emulator on programs that put another program in the place of a process that they started suspended."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.emulating import Bench
from tests.guest_programs import build, marks

PAYLOAD = r"""
int main(int count, char **words)
{
    mark(count == 1 && !lstrcmpA(words[0], "C:\\Windows\\System32\\svchost.exe") ? "as-svchost" : words[0]);
    return 7;
}
"""

INJECTOR = r"""
#include <winternl.h>
#define OF_NTDLL(name) (void *)GetProcAddress(GetModuleHandleA("ntdll"), name)
static NTSTATUS (NTAPI *unmap)(HANDLE, PVOID), (NTAPI *ask)(HANDLE, ULONG, PVOID, ULONG, PULONG);
static NTSTATUS (NTAPI *allocate)(HANDLE, PVOID *, ULONG_PTR, PSIZE_T, ULONG, ULONG);
static NTSTATUS (NTAPI *write)(HANDLE, PVOID, PVOID, SIZE_T, PSIZE_T), (NTAPI *resume)(HANDLE, PULONG);
static void put(HANDLE process, char *where, void *what, SIZE_T size)
{
    SIZE_T done = 0;
    if (NATIVE)
        write(process, where, what, size, &done);
    else
        WriteProcessMemory(process, where, what, size, &done);
    if (done != size)
        mark("short");
}
int main(void)
{
    STARTUPINFOA startup = {sizeof startup};
    PROCESS_INFORMATION made;
    CONTEXT context = {.ContextFlags = CONTEXT_FULL};
    IMAGE_NT_HEADERS *headers = (void *)(payload + ((IMAGE_DOS_HEADER *)payload)->e_lfanew);
    IMAGE_SECTION_HEADER *sections = IMAGE_FIRST_SECTION(headers);
    IMAGE_OPTIONAL_HEADER *optional = &headers->OptionalHeader;
    PROCESS_BASIC_INFORMATION basic;
    char *base = (char *)optional->ImageBase, *before = NULL, *block;
    SIZE_T size = optional->SizeOfImage;
    unmap = OF_NTDLL("NtUnmapViewOfSection");
    allocate = OF_NTDLL("NtAllocateVirtualMemory");
    write = OF_NTDLL("NtWriteVirtualMemory");
    resume = OF_NTDLL("NtResumeThread");
    ask = OF_NTDLL("NtQueryInformationProcess");
    CreateProcessA("C:\\Windows\\System32\\svchost.exe", NULL, NULL, NULL, FALSE, CREATE_SUSPENDED, NULL,
                   NULL, &startup, &made);
    GetThreadContext(made.hThread, &context);
    ask(made.hProcess, 0, &basic, sizeof basic, NULL);
#ifdef _WIN64
    DWORD64 *entry = &context.Rcx;
    block = (char *)context.Rdx + 0x10;
#else
    DWORD *entry = &context.Eax;
    block = (char *)context.Ebx + 8;
#endif
    mark(block == (char *)basic.PebBaseAddress + 2 * sizeof(void *) ? "block" : "wrong");
    ReadProcessMemory(made.hProcess, block, &before, sizeof before, NULL);
    mark(before == base ? "base" : "wrong");
    mark(unmap(made.hProcess, base) ? "wrong" : "unmapped");
    if (NATIVE)
        allocate(made.hProcess, (PVOID *)&base, 0, &size, MEM_COMMIT | MEM_RESERVE, PAGE_EXECUTE_READWRITE);
    else
        base = VirtualAllocEx(made.hProcess, base, size, MEM_COMMIT | MEM_RESERVE, PAGE_EXECUTE_READWRITE);
    mark(base == (char *)optional->ImageBase ? "there" : "elsewhere");
    put(made.hProcess, base, payload, optional->SizeOfHeaders);
    for (int i = 0; i < headers->FileHeader.NumberOfSections; i++)
        if (sections[i].SizeOfRawData)
            put(made.hProcess, base + sections[i].VirtualAddress, payload + sections[i].PointerToRawData,
                sections[i].SizeOfRawData);
    put(made.hProcess, block, &base, sizeof base);
    *entry = (ULONG_PTR)base + optional->AddressOfEntryPoint;
    mark(SetThreadContext(made.hThread, &context) ? "set" : "wrong");
    if (NATIVE)
        resume(made.hThread, NULL);
    else
        ResumeThread(made.hThread);
    mark(*(short *)GetModuleHandleA(NULL) == 0x5A4D ? "unharmed" : "harmed");
    return 0;
}
"""


@pytest.mark.parametrize("native", [0, 1], ids=["kernel32", "ntdll"])
@pytest.mark.parametrize("bits", [32, 64])
def test_a_program_in_the_place_of_another_is_followed(tmp_path: Path, bits: int, native: int) -> None:
    """Its image is written where the sample's own is; it runs as the process that it was put into."""
    payload = build(tmp_path, PAYLOAD, bits, "-s").read_bytes()
    content = ",".join(map(str, payload))
    source = f"#define NATIVE {native}\nstatic unsigned char payload[] = {{{content}}};\n{INJECTOR}"
    run = Bench(tmp_path).detonate(build(tmp_path, source, bits), timeout=60)
    assert (run.outcome.complete, run.outcome.reason) == (True, None)
    own = ["block", "base", "unmapped", "there", "set", "unharmed"]
    assert marks(run) == [*own, "as-svchost"]
    (started,) = run.lines("procmon", "NtCreateUserProcess")
    (file,) = (line for line in run.lines("filetracer") if line["FileName"].endswith("as-svchost"))
    assert file["PID"] == started["NewPid"]
    assert file["ProcessName"].endswith("\\System32\\svchost.exe")
    ended = [line["ExitStatus"] for line in run.lines("procmon", "NtTerminateProcess")]
    assert ended == ["0x0", "0x7"]
    assert any(
        line["TargetPID"] == started["NewPid"] for line in run.lines("memdump", "NtWriteVirtualMemory")
    )
