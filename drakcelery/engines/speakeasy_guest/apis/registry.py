"""The registry, as programs ask for it; each question and each change is told to the recorder."""

from __future__ import annotations

from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import MAX_DATA, Api, put, read_counted, text_argument
from drakcelery.engines.speakeasy_guest.machine.ansi import ANSI
from drakcelery.engines.speakeasy_guest.machine.hive import (
    REG_EXPAND_SZ,
    REG_MULTI_SZ,
    REG_SZ,
    TEXTS,
    Key,
    Value,
)

SUCCESS = 0
FILE_NOT_FOUND = 2
INVALID_HANDLE = 6
INVALID_PARAMETER = 87
ACCESS_DENIED = 5
KEY_DELETED = 1018
CREATED, OPENED = 1, 2
"""What ``RegCreateKeyEx`` did."""

STATUS_INVALID_HANDLE: Final = 0xC0000008
STATUS_NOT_FOUND: Final = 0xC0000034
STATUS_CANNOT_DELETE: Final = 0xC0000121
STATUS_KEY_DELETED: Final = 0xC000017C


def value_text(kind: int, data: bytes) -> str:
    """A registry value as DRAKVUF's regmon prints it."""
    if kind in (REG_SZ, REG_EXPAND_SZ):
        return data.decode("utf-16-le", "replace").rstrip("\0")
    if kind == REG_MULTI_SZ:
        parts = data.decode("utf-16-le", "replace").rstrip("\0").split("\0")
        return ",".join(f"'{part}'" for part in parts)
    return data.hex(" ")


def key_path(emu: Any, handle: int, below: str = "") -> str | None:
    """The path of the key that a handle is of, and of one below it; None for no handle."""
    key: Key | None = emu.regman.get_key_from_handle(handle)
    if key is None or key.deleted:
        return None
    below = below.strip("\\")
    return f"{key.path}\\{below}" if below else key.path


def bad_key(emu: Any, handle: int) -> int:
    """The error for a handle of which :func:`key_path` knows none."""
    return INVALID_HANDLE if emu.regman.get_key_from_handle(handle) is None else KEY_DELETED


def note(emu: Any, path: str, event: str, **more: Any) -> None:
    """Tell the recorder of an access to the key at *path*."""
    emu.recorder.log_registry_access(None, path, event, **more)


def _open_key(emu: Any, name: str, argv: list[Any]) -> int:
    path = key_path(emu, argv[0], text_argument(emu, name.replace("Ex", ""), argv, 1))
    if path is None:
        return bad_key(emu, argv[0])
    argv[0] = path
    handle = emu.regman.open_key(path)
    note(emu, path, "open_key")
    if handle is None:
        return FILE_NOT_FOUND
    put(emu, argv[-1], handle, emu.get_ptr_size())
    return SUCCESS


def _create_key(emu: Any, name: str, argv: list[Any]) -> int:
    path = key_path(emu, argv[0], text_argument(emu, name, argv, 1))
    if path is None:
        return bad_key(emu, argv[0])
    argv[0] = path
    there = emu.regman.get_key_from_path(path) is not None
    target, told = (argv[7], argv[8]) if "Ex" in name else (argv[2], 0)
    put(emu, target, emu.regman.open_key(path, create=True), emu.get_ptr_size())
    put(emu, told, OPENED if there else CREATED, 4)
    note(emu, path, "create_key")
    return SUCCESS


def _close_key(emu: Any, _name: str, argv: list[Any]) -> int:
    return SUCCESS if emu.regman.close(argv[0]) else INVALID_HANDLE


def _current_user(emu: Any, _name: str, argv: list[Any]) -> int:
    put(emu, argv[1], emu.regman.open_key("HKEY_CURRENT_USER"), emu.get_ptr_size())
    return SUCCESS


def _set_value_ex(emu: Any, name: str, argv: list[Any]) -> int:
    path = key_path(emu, argv[0])
    if path is None:
        return bad_key(emu, argv[0])
    value = text_argument(emu, name, argv, 1)
    return set_value(emu, path, value, argv[3], argv[4], argv[5], wide=name.endswith("W"))


