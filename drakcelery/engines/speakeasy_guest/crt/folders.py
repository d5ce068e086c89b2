"""Files by name: ``_stat``, ``_access``, ``remove``, ``rename``, ``_mkdir``, ``_findfirst``."""

from __future__ import annotations

import ntpath
import struct
from typing import Any

from drakcelery.engines.speakeasy_guest.apis.api import free_handle
from drakcelery.engines.speakeasy_guest.crt.abi import Answer, Function
from drakcelery.engines.speakeasy_guest.crt.descriptors import EBADF, EEXIST, EINVAL, ENOENT
from drakcelery.engines.speakeasy_guest.crt.machine import Machine, named
from drakcelery.engines.speakeasy_guest.crt.runtime import Runtime
from drakcelery.engines.speakeasy_guest.machine.clock import EPOCH, UNITS
from drakcelery.engines.speakeasy_guest.machine.file_times import times_of
from drakcelery.engines.speakeasy_guest.naming import file_name

ENOMEM = 12
ERROR_FILE_NOT_FOUND, ERROR_NO_MORE_FILES = 2, 18
S_IFDIR, S_IFREG = 0x4000, 0x8000
DIRECTORY, ARCHIVE = 0x10, 0x20
MAX_PATH = 260
FIRST_SEARCH, MAX_SEARCHES = 0x5000, 1024
"""Handles, and how many searches may be open at a time."""

Moments = tuple[int, int, int]
"""When a file was read, written and made, in seconds since 1970."""

Found = tuple[str, int | None, Moments]
"""Name and size of a file, or of a folder None, and its times."""


def _note_query(crt: Runtime, path: str) -> None:
    name = file_name(crt.files.disk.full(path))
    crt.emu.recorder.journal.write("filetracer", "NtQueryAttributesFile", FileName=name)


def _change(crt: Runtime, path: str, operation: str, *, ok: bool, **more: str) -> int:
    """Tell of a change by ``NtSetInformationFile``, and give the function's result."""
    names = more or {"FileName": file_name(crt.files.disk.full(path))}
    crt.emu.recorder.log_file_information(operation, ok=ok, **names)
    return 0 if ok else crt.fail(ENOENT)


def _access(width: int) -> Answer:
    def answer(crt: Runtime, path: int, _mode: int) -> int:
        name = crt.machine.name(path, width)
        _note_query(crt, name)
        found = crt.files.disk.find(name) is not None or crt.files.disk.is_folder(name)
        return 0 if found else crt.fail(ENOENT)

    return answer


def _access_s(width: int) -> Answer:
    plain = _access(width)
    return lambda crt, path, mode: ENOENT if plain(crt, path, mode) else 0


def _remove(width: int) -> Answer:
    def answer(crt: Runtime, path: int) -> int:
        name = crt.machine.name(path, width)
        return _change(crt, name, "FileDispositionInformation", ok=crt.files.disk.delete(name))

    return answer


def _rename(width: int) -> Answer:
    def answer(crt: Runtime, path: int, target: int) -> int:
        old, new = crt.machine.name(path, width), crt.machine.name(target, width)
        disk = crt.files.disk
        names = {"FileSrc": file_name(disk.full(old)), "FileDst": file_name(disk.full(new))}
        return _change(crt, old, "FileRenameInformation", ok=disk.rename(old, new), **names)

    return answer


def _make_folder(width: int) -> Answer:
    def answer(crt: Runtime, path: int) -> int:
        name = crt.machine.name(path, width)
        crt.files.disk.note(name, "directory_create")
        return 0 if crt.files.disk.make_folder(name) else crt.fail(EEXIST)

    return answer


def _remove_folder(width: int) -> Answer:
    def answer(crt: Runtime, path: int) -> int:
        name = crt.machine.name(path, width)
        return _change(crt, name, "FileDispositionInformation", ok=crt.files.disk.remove_folder(name))

    return answer


def _stat_data(size: int, moments: Moments, *, folder: bool, times: int, wide_size: int) -> bytes:
    """``struct _stat…``: its times and its size have the widths that are named."""
    mode = (S_IFDIR | 0o777) if folder else (S_IFREG | 0o666)
    kind = "q" if times == 8 else "i"
    head = struct.pack("<IHHhhhxxI", 2, 0, mode, 1, 0, 0, 2)
    if wide_size == 8:
        return head.ljust(24, b"\0") + struct.pack(f"<q3{kind}", size, *moments)
    tail = struct.pack("<i", min(size, 0x7FFFFFFF))
    return head + tail + struct.pack(f"<3{kind}", *moments)


def _stat(width: int, times: int, wide_size: int) -> Answer:
    def answer(crt: Runtime, path: int, target: int) -> int:
        name = crt.machine.name(path, width)
        _note_query(crt, name)
        file = crt.files.disk.find(name)
        if file is None and not crt.files.disk.is_folder(name):
            return crt.fail(ENOENT)
        size = 0 if file is None else crt.files.disk.size(file)
        moments = _moments(crt, file)
        data = _stat_data(size, moments, folder=file is None, times=_times(crt, times), wide_size=wide_size)
        crt.machine.write(target, data)
        return 0

    return answer


