"""What programs read of the registry: values, and which keys and values there are."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis import texts
from drakcelery.engines.speakeasy_guest.apis.api import Api, put, read_counted, text_argument
from drakcelery.engines.speakeasy_guest.apis.environment import expanded
from drakcelery.engines.speakeasy_guest.apis.registry import (
    FILE_NOT_FOUND,
    INVALID_HANDLE,
    STATUS_INVALID_HANDLE,
    STATUS_NOT_FOUND,
    SUCCESS,
    find_value,
    key_path,
    note,
)
from drakcelery.engines.speakeasy_guest.machine.ansi import ANSI
from drakcelery.engines.speakeasy_guest.machine.hive import (
    REG_BINARY,
    REG_DWORD,
    REG_EXPAND_SZ,
    REG_MULTI_SZ,
    REG_QWORD,
    REG_SZ,
    TEXTS,
    Key,
    Value,
)

INVALID_PARAMETER, MORE_DATA, NO_MORE_ITEMS, UNSUPPORTED_TYPE = 87, 234, 259, 1630
STATUS_NO_MORE: Final = 0x8000001A
STATUS_TOO_SMALL: Final = 0xC0000023
STATUS_OVERFLOW: Final = 0x80000005
STATUS_INVALID_PARAMETER: Final = 0xC000000D
ALLOWED: Final = {REG_SZ: 0x2, REG_EXPAND_SZ: 0x4, REG_BINARY: 0x8, REG_DWORD: 0x10, REG_MULTI_SZ: 0x20}
ALLOWED_QWORD, ANY = 0x40, 0xFFFF
NO_EXPAND: Final = 0x10000000
"""``RRF_RT_…``: which kinds of values ``RegGetValue`` may give; and that it leaves variables alone."""

BASIC, FULL, PARTIAL = 0, 1, 2
"""``KEY_VALUE_INFORMATION_CLASS``, and the first two of ``KEY_INFORMATION_CLASS``."""


def _data(value: Value, *, wide: bool) -> bytes:
    """A value's data as the program gets it: texts in its own width."""
    if wide or value.kind not in TEXTS:
        return value.data
    return value.data.decode("utf-16-le", "replace").encode(ANSI, "replace")


def _give(emu: Any, data: bytes, target: int, size: int) -> int:
    """Put data where the program has as much room as it says at *size*, and say there how much it is."""
    room = int.from_bytes(emu.mem_read(size, 4), "little") if size else 0
    put(emu, size, len(data), 4)
    if not target:
        return SUCCESS
    if len(data) > room:
        return MORE_DATA
    emu.mem_write(target, data)
    return SUCCESS


def _query_value(emu: Any, name: str, argv: list[Any]) -> int:
    path = key_path(emu, argv[0])
    wanted = text_argument(emu, name.replace("Ex", ""), argv, 1)
    if path is None:
        return INVALID_HANDLE
    argv[0] = path
    value = find_value(emu, path, wanted)
    if value is None:
        return FILE_NOT_FOUND
    if name.startswith("SH"):
        value = _expanded(emu, value)
    put(emu, argv[3], value.kind, 4)
    return _give(emu, _data(value, wide=name.endswith("W")), argv[4], argv[5])


def _own_value(emu: Any, name: str, argv: list[Any]) -> int:
    """``RegQueryValue``: the value without a name of a key."""
    path = key_path(emu, argv[0], text_argument(emu, name, argv, 1))
    if path is None:
        return INVALID_HANDLE
    value = find_value(emu, path, "")
    wide = name.endswith("W")
    data = _data(value, wide=wide) if value else b"\0" * (2 if wide else 1)
    return _give(emu, data, argv[2], argv[3])


