"""Files by handle: ``CreateFile`` to ``SetEndOfFile``, each handle with a position of its own.

Speakeasy's files have one position for all handles, and whatever is written goes to their end; installers,
which seek in what they unpack, write nonsense then.
"""

from __future__ import annotations

import io
from typing import Any

from drakcelery.engines.speakeasy_guest.apis.api import Api, put, text_argument
from drakcelery.engines.speakeasy_guest.apis.console import is_console, write_file
from drakcelery.engines.speakeasy_guest.calling.guest_calls import Steps
from drakcelery.engines.speakeasy_guest.machine.disk import Opened
from drakcelery.engines.speakeasy_guest.machine.pipes import PREFIX, Pipe, served

ERROR_FILE_NOT_FOUND = 2
ERROR_PATH_NOT_FOUND = 3
ERROR_ACCESS_DENIED = 5
ERROR_INVALID_HANDLE = 6
ERROR_HANDLE_EOF = 38
ERROR_FILE_EXISTS = 80
ERROR_INVALID_PARAMETER = 87
ERROR_BROKEN_PIPE = 109
ERROR_DISK_FULL = 112
ERROR_NEGATIVE_SEEK = 131
ERROR_ALREADY_EXISTS = 183
ERROR_PIPE_BUSY = 231
ERROR_NO_DATA = 232
ERROR_PIPE_LISTENING = 536
ERROR_USER_MAPPED_FILE = 1224
ERROR_NO_SYSTEM_RESOURCES = 1450

CREATE_NEW, CREATE_ALWAYS, OPEN_EXISTING, OPEN_ALWAYS, TRUNCATE_EXISTING = 1, 2, 3, 4, 5
DISPOSITIONS = ("", "CREATE_NEW", "CREATE_ALWAYS", "OPEN_EXISTING", "OPEN_ALWAYS", "TRUNCATE_EXISTING")
RIGHTS = {
    0x80000000: "GENERIC_READ",
    0x40000000: "GENERIC_WRITE",
    0x20000000: "GENERIC_EXECUTE",
    0x10000000: "GENERIC_ALL",
    0x00010000: "DELETE",
}
BACKUP_SEMANTICS = 0x02000000
"""``FILE_FLAG_BACKUP_SEMANTICS``, by which folders are opened."""

DEVICES = ("CON", "CONIN$", "CONOUT$", "NUL", "PRN", "AUX")
MAX_TRANSFER = 64 * 1024 * 1024
"""Bytes of one call of ReadFile or WriteFile."""


def invalid_handle(emu: Any) -> int:
    """``INVALID_HANDLE_VALUE``."""
    return (1 << (8 * int(emu.get_ptr_size()))) - 1


def failed(emu: Any, code: int, value: int = 0) -> int:
    """Set the thread's last error; gives *value*."""
    emu.set_last_error(code)
    return value


def _is_device(path: str) -> bool:
    return path.startswith("\\\\.\\") or path.upper().rstrip(":") in DEVICES


def _create_file(emu: Any, name: str, argv: list[Any]) -> int:
    access, disposition, flags = (argv[number] & 0xFFFFFFFF for number in (1, 4, 5))
    address = argv[0]
    path = text_argument(emu, name, argv, 0)
    if not path:
        return failed(emu, ERROR_PATH_NOT_FOUND, invalid_handle(emu))
    if path.lower().startswith(PREFIX):
        return _open_pipe(emu, path)
    if _is_device(path) or emu.get_object_from_name(path):
        argv[0] = address
        return int(emu.original("kernel32", name, argv))
    rights = [right for bit, right in RIGHTS.items() if access & bit]
    words = DISPOSITIONS[disposition] if disposition < len(DISPOSITIONS) else ""
    argv[1], argv[4] = " | ".join(rights) or access, words or disposition
    full = emu.disk.full(path)
    handle, event, code = _opened(emu, full, disposition, flags)
    emu.recorder.log_file_access(None, full, event, disposition=[words], access=rights)
    return failed(emu, code, handle or invalid_handle(emu))


def _open_pipe(emu: Any, path: str) -> int:
    """The other end of a pipe that is served by that name."""
    ends = served(emu.disk, path)
    free = next((one for one in ends if not one.connected), None)
    emu.recorder.log_file_access(None, path, "open")
    if free is None:
        return failed(emu, ERROR_PIPE_BUSY if ends else ERROR_FILE_NOT_FOUND, invalid_handle(emu))
    return failed(emu, 0, emu.disk.add(free.connect()))


