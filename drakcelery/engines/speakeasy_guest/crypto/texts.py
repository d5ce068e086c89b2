"""``CryptBinaryToString`` and ``CryptStringToBinary``: base64 and hexadecimal digits, as texts."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import Api, put
from drakcelery.engines.speakeasy_guest.crypto.objects import (
    ERROR_MORE_DATA,
    MAX_SIZE,
    bytes_at,
    give,
    number_at,
)
from drakcelery.engines.speakeasy_guest.crypto.providers import ERROR_INVALID_PARAMETER, failed

HEADED, BASE64, BINARY, REQUEST, HEX, HEX_ASCII = range(6)
BASE64_ANY, ANY, HEX_ANY, REVOKED, HEX_ADDRESS, HEX_ASCII_ADDRESS, HEX_RAW = range(6, 13)
NO_CRLF, NO_CR = 0x40000000, 0x80000000
"""``CRYPT_STRING_…``"""

ERROR_INVALID_DATA: Final = 13
HEADERS: Final = {HEADED: "CERTIFICATE", REQUEST: "NEW CERTIFICATE REQUEST", REVOKED: "X509 CRL"}
LINE: Final = 64
"""Characters of base64 in a line."""

IN_ORDER: Final = {
    BASE64_ANY: (HEADED, BASE64),
    ANY: (HEADED, BASE64, BINARY),
    HEX_ANY: (HEX_ADDRESS, HEX_ASCII_ADDRESS, HEX, HEX_RAW, HEX_ASCII),
}
"""What is tried of each that stands for several."""

_HEAD = re.compile(r"\s*-----BEGIN [^-\r\n]*-----\s*(.*?)\s*-----END [^-\r\n]*-----\s*", re.DOTALL)


def encoded(data: bytes, form: int, flags: int) -> str | None:
    """*data* in a form (not ``BINARY``); None if that is none."""
    end = "" if flags & NO_CRLF else "\n" if flags & NO_CR else "\r\n"
    if form in (BASE64, *HEADERS):
        text = base64.b64encode(data).decode("ascii")
        lines = [text[place : place + LINE] for place in range(0, len(text), LINE)] if end else [text]
        if form in HEADERS:
            lines = [f"-----BEGIN {HEADERS[form]}-----", *lines, f"-----END {HEADERS[form]}-----"]
        return "".join(f"{line}{end or (chr(10) * (form in HEADERS))}" for line in lines)
    if form == HEX_RAW:
        return data.hex() + end
    if form in (HEX, HEX_ASCII, HEX_ADDRESS, HEX_ASCII_ADDRESS):
        return "".join(_digits(data, place, form, end) for place in range(0, len(data), 16))
    return None


def _digits(data: bytes, place: int, form: int, end: str) -> str:
    """A line of 16 bytes."""
    part = data[place : place + 16]
    line = "  ".join(filter(None, (part[:8].hex(" "), part[8:].hex(" ")))) if end else part.hex(" ")
    if form in (HEX_ADDRESS, HEX_ASCII_ADDRESS):
        line = f"{place:04x}    {line}"
    if form in (HEX_ASCII, HEX_ASCII_ADDRESS):
        shown = "".join(chr(one) if 32 <= one < 127 else "." for one in part)
        line = f"{line.ljust(48 + 8 * (form == HEX_ASCII_ADDRESS))}   {shown}"
    return line + (end or (" " if place + 16 < len(data) else ""))


def decoded(text: str, form: int) -> bytes | None:
    """The bytes that *text* stands for; None if it is not of that form."""
    try:
        if form == BINARY:
            return text.encode("latin-1", "replace")
        if form in (BASE64, *HEADERS):
            found = _HEAD.fullmatch(text)
            if (found is None) != (form == BASE64):
                return None
            body = "".join((found[1] if found else text).split())
            return base64.b64decode(body, validate=True)
        if form in (HEX, HEX_RAW):
            return bytes.fromhex(text)
        if form in (HEX_ADDRESS, HEX_ASCII, HEX_ASCII_ADDRESS):
            return _from_lines(text, form)
    except (binascii.Error, ValueError):
        pass
    return None


def _from_lines(text: str, form: int) -> bytes:
    """Raises ValueError for what has not the columns of such a dump."""
    data = b""
    for line in text.splitlines():
        rest = line
        if form != HEX_ASCII:
            address, _, rest = line.partition("    ")
            if int(address, 16) != len(data):
                raise ValueError("addresses that do not follow each other")
        data += bytes.fromhex(rest[:48] if form != HEX_ADDRESS else rest)
    return data


def _to_string(emu: Any, name: str, argv: list[Any]) -> int:
    data, flags = bytes_at(emu, argv[0], argv[1]), argv[2] & 0xFFFFFFFF
    form, target, size = flags & 0xFF, argv[3], argv[4]
    width = 2 if name.endswith("W") else 1
    if form == BINARY:
        return int(give(emu, data, target, size))
    text = encoded(data, form, flags)
    if text is None:
        return failed(emu, ERROR_INVALID_PARAMETER)
    room = number_at(emu, size)
    fits = len(text) < room
    put(emu, size, len(text) + (not target or not fits), 4)
    if target and not fits:
        return failed(emu, ERROR_MORE_DATA)
    if target:
        emu.mem_write(target, f"{text}\0".encode("utf-16-le" if width == 2 else "ascii"))
    return 1


def _to_binary(emu: Any, name: str, argv: list[Any]) -> int:
    wide, count, flags = name.endswith("W"), argv[1] & 0xFFFFFFFF, argv[2] & 0xFFFFFFFF
    if count > MAX_SIZE:
        return failed(emu, ERROR_INVALID_PARAMETER)
    if count:
        raw = bytes_at(emu, argv[0], count * (2 if wide else 1))
        text = raw.decode("utf-16-le" if wide else "latin-1", "replace")
    else:
        text = emu.read_mem_string(argv[0], 2 if wide else 1)
    argv[0] = text
    form = flags & 0xFF
    for one in IN_ORDER.get(form, (form,)):
        data = decoded(text if one == BINARY else text.rstrip("\0"), one)
        if data is not None:
            put(emu, argv[5], max(text.find("-----BEGIN"), 0) if one in HEADERS else 0, 4)
            put(emu, argv[6], one, 4)
            return int(give(emu, data, argv[3], argv[4]))
    return failed(emu, ERROR_INVALID_DATA)


APIS = {
    "CryptBinaryToString": Api(words=5, answer=_to_string),
    "CryptStringToBinary": Api(words=7, answer=_to_binary),
}
