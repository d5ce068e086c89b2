"""The emulator on packed programs: what a packer unpacks and jumps to becomes a dump.

The packers here are our own: mingw builds a program with its packed part in the clear, and the test encrypts
that part in the file. So a dump that holds it in the clear was made of what the program unpacked.
"""

from __future__ import annotations

from pathlib import Path

import pefile
import pytest

from tests.emulating import Bench, Run
from tests.guest_programs import BARE, build, marks

BITS = pytest.mark.parametrize("bits", [32, 64])
KEY = 0x5A
DATA_ONLY = 0xC0000040
"""Section flags: initialised data that is read and written, and not executed."""

STUB = r"""
#define PACKED __attribute__((section(".pack"), noinline, used))
#define KEY 0x5A
static IMAGE_SECTION_HEADER *section(const char *name)
{
    char *base = (char *)GetModuleHandleA(NULL);
    IMAGE_NT_HEADERS *headers = (IMAGE_NT_HEADERS *)(base + ((IMAGE_DOS_HEADER *)base)->e_lfanew);
    IMAGE_SECTION_HEADER *one = IMAGE_FIRST_SECTION(headers);
    while (lstrcmpA((char *)one->Name, name))
        one++;
    return one;
}
static void decrypt(char *to, const char *from, DWORD size)
{
    for (DWORD at = 0; at < size; at++)
        to[at] = from[at] ^ KEY;
}
"""


def pack(program: Path, *, name: str = ".pack", flags: int | None = None) -> tuple[int, bytes]:
    """Encrypt a section in the file, and change its flags. Returns its RVA and what it holds unpacked."""
    with pefile.PE(str(program)) as image:
        section = next(one for one in image.sections if one.Name.rstrip(b"\0") == name.encode())
        plain = section.get_data()[: section.Misc_VirtualSize]
        image.set_bytes_at_offset(section.PointerToRawData, bytes(byte ^ KEY for byte in plain))
        if flags is not None:
            section.Characteristics = flags
        place, content = section.VirtualAddress, bytes(image.write())
    program.write_bytes(content)
    return place, plain


def dumped(run: Run, reason: str) -> list[tuple[int, bytes]]:
    """Address and content of each dump with that reason."""
    contents = run.dumps()
    lines = [line for line in run.lines("memdump") if line["DumpReason"] == reason]
    return [(int(line["DumpAddr"], 16), contents[line["DumpFilename"]]) for line in lines]


@BITS
@pytest.mark.parametrize("flags", [None, DATA_ONLY], ids=["code", "data"])
def test_a_section_that_is_decrypted_in_place(tmp_path: Path, bits: int, flags: int | None) -> None:
    """The image is dumped with the section in the clear, whether its headers call it code or data."""
    source = (
        STUB
        + r"""
    PACKED static void payload(void) { mark("unpacked"); ExitProcess(0); }
    void _start(void)
    {
        IMAGE_SECTION_HEADER *packed = section(".pack");
        char *place = (char *)GetModuleHandleA(NULL) + packed->VirtualAddress;
        DWORD old;
        VirtualProtect(place, packed->Misc.VirtualSize, PAGE_EXECUTE_READWRITE, &old);
        decrypt(place, place, packed->Misc.VirtualSize);
        VirtualProtect(place, packed->Misc.VirtualSize, PAGE_EXECUTE_READ, &old);
        payload();
    }
    """
    )
    program = build(tmp_path, source, bits, *BARE, "-lkernel32")
    place, plain = pack(program, flags=flags)
    run = Bench(tmp_path).detonate(program)
    assert marks(run) == ["unpacked"]
    [(_, content)] = dumped(run, "Code section changed")
    assert content[:2] == b"MZ"
    assert content[place : place + len(plain)] == plain


@BITS
def test_what_is_unpacked_into_allocated_memory(tmp_path: Path, bits: int) -> None:
    """It is dumped when it is first executed, so as it was unpacked, and once more as it was at the end."""
    source = (
        STUB
        + r"""
    typedef void (*function)(void (*)(const char *), const char *, char *);
    PACKED static void payload(void (*say)(const char *), const char *what, char *itself)
    {
        say(what);
        itself[0] = 0x11; /* a byte that is no longer needed */
    }
    void _start(void)
    {
        IMAGE_SECTION_HEADER *packed = section(".pack");
        DWORD size = packed->Misc.VirtualSize, old;
        char *place = VirtualAlloc(NULL, size, MEM_COMMIT | MEM_RESERVE, PAGE_READWRITE);
        decrypt(place, (char *)GetModuleHandleA(NULL) + packed->VirtualAddress, size);
        VirtualProtect(place, size, PAGE_EXECUTE_READWRITE, &old);
        ((function)place)((void (*)(const char *))mark, "unpacked", place);
        ExitProcess(0);
    }
    """
    )
    program = build(tmp_path, source, bits, *BARE, "-lkernel32")
    _, plain = pack(program)
    run = Bench(tmp_path).detonate(program)
    assert marks(run) == ["unpacked"]
    [(place, first)] = dumped(run, "Code executed in allocated memory")
    assert first[: len(plain)] == plain
    [(again, last)] = dumped(run, "Possible shellcode detected")
    assert again == place
    assert last[: len(plain)] == b"\x11" + plain[1:]


