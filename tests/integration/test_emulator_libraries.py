"""The emulator on DLLs that a program writes and loads: as Windows does it, in 32 and 64 bits."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from drakcelery.model.analysis import Execution
from tests.emulating import Bench, Run
from tests.guest_programs import BARE, PREFIXES, PRELUDE, build, marks

LIBRARY = r"""
static HMODULE self;
static int calls = 41;
static int *const pointer = &calls;
__declspec(dllexport) const char *name(void) { return "library"; }
__declspec(dllexport) int count(int by) { mark("counted"); return *pointer += by; }
BOOL WINAPI entry(HINSTANCE base, DWORD reason, void *reserved)
{
    static const char *const words[] = { "detach", "attach", "thread-attach", "thread-detach" };
    char text[32];
    self = base;
    mark(lstrcatA(lstrcpyA(text, words[reason]), reserved ? "-reserved" : ""));
    return TRUE;
}
"""

WRITE = r"""
static void put(const char *path, const void *data, DWORD size)
{
    DWORD done;
    HANDLE file = CreateFileA(path, GENERIC_WRITE, 0, 0, CREATE_ALWAYS, 0, 0);
    WriteFile(file, data, size, &done, 0);
    CloseHandle(file);
}
static void *copy(void *to, const void *from, DWORD size)
{
    char *out = to; const char *in = from;
    while (size--) *out++ = *in++;
    return to;
}
#define FOLDER "C:\\Users\\user\\AppData\\Local\\Temp\\"
#define PATH FOLDER "made.dll"
"""

LOADS = r"""
static DWORD WINAPI thread(void *nothing) { mark("in-thread"); return 0; }
void _start(void)
{
    static char text[MAX_PATH];
    int (*count)(int); const char *(*name)(void);
    HMODULE found;
    put(PATH, library, sizeof library);
    HMODULE one = LoadLibraryA(PATH), other = LoadLibraryW(L"C:/Users/user/AppData/Local/Temp/MADE");
    if (one && one == other && one == GetModuleHandleA("made") && one == LoadLibraryA("made.dll"))
        mark("same");
    FreeLibrary(one); FreeLibrary(one);
    count = (void *)GetProcAddress(one, "count"); name = (void *)GetProcAddress(one, "name");
    if (count(1) == 42 && count(1) == 43 && !lstrcmpA(name(), "library")) mark("called");
    if ((void *)GetProcAddress(one, (char *)1) == (void *)count) mark("by-number");
    if (!GetProcAddress(one, "none") && GetLastError() == ERROR_PROC_NOT_FOUND) mark("no-function");
    if (GetModuleFileNameA(one, text, MAX_PATH) == lstrlenA(PATH) && !lstrcmpiA(text, PATH))
        mark("its-name");
    if (GetModuleFileNameA(one, text, 5) == 5 && !lstrcmpA(text, "C:\\U")
        && GetLastError() == ERROR_INSUFFICIENT_BUFFER) mark("short-name");
    if (GetModuleHandleExA(6, (char *)count, &found) && found == one) mark("by-address");
    if (GetModuleFileNameA(0, text, MAX_PATH) && GetModuleHandleA(text) == GetModuleHandleA(0))
        mark("the-program");
    WaitForSingleObject(CreateThread(0, 0, thread, 0, 0, 0), INFINITE);
    if (FreeLibrary(one) && !GetModuleHandleA("made.dll") && GetLastError() == ERROR_MOD_NOT_FOUND)
        mark("gone");
    if (!FreeLibrary(one)) mark("not-twice");
    if (LoadLibraryA(PATH)) mark("again");
    ExitProcess(0);
}
"""

REFUSALS = r"""
static BOOL refused(const char *path, DWORD code)
{
    SetLastError(0);
    return !LoadLibraryA(path) && GetLastError() == code;
}
void _start(void)
{
    static unsigned char changed[sizeof library];
    IMAGE_NT_HEADERS *header = (void *)(copy(changed, library, sizeof library)
        + ((IMAGE_DOS_HEADER *)library)->e_lfanew);
    if (refused(PATH, ERROR_MOD_NOT_FOUND)) mark("not-there");
    if (refused("none.dll", ERROR_MOD_NOT_FOUND)) mark("nowhere");
    if (refused("", ERROR_INVALID_PARAMETER)) mark("no-name");
    put(PATH, "", 0);
    if (refused(PATH, ERROR_BAD_EXE_FORMAT)) mark("empty");
    put(PATH, "not a library", 13);
    if (refused(PATH, ERROR_BAD_EXE_FORMAT)) mark("text");
    put(PATH, library, sizeof library / 2);
    if (refused(PATH, ERROR_BAD_EXE_FORMAT)) mark("cut-off");
    header->FileHeader.Machine ^= 0x14C ^ 0x8664;
    put(PATH, changed, sizeof changed);
    if (refused(PATH, ERROR_BAD_EXE_FORMAT)) mark("other-processor");
    copy(changed, library, sizeof library);
    header->OptionalHeader.SizeOfImage = 0x76000000;
    put(PATH, changed, sizeof changed);
    if (refused(PATH, ERROR_NOT_ENOUGH_MEMORY)) mark("too-large");
    copy(changed, library, sizeof library);
    for (char *at = changed; at < (char *)changed + sizeof changed - 12; at++)
        if (at[0] == 'K' && at[1] == 'E' && !lstrcmpiA(at, "KERNEL32.dll")) *at = 'x';
    put(PATH, changed, sizeof changed);
    if (refused(PATH, ERROR_MOD_NOT_FOUND)) mark("lacks-a-library");
    put(PATH, library, sizeof library);
    if (LoadLibraryA(PATH)) mark("whole");
    if (refused("C:\\Users\\Public\\kernel32.dll", ERROR_MOD_NOT_FOUND)) mark("not-windows-own");
    if (LoadLibraryA("C:\\Windows\\System32\\version.dll")) mark("windows-own");
    ExitProcess(0);
}
"""


INNER = r"""
__declspec(dllexport) int inner(void) { mark("inner"); return 5; }
BOOL WINAPI entry(HINSTANCE base, DWORD reason, void *reserved)
{
    mark(reason ? "inner-attach" : "inner-detach");
    return TRUE;
}
"""

OUTER = r"""
__declspec(dllimport) int inner(void);
__declspec(dllexport) int outer(void) { return inner() + 1; }
BOOL WINAPI entry(HINSTANCE base, DWORD reason, void *reserved)
{
    mark(reason ? "outer-attach" : "outer-detach");
    return GetFileAttributesA("C:\\Users\\Public\\refuse") == INVALID_FILE_ATTRIBUTES || !reason;
}
"""

NEED = r"""
void _start(void)
{
    int (*outer)(void), (*forwarded)(void);
    put(FOLDER "outer.dll", outer_dll, sizeof outer_dll);
    if (!LoadLibraryA(FOLDER "outer.dll") && GetLastError() == ERROR_MOD_NOT_FOUND) mark("alone");
    SetCurrentDirectoryA(FOLDER);
    put("inner.dll", inner_dll, sizeof inner_dll);
    HMODULE made = LoadLibraryA(FOLDER "outer.dll");
    outer = (void *)GetProcAddress(made, "outer"); forwarded = (void *)GetProcAddress(made, "forwarded");
    if (outer() == 6 && forwarded() == 5) mark("both");
    ((void (WINAPI *)(DWORD))GetProcAddress(made, "rest"))(1);
    FreeLibrary(made);
    if (!GetModuleHandleA("inner") && !GetModuleHandleA("outer")) mark("gone");
    mark("refuse");
    if (!LoadLibraryA(FOLDER "outer.dll") && GetLastError() == ERROR_DLL_INIT_FAILED) mark("refused");
    if (!GetModuleHandleA("inner") && !GetModuleHandleA("outer")) mark("gone");
    ExitProcess(0);
}
"""

CHILD = r"""
__declspec(dllimport) int count(int by);
void _start(void)
{
    mark("program");
    if (count(1) == 42) mark("imported");
    ExitProcess(0);
}
"""

BESIDE = r"""
void _start(void)
{
    STARTUPINFOA how = { sizeof how };
    PROCESS_INFORMATION made;
    CreateDirectoryA("C:\\Users\\Public\\app", 0);
    put("C:\\Users\\Public\\app\\version.dll", version_dll, sizeof version_dll);
    put("C:\\Users\\Public\\app\\good.exe", good_exe, sizeof good_exe);
    CreateProcessA("C:\\Users\\Public\\app\\good.exe", 0, 0, 0, 0, 0, 0, 0, &how, &made);
    ExitProcess(0);
}
"""

RUNTIME = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static char *kept;
static void over(void) { mark("at-exit"); }
__attribute__((constructor)) static void begin(void) { kept = strdup("constructed"); atexit(over); }
__declspec(dllexport) void work(const char *path)
{
    FILE *file = fopen(path, "w");
    fprintf(file, "%s %d %.2f", kept, 42, 1.5);
    fclose(file);
}
BOOL WINAPI DllMain(HINSTANCE base, DWORD reason, void *reserved)
{
    if (reason < 2) mark(reason ? "main-attach" : "main-detach");
    return TRUE;
}
"""

