"""The emulator on C++ programs with the DLLs of their library beside them, which run for real."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks.corpus import fetching, programs
from tests.conftest import require
from tests.emulating import Bench, Run
from tests.guest_programs import PREFIXES, build, marks, said


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """An emulator in the test's directory."""
    return Bench(tmp_path)


BRINGING = r"""
Target amd64-unicode
OutFile "installer.exe"
SilentInstall silent
RequestExecutionLevel user
SetCompress off
Section
  SetOutPath $TEMP\app
  File /r "app\*"
  Exec '"$TEMP\app\%(program)s"'
SectionEnd
"""
"""Writes a program and its DLLs into one folder, and starts it."""


def brought(folder: Path, program: Path, *libraries: Path) -> Path:
    """An installer that brings *program* and *libraries*, and starts it."""
    makensis = shutil.which("makensis") or ""
    require(bool(makensis), "makensis is not installed (Debian: nsis)")
    source = folder / "source"
    (source / "app").mkdir(parents=True)
    for file in (program, *libraries):
        shutil.copy(file, source / "app")
    (source / "installer.nsi").write_text(BRINGING % {"program": program.name})
    subprocess.run([makensis, "-V2", "installer.nsi"], cwd=source, check=True, capture_output=True)
    return source / "installer.exe"


def written(run: Run, name: str) -> int:
    """Bytes that went into a file in the public folder."""
    path = f"\\??\\C:\\Users\\Public\\{name}"
    lines = run.lines("filetracer", "NtWriteFile")
    return sum(int(line["Length"], 16) for line in lines if line["FileName"] == path)


def runtime() -> list[Path]:
    """The DLLs of gcc's runtime for Windows: those that are there."""
    compiler = f"{PREFIXES[64]}-g++"
    require(shutil.which(compiler) is not None, f"{compiler} is not installed (Debian: mingw-w64)")
    found = []
    for name in ("libstdc++-6.dll", "libgcc_s_seh-1.dll", "libwinpthread-1.dll"):
        command = [compiler, f"-print-file-name={name}"]
        said_to_be = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        places = (Path(said_to_be), Path("/usr", PREFIXES[64], "lib", name))
        found += [place for place in places if place.is_absolute() and place.exists()][:1]
    return found


def test_gccs_library_runs_for_real(bench: Bench, tmp_path: Path) -> None:
    """Streams to a file and from it, maps, and exceptions that libstdc++ itself throws."""
    source = r"""
    #include <fstream>
    #include <iostream>
    #include <map>
    #include <sstream>
    #include <stdexcept>
    #include <string>
    int main()
    {
        std::map<std::string, int> counts = {{"b", 30}, {"a", 1}};
        std::ostringstream text;
        text << counts.begin()->first << '=' << counts["b"] << ' ' << 1.5;
        std::cout << text.str() << std::endl;
        try { std::string("x").at(9); } catch (const std::out_of_range &) { mark("out-of-range"); }
        try { throw std::runtime_error("mine"); } catch (const std::exception &error) { mark(error.what()); }
        std::ofstream("C:\\Users\\Public\\by-stream") << text.str() << "\n";
        std::string line;
        std::getline(std::ifstream("C:\\Users\\Public\\by-stream"), line);
        mark(line == "a=30 1.5" ? "same" : "different");
    }
    """
    program = build(tmp_path, source, 64, language="c++")
    run = bench.detonate(brought(tmp_path, program, *runtime()), timeout=240)
    assert (run.outcome.complete, run.outcome.reason) == (True, None)
    assert marks(run) == ["out-of-range", "mine", "by-stream", "by-stream", "same"]
    assert written(run, "by-stream") == len("a=30 1.5\r\n")


PRINTING = r"""
#include <stdio.h>
#define FOUND(name) (void *)GetProcAddress(library, name)
#define OSTREAM "?$basic_ostream@DU?$char_traits@D@std@@@"
int main(void)
{
    HMODULE library = LoadLibraryA("msvcp140.dll");
    void *cout = FOUND("?cout@std@@3V" OSTREAM "1@A");
    void *(*put_text)(void *, const char *, long long) = FOUND("?write@" OSTREAM "std@@QEAAAEAV12@PEBD_J@Z");
    void *(*put_number)(void *, int) = FOUND("??6" OSTREAM "std@@QEAAAEAV01@H@Z");
    void *(*flush)(void *) = FOUND("?flush@" OSTREAM "std@@QEAAAEAV12@XZ");
    freopen("C:\\Users\\Public\\by-cout", "wb", stdout);
    flush(put_number(put_text(cout, "answer: ", 8), 42));
    mark("flushed");
    return 0;
}
"""


