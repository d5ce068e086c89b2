"""The emulator on installers: what they unpack is to be seen, what they start is followed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks.corpus import fetching, programs
from drakcelery.model.analysis import Execution
from tests.cabinets import cabinet
from tests.conftest import require
from tests.emulating import Bench, Run
from tests.guest_programs import BARE, build, marks, said

SAMPLES = Path(__file__).resolve().parents[2] / "samples"

FILES = r"""
void _start(void)
{
    static char data[64], path[MAX_PATH], folder[MAX_PATH];
    WIN32_FIND_DATAA found;
    DWORD done;
    GetTempPathA(MAX_PATH, folder);
    lstrcatA(lstrcpyA(path, folder), "drakcelery.bin");
    HANDLE file = CreateFileA(path, GENERIC_READ | GENERIC_WRITE, FILE_SHARE_READ, 0, CREATE_ALWAYS, 0, 0);
    WriteFile(file, "hello world", 11, &done, 0);
    if (SetFilePointer(file, 6, 0, FILE_BEGIN) == 6 && WriteFile(file, "W", 1, &done, 0) && done == 1)
        mark("written");
    HANDLE again = CreateFileA(path, GENERIC_READ, FILE_SHARE_READ, 0, OPEN_EXISTING, 0, 0);
    if (ReadFile(again, data, 64, &done, 0) && done == 11 && !lstrcmpA(data, "hello World")) mark("read");
    if (SetFilePointer(file, 0, 0, FILE_CURRENT) == 7) mark("apart");
    SetFilePointer(file, 5, 0, FILE_BEGIN);
    if (SetEndOfFile(file) && GetFileSize(again, 0) == 5) mark("cut");
    SetFilePointer(file, 3, 0, FILE_END);
    WriteFile(file, "x", 1, &done, 0);
    if (GetFileSize(file, 0) == 9) mark("beyond");
    if (SetFilePointer(file, -1, 0, FILE_BEGIN) == INVALID_SET_FILE_POINTER
        && GetLastError() == ERROR_NEGATIVE_SEEK) mark("not-before");
    CloseHandle(file); CloseHandle(again);
    if (!ReadFile(file, data, 1, &done, 0)) mark("closed");
    lstrcatA(folder, "drakcelery.*");
    HANDLE search = FindFirstFileA(folder, &found);
    if (search != INVALID_HANDLE_VALUE && !lstrcmpA(found.cFileName, "drakcelery.bin")
        && found.nFileSizeLow == 9 && !FindNextFileA(search, &found) && GetLastError() == ERROR_NO_MORE_FILES)
        mark("found");
    FindClose(search);
    if (CreateFileA(path, GENERIC_READ, 0, 0, CREATE_NEW, 0, 0) == INVALID_HANDLE_VALUE
        && GetLastError() == ERROR_FILE_EXISTS) mark("not-new");
    if (DeleteFileA(path) && GetFileAttributesA(path) == INVALID_FILE_ATTRIBUTES) mark("deleted");
    if (CreateFileA("C:\\none\\x", GENERIC_READ, 0, 0, OPEN_EXISTING, 0, 0) == INVALID_HANDLE_VALUE
        && GetLastError() == ERROR_FILE_NOT_FOUND) mark("not-there");
    if (CreateDirectoryA("C:\\Users\\Public\\made", 0) && !CreateDirectoryA("C:\\Users\\Public\\made", 0)
        && GetLastError() == ERROR_ALREADY_EXISTS && GetFileAttributesA("C:\\Users\\Public\\made") & 0x10
        && RemoveDirectoryA("C:\\Users\\Public\\made")) mark("folder");
    if (CharPrevA(data, data + 3) == data + 2 && CharPrevA(data, data) == data && CharNextA(data) == data + 1)
        mark("characters");
    ExitProcess(0);
}
"""

STAGES = r"""
#include <shellapi.h>
static const char *stage(void)
{
    for (const char *at = GetCommandLineA(); *at; at++)
        if (at[0] == '-' && at[1] == '-') return at + 2;
    return 0;
}
static void start(char *line, const char *folder)
{
    STARTUPINFOA how = { sizeof how };
    PROCESS_INFORMATION made;
    CreateProcessA(0, line, 0, 0, 0, 0, 0, folder, &how, &made);
}
void _start(void)
{
    static char self[MAX_PATH], copy[MAX_PATH], folder[MAX_PATH], line[1024];
    DWORD done;
    if (stage()) {
        mark(stage());
        GetCurrentDirectoryA(MAX_PATH, folder);
        if (!lstrcmpA(stage(), "plain")) mark(lstrcmpiA(folder, "C:\\Windows") ? "elsewhere" : "in-windows");
        ExitProcess(7);
    }
    GetModuleFileNameA(0, self, MAX_PATH);
    GetTempPathA(MAX_PATH, copy);
    CreateDirectoryA(lstrcatA(copy, "a b"), 0);
    CopyFileA(self, lstrcatA(copy, "\\stage.exe"), 0);
    lstrcatA(lstrcatA(lstrcpyA(line, "\""), copy), "\" --plain");
    start(line, "C:\\Windows");
    lstrcatA(lstrcatA(lstrcpyA(line, "cmd /c start \"\" /b \""), copy), "\" --shell");
    WinExec(line, 0);
    SHELLEXECUTEINFOA shell = { sizeof shell };
    shell.lpFile = copy; shell.lpParameters = "--execute";
    if (ShellExecuteExA(&shell)) mark("executed");
    HANDLE batch = CreateFileA("C:\\Users\\Public\\go.bat", GENERIC_WRITE, 0, 0, CREATE_ALWAYS, 0, 0);
    lstrcatA(lstrcatA(lstrcpyA(line, "@echo off\r\n\""), copy), "\" --batch\r\n");
    WriteFile(batch, line, lstrlenA(line), &done, 0);
    CloseHandle(batch);
    ShellExecuteA(0, "open", "C:\\Users\\Public\\go.bat", 0, 0, 0);
    ExitProcess(0);
}
"""

INSTALLER = r"""
Unicode %(unicode)s
SetCompressor %(compressor)s
Name "drakcelery installer"
OutFile "installer.exe"
InstallDir "$APPDATA\drakcelery"
RequestExecutionLevel user
%(pages)s
Section
  SetOutPath "$INSTDIR"
  File "payload.exe"
  File "library32.dll"
  WriteRegStr HKCU "Software\Microsoft\Windows\CurrentVersion\Run" "drakcelery" "$INSTDIR\payload.exe"
  WriteUninstaller "$INSTDIR\uninstall.exe"
  CreateShortCut "$SMSTARTUP\drakcelery.lnk" "$INSTDIR\payload.exe"
  Exec '"$INSTDIR\payload.exe" --from-installer'
  Exec 'rundll32.exe "$INSTDIR\library32.dll",Run'