WORK = r"""
void _start(void)
{
    static char text[64];
    DWORD done;
    put(PATH, library, sizeof library);
    HMODULE made = LoadLibraryA(PATH);
    ((void (*)(const char *))GetProcAddress(made, "work"))("C:\\Users\\Public\\work.txt");
    HANDLE file = CreateFileA("C:\\Users\\Public\\work.txt", GENERIC_READ, 0, 0, OPEN_EXISTING, 0, 0);
    ReadFile(file, text, 63, &done, 0);
    CloseHandle(file);
    if (!lstrcmpA(text, "constructed 42 1.50")) mark("worked");
    FreeLibrary(made);
    mark("freed");
    ExitProcess(0);
}
"""


RESOURCES = r"""
#include <windows.h>
7 RCDATA { "seven" }
SECRET RCDATA { "by name" }
LANGUAGE 9, 1
8 RCDATA { "english" }
LANGUAGE 7, 1
8 RCDATA { "german" }
STRINGTABLE { 20, "twenty" 21, "twenty-one" }
"""

READS = r"""
static HMODULE made;
static BOOL has(const void *name, WORD language, const char *text)
{
    HRSRC found = FindResourceExA(made, RT_RCDATA, name, language);
    const char *data = LockResource(LoadResource(made, found));
    DWORD size = SizeofResource(made, found);
    for (DWORD at = 0; at < size; at++) if (data[at] != text[at]) return FALSE;
    return found && size == lstrlenA(text);
}
static BOOL WINAPI each(HMODULE module, const char *type, char *name, LONG_PTR given)
{
    mark((ULONG_PTR)name < 0x10000 ? "number" : name);
    return given != 5 || (ULONG_PTR)name != 7;
}
static void read(void)
{
    wchar_t wide[32]; char text[32];
    if (has((void *)7, 0, "seven") && has("#7", 0, "seven") && has("Secret", 0, "by name")) mark("found");
    if (has((void *)8, MAKELANGID(7, 1), "german") && has((void *)8, MAKELANGID(9, 1), "english"))
        mark("languages");
    if (!FindResourceA(made, "none", RT_RCDATA) && GetLastError() == ERROR_RESOURCE_NAME_NOT_FOUND
        && !FindResourceA(made, (char *)7, RT_DIALOG) && GetLastError() == ERROR_RESOURCE_TYPE_NOT_FOUND)
        mark("not-found");
    if (LoadStringW(made, 21, wide, 32) == 10 && !lstrcmpW(wide, L"twenty-one")
        && LoadStringA(made, 20, text, 4) == 3 && !lstrcmpA(text, "twe") && !LoadStringA(made, 22, text, 4))
        mark("strings");
}
void _start(void)
{
    put(PATH, library, sizeof library);
    made = LoadLibraryExA(PATH, 0, LOAD_LIBRARY_AS_DATAFILE);
    if ((ULONG_PTR)made & 1) read();
    if (EnumResourceNamesA(made, RT_RCDATA, each, 0)) mark("all");
    FreeLibrary(made);
    made = LoadLibraryA(PATH);
    read();
    FreeLibrary(made);
    ExitProcess(0);
}
"""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """An engine with ordinary limits."""
    return Bench(tmp_path)


