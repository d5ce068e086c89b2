"""How a sample is started in the guest: by its extension, and for a DLL by its exports."""

from __future__ import annotations

import re
from pathlib import Path

import pefile

from drakcelery.model.program_file import headers

WORD = frozenset({"doc", "docb", "docm", "docx", "dot", "dotm", "dotx", "rtf"})
EXCEL = frozenset({"xla", "xlam", "xls", "xlsb", "xlsm", "xlsx", "xlt", "xltm", "xltx"})
POWERPOINT = frozenset({"pot", "potm", "potx", "ppam", "pps", "ppsm", "ppsx", "ppt", "pptm", "pptx"})

_OPEN = 'cmd.exe /C start "" %f'
"""With what the guest has for files of that kind; as DRAKVUF Sandbox v0.21 starts what it does not know."""

_COMMANDS = {
    **dict.fromkeys(("exe", "bat", "cmd", "com"), "%f"),
    "ps1": "powershell.exe -executionpolicy bypass -File %f",
    **dict.fromkeys(("js", "jse", "vbs", "vbe", "wsf", "wsh"), "wscript.exe %f"),
    **dict.fromkeys(("hta", "html", "htm"), "mshta.exe %f"),
    "msi": "msiexec.exe /qb /i %f",
    "jar": "javaw.exe -jar %f",
    "chm": "hh.exe %f",
    **dict.fromkeys(("lnk", "pdf", "swf"), _OPEN),
    **dict.fromkeys(WORD, "cmd.exe /C start winword.exe /t %f"),
    **dict.fromkeys(EXCEL, "cmd.exe /C start excel.exe /t %f"),
    **dict.fromkeys(POWERPOINT, "cmd.exe /C start powerpnt.exe /t %f"),
}

EXTENSIONS = frozenset(_COMMANDS) | {"dll"}
"""Every extension that drakcelery knows how to start: all that karton-classifier sends as win32, and more."""

PLAIN_EXTENSION = re.compile(r"[a-z0-9]{1,16}")
"""What an extension has to be where a start command says what becomes of the file."""

ENCRYPTED_OFFICE = "xlsx"
"""The extension for an encrypted Office document that has none: which program it is for is encrypted, too.

Only Excel opens one without asking, where the password is the one that it uses itself ("VelvetSweatshop").
"""

_REGISTER = "regsvr32 /s %f"


def is_encrypted_office(magic: str) -> bool:
    """Whether *magic*, libmagic's words, are those for an Office document that is encrypted as a whole."""
    return magic.startswith("CDFV2 Encrypted")


def start_command(sample: Path, extension: str) -> str:
    """The command for *sample*; ``%f`` stands for its path in the guest.

    Raises:
        KeyError: *extension* is not one of :data:`EXTENSIONS`; without a start command ingress refuses those.
    """
    if extension == "dll":
        return dll_command(_exports(sample))
    return _COMMANDS[extension]


def dll_command(exports: list[tuple[int, str | None]]) -> str:
    """``regsvr32`` for a DLL that registers itself, else ``rundll32`` with its most promising export.

    That is an export like DllMain, else the first that has a name, else the first ordinal. A name is passed
    as the DLL has it: ``@12`` is part of ``_DllMain@12``; to rundll32 only a comma or a blank ends one.
    """
    names = [name for _, name in exports if name]
    if "DllRegisterServer" in names or not exports:
        return _REGISTER
    chosen = next((name for name in names if "DllMain" in name), names[0] if names else None)
    return f"rundll32 %f,{chosen}" if chosen else f"rundll32 %f,#{exports[0][0]}"


def _exports(sample: Path) -> list[tuple[int, str | None]]:
    """(ordinal, name) of each export; a file that is no PE, or a broken one, has none.

    A name that would not pass a command line unchanged counts as no name: it comes from the sample.
    """
    try:
        with headers(sample) as pe:
            pe.parse_data_directories([pefile.DIRECTORY_ENTRY["IMAGE_DIRECTORY_ENTRY_EXPORT"]])
            directory = getattr(pe, "DIRECTORY_ENTRY_EXPORT", None)
            symbols = directory.symbols if directory else []
            return [(int(symbol.ordinal), _safe(symbol.name)) for symbol in symbols]
    except (pefile.PEFormatError, OSError, ValueError):
        return []


def _safe(name: bytes | None) -> str | None:
    if not name:
        return None
    text = name.decode("ascii", "replace")
    plain = all(char.isalnum() or char in "_@?$.~" for char in text) and text.isascii()
    return text if plain and len(text) <= 255 else None
