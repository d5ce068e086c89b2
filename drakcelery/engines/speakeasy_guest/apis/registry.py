"""The registry: keys are kept in Speakeasy's, values too, and each change is told to the recorder."""

from __future__ import annotations

from typing import Any

from drakcelery.engines.speakeasy_guest.apis.api import MAX_DATA, Api, put, read_counted, text_argument

SUCCESS = 0
FILE_NOT_FOUND = 2
INVALID_HANDLE = 6
STATUS_INVALID_HANDLE = 0xC0000008

REG_SZ = 1
REG_EXPAND_SZ = 2
REG_MULTI_SZ = 7

ROOTS = {
    0x80000000: "HKEY_CLASSES_ROOT",
    0x80000001: "HKEY_CURRENT_USER",
    0x80000002: "HKEY_LOCAL_MACHINE",
    0x80000003: "HKEY_USERS",
    0x80000005: "HKEY_CURRENT_CONFIG",
}
"""Predefined keys of ``winreg.h``."""


def value_text(kind: int, data: bytes) -> str:
    """A registry value as DRAKVUF's regmon prints it."""
    if kind in (REG_SZ, REG_EXPAND_SZ):
        return data.decode("utf-16-le", "replace").rstrip("\0")
    if kind == REG_MULTI_SZ:
        parts = data.decode("utf-16-le", "replace").rstrip("\0").split("\0")
        return ",".join(f"'{part}'" for part in parts)
    return data.hex(" ")


def _key_path(emu: Any, handle: int) -> str | None:
    root = ROOTS.get(handle & 0xFFFFFFFF)
    if root is not None:
        return root
    key = emu.reg_get_key(handle)
    return None if key is None else str(key.get_path())


def _key_below(emu: Any, handle: int, below: str) -> str | None:
    path = _key_path(emu, handle)
    return f"{path}\\{below.strip(chr(92))}" if path and below else path


def _registry(emu: Any, path: str, event: str, **more: Any) -> None:
    emu.recorder.log_registry_access(None, path, event, **more)


def _reg_open_key(emu: Any, name: str, argv: list[Any]) -> int:
    return _open_key(emu, name, argv, result=2)


def _reg_open_key_ex(emu: Any, name: str, argv: list[Any]) -> int:
    return _open_key(emu, name, argv, result=4)


def _open_key(emu: Any, name: str, argv: list[Any], *, result: int) -> int:
    path = _key_below(emu, argv[0], text_argument(emu, name, argv, 1))
    if path is None:
        return INVALID_HANDLE
    argv[0] = path
    handle = emu.reg_open_key(path)
    _registry(emu, path, "open_key")
    if handle is None:
        return FILE_NOT_FOUND
    put(emu, argv[result], handle, emu.get_ptr_size())
    return SUCCESS


def _reg_create_key(emu: Any, name: str, argv: list[Any]) -> int:
    return _create_key(emu, name, argv, result=2)


def _reg_create_key_ex(emu: Any, name: str, argv: list[Any]) -> int:
    put(emu, argv[8], 1, 4)
    return _create_key(emu, name, argv, result=7)


def _create_key(emu: Any, name: str, argv: list[Any], *, result: int) -> int:
    path = _key_below(emu, argv[0], text_argument(emu, name, argv, 1))
    if path is None:
        return INVALID_HANDLE
    argv[0] = path
    handle = emu.reg_open_key(path, create=True)
    put(emu, argv[result], handle, emu.get_ptr_size())
    _registry(emu, path, "create_key")
    return SUCCESS


def _reg_set_value_ex(emu: Any, name: str, argv: list[Any]) -> int:
    path = _key_path(emu, argv[0])
    value = text_argument(emu, name, argv, 1)
    return _set_value(emu, path, value, argv[3], argv[4], argv[5], wide=name.endswith("W"))


def _reg_set_key_value(emu: Any, name: str, argv: list[Any]) -> int:
    path = _key_below(emu, argv[0], text_argument(emu, name, argv, 1))
    value = text_argument(emu, name, argv, 2)
    return _set_value(emu, path, value, argv[3], argv[4], argv[5], wide=name.endswith("W"))