def _get_value(emu: Any, name: str, argv: list[Any]) -> int:
    """``RegGetValue``."""
    path = key_path(emu, argv[0], text_argument(emu, name, argv, 1))
    wanted = text_argument(emu, name, argv, 2)
    kinds = argv[3] & ANY
    if kinds & ALLOWED[REG_EXPAND_SZ] and kinds != ANY and not argv[3] & NO_EXPAND:
        return INVALID_PARAMETER
    if path is None:
        return INVALID_HANDLE
    value = find_value(emu, path, wanted)
    if value is None:
        return FILE_NOT_FOUND
    if argv[3] & NO_EXPAND == 0:
        value = _expanded(emu, value)
    put(emu, argv[4], value.kind, 4)
    bit = ALLOWED_QWORD if value.kind == REG_QWORD else ALLOWED.get(value.kind, 1)
    if argv[3] & ANY and not argv[3] & bit:
        return UNSUPPORTED_TYPE
    return _give(emu, _ended(_data(value, wide=name.endswith("W")), value, name), argv[5], argv[6])


def _expanded(emu: Any, value: Value) -> Value:
    """A text with its ``%variables%`` filled in, which is a plain one then; any other value as it is."""
    if value.kind != REG_EXPAND_SZ:
        return value
    text = expanded(emu, value.data.decode("utf-16-le", "replace"))
    return replace(value, kind=REG_SZ, data=text.encode("utf-16-le", "replace"))


def _ended(data: bytes, value: Value, name: str) -> bytes:
    """A text with its zero, which ``RegGetValue`` adds where it is missing."""
    zero = b"\0" * (2 if name.endswith("W") else 1)
    return data + zero if value.kind in TEXTS and not data.endswith(zero) else data


def _get_value_below(emu: Any, name: str, argv: list[Any]) -> int:
    """``SHGetValue``."""
    path = key_path(emu, argv[0], text_argument(emu, name, argv, 1))
    wanted = text_argument(emu, name, argv, 2)
    value = find_value(emu, path, wanted) if path else None
    if value is None:
        return FILE_NOT_FOUND
    value = _expanded(emu, value)
    put(emu, argv[3], value.kind, 4)
    return _give(emu, _data(value, wide=name.endswith("W")), argv[4], argv[5])


def _named(emu: Any, text: str, target: int, room: int, *, wide: bool) -> int:
    """Put a name where there is room for *room* characters, its zero among them."""
    if not texts.fits(text, room, wide=wide):
        return MORE_DATA
    texts.write(emu, target, text, wide=wide)
    return SUCCESS


def _key(emu: Any, argv: list[Any], event: str) -> Key | None:
    key: Key | None = emu.regman.get_key_from_handle(argv[0])
    if key is not None:
        argv[0] = key.path
        note(emu, key.path, event)
    return key


def _enum_key(emu: Any, name: str, argv: list[Any]) -> int:
    key = _key(emu, argv, "list_subkeys")
    if key is None:
        return INVALID_HANDLE
    keys = emu.regman.get_subkeys(key)
    number = argv[1] & 0xFFFFFFFF
    if number >= len(keys):
        return NO_MORE_ITEMS
    wide, counted = name.endswith("W"), "Ex" in name
    room = int.from_bytes(emu.mem_read(argv[3], 4), "little") if counted else argv[3] & 0xFFFFFFFF
    result = _named(emu, keys[number].name, argv[2], room, wide=wide)
    if counted and result == SUCCESS:
        put(emu, argv[3], len(keys[number].name), 4)
        put(emu, argv[6], 0, 4)
    return result


def _enum_value(emu: Any, name: str, argv: list[Any]) -> int:
    key = _key(emu, argv, "list_values")
    if key is None:
        return INVALID_HANDLE
    values = list(key.values.values())
    number = argv[1] & 0xFFFFFFFF
    if number >= len(values):
        return NO_MORE_ITEMS
    value, wide = values[number], name.endswith("W")
    room = int.from_bytes(emu.mem_read(argv[3], 4), "little")
    if _named(emu, value.name, argv[2], room, wide=wide) == MORE_DATA:
        return MORE_DATA
    put(emu, argv[3], len(value.name), 4)
    put(emu, argv[5], value.kind, 4)
    return _give(emu, _data(value, wide=wide), argv[6], argv[7])


