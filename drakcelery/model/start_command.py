"""How a sample is started in the guest: by its extension, and for a DLL by its exports."""

from __future__ import annotations

from pathlib import Path

import pefile

from drakcelery.model.extensions import COMMANDS
from drakcelery.model.program_file import headers

_REGISTER = "regsvr32 /s %f"


def start_command(sample: Path, extension: str) -> str:
    """The command for *sample*; ``%f`` stands for its path in the guest.

    Raises:
        KeyError: *extension* is not one of :data:`~drakcelery.model.extensions.EXTENSIONS`; without a start
            command ingress refuses those.
    """
    if extension == "dll":
        return dll_command(_exports(sample))
    return COMMANDS[extension]


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
