"""Messages of errors, and whatever else programs ask of the system in their start-up."""

from __future__ import annotations

import re
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis import messages, texts
from drakcelery.engines.speakeasy_guest.apis.api import MAX_TEXT, Api, put, read_text

ALLOCATE_BUFFER, IGNORE_INSERTS, FROM_STRING, FROM_MODULE = 0x100, 0x200, 0x400, 0x800
FROM_SYSTEM, ARGUMENT_ARRAY = 0x1000, 0x2000
"""Flags of ``FormatMessage``."""

ERROR_INSUFFICIENT_BUFFER: Final = 122
ERROR_MR_MID_NOT_FOUND: Final = 317
I386, AMD64 = 0x14C, 0x8664
"""``IMAGE_FILE_MACHINE_*``."""

MESSAGES: Final = {
    0: "The operation completed successfully.",
    1: "Incorrect function.",
    2: "The system cannot find the file specified.",
    3: "The system cannot find the path specified.",
    5: "Access is denied.",
    6: "The handle is invalid.",
    8: "Not enough memory resources are available to process this command.",
    14: "Not enough memory resources are available to complete this operation.",
    32: "The process cannot access the file because it is being used by another process.",
    50: "The request is not supported.",
    80: "The file exists.",
    87: "The parameter is incorrect.",
    109: "The pipe has been ended.",
    122: "The data area passed to a system call is too small.",
    123: "The filename, directory name, or volume label syntax is incorrect.",
    126: "The specified module could not be found.",
    127: "The specified procedure could not be found.",
    183: "Cannot create a file when that file already exists.",
    997: "Overlapped I/O operation is in progress.",
    998: "Invalid access to memory location.",
    1168: "Element not found.",
    10060: (
        "A connection attempt failed because the connected party did not properly respond after a period of "
        "time, or established connection failed because connected host has failed to respond."
    ),
    10061: "No connection could be made because the target machine actively refused it.",
    11001: "No such host is known.",
}
"""Texts of error codes, as Windows shows them (learn.microsoft.com, "System Error Codes")."""

_INSERT = re.compile(r"%(?:(\d{1,2})(?:!([^!]{0,32})!)?|(.))", re.DOTALL)


def _format_message(emu: Any, name: str, argv: list[Any]) -> int:
    flags, source, code, language, buffer, size, arguments = argv
    size &= 0xFFFFFFFF
    wide = name.endswith("W")
    if flags & FROM_STRING:
        text: str | None = read_text(emu, source, wide=wide)
    else:
        text = _message(emu, flags, source, code & 0xFFFFFFFF, language & 0xFFFF)
    if text is None:
        emu.set_last_error(ERROR_MR_MID_NOT_FOUND)
        return 0
    if not flags & IGNORE_INSERTS:
        text = _inserted(emu, text, arguments, wide=wide, array=bool(flags & ARGUMENT_ARRAY))
    data = texts.encoded(text, wide=wide)
    end = b"\0\0" if wide else b"\0"
    if flags & ALLOCATE_BUFFER:
        place = emu.heap_alloc(max(len(data + end), size * len(end)), heap="LocalAlloc")
        emu.write_ptr(buffer, place)
        buffer = place
    elif len(data + end) > size * len(end):
        emu.set_last_error(ERROR_INSUFFICIENT_BUFFER)
        return 0
    emu.mem_write(buffer, data + end)
    return len(data) // len(end)


def _message(emu: Any, flags: int, module: int, code: int, language: int) -> str | None:
    """The program's own message, or the system's."""
    text = messages.find(emu, module, code, language) if flags & FROM_MODULE else None
    if text is None and flags & FROM_SYSTEM and code in MESSAGES:
        return f"{MESSAGES[code]}\r\n"
    return text


def _inserted(emu: Any, text: str, arguments: int, *, wide: bool, array: bool) -> str:
    """The text with its arguments: an array of words, or what a ``va_list`` points to."""
    size = emu.get_ptr_size()
    place = arguments if array or not arguments else emu.read_ptr(arguments)

    def insert(match: re.Match[str]) -> str:
        number, form, other = match.groups()
        if number is None:
            return {"n": "\r\n", "r": "\r", "t": "\t", "b": " ", "0": ""}.get(other, other)
        if number == "0" or not place:
            return ""
        value = emu.read_ptr(place + size * (int(number) - 1))
        kind = (form or "s")[-1]
        if kind in "sS":
            return read_text(emu, value, wide=wide)[:MAX_TEXT] if value else "(null)"
        low = value & 0xFFFFFFFF
        if kind in "di":
            return str(low - (1 << 32) if low >> 31 else low)
        return {"u": str(low), "x": f"{low:x}", "X": f"{low:X}", "c": chr(low & 0xFFFF)}.get(kind, "")

    return _INSERT.sub(insert, text)[:MAX_TEXT]


def _is_in_wow64(emu: Any, _name: str, argv: list[Any]) -> int:
    put(emu, argv[1], int(emu.processor.bits < emu.guest.bits), 4)
    return 1


def _is_wow64(emu: Any, _name: str, argv: list[Any]) -> int:
    put(emu, argv[1], I386 if emu.processor.bits < emu.guest.bits else 0, 2)
    put(emu, argv[2], AMD64 if emu.guest.bits == 64 else I386, 2)
    return 1


APIS = {
    "FormatMessage": Api(words=7, answer=_format_message),
    "IsWow64Process": Api(words=2, answer=_is_in_wow64),
    "IsWow64Process2": Api(words=3, answer=_is_wow64),
}
