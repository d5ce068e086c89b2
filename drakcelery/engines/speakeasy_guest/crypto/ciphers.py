"""Symmetric ciphers in the modes that Windows has."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any, Final

from Crypto.Cipher import AES, ARC2, ARC4, DES, DES3

BLOCKS: Final = {"AES": 16, "3DES": 8, "3DES_112": 8, "DES": 8, "RC2": 8, "RC4": 1}
"""Bytes of a block, by CNG's names; 1 where there are none."""

LENGTHS: Final = {
    "AES": (16, 24, 32),
    "3DES": (24,),
    "3DES_112": (16,),
    "DES": (8,),
    "RC2": tuple(range(5, 17)),
    "RC4": tuple(range(1, 65)),
}
"""Bytes that a key may have."""

CBC, ECB, CFB = "CBC", "ECB", "CFB"
GCM, CCM = "GCM", "CCM"
MODES: Final = {CBC: AES.MODE_CBC, ECB: AES.MODE_ECB, CFB: AES.MODE_CFB}

_MODULES: Final[dict[str, Any]] = {"AES": AES, "3DES": DES3, "3DES_112": DES3, "DES": DES, "RC2": ARC2}


class BadLength(ValueError):
    """Data that does not fill its last block."""


class BadPadding(ValueError):
    """Decrypted data that does not end as it would, had it been encrypted with this key."""


@dataclass(kw_only=True)
class Cipher:
    """A key, and how it is used. Data may come in parts, of whole blocks up to the last one.

    Raises:
        ValueError: no such cipher can be.
    """

    name: str
    key: bytes
    mode: str = CBC
    iv: bytes = b""
    effective_bits: int = 0
    """Of RC2; 0 for all."""
    _running: tuple[bool, Any] | None = field(default=None, repr=False)
    """What goes on from part to part, and whether it encrypts."""

    def __post_init__(self) -> None:
        if len(self.key) not in LENGTHS[self.name]:
            raise ValueError(f"{self.name} has no keys of {len(self.key)} bytes")
        self.iv = self.iv or bytes(self.block)

    @property
    def block(self) -> int:
        """Bytes of a block."""
        return BLOCKS[self.name]

    def encrypt(self, data: bytes, *, padded: bool) -> bytes:
        """The next part of a ciphertext, or the last one, which is filled up. Raises BadLength."""
        if padded and self.block > 1:
            missing = self.block - len(data) % self.block
            data += bytes([missing]) * missing
        return self._part(data, encrypting=True)

    def decrypt(self, data: bytes, *, padded: bool) -> bytes:
        """The next part of a plaintext, or the last one. Raises BadLength and BadPadding."""
        plain = self._part(data, encrypting=False)
        if not padded or self.block == 1:
            return plain
        filled = plain[-1] if plain else 0
        if not 0 < filled <= self.block or plain[-filled:] != bytes([filled]) * filled:
            raise BadPadding(f"the last block ends with {filled}")
        return plain[:-filled]

    def begin_again(self) -> None:
        """What follows is another text."""
        self._running = None

    def _part(self, data: bytes, *, encrypting: bool) -> bytes:
        if len(data) % self.block:
            raise BadLength(f"{len(data)} bytes are no whole blocks")
        if self._running is None or self._running[0] != encrypting:
            self._running = (encrypting, self._engine())
        engine = self._running[1]
        return bytes(engine.encrypt(data) if encrypting else engine.decrypt(data))

    def _engine(self) -> Any:
        if self.name == "RC4":
            return ARC4.new(self.key)
        more: dict[str, Any] = {} if self.mode == ECB else {"iv": self.iv}
        if self.mode == CFB:
            more["segment_size"] = 8
        if self.name == "RC2":
            more["effective_keylen"] = self.effective_bits or len(self.key) * 8
        return _MODULES[self.name].new(self.key, MODES[self.mode], **more)


def authenticated(key: bytes, mode: str, nonce: bytes, more: bytes, tag_size: int) -> Any:
    """AES that also makes a tag, of what is encrypted and of *more*. Raises ValueError for bad sizes."""
    engine = AES.new(key, AES.MODE_GCM if mode == GCM else AES.MODE_CCM, nonce=nonce, mac_len=tag_size)
    engine.update(more)
    return engine


def key_blob(key: bytes) -> bytes:
    """``BCRYPT_KEY_DATA_BLOB``."""
    return struct.pack("<4sII", b"KDBM", 1, len(key)) + key
