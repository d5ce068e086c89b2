"""Where Windows looks for a library: beside the program, in its own folders, in the current one."""

from __future__ import annotations

import ntpath
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.calling import stdcall

WINDOWS_FOLDER: Final = "c:\\windows\\"
KNOWN: Final = frozenset(
    (
        *("ntdll", "kernel32", "kernelbase", "user32", "gdi32", "advapi32", "sechost", "rpcrt4", "ole32"),
        *("combase", "oleaut32", "shell32", "shlwapi", "shcore", "msvcrt", "ws2_32", "nsi", "psapi"),
        *("imm32", "comdlg32", "setupapi", "normaliz", "wldap32", "clbcatq", "gdiplus", "imagehlp"),
    )
)
"""What Windows never looks for beside the program (``KnownDLLs``), or has in each process."""


def with_ending(name: str) -> str:
    """The name as ``LoadLibrary`` completes it: ``.dll`` where it has no ending, none after a last dot."""
    name = name.replace("/", "\\").rstrip(" ")
    base = ntpath.basename(name)
    if base.endswith("."):
        return name[:-1]
    return name if "." in base or not base else f"{name}.dll"


def same_file(path: str, name: str) -> bool:
    """Whether a path ends in a file name."""
    return ntpath.basename(path).lower() == name.lower()


def is_known(name: str) -> bool:
    """Whether a bare name is that of a library which Windows always takes from its own folder."""
    stem = ntpath.splitext(name)[0].lower()
    return stem in KNOWN or name.lower().startswith(stdcall.API_SETS)


def where(emu: Any, name: str, near: str = "") -> str | None:
    """The path of the file that *name* means, if the program wrote it; None for Windows' own or none.

    *near*: the folder of the library that asks.
    """
    wanted = with_ending(name)
    if ntpath.basename(wanted) != wanted:
        found: str | None = emu.written(wanted)
        return found
    if is_known(wanted):
        return None
    program = ntpath.dirname(getattr(emu.curr_process, "path", "") or "")
    beside = emu.written(ntpath.join(program, wanted)) if program else None
    if beside or of_windows(emu, wanted):
        return beside
    elsewhere = (emu.written(ntpath.join(folder, wanted)) for folder in ("", near))
    return next(filter(None, elsewhere), None)


def of_windows(emu: Any, name: str) -> bool:
    """Whether Windows has a library of that name, in a folder of its own."""
    folder, base = ntpath.split(with_ending(name))
    if folder and not f"{emu.disk.full(folder)}\\".lower().startswith(WINDOWS_FOLDER):
        return False
    stem = ntpath.splitext(base)[0]
    if stdcall.is_windows(stem) or stdcall.is_cdecl(stem):
        return True
    return any(one.is_decoy() and same_file(one.get_emu_path(), base) for one in emu.get_user_modules())
