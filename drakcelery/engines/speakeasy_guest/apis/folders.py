"""Files and folders by name: attributes, searching, making and removing, temporary names."""

from __future__ import annotations

import ntpath
import struct
from typing import Any

from drakcelery.engines.speakeasy_guest.apis import texts
from drakcelery.engines.speakeasy_guest.apis.api import (
    Answer,
    Api,
    free_handle,
    put,
    read_text,
    text_argument,
)
from drakcelery.engines.speakeasy_guest.apis.handles import (
    ERROR_ALREADY_EXISTS,
    ERROR_FILE_NOT_FOUND,
    ERROR_INVALID_HANDLE,
    ERROR_NO_SYSTEM_RESOURCES,
    ERROR_PATH_NOT_FOUND,
    failed,
    invalid_handle,
)
from drakcelery.engines.speakeasy_guest.machine.ansi import ANSI
from drakcelery.engines.speakeasy_guest.machine.attributes import DIRECTORY, of_file, set_of_file
from drakcelery.engines.speakeasy_guest.machine.file_times import Times, times_of

INVALID_ATTRIBUTES = 0xFFFFFFFF
ERROR_NO_MORE_FILES = 18
ERROR_DIR_NOT_EMPTY = 145
MAX_PATH = 260
FIRST_SEARCH, MAX_SEARCHES = 0x6000, 2048
"""Handles, and how many searches may be open at a time."""

MAX_FOUND = 65536
"""Names that a search goes through."""


def attributes(emu: Any, path: str) -> int:
    """The attributes of a file or folder; :data:`INVALID_ATTRIBUTES` where there is none."""
    file = emu.disk.find(path)
    if file is not None:
        return of_file(file)
    return DIRECTORY if emu.disk.is_folder(path) else INVALID_ATTRIBUTES


def _file_attributes(emu: Any, name: str, argv: list[Any]) -> int:
    found = attributes(emu, text_argument(emu, name, argv, 0))
    return failed(emu, ERROR_FILE_NOT_FOUND if found == INVALID_ATTRIBUTES else 0, found)


def _file_attributes_ex(emu: Any, name: str, argv: list[Any]) -> int:
    path = text_argument(emu, name, argv, 0)
    found = attributes(emu, path)
    if found == INVALID_ATTRIBUTES:
        return failed(emu, ERROR_FILE_NOT_FOUND)
    file = emu.disk.find(path)
    size = emu.disk.size(file) if file is not None else 0
    sizes = struct.pack("<II", size >> 32, size & 0xFFFFFFFF)
    emu.mem_write(argv[2], struct.pack("<I", found) + times_of(emu, file).data() + sizes)
    return failed(emu, 0, 1)


def _set_file_attributes(emu: Any, name: str, argv: list[Any]) -> int:
    """Those of folders stay as they are."""
    path = text_argument(emu, name, argv, 0)
    if attributes(emu, path) == INVALID_ATTRIBUTES:
        return failed(emu, ERROR_FILE_NOT_FOUND)
    file = emu.disk.find(path)
    if file is not None:
        set_of_file(file, argv[1])
    return 1


def _delete_file(emu: Any, name: str, argv: list[Any]) -> int:
    path = text_argument(emu, name, argv, 0)
    return 1 if emu.disk.delete(path) else failed(emu, ERROR_FILE_NOT_FOUND)


def _create_directory(number: int) -> Any:
    def answer(emu: Any, name: str, argv: list[Any]) -> int:
        path = text_argument(emu, name, argv, number)
        if not emu.disk.is_folder(ntpath.dirname(emu.disk.full(path))):
            return failed(emu, ERROR_PATH_NOT_FOUND)
        return 1 if emu.disk.make_folder(path) else failed(emu, ERROR_ALREADY_EXISTS)

    return answer


def _remove_directory(emu: Any, name: str, argv: list[Any]) -> int:
    path = text_argument(emu, name, argv, 0)
    if not emu.disk.is_folder(path):
        return failed(emu, ERROR_PATH_NOT_FOUND)
    return 1 if emu.disk.remove_folder(path) else failed(emu, ERROR_DIR_NOT_EMPTY)


def _find_first(data_argument: int) -> Any:
    def answer(emu: Any, name: str, argv: list[Any]) -> int:
        pattern = text_argument(emu, name, argv, 0)
        disk = emu.disk
        names = (*disk.dots(pattern), *disk.folders_matching(pattern))
        old = times_of(emu, None)
        found: list[tuple[str, int, int, Times]] = [(one, DIRECTORY, 0, old) for one in names]
        found += [
            (ntpath.basename(one.get_path()), of_file(one), disk.size(one), times_of(emu, one))
            for one in disk.matching(pattern)
        ]
        if not found:
            return failed(emu, ERROR_FILE_NOT_FOUND, invalid_handle(emu))
        if len(emu.searches) >= MAX_SEARCHES:
            return failed(emu, ERROR_NO_SYSTEM_RESOURCES, invalid_handle(emu))
        handle = free_handle(emu.searches, FIRST_SEARCH)
        emu.searches[handle] = found[:MAX_FOUND]
        _give(emu, argv[data_argument], handle, wide=name.endswith("W"))
        return failed(emu, 0, handle)

    return answer


