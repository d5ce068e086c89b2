"""Text in bytes and in wide characters: code pages, and the two functions that convert."""

from __future__ import annotations

import struct
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import MAX_DATA, Api, constant, read_string

ANSI, OEM = 1252, 437
"""The code pages of an English Windows."""

DEFAULTS: Final = {0: ANSI, 1: OEM, 2: 10000, 3: ANSI}
"""``CP_ACP``, ``CP_OEMCP``, ``CP_MACCP`` and ``CP_THREAD_ACP``."""

UTF8: Final = 65001
CODECS: Final = {
    **{number: f"cp{number}" for number in (437, 850, 852, 855, 857, 858, 860, 861, 862, 863, 865, 866)},
    **{number: f"cp{number}" for number in (869, 874, *range(1250, 1259))},
    932: "cp932",
    936: "gbk",
    949: "cp949",
    950: "cp950",
    1361: "johab",
    54936: "gb18030",
    10000: "mac_roman",
    20127: "ascii",
    20866: "koi8_r",
    21866: "koi8_u",
    65000: "utf-7",
    UTF8: "utf-8",
    **{28590 + number: f"iso8859_{number}" for number in (*range(1, 10), 13, 15)},
}
"""Python's name for each code page."""

DOUBLE: Final = (932, 936, 949, 950, 1361)
"""Code pages with characters of two bytes, all led by one of :data:`LEAD`."""

LEAD: Final = (0x81, 0xFE)
ERRORS_END: Final = 0x8
"""``MB_ERR_INVALID_CHARS``, and for UTF-8 ``WC_ERR_INVALID_CHARS`` has another bit."""

WIDE_ERRORS_END: Final = 0x80
ERROR_INVALID_PARAMETER, ERROR_INSUFFICIENT_BUFFER, ERROR_NO_TRANSLATION = 87, 122, 1113
SHOWN: Final = 1024
"""Characters of a text that the log shows."""


def codec(code_page: int) -> str | None:
    """Python's codec for a code page or ``CP_…``; None for one that Windows does not have."""
    code_page &= 0xFFFFFFFF
    return CODECS.get(DEFAULTS.get(code_page, code_page))


def decoded(data: bytes, name: str) -> str:
    """Bytes as text; what a code page of single bytes does not define is the character of that number."""
    try:
        return data.decode(name)
    except UnicodeDecodeError:
        if not name.startswith(("cp12", "cp8", "iso")):
            return data.decode(name, "replace")
    return "".join(bytes([byte]).decode(name, "ignore") or chr(byte) for byte in data)


def encoded(text: str, name: str) -> bytes:
    """Text as bytes; a question mark for what the code page does not have."""
    try:
        return text.encode(name)
    except UnicodeEncodeError:
        if name == "utf-8":
            return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()
        return text.encode(name, "replace")


def read_wide(emu: Any, place: int, count: int) -> str:
    """*count* wide characters, or a text with its zero where that is -1."""
    if count & 0xFFFFFFFF == 0xFFFFFFFF:
        data = read_string(emu, place, 2, MAX_DATA) + b"\0\0"
    else:
        data = bytes(emu.mem_read(place, min(count & 0x7FFFFFFF, MAX_DATA) * 2)) if count else b""
    return data.decode("utf-16-le", "surrogatepass")


def read_narrow(emu: Any, place: int, count: int) -> bytes:
    """*count* bytes, or a text with its zero where that is -1."""
    if count & 0xFFFFFFFF == 0xFFFFFFFF:
        return read_string(emu, place, 1, MAX_DATA) + b"\0"
    return bytes(emu.mem_read(place, min(count & 0x7FFFFFFF, MAX_DATA))) if count else b""


def give(emu: Any, data: bytes, target: int, room: int, width: int) -> int:
    """Put a text where there is room for *room* characters; how many there are, 0 if they do not fit.

    What fits is written even then, as on Windows (Wine's tests of ``MultiByteToWideChar`` hold it): a program
    may give the room without the zero, and have the zero converted, too.
    """
    count = len(data) // width
    room &= 0x7FFFFFFF
    if not room:
        return count
    emu.mem_write(target, data[: room * width])
    if count > room:
        emu.set_last_error(ERROR_INSUFFICIENT_BUFFER)
        return 0
    return count


