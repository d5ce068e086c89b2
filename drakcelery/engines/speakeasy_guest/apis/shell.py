"""Functions of the shell and of COM that installers ask for folders, and make them by."""

from __future__ import annotations

import ntpath
import uuid
from typing import Any

from drakcelery.engines.speakeasy_guest.apis import texts
from drakcelery.engines.speakeasy_guest.apis.api import PAGE, Api, put, text_argument
from drakcelery.engines.speakeasy_guest.configuration import USER

E_FAIL = 0x80004005
E_INVALIDARG = 0x80070057
CLASS_NOT_REGISTERED = 0x80040154
"""``REGDB_E_CLASSNOTREG``."""

ERROR_SUCCESS, ERROR_ALREADY_EXISTS = 0, 183

PROFILE = f"C:\\Users\\{USER}"
ROAMING, LOCAL = f"{PROFILE}\\AppData\\Roaming", f"{PROFILE}\\AppData\\Local"
MENU, COMMON_MENU = "Microsoft\\Windows\\Start Menu", "C:\\ProgramData\\Microsoft\\Windows\\Start Menu"

FOLDERS = {
    0x00: f"{PROFILE}\\Desktop",
    0x02: f"{ROAMING}\\{MENU}\\Programs",
    0x05: f"{PROFILE}\\Documents",
    0x06: f"{PROFILE}\\Favorites",
    0x07: f"{ROAMING}\\{MENU}\\Programs\\Startup",
    0x08: f"{ROAMING}\\Microsoft\\Windows\\Recent",
    0x09: f"{ROAMING}\\Microsoft\\Windows\\SendTo",
    0x0B: f"{ROAMING}\\{MENU}",
    0x0D: f"{PROFILE}\\Music",
    0x0E: f"{PROFILE}\\Videos",
    0x10: f"{PROFILE}\\Desktop",
    0x14: "C:\\Windows\\Fonts",
    0x15: f"{ROAMING}\\Microsoft\\Windows\\Templates",
    0x16: COMMON_MENU,
    0x17: f"{COMMON_MENU}\\Programs",
    0x18: f"{COMMON_MENU}\\Programs\\Startup",
    0x19: "C:\\Users\\Public\\Desktop",
    0x1A: ROAMING,
    0x1C: LOCAL,
    0x20: f"{LOCAL}\\Microsoft\\Windows\\INetCache",
    0x21: f"{LOCAL}\\Microsoft\\Windows\\INetCookies",
    0x23: "C:\\ProgramData",
    0x24: "C:\\Windows",
    0x25: "C:\\Windows\\System32",
    0x26: "C:\\Program Files",
    0x27: f"{PROFILE}\\Pictures",
    0x28: PROFILE,
    0x29: "C:\\Windows\\SysWOW64",
    0x2A: "C:\\Program Files (x86)",
    0x2B: "C:\\Program Files\\Common Files",
    0x2C: "C:\\Program Files (x86)\\Common Files",
    0x2E: "C:\\Users\\Public\\Documents",
}
"""By ``CSIDL`` (``shlobj.h``)."""

KNOWN = {
    "3eb685db-65f9-4cf6-a03a-e3ef65729f3d": ROAMING,
    "f1b32785-6fba-4fcf-9d55-7b8e7f157091": LOCAL,
    "a520a1a4-1780-4ff6-bd18-167343c5af16": f"{PROFILE}\\AppData\\LocalLow",
    "62ab5d82-fdc1-4dc3-a9dd-070d1d495d97": "C:\\ProgramData",
    "5e6c858f-0e22-4760-9afe-ea3317b67173": PROFILE,
    "b4bfcc3a-db2c-424c-b029-7fe99a87c641": f"{PROFILE}\\Desktop",
    "fdd39ad0-238f-46af-adb4-6c85480369c7": f"{PROFILE}\\Documents",
    "374de290-123f-4565-9164-39c4925e467b": f"{PROFILE}\\Downloads",
    "905e63b6-c1bf-494e-b29c-65b732d3d21a": "C:\\Program Files",
    "7c5a40ef-a0fb-4bfc-874a-c0f2e0b9fa8e": "C:\\Program Files (x86)",
    "f38bf404-1d43-42f2-9305-67de0b28fc23": "C:\\Windows",
    "1ac14e77-02e7-4e5d-b744-2eb1ae5198b7": "C:\\Windows\\System32",
    "b97d20bb-f46a-4c97-ba10-5e3608430854": FOLDERS[0x07],
    "dfdf76a2-c82a-4d63-906a-5644ac457385": "C:\\Users\\Public",
    "5cd7aee2-2219-4a67-b85d-6c9ce15660cb": f"{LOCAL}\\Programs",
}
"""By ``KNOWNFOLDERID`` (``knownfolders.h``)."""

CSIDL_MASK = 0xFF
MAX_PATH = 260
MAX_LISTS = 1024


def _special_location(folder: int, target: int) -> Any:
    """``SHGetSpecialFolderLocation`` and ``SHGetFolderLocation``: a list of ids, which stands for a path."""

    def answer(emu: Any, _name: str, argv: list[Any]) -> int:
        number = argv[folder] & CSIDL_MASK
        if number not in FOLDERS or len(emu.id_lists) >= MAX_LISTS:
            return E_INVALIDARG
        folder_path = emu.guest.located(FOLDERS[number])
        address = next((place for place, path in emu.id_lists.items() if path == folder_path), 0)
        if not address:
            address = emu.mem_map(PAGE, tag="api.struct.ITEMIDLIST")
            emu.mem_write(address, b"\x04\0" + bytes((number, 0, 0, 0)))
            emu.id_lists[address] = folder_path
        put(emu, argv[target], address, emu.get_ptr_size())
        return 0

    return answer