def _opened(emu: Any, path: str, disposition: int, flags: int) -> tuple[int, str, int]:
    """Handle (0 for none), event and error of an attempt to open *path*."""
    disk = emu.disk
    file = disk.find(path)
    if file is None and disk.is_folder(path):
        if not flags & BACKUP_SEMANTICS or disposition not in (OPEN_EXISTING, OPEN_ALWAYS):
            return 0, "open", ERROR_ACCESS_DENIED
        return disk.open(disk.folder(path), is_dir=True), "open", 0
    if file is None and disposition in (OPEN_EXISTING, TRUNCATE_EXISTING):
        return 0, "open", ERROR_FILE_NOT_FOUND
    if file is not None and disposition == CREATE_NEW:
        return 0, "open", ERROR_FILE_EXISTS
    if disposition in (CREATE_ALWAYS, TRUNCATE_EXISTING) and file and emu.sections.longest(file):
        return 0, "open", ERROR_USER_MAPPED_FILE
    existed = file is not None and disposition in (CREATE_ALWAYS, OPEN_ALWAYS)
    event = "open"
    if file is None or disposition in (CREATE_ALWAYS, TRUNCATE_EXISTING):
        file, event = disk.create(path), "create"
    return disk.open(file), event, ERROR_ALREADY_EXISTS if existed else 0


def _opened_file(emu: Any, handle: int) -> Opened | None:
    opened: Opened | None = emu.disk.opened(handle)
    return opened


def _read_file(emu: Any, name: str, argv: list[Any]) -> int | Steps:
    handle, buffer, wanted, done, overlapped = argv
    opened = _opened_file(emu, handle)
    if opened is None:
        return int(emu.original("kernel32", name, argv))
    if isinstance(opened, Pipe):
        return _read_pipe(emu, opened, argv)
    if overlapped:
        opened.position = _offset(emu, overlapped)
    data = opened.get_data(min(wanted & 0xFFFFFFFF, MAX_TRANSFER))
    emu.mem_write(buffer, data)
    put(emu, done, len(data), 4)
    emu.recorder.log_file_access(None, opened.path, "read", size=len(data))
    if overlapped:
        put(emu, overlapped + emu.get_ptr_size(), len(data), emu.get_ptr_size())
        if wanted and not data:
            return failed(emu, ERROR_HANDLE_EOF)
    return failed(emu, 0, 1)


def _read_pipe(emu: Any, pipe: Pipe, argv: list[Any]) -> Steps:
    """Wait until there is something, or nobody is left who could write."""
    _, buffer, wanted, done, overlapped = argv
    if pipe.serves and not pipe.connected:
        return failed(emu, ERROR_PIPE_LISTENING)
    if not pipe.at_once:
        yield from emu.scheduler.wait(pipe.readable)
    data = pipe.get_data(min(wanted & 0xFFFFFFFF, MAX_TRANSFER))
    put(emu, done, len(data), 4)
    if not data:
        return failed(emu, ERROR_NO_DATA if pipe.at_once and pipe.has_writer() else ERROR_BROKEN_PIPE)
    emu.mem_write(buffer, data)
    if overlapped:
        put(emu, overlapped + emu.get_ptr_size(), len(data), emu.get_ptr_size())
    emu.recorder.log_file_access(None, pipe.path, "read", size=len(data))
    return failed(emu, 0, 1)


def _write_file(emu: Any, name: str, argv: list[Any]) -> int:
    handle, buffer, size, done, overlapped = argv
    opened = _opened_file(emu, handle)
    if opened is None:
        if is_console(emu, handle):
            return write_file(emu, argv)
        value = int(emu.original("kernel32", name, argv) or 0)
        if value:
            put(emu, done, size & 0xFFFFFFFF, 4)
        return value
    size &= 0xFFFFFFFF
    if overlapped and (offset := _offset(emu, overlapped)) != (1 << 64) - 1:
        opened.position = offset
    if isinstance(opened, Pipe) and opened.other is None:
        return failed(emu, ERROR_NO_DATA)
    if size > MAX_TRANSFER or opened.is_dir:
        return failed(emu, ERROR_DISK_FULL)
    data = bytes(emu.mem_read(buffer, size)) if size else b""
    try:
        opened.add_data(data)
    except MemoryError:
        return failed(emu, ERROR_DISK_FULL)
    put(emu, done, size, 4)
    if overlapped:
        put(emu, overlapped + emu.get_ptr_size(), size, emu.get_ptr_size())
    emu.recorder.log_file_access(None, opened.path, "write", size=size)
    return failed(emu, 0, 1)