def _set_value_below(emu: Any, name: str, argv: list[Any]) -> int:
    """``RegSetKeyValue`` and ``SHSetValue``."""
    path = key_path(emu, argv[0], text_argument(emu, name, argv, 1))
    value = text_argument(emu, name, argv, 2)
    return set_value(emu, path, value, argv[3], argv[4], argv[5], wide=name.endswith("W"))


def _set_own_value(emu: Any, name: str, argv: list[Any]) -> int:
    """``RegSetValue``: the value without a name of a key, a text that has its zero."""
    path = key_path(emu, argv[0], text_argument(emu, name, argv, 1))
    address, wide = argv[3], name.endswith("W")
    text = text_argument(emu, name, argv, 3)
    return set_value(emu, path, "", argv[2], address, (len(text) + 1) * (2 if wide else 1), wide=wide)


def set_value(
    emu: Any, path: str | None, name: str, kind: int, address: int, size: int, *, wide: bool
) -> int:
    """Write a value, whose data the program has at *address*, to a key; an error of Windows, or 0."""
    if path is None:
        return INVALID_HANDLE
    kind &= 0xFFFFFFFF
    data = bytes(emu.mem_read(address, min(size & 0xFFFFFFFF, MAX_DATA))) if address else b""
    if not wide and kind in TEXTS:
        data = data.decode(ANSI).encode("utf-16-le")
    emu.regman.create_key(path).put(name, kind, data)
    note(emu, path, "set_value", value_name=name, data=value_text(kind, data))
    return SUCCESS


def _delete_value(emu: Any, name: str, argv: list[Any]) -> int:
    """``RegDeleteValue``, ``RegDeleteKeyValue`` and ``SHDeleteValue``."""
    number = 1 if name.startswith("RegDeleteValue") else 2
    below = text_argument(emu, name, argv, 1) if number == 2 else ""
    return delete_value(emu, key_path(emu, argv[0], below), text_argument(emu, name, argv, number))


def delete_value(emu: Any, path: str | None, name: str) -> int:
    """Delete a value of a key; an error of Windows, or 0."""
    if path is None:
        return INVALID_HANDLE
    key = emu.regman.get_key_from_path(path)
    note(emu, path, "delete_value", value_name=name)
    there = key is not None and key.values.pop(name.lower(), None) is not None
    return SUCCESS if there else FILE_NOT_FOUND


def _delete_key(emu: Any, name: str, argv: list[Any]) -> int:
    """``RegDeleteKey``: one that has keys below it stays."""
    path = key_path(emu, argv[0], text_argument(emu, name.replace("Ex", ""), argv, 1))
    if path is None:
        return bad_key(emu, argv[0])
    note(emu, path, "delete_key")
    key = emu.regman.get_key_from_path(path)
    if key is not None and key.below:
        return ACCESS_DENIED
    return SUCCESS if emu.regman.delete(path) else FILE_NOT_FOUND


def _delete_tree(emu: Any, name: str, argv: list[Any]) -> int:
    """``RegDeleteTree`` and ``SHDeleteKey``; without a name the first one empties the key only."""
    emptied = name.startswith("RegDeleteTree") and not argv[1]
    path = key_path(emu, argv[0], text_argument(emu, name, argv, 1))
    if path is None:
        return bad_key(emu, argv[0])
    key = emu.regman.get_key_from_path(path)
    if key is None:
        note(emu, path, "delete_key")
        return FILE_NOT_FOUND
    for one in _all_below(key):
        note(emu, one.path, "delete_key")
    if emptied:
        for value in key.values.values():
            note(emu, path, "delete_value", value_name=value.name)
        emu.regman.empty(key)
        return SUCCESS
    note(emu, path, "delete_key")
    return SUCCESS if emu.regman.delete(path) else ACCESS_DENIED


