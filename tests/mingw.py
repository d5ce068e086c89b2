"""Windows programs of our own, built by mingw-w64 with msvcrt.dll, its default, or with the UCRT."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Literal

from tests.conftest import require
from tests.guest_programs import PREFIXES

SOURCES = Path(__file__).parent / "windows_programs"
UCRT = ("-nodefaultlibs", "-D_UCRT", "-lmingw32", "-lgcc", "-lmingwex", "-lucrt", "-lkernel32")
"""What takes the place of msvcrt.dll."""


def build(
    name: str, folder: Path, bits: int, *options: str, runtime: Literal["msvcrt", "ucrt"] = "msvcrt"
) -> Path:
    """Compile ``windows_programs/<name>.c``; skips the test where there is no compiler."""
    compiler = shutil.which(f"{PREFIXES[bits]}-gcc") or ""
    require(bool(compiler), "mingw-w64 is not installed")
    program = folder / f"{name}{bits}-{runtime}.exe"
    libraries = [*options, *UCRT, *options, *UCRT[2:]] if runtime == "ucrt" else [*options]
    command = [compiler, "-O1", "-s", "-o", str(program), str(SOURCES / f"{name}.c"), *libraries]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return program


def import_library(dll: str, names: tuple[str, ...], folder: Path) -> Path:
    """What a 64-bit program links to import *names* from *dll*."""
    tool = shutil.which(f"{PREFIXES[64]}-dlltool") or ""
    require(bool(tool), "mingw-w64 is not installed")
    definition, library = folder / f"{dll}.def", folder / f"lib{dll}.a"
    definition.write_text("\n".join((f"LIBRARY {dll}", "EXPORTS", *names, "")), encoding="ascii")
    subprocess.run([tool, "-d", str(definition), "-l", str(library)], check=True)
    return library
