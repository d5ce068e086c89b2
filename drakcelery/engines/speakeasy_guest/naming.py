"""Win32 names as the Windows kernel, and so DRAKVUF, writes them. Pure."""

from __future__ import annotations

import re

USER_SID = "S-1-5-21-1111111111-2222222222-3333333333-1001"
"""The emulated user, as in the configuration."""

_ROOTS = {
    "HKEY_LOCAL_MACHINE": r"\REGISTRY\MACHINE",
    "HKLM": r"\REGISTRY\MACHINE",
    "HKEY_CURRENT_USER": rf"\REGISTRY\USER\{USER_SID}",
    "HKEY_CLASSES_ROOT": r"\REGISTRY\MACHINE\SOFTWARE\CLASSES",
    "HKEY_USERS": r"\REGISTRY\USER",
    "HKEY_CURRENT_CONFIG": r"\REGISTRY\MACHINE\SYSTEM\CURRENTCONTROLSET\HARDWARE PROFILES\CURRENT",
}
_LETTERS = {8: "b", 9: "t", 10: "n", 11: "v", 12: "f", 13: "r", 34: '"', 92: "\\"}
_DRIVE = re.compile(r"^[A-Za-z]:")
SYSTEM_VOLUME = r"\Device\HarddiskVolume2"


def registry_key(path: str) -> str:
    r"""``HKEY_CURRENT_USER\Software`` as ``\REGISTRY\USER\<sid>\Software``."""
    root, separator, rest = path.partition("\\")
    kernel = _ROOTS.get(root.upper())
    return path if kernel is None else f"{kernel}{separator}{rest}"


def file_name(path: str) -> str:
    r"""``C:\x`` as the object manager's ``\??\C:\x``; other paths stay."""
    return rf"\??\{path}" if _DRIVE.match(path) else path


def image_name(path: str) -> str:
    r"""``C:\x.exe`` as ``\Device\HarddiskVolume2\x.exe``, DRAKVUF's ``ProcessName``."""
    return f"{SYSTEM_VOLUME}{path[2:]}" if _DRIVE.match(path) else path


def escaped(command_line: str) -> str:
    """As DRAKVUF's procmon writes a command line, which GLib's ``g_strescape`` escapes once more."""
    return "".join(map(_escaped, command_line.encode("utf-8", "replace")))


def _escaped(byte: int) -> str:
    if byte in _LETTERS:
        return f"\\{_LETTERS[byte]}"
    return chr(byte) if 0x20 <= byte < 0x7F else f"\\{byte:03o}"


def without_width(name: str) -> str:
    """``CreateFileW`` and ``CreateFileA`` as ``CreateFile``."""
    return name[:-1] if len(name) > 2 and name[-1] in "AW" and name[-2].islower() else name