def _to_wide(emu: Any, _name: str, argv: list[Any]) -> int:
    name = codec(argv[0])
    if name is None or not argv[2] or not argv[3]:
        emu.set_last_error(ERROR_INVALID_PARAMETER)
        return 0
    data = read_narrow(emu, argv[2], argv[3])
    try:
        text = data.decode(name) if argv[1] & ERRORS_END else decoded(data, name)
    except UnicodeDecodeError:
        emu.set_last_error(ERROR_NO_TRANSLATION)
        return 0
    argv[2] = text[:SHOWN].rstrip("\0")
    return give(emu, text.encode("utf-16-le", "surrogatepass"), argv[4], argv[5], 2)


def _to_narrow(emu: Any, _name: str, argv: list[Any]) -> int:
    name = codec(argv[0])
    if name is None or not argv[2] or not argv[3]:
        emu.set_last_error(ERROR_INVALID_PARAMETER)
        return 0
    text = read_wide(emu, argv[2], argv[3])
    argv[2] = text[:SHOWN].rstrip("\0")
    data = encoded(text, name)
    lost = name != "utf-8" and decoded(data, name) != text
    if lost and argv[6]:
        other = bytes(emu.mem_read(argv[6], 1))
        data = b"".join(_or_other(char, name, other) for char in text)
    if argv[7]:
        emu.mem_write(argv[7], int(lost).to_bytes(4, "little"))
    return give(emu, data, argv[4], argv[5], 1)


def _or_other(char: str, name: str, other: bytes) -> bytes:
    try:
        return char.encode(name)
    except UnicodeEncodeError:
        return other


def _information(emu: Any, name: str, argv: list[Any]) -> int:
    """``GetCPInfo`` and ``GetCPInfoEx``."""
    place = argv[2] if "Ex" in name else argv[1]
    page = DEFAULTS.get(argv[0] & 0xFFFFFFFF, argv[0] & 0xFFFFFFFF)
    if page not in CODECS:
        emu.set_last_error(ERROR_INVALID_PARAMETER)
        return 0
    double = page in DOUBLE
    longest = 4 if page in (UTF8, 54936) else 5 if page == 65000 else 2 if double else 1
    data = struct.pack("<I2s12s", longest, b"?\0", bytes(LEAD) if double else b"")
    if "Ex" in name:
        title, wide = f"{page}  ({CODECS[page]})", name.endswith("W")
        data = data.ljust(18, b"\0") + b"?\0" + page.to_bytes(4, "little")
        data += title.encode("utf-16-le" if wide else "ascii").ljust(520 if wide else 260, b"\0")
    emu.mem_write(place, data)
    return 1


def _is_valid(_emu: Any, _name: str, argv: list[Any]) -> int:
    return int(argv[0] & 0xFFFFFFFF in CODECS)


def _is_lead(_emu: Any, name: str, argv: list[Any]) -> int:
    page, byte = (argv[0] & 0xFFFFFFFF, argv[1]) if "Ex" in name else (ANSI, argv[0])
    return int(page in DOUBLE and LEAD[0] <= byte & 0xFF <= LEAD[1])


APIS = {
    "MultiByteToWideChar": Api(words=6, answer=_to_wide),
    "WideCharToMultiByte": Api(words=8, answer=_to_narrow),
    "GetCPInfo": Api(words=2, answer=_information),
    "GetCPInfoEx": Api(words=3, answer=_information),
    "IsValidCodePage": Api(words=1, answer=_is_valid),
    "IsDBCSLeadByte": Api(words=1, answer=_is_lead),
    "IsDBCSLeadByteEx": Api(words=2, answer=_is_lead),
    "GetACP": Api(words=0, answer=constant(ANSI)),
    "GetOEMCP": Api(words=0, answer=constant(OEM)),
}