SectionEnd
Section Uninstall
  Delete "$INSTDIR\payload.exe"
SectionEnd
"""


PLUGINS = r"""
Unicode %(unicode)s
Name "plug-ins"
OutFile "plugins.exe"
RequestExecutionLevel user
SilentInstall silent
Section
  StrCpy $R0 "C:\Users\Public\by-system.txt"
  System::Call 'kernel32::CreateFile(t R0, i 0x40000000, i 0, p 0, i 2, i 0, p 0) p.r0'
  System::Call 'kernel32::WriteFile(p r0, m "through", i 7, *i .r1, p 0) i.r2'
  System::Int64Op 6000000000 * 7
  Pop $4
  UserInfo::GetName
  Pop $5
  WriteRegStr HKCU "Software\drakcelery" "Said" "$1 $2 $4 $5"
SectionEnd
"""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """An engine with ordinary limits."""
    return Bench(tmp_path)


def test_files_by_handle(tmp_path: Path) -> None:
    """Each handle has its position, what is written goes there, and errors are Windows'."""
    wanted = (
        "written read apart cut beyond not-before closed found not-new deleted not-there folder characters"
    )
    said_marks = said(tmp_path, FILES, 32, *BARE, "-nostdlib", "-lkernel32", "-luser32")
    assert [mark for mark in said_marks if mark != "made"] == wanted.split()


