"""Windows programs for the emulator, compiled by mingw-w64 when a test needs them.

A program says what it did by :c:func:`mark`, which creates a file of that name: the marks of a run, in their
order, are what a test looks at.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.conftest import require
from tests.emulating import Bench, Run

PRELUDE = r"""
#define WIN32_LEAN_AND_MEAN
#define _WIN32_WINNT 0x0A00
#define _X86INTRIN_H_INCLUDED // without it, two thirds of a 64-bit program's compilation go into intrinsics
#include <windows.h>
#undef _X86INTRIN_H_INCLUDED
static void mark(const char *name)
{
    char path[MAX_PATH] = "C:\\Users\\Public\\";
    HANDLE file = CreateFileA(lstrcatA(path, name), GENERIC_WRITE, 0, NULL, CREATE_ALWAYS, 0, NULL);
    CloseHandle(file);
}
"""
PREFIXES = {32: "i686-w64-mingw32", 64: "x86_64-w64-mingw32"}
BARE = ("-nostartfiles", "-Wl,-e,__start", "-O1")
"""Flags for a program without a C runtime's start-up; its function is ``_start``."""


def build(folder: Path, source: str, bits: int, *flags: str, language: str = "c") -> Path:
    """Compile *source*, C or C++ (``c++``), after the prelude."""
    compiler = f"{PREFIXES[bits]}-{'g++' if language == 'c++' else 'gcc'}"
    require(shutil.which(compiler) is not None, f"{compiler} is not installed (Debian: mingw-w64)")
    program = folder / f"program{bits}.exe"
    entry = tuple("-Wl,-e,_start" if flag == BARE[1] and bits == 64 else flag for flag in flags)
    command = [compiler, "-x", language, "-", "-w", "-o", str(program), *entry]
    done = subprocess.run(command, input=PRELUDE + source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return program


def marks(run: Run) -> list[str]:
    """What the program said, in order."""
    lines = run.lines("filetracer", "NtCreateFile")
    return [name.rpartition("\\")[2] for name in (line["FileName"] for line in lines) if "Public" in name]


def said(folder: Path, source: str, bits: int, *flags: str, language: str = "c") -> list[str]:
    """Build and run a program that ends by itself: its marks."""
    run = Bench(folder).detonate(build(folder, source, bits, *flags, language=language))
    assert run.outcome.reason is None, (run.outcome.reason, marks(run))
    return marks(run)
