"""Drives and volumes: there is one, ``C:``, of a size that no sandbox has."""

from __future__ import annotations

import struct
import zlib
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis import texts
from drakcelery.engines.speakeasy_guest.apis.api import Api, put, text_argument
from drakcelery.engines.speakeasy_guest.machine.file_times import times_of

ROOT: Final = "C:\\"
SERIAL: Final = 0x3C2A91F4
SECTOR, CLUSTER = 512, 8
"""Bytes of a sector, and sectors of a cluster."""

TOTAL, FREE = 255 * 1024**3, 171 * 1024**3
"""Bytes."""

FIXED, NO_ROOT = 3, 1
"""``DRIVE_FIXED`` and ``DRIVE_NO_ROOT_DIR``."""

FEATURES: Final = 0x3E706FF
"""``FILE_…`` of NTFS that ``GetVolumeInformation`` tells."""

LONGEST_NAME: Final = 255
ERROR_PATH_NOT_FOUND, ERROR_MORE_DATA = 3, 234


def _text(emu: Any, name: str, text: str, target: int, room: int) -> bool:
    """A text where there is room for *room* characters, its zero among them."""
    if not target:
        return True
    wide = name.endswith("W")
    if not texts.fits(text, room, wide=wide):
        emu.set_last_error(ERROR_MORE_DATA)
        return False
    texts.write(emu, target, text, wide=wide)
    return True


def _is_ours(emu: Any, name: str, argv: list[Any], number: int) -> bool:
    path = text_argument(emu, name, argv, number) or str(emu.get_cd())
    if path[:2].upper() == ROOT[:2] or path.startswith("\\"):
        return True
    emu.set_last_error(ERROR_PATH_NOT_FOUND)
    return False


def _strings(emu: Any, name: str, argv: list[Any]) -> int:
    text = f"{ROOT}\0"
    return len(text) if _text(emu, name, text, argv[1], argv[0]) and argv[1] else len(text) + 1


def _type(emu: Any, name: str, argv: list[Any]) -> int:
    return FIXED if _is_ours(emu, name, argv, 0) else NO_ROOT


def _space(emu: Any, name: str, argv: list[Any]) -> int:
    if not _is_ours(emu, name, argv, 0):
        return 0
    each = SECTOR * CLUSTER
    numbers = (CLUSTER, SECTOR, FREE // each, TOTAL // each)
    for place, number in zip(argv[1:], numbers, strict=True):
        put(emu, place, number, 4)
    return 1


def _space_ex(emu: Any, name: str, argv: list[Any]) -> int:
    if not _is_ours(emu, name, argv, 0):
        return 0
    for place, number in zip(argv[1:], (FREE, TOTAL, FREE), strict=True):
        put(emu, place, number, 8)
    return 1


def _information(emu: Any, name: str, argv: list[Any]) -> int:
    if not _is_ours(emu, name, argv, 0):
        return 0
    for place, number in zip(argv[3:6], (SERIAL, LONGEST_NAME, FEATURES), strict=True):
        put(emu, place, number, 4)
    return int(_text(emu, name, "", argv[1], argv[2]) and _text(emu, name, "NTFS", argv[6], argv[7]))


def _dos_device(emu: Any, name: str, argv: list[Any]) -> int:
    drive = text_argument(emu, name, argv, 0)
    if drive.upper() not in ("", ROOT[:2]):
        emu.set_last_error(2)  # ERROR_FILE_NOT_FOUND
        return 0
    text = "\\Device\\HarddiskVolume2\0" if drive else f"{ROOT[:2]}\0"
    return len(text) + 1 if _text(emu, name, text, argv[1], argv[2]) else 0


def _information_by_handle(emu: Any, _name: str, argv: list[Any]) -> int:
    """``GetFileInformationByHandle``."""
    opened = emu.disk.opened(argv[0])
    if opened is None:
        emu.set_last_error(6)  # ERROR_INVALID_HANDLE
        return 0
    size = 0 if opened.is_dir else opened.get_size()
    times = times_of(emu, None if opened.is_dir else opened.file).data()
    kind = 0x10 if opened.is_dir else 0x20
    number = zlib.crc32(opened.path.lower().encode("utf-8", "surrogatepass"))
    numbers = (SERIAL, size >> 32, size & 0xFFFFFFFF, 1, 0x10000, number)
    emu.mem_write(argv[1], struct.pack("<I", kind) + times + struct.pack("<6I", *numbers))
    return 1


APIS = {
    "GetLogicalDrives": Api(words=0, answer=lambda _emu, _name, _argv: 1 << (ord(ROOT[0]) - ord("A"))),
    "GetLogicalDriveStrings": Api(words=2, answer=_strings),
    "GetDriveType": Api(words=1, answer=_type),
    "GetDiskFreeSpace": Api(words=5, answer=_space),
    "GetDiskFreeSpaceEx": Api(words=4, answer=_space_ex),
    "GetVolumeInformation": Api(words=8, answer=_information),
    "QueryDosDevice": Api(words=3, answer=_dos_device),
    "GetFileInformationByHandle": Api(words=2, answer=_information_by_handle),
}
