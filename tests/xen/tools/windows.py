"""The little of a Windows guest that the tools depend on: its paths, and whether a command starts."""

from __future__ import annotations

import ntpath

TYPE_CHECKING = False  # as in machine.py
if TYPE_CHECKING:
    from tests.xen.tools.records import Guest

VARIABLES = {
    "%USERPROFILE%": r"C:\Users\janusz",
    "%APPDATA%": r"C:\Users\janusz\AppData\Roaming",
    "%TEMP%": r"C:\Users\janusz\AppData\Local\Temp",
    "%TMP%": r"C:\Users\janusz\AppData\Local\Temp",
    "%SYSTEMROOT%": r"C:\Windows",
    "%WINDIR%": r"C:\Windows",
    "%PROGRAMDATA%": r"C:\ProgramData",
    "%PUBLIC%": r"C:\Users\Public",
}
DIRECTORIES = {
    "C:\\",
    r"C:\Program Files",
    r"C:\Program Files (x86)",
    r"C:\ProgramData",
    r"C:\Users",
    r"C:\Users\Public",
    r"C:\Users\janusz",
    r"C:\Users\janusz\AppData\Local\Temp",
    r"C:\Users\janusz\AppData\Roaming",
    r"C:\Users\janusz\Desktop",
    r"C:\Users\janusz\Documents",
    r"C:\Windows",
    r"C:\Windows\System32",
    r"C:\Windows\Temp",
}
RUNNABLE = (".exe", ".com", ".bat", ".cmd", ".scr", ".pif")

NOT_FOUND = (2, "ERROR_FILE_NOT_FOUND")
BAD_FORMAT = (193, "ERROR_BAD_EXE_FORMAT")
NO_DIRECTORY = (267, "ERROR_DIRECTORY")

Failure = tuple[int, str]
"""Windows' error code and its name."""


def expand(path: str) -> str:
    """ExpandEnvironmentStrings: variables that there are, whatever their case; others stay."""
    for variable, value in VARIABLES.items():
        at = path.upper().find(variable)
        if at >= 0:
            path = path[:at] + value + path[at + len(variable) :]
    return path


def can_be_written(path: str) -> bool:
    """CreateFile would make it: an absolute path, a directory that exists, a name that Windows allows."""
    directory, name = ntpath.split(path)
    return _is_directory(directory) and bool(name) and not set(name) & set('<>:"/|?*') and name.isprintable()


def start(guest: Guest, method: str, command: str, directory: str | None) -> Failure | None:
    """Start *command* by CreateProcess or ShellExecute; None if it starts."""
    if directory is not None and not _is_directory(directory):
        return NO_DIRECTORY
    if method == "shellexec":
        return None if _exists(guest, command.strip('"')) else NOT_FOUND
    program = _program(guest, command)
    if program is None:
        return NOT_FOUND
    if "\\" in program and not program.lower().endswith(RUNNABLE):
        return BAD_FORMAT
    return None


def _is_directory(path: str) -> bool:
    return ntpath.normcase(path.rstrip("\\") or path) in {
        ntpath.normcase(known.rstrip("\\")) for known in DIRECTORIES
    }


def _exists(guest: Guest, path: str) -> bool:
    if "\\" not in path:
        return True  # a name: Windows looks for it in its own directories
    known = {ntpath.normcase(name) for name in guest["files"]}
    return ntpath.normcase(path) in known or ntpath.normcase(path).startswith("c:\\windows\\")


def _program(guest: Guest, command: str) -> str | None:
    """The program of a command line as CreateProcess finds it: each space may be its end."""
    if command.startswith('"'):
        program = command[1:].partition('"')[0]
        return program if _exists(guest, program) else None
    words = command.split(" ")
    for count in range(1, len(words) + 1):
        program = " ".join(words[:count])
        if program and _exists(guest, program):
            return program
    return None
