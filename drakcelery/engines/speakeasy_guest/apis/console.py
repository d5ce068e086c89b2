"""The console: what programs write to it counts as written, and nobody types anything."""

from __future__ import annotations

import struct
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import Api, put, read_text
from drakcelery.engines.speakeasy_guest.machine.ansi import ANSI

ERROR_INVALID_HANDLE: Final = 6
FILE_TYPE_DISK, FILE_TYPE_CHAR, FILE_TYPE_PIPE = 1, 2, 3
INPUT_MODE: Final = 0x1F7
OUTPUT_MODE: Final = 0x3
"""What a new console of Windows 10 has."""

CODE_PAGE: Final = 437
COLUMNS, LINES = 120, 30
SHOWN: Final = 1024
"""Characters of what is written that the log shows."""


def _handles(emu: Any) -> tuple[int, int, int]:
    process = emu.get_current_process()
    return process.stdin, process.stdout, process.stderr


def is_console(emu: Any, handle: int) -> bool:
    """Whether a handle is one of the process's standard ones."""
    return handle in _handles(emu)


def _no_console(emu: Any) -> int:
    emu.set_last_error(ERROR_INVALID_HANDLE)
    return 0


def _write(emu: Any, name: str, argv: list[Any]) -> int:
    handle, buffer, count, written = argv[:4]
    if not is_console(emu, handle):
        return _no_console(emu)
    count &= 0xFFFFFFFF
    if buffer and count:
        wide = name.endswith("W")
        data = bytes(emu.mem_read(buffer, min(count, SHOWN) * (2 if wide else 1)))
        argv[1] = data.decode("utf-16-le" if wide else ANSI, "replace")
    put(emu, written, count, 4)
    return 1


def write_file(emu: Any, argv: list[Any]) -> int:
    """``WriteFile`` to a standard handle."""
    _, buffer, count, written = argv[:4]
    if buffer and count:
        argv[1] = bytes(emu.mem_read(buffer, min(count & 0xFFFFFFFF, SHOWN))).decode("latin-1")
    put(emu, written, count & 0xFFFFFFFF, 4)
    return 1


def _read(emu: Any, _name: str, argv: list[Any]) -> int:
    put(emu, argv[3], 0, 4)
    return 1 if is_console(emu, argv[0]) else _no_console(emu)


def _get_mode(emu: Any, _name: str, argv: list[Any]) -> int:
    if not is_console(emu, argv[0]):
        return _no_console(emu)
    put(emu, argv[1], INPUT_MODE if argv[0] == _handles(emu)[0] else OUTPUT_MODE, 4)
    return 1


def _done_on_console(emu: Any, _name: str, argv: list[Any]) -> int:
    return 1 if is_console(emu, argv[0]) else _no_console(emu)


def _done(_emu: Any, _name: str, _argv: list[Any]) -> int:
    return 1


def _code_page(_emu: Any, _name: str, _argv: list[Any]) -> int:
    return CODE_PAGE


def _buffer_info(emu: Any, _name: str, argv: list[Any]) -> int:
    if not is_console(emu, argv[0]):
        return _no_console(emu)
    size = (COLUMNS, LINES)
    window = (0, 0, COLUMNS - 1, LINES - 1)
    emu.mem_write(argv[1], struct.pack("<4hH4h2h", *size, 0, 0, 0x07, *window, *size))
    return 1


def _cursor_info(emu: Any, _name: str, argv: list[Any]) -> int:
    emu.mem_write(argv[1], struct.pack("<II", 25, 1))
    return 1


def _nothing_typed(emu: Any, name: str, argv: list[Any]) -> int:
    put(emu, argv[1 if name.startswith("GetNumber") else 3], 0, 4)
    return 1


def _fill(emu: Any, _name: str, argv: list[Any]) -> int:
    put(emu, argv[4], argv[2] & 0xFFFFFFFF, 4)
    return 1


def _file_type(emu: Any, _name: str, argv: list[Any]) -> int:
    if is_console(emu, argv[0]):
        return FILE_TYPE_CHAR
    opened = emu.disk.opened(argv[0])
    if opened is not None and opened.is_pipe:
        return FILE_TYPE_PIPE
    return FILE_TYPE_DISK if emu.file_get(argv[0]) else _no_console(emu)


def _write_output(emu: Any, name: str, argv: list[Any]) -> int:
    if argv[1]:
        argv[1] = read_text(emu, argv[1], wide=name.endswith("W"))[: argv[2] & 0xFFFF]
    put(emu, argv[4], argv[2] & 0xFFFFFFFF, 4)
    return 1


def _std_handle(emu: Any, _name: str, argv: list[Any]) -> int:
    """A number from -10 to -12, however many bits of it are given."""
    return int(emu.get_current_process().get_std_handle(argv[0] & 0xFFFFFFFF))


APIS = {
    "GetStdHandle": Api(words=1, answer=_std_handle),
    "WriteConsole": Api(words=5, answer=_write),
    "ReadConsole": Api(words=5, answer=_read),
    "ReadConsoleInput": Api(words=4, answer=_nothing_typed),
    "PeekConsoleInput": Api(words=4, answer=_nothing_typed),
    "GetNumberOfConsoleInputEvents": Api(words=2, answer=_nothing_typed),
    "FlushConsoleInputBuffer": Api(words=1, answer=_done),
    "GetConsoleMode": Api(words=2, answer=_get_mode),
    "SetConsoleMode": Api(words=2, answer=_done_on_console),
    "GetConsoleCP": Api(words=0, answer=_code_page),
    "GetConsoleOutputCP": Api(words=0, answer=_code_page),
    "SetConsoleCP": Api(words=1, answer=_done),
    "SetConsoleOutputCP": Api(words=1, answer=_done),
    "SetConsoleCtrlHandler": Api(words=2, answer=_done),
    "SetConsoleTitle": Api(words=1, answer=_done),
    "GetConsoleScreenBufferInfo": Api(words=2, answer=_buffer_info),
    "GetConsoleCursorInfo": Api(words=2, answer=_cursor_info),
    "SetConsoleCursorInfo": Api(words=2, answer=_done_on_console),
    "SetConsoleCursorPosition": Api(words=2, answer=_done_on_console),
    "SetConsoleTextAttribute": Api(words=2, answer=_done_on_console),
    "FillConsoleOutputCharacter": Api(words=5, answer=_fill),
    "FillConsoleOutputAttribute": Api(words=5, answer=_fill),
    "WriteConsoleOutputCharacter": Api(words=5, answer=_write_output),
    "GetFileType": Api(words=1, answer=_file_type),
}