def library(folder: Path, bits: int, source: str = LIBRARY, name: str = "made.dll", *flags: str) -> Path:
    """A DLL without a C runtime; its entry point is ``entry``."""
    symbol = "_entry@12" if bits == 32 else "entry"
    command = [f"{PREFIXES[bits]}-gcc", "-x", "c", "-", "-x", "none", "-w", "-shared", "-nostdlib", "-O1"]
    command += ["-o", str(folder / name), f"-Wl,-e,{symbol}", *flags, "-lkernel32"]
    done = subprocess.run(command, input=PRELUDE + source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / name


def loader(folder: Path, bits: int, source: str, **files: Path) -> Path:
    """A program that holds *files*, each under a name, and can ``put`` them on its disk."""
    held = "".join(
        f"static const unsigned char {name}[] = {{ {','.join(map(str, file.read_bytes()))} }};"
        for name, file in files.items()
    )
    return build(folder, held + WRITE + source, bits, *BARE, "-nostdlib", "-lkernel32", "-luser32")


def done(run: Run) -> list[str]:
    """The marks of a run that ended by itself."""
    assert run.outcome.execution is Execution.EXECUTED
    assert (run.outcome.complete, run.outcome.reason) == (True, None), marks(run)
    return marks(run)


@pytest.mark.parametrize("bits", [32, 64])
def test_a_library_that_the_program_wrote(bench: Bench, tmp_path: Path, bits: int) -> None:
    """It is mapped, relocated and called; counted, found under its names, told of threads and of its end."""
    made = library(tmp_path, bits)
    run = bench.detonate(loader(tmp_path, bits, LOADS, library=made))
    assert done(run) == [
        *("attach", "same", "counted", "counted", "called", "by-number", "no-function", "its-name"),
        *("short-name", "by-address", "the-program", "thread-attach", "in-thread", "thread-detach"),
        *("detach", "gone", "not-twice", "attach", "again", "detach-reserved"),
    ]
    kept = [line for line in run.lines("memdump") if line["Method"] == "LoadLibrary"]
    assert len(kept) == 1  # the second one is the same
    assert run.dumps()[kept[0]["DumpFilename"]][:2] == b"MZ"


@pytest.mark.parametrize("bits", [32, 64])
def test_what_windows_does_not_load(bench: Bench, tmp_path: Path, bits: int) -> None:
    """Each file gets the error that Windows gives."""
    run = bench.detonate(loader(tmp_path, bits, REFUSALS, library=library(tmp_path, bits)))
    assert [mark for mark in done(run) if mark != "attach" and not mark.startswith("detach")] == [
        *("not-there", "nowhere", "no-name", "empty", "text", "cut-off", "other-processor", "too-large"),
        *("lacks-a-library", "whole", "not-windows-own", "windows-own"),
    ]


@pytest.mark.parametrize("bits", [32, 64])
def test_libraries_that_need_one_another(bench: Bench, tmp_path: Path, bits: int) -> None:
    """What one imports or forwards is another's; they begin and end in Windows' order, and together."""
    inner = library(tmp_path, bits, INNER, "inner.dll")
    exports = tmp_path / "outer.def"
    exports.write_text("EXPORTS\nouter\nforwarded=inner.inner\nrest=kernel32.Sleep\n")
    outer = library(tmp_path, bits, OUTER, "outer.dll", str(exports), str(inner))
    run = bench.detonate(loader(tmp_path, bits, NEED, inner_dll=inner, outer_dll=outer))
    assert done(run) == [
        *("alone", "inner-attach", "outer-attach", "inner", "inner", "both", "outer-detach", "inner-detach"),
        *(
            "gone",
            "refuse",
            "inner-attach",
            "outer-attach",
            "outer-detach",
            "inner-detach",
            "refused",
            "gone",
        ),
    ]
    assert run.lines("apimon", "Sleep")[0]["Module"].lower() == "kernel32"


@pytest.mark.parametrize("bits", [32, 64])
def test_a_library_beside_a_program_that_is_started(bench: Bench, tmp_path: Path, bits: int) -> None:
    """A program finds what lies beside it before Windows' own of that name, and it begins before it."""
    version = library(tmp_path, bits, name="version.dll")
    (tmp_path / "child").mkdir()
    good = build(
        tmp_path / "child", CHILD, bits, *BARE, "-nostdlib", "-lkernel32", "-x", "none", str(version)
    )
    run = bench.detonate(loader(tmp_path, bits, BESIDE, version_dll=version, good_exe=good))
    assert [mark for mark in done(run) if mark != "app" and "." not in mark] == [
        *("attach-reserved", "program", "counted", "imported", "detach-reserved"),
    ]
    calls = [line for line in run.lines("filetracer") if line["FileName"].endswith("attach-reserved")]
    assert calls[0]["ProcessName"].endswith("\\Public\\app\\good.exe")


@pytest.mark.parametrize("bits", [32, 64])
def test_a_library_with_a_c_runtime(bench: Bench, tmp_path: Path, bits: int) -> None:
    """Its constructors, its ``stdio`` and what it registered for its end."""
    flags = ["-x", "c", "-", "-w", "-shared", "-O1", "-o", str(tmp_path / "made.dll")]
    source = PRELUDE + RUNTIME
    subprocess.run(
        [f"{PREFIXES[bits]}-gcc", *flags], input=source, check=True, capture_output=True, text=True
    )
    run = bench.detonate(loader(tmp_path, bits, WORK, library=tmp_path / "made.dll"))
    assert [mark for mark in done(run) if mark != "work.txt"] == [
        *("main-attach", "worked", "main-detach", "at-exit", "freed"),
    ]


@pytest.mark.parametrize("bits", [32, 64])
def test_resources_of_a_library(bench: Bench, tmp_path: Path, bits: int) -> None:
    """By number, name and language, as data, without being called, and loaded."""
    (tmp_path / "made.rc").write_text(RESOURCES)
    windres = [f"{PREFIXES[bits]}-windres", "made.rc", "made.o"]
    subprocess.run(windres, cwd=tmp_path, check=True, capture_output=True)
    made = library(tmp_path, bits, LIBRARY, "made.dll", str(tmp_path / "made.o"))
    program = loader(tmp_path, bits, READS, library=made)
    read = ["found", "languages", "not-found", "strings"]
    assert done(bench.detonate(program)) == [
        *read,
        *("SECRET", "number", "number", "all"),
        *("attach", *read, "detach"),
    ]


@pytest.mark.parametrize("bits", [32, 64])
def test_a_library_for_its_data_is_a_dump(bench: Bench, tmp_path: Path, bits: int) -> None:
    """What is loaded for its resources alone is among the dumps too."""
    source = """void _start(void)
    {
        put(PATH, library, sizeof library);
        if (LoadLibraryExA(PATH, 0, LOAD_LIBRARY_AS_DATAFILE)) mark("loaded");
        ExitProcess(0);
    }"""
    run = bench.detonate(loader(tmp_path, bits, source, library=library(tmp_path, bits)))
    assert done(run) == ["loaded"]
    (line,) = run.lines("memdump", "LoadLibrary")
    assert run.dumps()[line["DumpFilename"]].startswith(b"MZ")
