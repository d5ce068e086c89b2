"""What programs have handles of: providers, hashes and keys; and how their data comes and goes."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from drakcelery.engines.speakeasy_guest.apis.api import put
from drakcelery.engines.speakeasy_guest.crypto.ciphers import Cipher

FIRST_HANDLE: Final = 0x2500000
MAX_OBJECTS: Final = 65536
MAX_SIZE: Final = 64 * 1024 * 1024
"""Bytes of one call."""

ERROR_MORE_DATA: Final = 234

Kind = TypeVar("Kind")


@dataclass(kw_only=True, eq=False)
class Provider:
    """An open provider of CryptoAPI."""

    kind: int
    """``PROV_…``"""
    name: str
    container: str
    pairs: dict[int, Any]
    """Pairs of RSA keys by ``AT_…``, which its container has."""


@dataclass(kw_only=True, eq=False)
class Key:
    """A key behind a handle: a cipher, or one of RSA."""

    algorithm: int
    """``CALG_…``"""
    cipher: Cipher | None = None
    pair: Any = None
    exportable: bool = True

    @property
    def bits(self) -> int:
        """Its length."""
        return len(self.cipher.key) * 8 if self.cipher else int(self.pair.size_in_bits())


class Objects:
    """Everything that there are handles of in one process; Windows' handles are addresses."""

    def __init__(self) -> None:
        self._objects: dict[int, Any] = {}
        self._next = FIRST_HANDLE
        self.containers: dict[str, dict[int, Any]] = {"": {}}
        """By name in lower case: what the user has of keys. The one without a name is there."""
        self._random = random.Random(0)  # noqa: S311  # the same on every run; it protects nothing

    def random(self, size: int) -> bytes:
        """Bytes that no program expects."""
        return self._random.randbytes(size)

    def add(self, thing: Any) -> int:
        """A handle. Raises MemoryError where a program has too many."""
        if len(self._objects) >= MAX_OBJECTS:
            raise MemoryError(f"more than {MAX_OBJECTS} keys and hashes")
        self._next += 0x40
        self._objects[self._next] = thing
        return self._next

    def get(self, handle: int, kind: type[Kind]) -> Kind | None:
        """What a handle is of; None for another *kind*, and where there is nothing."""
        thing = self._objects.get(handle)
        return thing if isinstance(thing, kind) else None

    def close(self, handle: int, kind: type[Any]) -> bool:
        """Forget a handle; False where there was none."""
        if self.get(handle, kind) is None:
            return False
        del self._objects[handle]
        return True


def bytes_at(emu: Any, address: int, size: int) -> bytes:
    """*size* bytes of the program. Raises ValueError for more than a program has."""
    size &= 0xFFFFFFFF
    if size > MAX_SIZE:
        raise ValueError(f"{size} bytes at a time")
    return bytes(emu.mem_read(address, size)) if size else b""


def number_at(emu: Any, address: int) -> int:
    """A DWORD of the program; 0 where there is none."""
    return int.from_bytes(emu.mem_read(address, 4), "little") if address else 0


def give(emu: Any, data: bytes, target: int, size: int) -> bool:
    """Put *data* where the program has as much room as it says at *size*, and say there how much it is.

    False, with ``ERROR_MORE_DATA``, where there is less room; without a *target* only the size is told.
    """
    room = number_at(emu, size)
    put(emu, size, len(data), 4)
    if target and len(data) > room:
        emu.set_last_error(ERROR_MORE_DATA)
        return False
    if target and data:
        emu.mem_write(target, data)
    return True