@BITS
def test_a_program_that_is_unpacked_over_its_own_image(tmp_path: Path, bits: int) -> None:
    """As UPX does it: a section without content becomes code, whose imports the stub looks up."""
    source = (
        STUB
        + r"""
    typedef HANDLE (WINAPI *create)(const char *, DWORD, DWORD, void *, DWORD, DWORD, HANDLE);
    typedef void (*function)(void **);
    __attribute__((section(".room"), used)) static char room[0x1000] = {1};
    PACKED static void payload(void **imports)
    {
        char path[] = {'C', ':', '\\', 'P', 'u', 'b', 'l', 'i', 'c', '\\', 'u', 'p', 0};
        ((create)imports[0])(path, GENERIC_WRITE, 0, NULL, CREATE_ALWAYS, 0, NULL);
        ((void (WINAPI *)(UINT))imports[1])(0);
    }
    void _start(void)
    {
        static const char *names[] = {"CreateFileA", "ExitProcess"};
        static void *imports[2];
        IMAGE_SECTION_HEADER *packed = section(".pack");
        HMODULE library = LoadLibraryA("kernel32.dll");
        for (int at = 0; at < 2; at++)
            imports[at] = (void *)GetProcAddress(library, names[at]);
        decrypt(room, (char *)GetModuleHandleA(NULL) + packed->VirtualAddress, packed->Misc.VirtualSize);
        ((function)(char *)room)(imports);
    }
    """
    )
    program = build(tmp_path, source, bits, *BARE, "-lkernel32", "-fno-stack-protector", "-mno-sse")
    _, plain = pack(program)
    with pefile.PE(str(program)) as image:
        section = next(one for one in image.sections if one.Name.startswith(b".room"))
        section.SizeOfRawData, section.PointerToRawData, section.Characteristics = 0, 0, 0xE0000080
        place, content = section.VirtualAddress, bytes(image.write())
    program.write_bytes(content)
    run = Bench(tmp_path).detonate(program)
    assert marks(run) == ["up"]
    [(_, image_of_it)] = dumped(run, "Code section changed")
    assert image_of_it[place : place + len(plain)] == plain


@BITS
def test_a_section_has_whole_sectors_of_the_file(tmp_path: Path, bits: int) -> None:
    """As Windows maps it: what lies behind its stated size in its last sector is there too, as stated."""
    source = (
        STUB
        + r"""
    __attribute__((section(".short"), used)) static volatile char text[] = "mapped";
    void _start(void)
    {
        mark((char *)text);
        mark(section(".short")->SizeOfRawData == 1 ? "as-stated" : "changed");
        ExitProcess(0);
    }
    """
    )
    program = build(tmp_path, source, bits, *BARE, "-lkernel32")
    with pefile.PE(str(program)) as image:
        section = next(one for one in image.sections if one.Name.startswith(b".short"))
        section.SizeOfRawData = 1
        content = bytes(image.write())
    program.write_bytes(content)
    assert marks(Bench(tmp_path).detonate(program)) == ["mapped", "as-stated"]


@BITS
def test_an_entry_point_is_called_from_inside_kernel32(tmp_path: Path, bits: int) -> None:
    """What it returns to lies in the file that it finds going down from there; returning ends the program."""
    source = r"""
    void _start(void)
    {
        ULONG_PTR place = (ULONG_PTR)__builtin_return_address(0) & ~(ULONG_PTR)0xFFFF;
        while (((IMAGE_DOS_HEADER *)place)->e_magic != IMAGE_DOS_SIGNATURE)
            place -= 0x10000;
        IMAGE_NT_HEADERS *headers = (IMAGE_NT_HEADERS *)(place + ((IMAGE_DOS_HEADER *)place)->e_lfanew);
        mark(headers->OptionalHeader.ImageBase == place ? "at-its-base" : "elsewhere");
        mark((HMODULE)place == GetModuleHandleA("kernel32.dll") ? "kernel32" : "another");
    }
    """
    run = Bench(tmp_path).detonate(build(tmp_path, source, bits, *BARE, "-lkernel32"))
    assert marks(run) == ["at-its-base", "kernel32"]
    assert run.outcome.reason is None


def test_a_fault_before_any_call_has_its_place(tmp_path: Path) -> None:
    """Unpackers fault on purpose in their first instructions, and go on behind the one that did it."""
    source = r"""
    typedef struct frame { struct frame *next; void *handler; } frame;
    static int faults;
    static EXCEPTION_DISPOSITION handler(EXCEPTION_RECORD *record, frame *where, CONTEXT *context, void *d)
    {
        faults++;
        context->Eip += 2;
        return ExceptionContinueExecution;
    }
    void _start(void)
    {
        frame one;
        int before = 1, behind = 2;
        one.handler = handler;
        __asm__ volatile("movl %%fs:0, %0" : "=r"(one.next));
        __asm__ volatile("movl %0, %%fs:0" : : "r"(&one));
        __asm__ volatile("incl %0; xorl %%eax, %%eax; movl (%%eax), %%eax; incl %1"
                         : "+r"(before), "+r"(behind) : : "eax");
        mark(faults == 1 && before == 2 && behind == 3 ? "once" : "lost");
    }
    """
    run = Bench(tmp_path).detonate(build(tmp_path, source, 32, *BARE, "-lkernel32"))
    assert marks(run) == ["once"]
    assert run.outcome.reason is None


@BITS
def test_addresses_of_imports_in_code_are_no_change_of_it(tmp_path: Path, bits: int) -> None:
    """Windows writes them when it loads a program; a program of that kind is dumped for nothing else."""
    source = r"""
    __declspec(dllimport) extern char *_acmdln;
    void _start(void) { mark(*_acmdln ? "line" : "no-line"); ExitProcess(0); }
    """
    program = build(tmp_path, source, bits, *BARE, "-lmsvcrt", "-lkernel32")
    with pefile.PE(str(program)) as image:
        section = next(one for one in image.sections if one.Name.startswith(b".idata"))
        section.Characteristics |= 0x20000000
        content = bytes(image.write())
    program.write_bytes(content)
    run = Bench(tmp_path).detonate(program)
    assert marks(run) == ["line"]
    assert run.dumps() == {}