@pytest.mark.parametrize("bits", [32, 64])
def test_what_is_started_is_followed(bench: Bench, tmp_path: Path, bits: int) -> None:
    """By CreateProcess in another folder, through cmd's start, by ShellExecuteEx, through a batch file."""
    program = build(tmp_path, STAGES, bits, *BARE, "-nostdlib", "-lkernel32", "-lshell32")
    run = bench.detonate(program)
    assert run.outcome.reason is None
    assert run.outcome.complete is True
    assert [mark for mark in marks(run) if mark != "go.bat"] == [
        "executed",
        "plain",
        "in-windows",
        "shell",
        "execute",
        "batch",
    ]
    starts = {line["NewPid"]: line for line in run.lines("procmon", "NtCreateUserProcess")}
    ends = [line for line in run.lines("procmon", "NtTerminateProcess") if line["ExitStatus"] == "0x7"]
    assert [line["PID"] in starts for line in ends] == [True] * 4
    assert all(line["ProcessName"].endswith("\\a b\\stage.exe") for line in ends)


def test_a_program_of_the_other_word_size_is_named(bench: Bench, tmp_path: Path) -> None:
    """A 64-bit program that a 32-bit one starts is not emulated, and the reason says so."""
    source = r"""
void _start(void)
{
    HANDLE out = CreateFileA("C:\\Users\\Public\\x.exe", GENERIC_WRITE, 0, 0, CREATE_ALWAYS, 0, 0);
    DWORD done;
    WriteFile(out, "MZ", 2, &done, 0);
    SetFilePointer(out, 0x3C, 0, 0);
    WriteFile(out, "\x40\0\0\0PE\0\0\x64\x86", 10, &done, 0);
    CloseHandle(out);
    WinExec("C:\\Users\\Public\\x.exe", 0);
    ExitProcess(0);
}
"""
    run = bench.detonate(build(tmp_path, source, 32, *BARE, "-nostdlib", "-lkernel32"))
    assert run.outcome.reason == (
        "x.exe, which it wrote and started, is not emulated: it is a program of 64 bits, started by one of 32"
    )


def compiled(folder: Path, text: str, name: str = "*.exe") -> Path:
    """What makensis makes of a script."""
    makensis = shutil.which("makensis") or ""
    require(bool(makensis), "makensis is not installed (Debian: nsis)")
    script = folder / "installer.nsi"
    script.write_text(text)
    subprocess.run([makensis, "-V2", script.name], cwd=folder, check=True, capture_output=True)
    return next(folder.glob(name))


def installer(folder: Path, **options: str) -> Path:
    """An installer by makensis that brings behaviour32.exe and library32.dll, and starts both."""
    makensis = shutil.which("makensis") or ""
    require(bool(makensis), "makensis is not installed (Debian: nsis)")
    shutil.copy(SAMPLES / "behaviour32.exe", folder / "payload.exe")
    shutil.copy(SAMPLES / "library32.dll", folder)
    script = folder / "installer.nsi"
    script.write_text(INSTALLER % options)
    subprocess.run([makensis, "-V2", script.name], cwd=folder, check=True, capture_output=True)
    return folder / "installer.exe"


