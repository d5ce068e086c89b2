"""The registry of the emulated Windows: keys, and values as the bytes that they are.

It takes the place of Speakeasy's, which keeps texts only and forgets what is written to the keys that its
configuration names.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.naming import USER_SID

REG_SZ, REG_EXPAND_SZ, REG_BINARY, REG_DWORD, REG_MULTI_SZ, REG_QWORD = 1, 2, 3, 4, 7, 11
TEXTS: Final = (REG_SZ, REG_EXPAND_SZ, REG_MULTI_SZ)
KINDS: Final = {"REG_SZ": REG_SZ, "REG_EXPAND_SZ": REG_EXPAND_SZ, "REG_DWORD": REG_DWORD}
"""Kinds of values that the configuration has."""

ROOTS: Final = {
    0x80000000: "HKEY_CLASSES_ROOT",
    0x80000001: "HKEY_CURRENT_USER",
    0x80000002: "HKEY_LOCAL_MACHINE",
    0x80000003: "HKEY_USERS",
    0x80000005: "HKEY_CURRENT_CONFIG",
}
"""Predefined keys of ``winreg.h``."""

KERNEL_ROOTS: Final = {
    f"\\registry\\user\\{USER_SID}".lower(): "HKEY_CURRENT_USER",
    "\\registry\\machine": "HKEY_LOCAL_MACHINE",
    "\\registry\\user": "HKEY_USERS",
    "hklm": "HKEY_LOCAL_MACHINE",
    "hkcu": "HKEY_CURRENT_USER",
}
"""Other names of them: the kernel's, and Speakeasy's."""

MAX_KEYS: Final = 65536
MAX_NAME: Final = 255
FIRST_HANDLE: Final = 0x180


@dataclass
class Value:
    """A value of a key."""

    name: str
    kind: int
    data: bytes


@dataclass(eq=False)
class Key:
    """A key; its last part is its name."""

    path: str
    values: dict[str, Value] = field(default_factory=dict)
    """By name in lower case; the key's own value has none."""
    below: dict[str, Key] = field(default_factory=dict)
    """Likewise."""
    deleted: bool = False
    """It is gone, though there are handles of it."""

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition("\\")[2]

    def get_path(self) -> str:
        """Its path, as Speakeasy asks for it."""
        return self.path

    def put(self, name: str, kind: int, data: bytes) -> None:
        """Write a value over the one of that name."""
        self.values[name.lower()] = Value(name, kind, data)

    def get_value(self, name: str) -> Value | None:
        """The value of that name."""
        return self.values.get((name or "").lower())


class Hive:
    """All keys, and the handles to them."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._roots = {name.lower(): Key(name) for name in ROOTS.values()}
        self._handles: dict[int, Key] = {}
        self._last_handle = FIRST_HANDLE
        self._count = 0
        for described in config.get("keys", ()):
            key = self.create_key(described["path"])
            for value in described.get("values", ()):
                name = "" if value["name"] == "default" else value["name"]
                key.put(name, KINDS[value["type"]], _encoded(value["type"], value["data"]))

    def get_key_from_handle(self, handle: int) -> Key | None:
        """The key that a handle is of; predefined ones are their own handles, sign-extended or not."""
        root = ROOTS.get(handle & 0xFFFFFFFF)
        return self._roots[root.lower()] if root else self._handles.get(handle)

    def get_key_from_path(self, path: str) -> Key | None:
        """The key at *path*; None if there is none."""
        key: Key | None = None
        for part in _parts(path):
            key = self._roots.get(part.lower()) if key is None else key.below.get(part.lower())
            if key is None:
                return None
        return key

    def create_key(self, path: str) -> Key:
        """The key at *path*, and those around it, made where they are not there.

        Raises:
            MemoryError: there are too many.
        """
        root, *rest = _parts(path)
        key = self._roots.setdefault(root.lower(), Key(root))
        for part in rest:
            found = key.below.get(part.lower())
            if found is None:
                self._count += 1
                if self._count > MAX_KEYS:
                    raise MemoryError(f"more than {MAX_KEYS} keys")
                found = key.below[part.lower()] = Key(f"{key.path}\\{part[:MAX_NAME]}")
            key = found
        return key

    def delete(self, path: str) -> bool:
        """Delete the key at *path* with all below it; False if there is none, or it is a predefined one."""
        outer, _, name = "\\".join(_parts(path)).rpartition("\\")
        above = self.get_key_from_path(outer) if outer else None
        gone = above.below.pop(name.lower(), None) if above is not None else None
        if gone is not None:
            self._forget(gone)
        return gone is not None

    def empty(self, key: Key) -> None:
        """Delete all values of a key, and all keys below it."""
        key.values.clear()
        for one in key.below.values():
            self._forget(one)
        key.below.clear()

    def _forget(self, key: Key) -> None:
        """Count a deleted key, and all below it, no more."""
        waiting = [key]
        while waiting:
            one = waiting.pop()
            one.deleted = True
            self._count -= 1
            waiting += one.below.values()

    def open_key(self, path: str, create: bool = False) -> int | None:
        """A handle of the key at *path*; None if there is none."""
        key = self.create_key(path) if create else self.get_key_from_path(path)
        if key is None:
            return None
        self._last_handle += 4
        self._handles[self._last_handle] = key
        return self._last_handle

    def close(self, handle: int) -> bool:
        """Forget a handle; False if it is none. Predefined keys stay open."""
        return self._handles.pop(handle, None) is not None or handle & 0xFFFFFFFF in ROOTS

    def get_subkeys(self, key: Key) -> list[Key]:
        """The keys right below *key*, by name."""
        return [found for _, found in sorted(key.below.items())]


def _parts(path: str) -> Iterator[str]:
    for kernel, root in KERNEL_ROOTS.items():
        if path.lower() == kernel or path.lower().startswith(f"{kernel}\\"):
            path = root + path[len(kernel) :]
            break
    yield from (part for part in path.split("\\") if part)


def _encoded(kind: str, data: str) -> bytes:
    return int(data, 0).to_bytes(4, "little") if kind == "REG_DWORD" else f"{data}\0".encode("utf-16-le")