def _all_below(key: Key) -> list[Key]:
    """Every key below another one, the innermost first."""
    found, waiting = [], [key]
    while waiting:
        below = list(waiting.pop().below.values())
        found += below
        waiting += below
    return found[::-1]


# The native functions.


def _nt_delete_key(emu: Any, _name: str, argv: list[Any]) -> int:
    path = key_path(emu, argv[0])
    if path is None:
        return STATUS_INVALID_HANDLE if bad_key(emu, argv[0]) == INVALID_HANDLE else STATUS_KEY_DELETED
    note(emu, path, "delete_key")
    key = emu.regman.get_key_from_path(path)
    return SUCCESS if not key.below and emu.regman.delete(path) else STATUS_CANNOT_DELETE


def _nt_key(emu: Any, name: str, argv: list[Any]) -> int:
    size = emu.get_ptr_size()
    root, text = emu.read_ptr(argv[2] + size), emu.read_ptr(argv[2] + 2 * size)
    path = read_counted(emu, text)
    if root:
        path = key_path(emu, root, path) or path
    argv[2] = path
    creating = "Create" in name
    handle = emu.regman.open_key(path, create=creating)
    note(emu, path, "create_key" if creating else "open_key")
    if handle is None:
        return STATUS_NOT_FOUND
    put(emu, argv[0], handle, size)
    return SUCCESS


def _nt_set_value_key(emu: Any, _name: str, argv: list[Any]) -> int:
    value = argv[1] = read_counted(emu, argv[1])
    path = key_path(emu, argv[0])
    return STATUS_INVALID_HANDLE if set_value(emu, path, value, *argv[3:6], wide=True) else SUCCESS


def _nt_delete_value_key(emu: Any, _name: str, argv: list[Any]) -> int:
    argv[1] = read_counted(emu, argv[1])
    result = delete_value(emu, key_path(emu, argv[0]), argv[1])
    return {SUCCESS: SUCCESS, FILE_NOT_FOUND: STATUS_NOT_FOUND}.get(result, STATUS_INVALID_HANDLE)


def find_value(emu: Any, path: str, name: str) -> Value | None:
    """A value of the key at *path*, which somebody asks for; None if there is none."""
    note(emu, path, "read_value", value_name=name)
    key: Key | None = emu.regman.get_key_from_path(path)
    return None if key is None else key.get_value(name)


APIS = {
    "RegOpenKey": Api(words=3, answer=_open_key),
    "RegOpenKeyEx": Api(words=5, answer=_open_key),
    "RegCreateKey": Api(words=3, answer=_create_key),
    "RegCreateKeyEx": Api(words=9, answer=_create_key),
    "RegCloseKey": Api(words=1, answer=_close_key),
    "RegOpenCurrentUser": Api(words=2, answer=_current_user),
    "RegSetValue": Api(words=5, answer=_set_own_value),
    "RegSetValueEx": Api(words=6, answer=_set_value_ex),
    "RegSetKeyValue": Api(words=6, answer=_set_value_below),
    "SHSetValue": Api(words=6, answer=_set_value_below),
    "RegDeleteValue": Api(words=2, answer=_delete_value),
    "RegDeleteKeyValue": Api(words=3, answer=_delete_value),
    "SHDeleteValue": Api(words=3, answer=_delete_value),
    "RegDeleteKey": Api(words=2, answer=_delete_key),
    "RegDeleteTree": Api(words=2, answer=_delete_tree),
    "SHDeleteKey": Api(words=2, answer=_delete_tree),
    "RegDeleteKeyEx": Api(words=4, answer=_delete_key),
    "NtCreateKey": Api(words=7, answer=_nt_key),
    "NtOpenKey": Api(words=3, answer=_nt_key),
    "NtOpenKeyEx": Api(words=4, answer=_nt_key),
    "NtDeleteKey": Api(words=1, answer=_nt_delete_key),
    "NtSetValueKey": Api(words=6, answer=_nt_set_value_key),
    "NtDeleteValueKey": Api(words=2, answer=_nt_delete_value_key),
}