def assert_installed(run: Run) -> None:
    """Everything that the script of the installer says."""
    assert run.outcome.execution is Execution.EXECUTED
    assert (run.outcome.complete, run.outcome.reason) == (True, None)
    home = "\\??\\C:\\Users\\user\\AppData\\Roaming\\drakcelery\\"
    written = {line["FileName"] for line in run.lines("filetracer", "NtWriteFile")}
    assert {home + name for name in ("payload.exe", "library32.dll", "uninstall.exe")} <= written
    values = {line["ValueName"]: line for line in run.lines("regmon", "NtSetValueKey")}
    assert values["drakcelery"]["Key"].endswith("\\Software\\Microsoft\\Windows\\CurrentVersion\\Run")
    assert values["drakcelery"]["Value"].endswith("\\AppData\\Roaming\\drakcelery\\payload.exe")
    lines = [line["CommandLine"] for line in run.lines("procmon", "NtCreateUserProcess")]
    assert any(line.endswith('payload.exe\\" --from-installer') for line in lines)
    # What the payload does, as a program of its own
    assert values["Greeting"]["ProcessName"].endswith("\\drakcelery\\payload.exe")
    assert "web.drakcelery.invalid" in [line["DnsName"] for line in run.lines("socketmon", "DnsQuery_W")]
    # And the DLL in rundll32
    assert values["DllMain"]["ProcessName"].endswith("\\rundll32.exe")
    assert values["Run"]["ProcessName"].endswith("\\rundll32.exe")


SILENT = "SilentInstall silent"
PAGES = """
LicenseData "license.txt"
LicenseForceSelection checkbox
Page license
Page components
Page directory
Page instfiles
"""


@pytest.mark.parametrize(
    ("compressor", "unicode", "pages"),
    [("lzma", "true", SILENT), ("/SOLID zlib", "false", SILENT), ("zlib", "true", PAGES)],
    ids=["lzma", "solid", "pages"],
)
def test_an_installer_of_makensis(
    bench: Bench, tmp_path: Path, compressor: str, unicode: str, pages: str
) -> None:
    """It unpacks, writes its Run key, and what it starts is emulated: a program, and a DLL (E3)."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "license.txt").write_text("It is yours.")
    program = installer(source, compressor=compressor, unicode=unicode, pages=pages)
    assert_installed(bench.detonate(program, timeout=120))


@pytest.mark.parametrize("unicode", ["true", "false"])
def test_plug_ins_of_an_installer(bench: Bench, tmp_path: Path, unicode: str) -> None:
    """System and UserInfo: libraries that it unpacks and loads do what the script says."""
    source = tmp_path / "source"
    source.mkdir()
    run = bench.detonate(compiled(source, PLUGINS % {"unicode": unicode}), timeout=240)
    assert (run.outcome.complete, run.outcome.reason) == (True, None)
    values = {line["ValueName"]: line["Value"] for line in run.lines("regmon", "NtSetValueKey")}
    assert values["Said"] == "7 1 42000000000 user"
    written = [line["FileName"] for line in run.lines("filetracer", "NtWriteFile")]
    assert "\\??\\C:\\Users\\Public\\by-system.txt" in written
    loaded = [line for line in run.lines("memdump") if line["Method"] == "LoadLibrary"]
    assert len(loaded) == 2


CAPTURING = r"""
OutFile "installer.exe"
Unicode %(unicode)s
SilentInstall silent
RequestExecutionLevel user
Section
  SetOutPath $TEMP
  File program32.exe
  nsExec::ExecToStack '"$TEMP\program32.exe" to-stack'
  Pop $0
  Pop $1
  nsExec::ExecToLog '"$TEMP\program32.exe" to-log'
  Pop $2
  nsExec::Exec /TIMEOUT=2000 'cmd.exe /c schtasks /query'
  Pop $3
  WriteRegStr HKCU "Software\drakcelery" "Said" "$0 [$1] $2 $3"