def _path_from_list(emu: Any, name: str, argv: list[Any]) -> int:
    path = emu.id_lists.get(argv[0])
    if path is None:
        return 0
    texts.write(emu, argv[1], path, wide=name.endswith("W"))
    return 1


def _folder_path(folder: int, target: int, *, is_result: bool) -> Any:
    """``SHGetFolderPath`` gives an HRESULT, ``SHGetSpecialFolderPath`` whether there is one."""

    def answer(emu: Any, name: str, argv: list[Any]) -> int:
        path = FOLDERS.get(argv[folder] & CSIDL_MASK)
        if path is None:
            return E_INVALIDARG if is_result else 0
        texts.write(emu, argv[target], emu.guest.located(path), wide=name.endswith("W"))
        return 0 if is_result else 1

    return answer


def _known_folder_path(emu: Any, _name: str, argv: list[Any]) -> int:
    path = KNOWN.get(str(uuid.UUID(bytes_le=bytes(emu.mem_read(argv[0], 16)))))
    if path is None:
        return E_INVALIDARG
    path = emu.guest.located(path)
    address = emu.mem_map(PAGE, tag="api.known_folder")
    texts.write(emu, address, path, wide=True)
    put(emu, argv[3], address, emu.get_ptr_size())
    argv[0] = path
    return 0


def _create_folders(number: int) -> Any:
    """``SHCreateDirectoryEx``: a folder and all those above it."""

    def answer(emu: Any, name: str, argv: list[Any]) -> int:
        path = text_argument(emu, name, argv, number)
        if not path:
            return E_INVALIDARG
        emu.recorder.log_file_access(None, emu.disk.full(path), "directory_create")
        return ERROR_SUCCESS if emu.disk.make_folder(path) else ERROR_ALREADY_EXISTS

    return answer


def _co_create_instance(emu: Any, name: str, argv: list[Any]) -> int:
    """As Speakeasy has it for the few classes it knows; any other is not registered."""
    try:
        result = int(emu.original("ole32", name, argv) or 0)
    except Exception:  # noqa: BLE001  # what it raises for a class that it does not know
        put(emu, argv[4] if isinstance(argv[4], int) else 0, 0, emu.get_ptr_size())
        return CLASS_NOT_REGISTERED
    return result


def _mul_div(_emu: Any, _name: str, argv: list[Any]) -> int:
    one, other, by = (
        value - (1 << 32) if value >> 31 else value for value in (item & 0xFFFFFFFF for item in argv)
    )
    if by == 0:
        return 0xFFFFFFFF
    product = one * other
    sign = -1 if (product < 0) != (by < 0) else 1
    quotient: int = (abs(product) + abs(by) // 2) // abs(by)
    return sign * quotient & 0xFFFFFFFF


def _search_path(emu: Any, name: str, argv: list[Any]) -> int:
    """``SearchPath``: a file of the program's own, in the folder that is named or the present one."""
    wide = name.endswith("W")
    folder = text_argument(emu, name, argv, 0)
    file = text_argument(emu, name, argv, 1) + text_argument(emu, name, argv, 2)
    path = emu.disk.full(ntpath.join(folder, file))
    if emu.disk.find(path) is None:
        return 0
    if len(path) >= argv[3] & 0xFFFFFFFF:
        return len(path) + 1
    texts.write(emu, argv[4], path, wide=wide)
    place = argv[4] + (len(path) - len(ntpath.basename(path))) * (2 if wide else 1)
    put(emu, argv[5], place, emu.get_ptr_size())
    return len(path)


def _no_object(emu: Any, _name: str, argv: list[Any]) -> int:
    """``SHGetDesktopFolder``, ``SHGetMalloc``: no object, and a failure that says so."""
    emu.write_ptr(argv[0], 0)
    return E_FAIL


APIS = {
    "SHGetDesktopFolder": Api(words=1, answer=_no_object),
    "SHGetMalloc": Api(words=1, answer=_no_object),
    "SHGetSpecialFolderLocation": Api(words=3, answer=_special_location(1, 2)),
    "SHGetFolderLocation": Api(words=5, answer=_special_location(1, 4)),
    "SHGetPathFromIDList": Api(words=2, answer=_path_from_list),
    "SHGetFolderPath": Api(words=5, answer=_folder_path(1, 4, is_result=True)),
    "SHGetSpecialFolderPath": Api(words=4, answer=_folder_path(2, 1, is_result=False)),
    "SHGetKnownFolderPath": Api(words=4, answer=_known_folder_path),
    "SHCreateDirectory": Api(words=2, answer=_create_folders(1)),
    "SHCreateDirectoryEx": Api(words=3, answer=_create_folders(1)),
    "CoTaskMemFree": Api(words=1, answer=lambda _emu, _name, _argv: 0),
    "ILFree": Api(words=1, answer=lambda _emu, _name, _argv: 0),
    "CoCreateInstance": Api(words=5, answer=_co_create_instance),
    "MulDiv": Api(words=3, answer=_mul_div),
    "SearchPath": Api(words=6, answer=_search_path),
}
"""Keyed by the function's name without ``A`` or ``W``."""