def _offset(emu: Any, overlapped: int) -> int:
    """Where an ``OVERLAPPED`` says that the file is to be read or written."""
    return int.from_bytes(emu.mem_read(overlapped + 2 * emu.get_ptr_size(), 8), "little")


def _signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def _set_file_pointer(emu: Any, _name: str, argv: list[Any]) -> int:
    handle, low, high, whence = argv
    opened = _opened_file(emu, handle)
    if opened is None:
        return failed(emu, ERROR_INVALID_HANDLE, 0xFFFFFFFF)
    offset = _signed(low, 32)
    if high:
        offset = _signed((low & 0xFFFFFFFF) | int.from_bytes(emu.mem_read(high, 4), "little") << 32, 64)
    position = _moved(opened, offset, whence & 0xFFFFFFFF)
    if position is None:
        return failed(emu, ERROR_NEGATIVE_SEEK, 0xFFFFFFFF)
    put(emu, high, position >> 32, 4)
    return failed(emu, 0, position & 0xFFFFFFFF)


def _llseek(emu: Any, name: str, argv: list[Any]) -> int:
    return _set_file_pointer(emu, name, [argv[0], argv[1], 0, argv[2]])


def _set_file_pointer_ex(emu: Any, _name: str, argv: list[Any]) -> int:
    if emu.get_ptr_size() == 4:
        handle, low, high, target, whence = argv
        offset = _signed((low & 0xFFFFFFFF) | (high & 0xFFFFFFFF) << 32, 64)
    else:
        handle, offset, target, whence = argv[0], _signed(argv[1], 64), argv[2], argv[3]
    opened = _opened_file(emu, handle)
    if opened is None:
        return failed(emu, ERROR_INVALID_HANDLE)
    position = _moved(opened, offset, whence & 0xFFFFFFFF)
    if position is None:
        return failed(emu, ERROR_NEGATIVE_SEEK)
    put(emu, target, position, 8)
    return failed(emu, 0, 1)


def _moved(opened: Opened, offset: int, whence: int) -> int | None:
    """The new position; None for one before the beginning, or an unknown *whence*."""
    starts = {io.SEEK_SET: 0, io.SEEK_CUR: opened.position, io.SEEK_END: opened.get_size()}
    if whence not in starts or starts[whence] + offset < 0:
        return None
    opened.position = starts[whence] + offset
    return opened.position


def _file_size(emu: Any, _name: str, argv: list[Any]) -> int:
    opened = _opened_file(emu, argv[0])
    if opened is None:
        return failed(emu, ERROR_INVALID_HANDLE, 0xFFFFFFFF)
    size = opened.get_size()
    put(emu, argv[1], size >> 32, 4)
    return failed(emu, 0, size & 0xFFFFFFFF)


def _file_size_ex(emu: Any, _name: str, argv: list[Any]) -> int:
    opened = _opened_file(emu, argv[0])
    if opened is None:
        return failed(emu, ERROR_INVALID_HANDLE)
    put(emu, argv[1], opened.get_size(), 8)
    return failed(emu, 0, 1)


def _set_end_of_file(emu: Any, _name: str, argv: list[Any]) -> int:
    opened = _opened_file(emu, argv[0])
    if opened is None:
        return failed(emu, ERROR_INVALID_HANDLE)
    if opened.position < emu.sections.longest(opened.file):
        return failed(emu, ERROR_USER_MAPPED_FILE)
    if not emu.disk.resize(opened.file, opened.position):
        return failed(emu, ERROR_DISK_FULL)
    return failed(emu, 0, 1)


APIS = {
    "CreateFile": Api(words=7, answer=_create_file),
    "ReadFile": Api(words=5, answer=_read_file),
    "WriteFile": Api(words=5, answer=_write_file),
    "SetFilePointer": Api(words=4, answer=_set_file_pointer),
    "_llseek": Api(words=3, answer=_llseek),
    "SetFilePointerEx": Api(words=5, answer=_set_file_pointer_ex),
    "GetFileSize": Api(words=2, answer=_file_size),
    "GetFileSizeEx": Api(words=2, answer=_file_size_ex),
    "SetEndOfFile": Api(words=1, answer=_set_end_of_file),
    "FlushFileBuffers": Api(words=1, answer=lambda _emu, _name, _argv: 1),
}
"""Keyed by the function's name without ``A`` or ``W``."""