SectionEnd
"""
"""Runs programs with their output in a pipe. They run after the installer, which reads nothing from them."""


@pytest.mark.parametrize("unicode", ["true", "false"])
def test_what_nsexec_starts_is_followed(bench: Bench, tmp_path: Path, unicode: str) -> None:
    """nsExec unpacks and loads; what it starts to read its output is seen, and does what it does."""
    source = tmp_path / "source"
    source.mkdir()
    build(source, "int main(int count, char **words) { mark(words[1]); return puts(words[1]) < 0; }", 32)
    run = bench.detonate(compiled(source, CAPTURING % {"unicode": unicode}, "installer.exe"), timeout=120)
    assert (run.outcome.complete, run.outcome.reason) == (True, None)
    lines = [line["CommandLine"] for line in run.lines("procmon", "NtCreateUserProcess")]
    assert [line.rpartition(" ")[2] for line in lines] == ["to-stack", "to-log", "/query"]
    assert marks(run) == ["to-stack", "to-log"]
    values = {line["ValueName"]: line["Value"] for line in run.lines("regmon", "NtSetValueKey")}
    assert values["Said"] == "0 [] 0 0"


def unpacker(name: str) -> Path:
    """7-Zip's stub for archives that extract themselves, out of npm's package."""
    known = next(one for one in programs.read() if one.name == f"npm/7zip@0.0.6/package/7zip-lite/{name}")
    lacking = fetching.fetch([known], fetching.cache())
    require(not lacking, f"{name} cannot be had: {lacking}")
    return fetching.path_of(known, fetching.cache())


METHODS = {
    "LZMA2": ("-m0=lzma2",),
    "BCJ2": (
        *("-m0=BCJ2", "-m1=LZMA", "-m2=LZMA", "-m3=LZMA"),
        *("-mb0:1", "-mb0s1:2", "-mb0s2:3"),
    ),
}
"""Of 7z; the second one takes four threads to unpack."""


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize(("stub", "command"), [("7zCon.sfx", "%f"), ("7z.sfx", "%f -y"), ("7z.sfx", "%f")])
def test_an_archive_that_extracts_itself(
    bench: Bench, tmp_path: Path, stub: str, command: str, method: str
) -> None:
    """On the console, with a window, and with a question before it: each file is written as a whole."""
    packer = shutil.which("7z") or ""
    require(bool(packer), "7z is not installed (Debian: 7zip or p7zip-full)")
    content = {"payload.exe": SAMPLES / "behaviour32.exe", "library.dll": SAMPLES / "library32.dll"}
    for name, file in content.items():
        shutil.copy(file, tmp_path / name)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "notes.txt").write_text("notes")
    packing = [packer, "a", *METHODS[method], "archive.7z", *content, "sub"]
    subprocess.run(packing, cwd=tmp_path, check=True, capture_output=True)
    archive = tmp_path / "archive.exe"
    archive.write_bytes(unpacker(stub).read_bytes() + (tmp_path / "archive.7z").read_bytes())
    run = bench.detonate(archive, command, timeout=120)
    assert run.outcome.execution is Execution.EXECUTED
    assert (run.outcome.complete, run.outcome.reason) == (True, None)
    sizes = {"sub\\notes.txt": 5} | {name: file.stat().st_size for name, file in content.items()}
    written = dict.fromkeys(sizes, 0)
    for line in run.lines("filetracer", "NtWriteFile"):
        written[line["FileName"].removeprefix("\\??\\C:\\Users\\user\\Desktop\\")] += int(line["Length"], 16)
    assert written == sizes


@pytest.mark.parametrize("bits", [32, 64])
def test_the_windows_installer_knows_no_product(bench: Bench, tmp_path: Path, bits: int) -> None:
    """Its functions are found by name and by number, and say that nothing is installed."""
    source = r"""
    int main(void)
    {
        HMODULE msi = LoadLibraryA("msi.dll");
        int (WINAPI *state)(LPCWSTR) = (void *)GetProcAddress(msi, (LPCSTR)113);
        UINT (WINAPI *install)(LPCWSTR, LPCWSTR) = (void *)GetProcAddress(msi, "MsiInstallProductW");
        mark(state(L"{589A5E26-AC31-469A-BA7A-0B562A931ABF}") == -1 ? "unknown" : "wrong");
        mark(install(L"http://installer.example.com/a.msi", L"") == ERROR_INSTALL_SERVICE_FAILURE
             ? "refused" : "wrong");
        return 0;
    }
    """
    run = bench.detonate(build(tmp_path, source, bits))
    assert marks(run) == ["unknown", "refused"]
    calls = run.lines("apimon", "MsiInstallProductW")
    assert "installer.example.com/a.msi" in str(calls)


CABINET = r"""
#include <fdi.h>
#include <string.h>
static const unsigned char packed[] = {BYTES};
static unsigned place;
static FNALLOC(take) { return HeapAlloc(GetProcessHeap(), 0, cb); }
static FNFREE(give) { HeapFree(GetProcessHeap(), 0, pv); }
static FNOPEN(begin) { place = 0; return strcmp(pszFile, "C:\\set\\up.cab") ? -1 : 7; }
static FNREAD(more)
{
    if (cb > sizeof packed - place) cb = sizeof packed - place;
    memcpy(pv, packed + place, cb);
    place += cb;
    return cb;
}
static FNWRITE(put) { DWORD done = 0; WriteFile((HANDLE)hf, pv, cb, &done, NULL); return done; }
static FNCLOSE(end) { if (hf != 7) CloseHandle((HANDLE)hf); return 0; }
static FNSEEK(go) { return place = dist; }
static FNFDINOTIFY(told)
{
    char path[MAX_PATH] = "C:\\ProgramData\\";
    if (fdint == fdintCABINET_INFO && pfdin->setID == 7 && pfdin->pv == (void *)5) mark("cabinet");
    if (fdint == fdintCOPY_FILE && strcmp(pfdin->psz1, "skipped"))
        return (INT_PTR)CreateFileA(strcat(path, pfdin->psz1), GENERIC_WRITE, 0, NULL, 2, 0, NULL);
    if (fdint == fdintCLOSE_FILE_INFO) {
        CloseHandle((HANDLE)pfdin->hf);
        mark(pfdin->psz1);
        return TRUE;
    }
    return 0;
}
int main(void)
{
    ERF error = {0};
    FDICABINETINFO known;
    HFDI context = FDICreate(take, give, begin, more, put, end, go, cpuUNKNOWN, &error);
    mark(FDIIsCabinet(context, 7, &known) && known.cFiles == 3 && known.setID == 7 ? "is-one" : "wrong");
    mark(FDICopy(context, "up.cab", "C:\\set\\", 0, told, NULL, (void *)5) ? "copied" : "wrong");
    mark(!FDICopy(context, "none.cab", "", 0, told, NULL, NULL) && error.fError
         && error.erfOper == FDIERROR_CABINET_NOT_FOUND ? "not-found" : "wrong");
    mark(FDIDestroy(context) ? "destroyed" : "wrong");
    return 0;
}
"""


@pytest.mark.parametrize("bits", [32, 64])
def test_a_cabinet_is_unpacked(tmp_path: Path, bits: int) -> None:
    """By functions of the program's, which takes what it wants; what it writes is to be seen."""
    files = {"first.txt": b"first", "skipped": b"-" * 40_000, "last.bin": bytes(range(250)) * 300}
    source = CABINET.replace("BYTES", ",".join(map(str, cabinet(files, 1))))
    run = Bench(tmp_path).detonate(build(tmp_path, source, bits, "-lcabinet"))
    assert run.outcome.reason is None
    assert marks(run) == ["is-one", "cabinet", "first.txt", "last.bin", "copied", "not-found", "destroyed"]
    written = [line["Length"] for line in run.lines("filetracer", "NtWriteFile")]
    assert sum(int(length, 16) for length in written) == len(files["first.txt"]) + len(files["last.bin"])