def visual_library() -> Path:
    """msvcp140.dll, out of a package."""
    known = next(one for one in programs.read() if one.name.endswith("/msvcp140.dll"))
    lacking = fetching.fetch([known], fetching.cache())
    require(not lacking, f"msvcp140.dll cannot be had: {lacking}")
    return fetching.path_of(known, fetching.cache())


def test_visual_cs_library_runs_for_real(bench: Bench, tmp_path: Path) -> None:
    """cout is made when it is loaded, and what is put into it gets to the C runtime's stdout."""
    library = Path(shutil.copy(visual_library(), tmp_path / "msvcp140.dll"))
    program = build(tmp_path, PRINTING, 64)
    run = bench.detonate(brought(tmp_path, program, library), timeout=120)
    assert (run.outcome.complete, run.outcome.reason) == (True, None)
    assert marks(run) == ["by-cout", "flushed"]
    assert written(run, "by-cout") == len("answer: 42")


@pytest.mark.parametrize("bits", [32, 64])
def test_types_at_run_time(tmp_path: Path, bits: int) -> None:
    """``dynamic_cast`` from one base to the other, to the whole, and to what it is not; ``typeid``."""
    source = r"""
    typedef struct { void *table, *spare; char name[16]; } Type;
    typedef struct { DWORD type, contained; int member, virtual, slot; DWORD attributes; } Base;
    typedef struct { DWORD signature, offset, displacement, type, hierarchy, self; } Locator;
    static Type whole = {0, 0, ".?AVWhole@@"}, one = {0, 0, ".?AVOne@@"}, two = {0, 0, ".?AVTwo@@"};
    static Type copy = {0, 0, ".?AVTwo@@"}, other = {0, 0, ".?AVOther@@"};
    static Base bases[3];
    static DWORD list[3], hierarchy[4];
    static Locator first, second;
    static void *tables[2][2];
    int main(void)
    {
        HMODULE library = LoadLibraryA("vcruntime140.dll");
        void *(*cast)(void *, LONG, void *, void *, BOOL);
        cast = (void *)GetProcAddress(library, "__RTDynamicCast");
        void *(*type)(void *) = (void *)GetProcAddress(library, "__RTtypeid");
        void *(*start)(void *) = (void *)GetProcAddress(library, "__RTCastToVoid");
        char *image = sizeof(void *) == 8 ? (char *)GetModuleHandleA(NULL) : NULL;
        #define AT(what) ((DWORD)((char *)(what) - image))
        Base all[3] = {{AT(&whole), 2, 0, -1, 0, 0}, {AT(&one), 0, 0, -1, 0, 0},
                       {AT(&two), 0, sizeof(void *), -1, 0, 0}};
        for (int i = 0; i < 3; i++) { bases[i] = all[i]; list[i] = AT(&bases[i]); }
        hierarchy[1] = 1; hierarchy[2] = 3; hierarchy[3] = AT(list);
        Locator at = {sizeof(void *) == 8, 0, 0, AT(&whole), AT(hierarchy), AT(&first)};
        first = second = at;
        second.offset = sizeof(void *);
        second.self = AT(&second);
        tables[0][0] = &first; tables[1][0] = &second;
        void *object[2] = {&tables[0][1], &tables[1][1]};
        mark(cast(&object[0], 0, &one, &two, 0) == &object[1] ? "across" : "wrong");
        mark(cast(&object[1], 0, &two, &whole, 0) == &object[0] ? "down" : "wrong");
        mark(cast(&object[1], 0, &two, &copy, 0) == &object[1] ? "by-name" : "wrong");
        mark(!cast(&object[0], 0, &one, &other, 0) && !cast(NULL, 0, &one, &two, 0) ? "none" : "wrong");
        mark(type(&object[1]) == &whole && start(&object[1]) == &object[0] ? "whole" : "wrong");
        return 0;
    }
    """
    assert said(tmp_path, source, bits) == ["across", "down", "by-name", "none", "whole"]
