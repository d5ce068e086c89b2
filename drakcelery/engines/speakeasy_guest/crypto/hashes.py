"""Hashes, with a key (HMAC) or without, under the names that CNG has for them."""

from __future__ import annotations

import functools
import hashlib
import hmac
from typing import Any, Final

from Crypto.Hash import MD2, MD4, MD5, SHA1, SHA256, SHA384, SHA512

BLOCKS: Final = {"MD2": 16, "MD4": 64, "MD5": 64, "SHA1": 64, "SHA256": 64, "SHA384": 128, "SHA512": 128}
"""Bytes that each of them takes at a time."""


def new(name: str, data: bytes = b"") -> Any:
    """A hash of that name, after *data*; with the methods of :mod:`hashlib`. Raises KeyError for others."""
    if name not in BLOCKS:
        raise KeyError(name)
    if name in ("MD2", "MD4"):
        return (MD2 if name == "MD2" else MD4).new(data)
    return hashlib.new(name.lower(), data, usedforsecurity=False)


def size(name: str) -> int:
    """Bytes of the result."""
    return int(new(name).digest_size)


class Hash:
    """A hash that is being made; ``value`` is set when it is finished, and may be by the program."""

    def __init__(self, name: str, key: bytes | None = None, provider: int = 0) -> None:
        self.name = name
        self.key = key
        self.provider = provider
        """The handle of the provider that made it, of CryptoAPI's."""
        self.value: bytes | None = None
        self._begin()

    def _begin(self) -> None:
        if self.key is None:
            self._state = new(self.name)
        else:
            self._state = hmac.new(self.key, digestmod=functools.partial(new, self.name))

    def update(self, data: bytes) -> None:
        """Go on with *data*."""
        self._state.update(data)

    def finish(self) -> bytes:
        """The result; the same one when asked again."""
        if self.value is None:
            self.value = bytes(self._state.digest())
        return self.value

    def begin_again(self) -> None:
        """Be as a new one."""
        self.value = None
        self._begin()

    def copy(self) -> Hash:
        """Another one that goes on from here."""
        other = Hash(self.name, self.key, self.provider)
        other._state = self._state.copy()
        other.value = self.value
        return other


def for_padding(name: str) -> Any:
    """The hash as a module of the library, which pads RSA's messages with it."""
    return {"MD2": MD2, "MD4": MD4, "MD5": MD5, "SHA1": SHA1, "SHA256": SHA256, "SHA384": SHA384}.get(
        name, SHA512
    )
