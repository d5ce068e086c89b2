"""How many words a 32-bit Windows function takes from the stack.

The callee cleans the stack in stdcall, so stepping over a function the emulator lacks needs that number;
with a wrong one the caller's next ``ret`` goes astray. The numbers are facts of the Windows ABI.
``stdcall.txt`` is made by :mod:`import_libraries`, ``stdcall_newer.txt`` by hand.
"""

from __future__ import annotations

from importlib import resources
from typing import Final

import ordlookup  # type: ignore[import-untyped]  # comes with pefile, without types

from drakcelery.engines.speakeasy_guest.calling.import_libraries import LIBRARIES

SUB_ESP = (b"\x83\xec", b"\x81\xec")
"""``sub esp, imm8`` and ``sub esp, imm32``: what gcc puts after a stdcall call to keep its frame."""

CDECL_MODULES = ("msvcrt", "msvcr", "msvcp", "vcruntime", "ucrtbase", "api-ms-win-crt")

API_SETS = ("api-ms-win-", "ext-ms-win-")
WINDOWS = frozenset((*LIBRARIES, "kernelbase", "wsock32"))

LEFT_OUT = frozenset(f"Nt{verb}WaitCompletionPacket" for verb in ("Create", "Associate", "Cancel"))
"""Functions, not documented, that Windows has from 8.1 on; Go takes others where it does not find them."""

OPERATORS: Final = {823: "??2@YAPAXI@Z", 825: "??3@YAXPAX@Z", 6890: "??2@YAPEAX_K@Z", 6891: "??3@YAXPEAX@Z"}
"""Numbers of new and delete in mfc42.dll, of 32 and of 64 bits; programs link them by the way."""

INSTALLER: Final = {
    8: "MsiCloseHandle",
    17: "MsiCreateRecord",
    32: "MsiDatabaseOpenViewW",
    70: "MsiGetProductInfoW",
    72: "MsiGetProductPropertyW",
    78: "MsiGetSummaryInformationW",
    88: "MsiInstallProductW",
    92: "MsiOpenDatabaseW",
    96: "MsiOpenProductW",
    103: "MsiProcessMessage",
    113: "MsiQueryProductStateW",
    118: "MsiRecordGetStringW",
    120: "MsiRecordReadStream",
    125: "MsiRecordSetStringW",
    141: "MsiSetInternalUI",
    150: "MsiSummaryInfoGetPropertyW",
    159: "MsiViewExecute",
    160: "MsiViewFetch",
    264: "MsiSourceListEnumSourcesW",
}
"""Numbers of msi.dll (as Wine's has them), by which set-ups link it."""

CABINETS: Final = {20: "FDICreate", 21: "FDIIsCabinet", 22: "FDICopy", 23: "FDIDestroy"}
OWN_NUMBERS: Final = {"mfc42": OPERATORS, "msi": INSTALLER, "cabinet": CABINETS}

KINDS = {"cdecl": 0, "only64": None}

Table = dict[str, int | None]
"""Words by name; None for a function that 32-bit Windows does not have."""


def load() -> Table:
    """The tables; a cdecl function takes 0."""
    table: Table = {}
    for file in ("stdcall.txt", "stdcall_newer.txt"):
        text = resources.files(__package__).joinpath(file).read_text(encoding="ascii")
        for line in text.splitlines():
            if not line.startswith("#"):
                kind, *names = line.split()
                _add(table, names, KINDS[kind] if kind in KINDS else int(kind))
    return table


def _add(table: Table, names: list[str], words: int | None) -> None:
    for name in names:
        if name[-1] == "*":
            table[f"{name[:-1]}A"] = table[f"{name[:-1]}W"] = words
        else:
            table[name] = words


def words_of(table: Table, name: str) -> int | None:
    """The count for function *name*; None if the table does not know it."""
    return table.get(_spelt(name))


def _spelt(name: str) -> str:
    return f"Nt{name[2:]}" if name.startswith("Zw") else name


def may_exist(table: Table, module: str, name: str, *, bits: int) -> bool:
    """Whether *module* has the function, as far as is known; in 32 bits one of unknown words does not exist.

    In 64 bits nothing has to be known of a function: a *module* that is not Windows' own may have any.
    """
    if name in LEFT_OUT:
        return False
    if is_cdecl(module) or words_of(table, name) is not None:
        return True
    return bits == 64 and (_spelt(name) in table or not is_windows(module))


def is_windows(module: str) -> bool:
    """Whether the tables hold the functions of *module*."""
    return module.lower() in WINDOWS or module.lower().startswith(API_SETS)


def is_cdecl(module: str) -> bool:
    """Whether the functions of *module* leave the stack to their caller."""
    return module.lower().startswith(CDECL_MODULES)


def name_of(module: str, name: str) -> str:
    """The name of a function that was imported by number (``ordinal_7``), where that is common knowledge.

    The numbers of ws2_32, wsock32 and oleaut32 are the same in each Windows; pefile brings them along. Of
    MFC's, only the two operators are told; of msi's and cabinet's, what set-ups use.
    """
    digits = name.removeprefix("ordinal_")
    if digits == name or not digits.isdigit():
        return name
    if module.lower() in OWN_NUMBERS:
        return OWN_NUMBERS[module.lower()].get(int(digits), name)
    names = ordlookup.ords.get(f"{module.lower()}.dll".encode(), {})
    found = names.get(int(digits))
    return found.decode("ascii") if found else name


def words_restored_by_caller(code: bytes) -> int | None:
    """What the *code* after a call says: gcc takes back with ``sub esp`` what a stdcall callee removed."""
    if code[:2] == SUB_ESP[0] and len(code) > 2:
        return code[2] // 4
    if code[:2] == SUB_ESP[1] and len(code) > 5:
        return int.from_bytes(code[2:6], "little") // 4 % 64
    return None
