"""GUIDs: made, and as text. Loaders also hide code in the text of many of them (``UuidFromString``)."""

from __future__ import annotations

import random
import uuid
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import Api, put, read_text

RPC_S_OK, RPC_S_INVALID_STRING_UUID = 0, 1705
S_OK, CO_E_CLASSSTRING = 0, 0x800401F3
SIZE: Final = 16
LENGTH: Final = 38
"""Characters of a GUID in braces."""

_random = random.Random(0)  # noqa: S311  # the same on every run; it protects nothing


def _read(emu: Any, place: int) -> uuid.UUID:
    return uuid.UUID(bytes_le=bytes(emu.mem_read(place, SIZE))) if place else uuid.UUID(int=0)


def _in_braces(guid: uuid.UUID) -> str:
    return f"{{{guid}}}".upper()


def _create(emu: Any, _name: str, argv: list[Any]) -> int:
    """``UuidCreate``, ``CoCreateGuid``."""
    emu.mem_write(argv[0], uuid.UUID(int=_random.getrandbits(128), version=4).bytes_le)
    return S_OK


def _allocated(emu: Any, text: str, *, wide: bool) -> int:
    data = f"{text}\0".encode("utf-16-le" if wide else "ascii")
    place: int = emu.heap_alloc(len(data), heap="guids")
    emu.mem_write(place, data)
    return place


def _uuid_to_string(emu: Any, name: str, argv: list[Any]) -> int:
    text = str(_read(emu, argv[0]))
    emu.write_ptr(argv[1], _allocated(emu, text, wide=name.endswith("W")))
    argv[0] = text
    return RPC_S_OK


def _uuid_from_string(emu: Any, name: str, argv: list[Any]) -> int:
    """NULL stands for the GUID of zeros."""
    text = read_text(emu, argv[0], wide=name.endswith("W")) if argv[0] else str(uuid.UUID(int=0))
    argv[0] = text
    found = _parsed(text)
    if found is None or len(text) != LENGTH - 2:
        return RPC_S_INVALID_STRING_UUID
    emu.mem_write(argv[1], found.bytes_le)
    return RPC_S_OK


def _parsed(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def _free_string(emu: Any, _name: str, argv: list[Any]) -> int:
    put(emu, argv[0], 0, emu.get_ptr_size())
    return RPC_S_OK


def _to_buffer(emu: Any, _name: str, argv: list[Any]) -> int:
    """``StringFromGUID2``: characters with the zero, or 0 for too little room."""
    text = _in_braces(_read(emu, argv[0]))
    argv[0] = text
    if argv[2] & 0xFFFFFFFF <= LENGTH:
        return 0
    emu.mem_write(argv[1], f"{text}\0".encode("utf-16-le"))
    return LENGTH + 1


def _to_text(emu: Any, _name: str, argv: list[Any]) -> int:
    """``StringFromCLSID`` and ``StringFromIID``."""
    text = _in_braces(_read(emu, argv[0]))
    emu.write_ptr(argv[1], _allocated(emu, text, wide=True))
    argv[0] = text
    return S_OK


def _from_text(emu: Any, _name: str, argv: list[Any]) -> int:
    """``CLSIDFromString`` and ``IIDFromString``; names of programs are not known."""
    text = read_text(emu, argv[0], wide=True) if argv[0] else _in_braces(uuid.UUID(int=0))
    argv[0] = text
    found = _parsed(text) if len(text) == LENGTH and text[0] + text[-1] == "{}" else None
    emu.mem_write(argv[1], found.bytes_le if found is not None else bytes(SIZE))
    return S_OK if found is not None else CO_E_CLASSSTRING


APIS = {
    "UuidCreate": Api(words=1, answer=_create),
    "UuidCreateSequential": Api(words=1, answer=_create),
    "CoCreateGuid": Api(words=1, answer=_create),
    "UuidToString": Api(words=2, answer=_uuid_to_string),
    "UuidFromString": Api(words=2, answer=_uuid_from_string),
    "RpcStringFree": Api(words=1, answer=_free_string),
    "StringFromGUID2": Api(words=3, answer=_to_buffer),
    "StringFromCLSID": Api(words=2, answer=_to_text),
    "StringFromIID": Api(words=2, answer=_to_text),
    "CLSIDFromString": Api(words=2, answer=_from_text),
    "IIDFromString": Api(words=2, answer=_from_text),
}