def _give(emu: Any, address: int, handle: int, *, wide: bool) -> None:
    """Write the next name that a search has found as ``WIN32_FIND_DATA``."""
    name, kind, size, times = emu.searches[handle].pop(0)
    rest = bytes(14 * texts.width(wide=wide))
    head = struct.pack("<I", kind) + times.data()
    head += struct.pack("<IIII", size >> 32, size & 0xFFFFFFFF, 0, 0)
    emu.mem_write(address, head + texts.field(name, MAX_PATH, wide=wide) + rest)


def _find_next(emu: Any, name: str, argv: list[Any]) -> int:
    left = emu.searches.get(argv[0])
    if left is None:
        return failed(emu, ERROR_INVALID_HANDLE)
    if not left:
        return failed(emu, ERROR_NO_MORE_FILES)
    _give(emu, argv[1], argv[0], wide=name.endswith("W"))
    return 1


def _find_close(emu: Any, _name: str, argv: list[Any]) -> int:
    return failed(emu, ERROR_INVALID_HANDLE) if emu.searches.pop(argv[0], None) is None else 1


def _temp_file_name(emu: Any, name: str, argv: list[Any]) -> int:
    """``GetTempFileName``: a name with a number; without one from the program it is a new file."""
    wide = name.endswith("W")
    folder = text_argument(emu, name, argv, 0)
    prefix = text_argument(emu, name, argv, 1)[:3]
    if not emu.disk.is_folder(folder):
        return failed(emu, ERROR_PATH_NOT_FOUND)
    number: int = argv[2] & 0xFFFF
    start = ntpath.join(emu.disk.full(folder), prefix)
    if not number:
        number = next(
            one for one in range(0xA10C, 0x1A10C) if emu.disk.find(f"{start}{one & 0xFFFF:X}.tmp") is None
        )
        number &= 0xFFFF
    path = f"{start}{number:X}.tmp"[: MAX_PATH - 1]
    if not argv[2] & 0xFFFF:
        emu.disk.create(path)
        emu.recorder.log_file_access(None, path, "create")
    texts.write(emu, argv[3], path, wide=wide)
    return number


def _set_current_directory(emu: Any, name: str, argv: list[Any]) -> int:
    path = text_argument(emu, name, argv, 0)
    if not emu.disk.is_folder(path):
        return failed(emu, ERROR_FILE_NOT_FOUND)
    emu.set_cd(emu.disk.full(path).rstrip("\\") + "\\")
    return 1


def _current_directory(emu: Any, name: str, argv: list[Any]) -> int:
    path = str(emu.get_cd())
    path = path if len(path) <= 3 else path.rstrip("\\")
    return texts.write_or_need(emu, argv[1], path, argv[0], wide=name.endswith("W"))


def _fixed(path: str) -> Answer:
    """``GetSystemDirectory`` and the like."""

    def answer(emu: Any, name: str, argv: list[Any]) -> int:
        length = texts.write_or_need(emu, argv[0], path, argv[1], wide=name.endswith("W"))
        argv[0] = path if length == len(path) else argv[0]
        return length

    return answer


def _full_path_name(emu: Any, name: str, argv: list[Any]) -> int:
    wide = name.endswith("W")
    path = emu.disk.full(read_text(emu, argv[0], wide=wide)) if argv[0] else ""
    argv[0] = path
    room, target, part = argv[1] & 0xFFFFFFFF, argv[2], argv[3]
    encoding, width = ("utf-16-le", 2) if wide else (ANSI, 1)
    if len(path) >= room or not target:
        return len(path) + 1
    emu.mem_write(target, (path + "\0").encode(encoding, "replace"))
    last = ntpath.basename(path)
    put(emu, part, target + (len(path) - len(last)) * width if last else 0, emu.get_ptr_size())
    return len(path)


APIS = {
    "GetFileAttributes": Api(words=1, answer=_file_attributes),
    "GetFileAttributesEx": Api(words=3, answer=_file_attributes_ex),
    "SetFileAttributes": Api(words=2, answer=_set_file_attributes),
    "DeleteFile": Api(words=1, answer=_delete_file),
    "CreateDirectory": Api(words=2, answer=_create_directory(0)),
    "CreateDirectoryEx": Api(words=3, answer=_create_directory(1)),
    "RemoveDirectory": Api(words=1, answer=_remove_directory),
    "FindFirstFile": Api(words=2, answer=_find_first(1)),
    "FindFirstFileEx": Api(words=6, answer=_find_first(2)),
    "FindNextFile": Api(words=2, answer=_find_next),
    "FindClose": Api(words=1, answer=_find_close),
    "GetTempFileName": Api(words=4, answer=_temp_file_name),
    "GetCurrentDirectory": Api(words=2, answer=_current_directory),
    "SetCurrentDirectory": Api(words=1, answer=_set_current_directory),
    "GetSystemDirectory": Api(words=2, answer=_fixed("C:\\Windows\\System32")),
    "GetSystemWow64Directory": Api(words=2, answer=_fixed("C:\\Windows\\SysWOW64")),
    "GetWindowsDirectory": Api(words=2, answer=_fixed("C:\\Windows")),
    "GetSystemWindowsDirectory": Api(words=2, answer=_fixed("C:\\Windows")),
    "GetFullPathName": Api(words=4, answer=_full_path_name),
}
"""Keyed by the function's name without ``A`` or ``W``."""