def _set_value(
    emu: Any, path: str | None, name: str, kind: int, address: int, size: int, *, wide: bool
) -> int:
    if path is None:
        return INVALID_HANDLE
    data = bytes(emu.mem_read(address, min(size & 0xFFFFFFFF, MAX_DATA))) if address else b""
    if not wide and kind in (REG_SZ, REG_EXPAND_SZ, REG_MULTI_SZ):
        data = data.decode("latin-1").encode("utf-16-le")
    text = value_text(kind, data)
    key = emu.reg_create_key(path)
    key.values[:] = [value for value in key.values if value.get_name().lower() != (name or "default").lower()]
    key.create_value(name or "default", "REG_SZ" if kind in (REG_SZ, REG_EXPAND_SZ) else "REG_BINARY", text)
    _registry(emu, path, "set_value", value_name=name, data=text)
    return SUCCESS


def _reg_delete_value(emu: Any, name: str, argv: list[Any]) -> int:
    path = _key_path(emu, argv[0])
    value = text_argument(emu, name, argv, 1)
    if path is None:
        return INVALID_HANDLE
    _registry(emu, path, "delete_value", value_name=value)
    return SUCCESS


def _reg_delete_key(emu: Any, name: str, argv: list[Any]) -> int:
    path = _key_below(emu, argv[0], text_argument(emu, name, argv, 1))
    if path is None:
        return INVALID_HANDLE
    _registry(emu, path, "delete_key")
    return SUCCESS


def _reg_delete_key_ex(emu: Any, name: str, argv: list[Any]) -> int:
    return _reg_delete_key(emu, name, argv)


def _nt_create_key(emu: Any, _name: str, argv: list[Any]) -> int:
    return _nt_key(emu, argv, "create_key")


def _nt_open_key(emu: Any, _name: str, argv: list[Any]) -> int:
    return _nt_key(emu, argv, "open_key")


def _nt_key(emu: Any, argv: list[Any], event: str) -> int:
    size = emu.get_ptr_size()
    root, text = emu.read_ptr(argv[2] + size), emu.read_ptr(argv[2] + 2 * size)
    path = read_counted(emu, text)
    if root:
        path = _key_below(emu, root, path) or path
    argv[2] = path
    put(emu, argv[0], emu.reg_open_key(path, create=True), size)
    _registry(emu, path, event)
    return SUCCESS


def _nt_set_value_key(emu: Any, _name: str, argv: list[Any]) -> int:
    value = argv[1] = read_counted(emu, argv[1])
    result = _set_value(
        emu, _key_path(emu, argv[0]), value, argv[3] & 0xFFFFFFFF, argv[4], argv[5], wide=True
    )
    return STATUS_INVALID_HANDLE if result else SUCCESS


def _nt_delete_value_key(emu: Any, _name: str, argv: list[Any]) -> int:
    path = _key_path(emu, argv[0])
    argv[1] = read_counted(emu, argv[1])
    if path is None:
        return STATUS_INVALID_HANDLE
    _registry(emu, path, "delete_value", value_name=argv[1])
    return SUCCESS


APIS = {
    "RegOpenKey": Api(words=3, answer=_reg_open_key),
    "RegOpenKeyEx": Api(words=5, answer=_reg_open_key_ex),
    "RegCreateKey": Api(words=3, answer=_reg_create_key),
    "RegCreateKeyEx": Api(words=9, answer=_reg_create_key_ex),
    "RegSetValueEx": Api(words=6, answer=_reg_set_value_ex),
    "RegSetKeyValue": Api(words=6, answer=_reg_set_key_value),
    "RegDeleteValue": Api(words=2, answer=_reg_delete_value),
    "RegDeleteKey": Api(words=2, answer=_reg_delete_key),
    "RegDeleteTree": Api(words=2, answer=_reg_delete_key),
    "RegDeleteKeyEx": Api(words=4, answer=_reg_delete_key_ex),
    "NtCreateKey": Api(words=7, answer=_nt_create_key),
    "NtOpenKey": Api(words=3, answer=_nt_open_key),
    "NtSetValueKey": Api(words=6, answer=_nt_set_value_key),
    "NtDeleteValueKey": Api(words=2, answer=_nt_delete_value_key),
}