def _query_key(emu: Any, _name: str, argv: list[Any]) -> int:
    key = _key(emu, argv, "query_key")
    if key is None:
        return INVALID_HANDLE
    put(emu, argv[2], 0, 4)
    names, values = list(key.below), list(key.values.values())
    for place, number in (
        (argv[4], len(names)),
        (argv[5], max(map(len, names), default=0)),
        (argv[6], 0),
        (argv[7], len(values)),
        (argv[8], max((len(value.name) for value in values), default=0)),
        (argv[9], max((len(value.data) for value in values), default=0)),
    ):
        put(emu, place, number, 4)
    if argv[11]:
        emu.mem_write(argv[11], emu.clock.file_time.to_bytes(8, "little"))
    return SUCCESS


# The native functions.


def _described(value: Value, kind: int) -> bytes | None:
    """``KEY_VALUE_…_INFORMATION``; None for a kind that is not known."""
    name = value.name.encode("utf-16-le")
    if kind == BASIC:
        return struct.pack("<III", 0, value.kind, len(name)) + name
    if kind == PARTIAL:
        return struct.pack("<III", 0, value.kind, len(value.data)) + value.data
    if kind == FULL:
        head = struct.pack("<IIIII", 0, value.kind, 20 + len(name), len(value.data), len(name))
        return head + name + value.data
    return None


def _nt_give(emu: Any, data: bytes | None, target: int, room: int, size: int) -> int:
    if data is None:
        return STATUS_INVALID_PARAMETER
    put(emu, size, len(data), 4)
    room &= 0xFFFFFFFF
    if room < len(data):
        if room >= 12 and target:
            emu.mem_write(target, data[:room])
            return STATUS_OVERFLOW
        return STATUS_TOO_SMALL
    emu.mem_write(target, data)
    return SUCCESS


def _nt_query_value(emu: Any, _name: str, argv: list[Any]) -> int:
    path = key_path(emu, argv[0])
    argv[1] = read_counted(emu, argv[1])
    if path is None:
        return STATUS_INVALID_HANDLE
    value = find_value(emu, path, argv[1])
    if value is None:
        return STATUS_NOT_FOUND
    return _nt_give(emu, _described(value, argv[2] & 0xFFFFFFFF), argv[3], argv[4], argv[5])


def _nt_enum_value(emu: Any, _name: str, argv: list[Any]) -> int:
    key = _key(emu, argv, "list_values")
    if key is None:
        return STATUS_INVALID_HANDLE
    values = list(key.values.values())
    number = argv[1] & 0xFFFFFFFF
    if number >= len(values):
        return STATUS_NO_MORE
    return _nt_give(emu, _described(values[number], argv[2] & 0xFFFFFFFF), argv[3], argv[4], argv[5])


def _nt_enum_key(emu: Any, _name: str, argv: list[Any]) -> int:
    key = _key(emu, argv, "list_subkeys")
    if key is None:
        return STATUS_INVALID_HANDLE
    keys = emu.regman.get_subkeys(key)
    number = argv[1] & 0xFFFFFFFF
    if number >= len(keys):
        return STATUS_NO_MORE
    if argv[2] & 0xFFFFFFFF != BASIC:
        return STATUS_INVALID_PARAMETER
    name = keys[number].name.encode("utf-16-le")
    data = struct.pack("<QII", emu.clock.file_time, 0, len(name)) + name
    return _nt_give(emu, data, argv[3], argv[4], argv[5])


APIS = {
    "RegQueryValue": Api(words=4, answer=_own_value),
    "RegQueryValueEx": Api(words=6, answer=_query_value),
    "SHQueryValueEx": Api(words=6, answer=_query_value),
    "RegGetValue": Api(words=7, answer=_get_value),
    "SHGetValue": Api(words=6, answer=_get_value_below),
    "RegEnumKey": Api(words=4, answer=_enum_key),
    "RegEnumKeyEx": Api(words=8, answer=_enum_key),
    "RegEnumValue": Api(words=8, answer=_enum_value),
    "RegQueryInfoKey": Api(words=12, answer=_query_key),
    "NtQueryValueKey": Api(words=6, answer=_nt_query_value),
    "NtEnumerateValueKey": Api(words=6, answer=_nt_enum_value),
    "NtEnumerateKey": Api(words=6, answer=_nt_enum_key),
}