def _stat_open(times: int, wide_size: int) -> Answer:
    def answer(crt: Runtime, number: int, target: int) -> int:
        descriptor = crt.files.get(number)
        if descriptor is None:
            return crt.fail(EBADF)
        size, moments = crt.files.length(number), _moments(crt, descriptor.file)
        data = _stat_data(size, moments, folder=False, times=_times(crt, times), wide_size=wide_size)
        crt.machine.write(target, data)
        return 0

    return answer


def _times(crt: Runtime, times: int) -> int:
    return times or crt.machine.size


def _moments(crt: Runtime, file: Any) -> Moments:
    times = times_of(crt.emu, file)
    accessed, written, created = (
        max(one // UNITS - EPOCH, 0) // 1000 for one in (times.accessed, times.written, times.created)
    )
    return accessed, written, created


def _found_data(machine: Machine, found: Found, width: int, layout: tuple[int, int]) -> bytes:
    """``struct _finddata…``: attributes, three times, size (None for a folder), name."""
    name, size, (accessed, written, created) = found
    times, wide_size = layout
    kind = "q" if (times or machine.size) == 8 else "i"
    head = struct.pack("<I", DIRECTORY if size is None else ARCHIVE)
    head = head.ljust(8, b"\0") if kind == "q" else head
    head += struct.pack(f"<3{kind}", created, accessed, written)
    if wide_size == 8:
        head = head.ljust(-(-len(head) // 8) * 8, b"\0")
    head += struct.pack("<q" if wide_size == 8 else "<I", size or 0)
    encoded: bytes = named(name[: MAX_PATH - 1], width)
    return head + encoded.ljust(MAX_PATH * width, b"\0")


def _find_first(width: int, layout: tuple[int, int]) -> Answer:
    def answer(crt: Runtime, pattern: int, target: int) -> int:
        disk, wanted = crt.files.disk, crt.machine.name(pattern, width)
        found: list[Found] = [
            (name, None, _moments(crt, None)) for name in (*disk.dots(wanted), *disk.folders_matching(wanted))
        ]
        found += [
            (ntpath.basename(file.get_path()), disk.size(file), _moments(crt, file))
            for file in disk.matching(wanted)
        ]
        if not found:
            crt.emu.set_last_error(ERROR_FILE_NOT_FOUND)
            return crt.fail(ENOENT)
        searches = crt.process.searches
        if len(searches) >= MAX_SEARCHES:
            return crt.fail(ENOMEM)
        handle = free_handle(searches, FIRST_SEARCH)
        searches[handle] = found
        return handle if _next(crt, handle, target, width, layout) == 0 else -1

    return answer


def _find_next(width: int, layout: tuple[int, int]) -> Answer:
    return lambda crt, handle, target: _next(crt, handle, target, width, layout)


def _next(crt: Runtime, handle: int, target: int, width: int, layout: tuple[int, int]) -> int:
    left = crt.process.searches.get(handle)
    if not left:
        if left is not None:
            crt.emu.set_last_error(ERROR_NO_MORE_FILES)  # how mingw's readdir knows the end
        return crt.fail(ENOENT)
    crt.machine.write(target, _found_data(crt.machine, left.pop(0), width, layout))
    return 0


def _find_close(crt: Runtime, handle: int) -> int:
    return crt.fail(EINVAL) if crt.process.searches.pop(handle, None) is None else 0


LAYOUTS = {"": (0, 4), "32": (4, 4), "64": (8, 8), "i64": (0, 8), "32i64": (4, 8), "64i32": (8, 4)}
"""Bytes of a time (0: of a pointer) and of a size, by the ending of a function's name."""


def _family() -> dict[str, Function]:
    table = {}
    for ending, layout in LAYOUTS.items():
        table[f"_stat{ending}"] = Function("sp", _stat(1, *layout))
        table[f"_wstat{ending}"] = Function("wp", _stat(2, *layout))
        table[f"_fstat{ending}"] = Function("ip", _stat_open(*layout))
        for width, letter, wide in ((1, "s", ""), (2, "w", "w")):
            table[f"_{wide}findfirst{ending}"] = Function(f"{letter}p", _find_first(width, layout))
            table[f"_{wide}findnext{ending}"] = Function("pp", _find_next(width, layout))
    for width, letter, wide in ((1, "s", ""), (2, "w", "w")):
        for name, words, answer in (
            ("access", "i", _access(width)),
            ("access_s", "i", _access_s(width)),
            ("chmod", "i", lambda _crt, _path, _mode: 0),
            ("unlink", "", _remove(width)),
            ("mkdir", "", _make_folder(width)),
            ("rmdir", "", _remove_folder(width)),
            ("utime", "p", lambda _crt, _path, _times: 0),
        ):
            table[f"_{wide}{name}"] = Function(letter + words, answer)
            if not wide:
                table[name] = Function(letter + words, answer)
        table[f"_{wide}remove" if wide else "remove"] = Function(letter, _remove(width))
        table[f"_{wide}rename" if wide else "rename"] = Function(letter * 2, _rename(width))
    return table


FUNCTIONS: dict[str, Function] = {**_family(), "_findclose": Function("p", _find_close)}
"""Functions by name."""
