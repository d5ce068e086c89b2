"""DPAPI: what ``CryptProtectData`` makes can be read again by the same user, and by nobody else.

The form is that of Windows (version 1, AES-256 and SHA-512), whose master key comes from the user's password;
ours is one that no other machine has.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
import uuid
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import Api, put, read_text
from drakcelery.engines.speakeasy_guest.crypto.ciphers import BadLength, BadPadding, Cipher
from drakcelery.engines.speakeasy_guest.crypto.objects import bytes_at, number_at
from drakcelery.engines.speakeasy_guest.crypto.providers import failed

ERROR_INVALID_DATA, ERROR_INVALID_PARAMETER = 13, 87
PROVIDER: Final = uuid.UUID("df9d8cd0-1501-11d1-8c7a-00c04fc297eb").bytes_le
"""Of DPAPI itself; each blob begins with it."""

MASTER_KEY_NAME: Final = uuid.UUID("6c1ea46b-6f4e-4b5f-9a2c-3d1f6f0f2f77").bytes_le
MASTER_KEY: Final = hashlib.sha512(b"master key of the emulated user").digest()
AES_256, SHA_512 = 0x6610, 0x800E
MEMORY_BLOCK: Final = 16
"""``CRYPTPROTECTMEMORY_BLOCK_SIZE``"""


def _blob_at(emu: Any, place: int) -> bytes:
    """What a ``DATA_BLOB`` has."""
    if not place:
        return b""
    return bytes_at(emu, emu.read_ptr(place + emu.get_ptr_size()), number_at(emu, place))


def _put_blob(emu: Any, place: int, data: bytes) -> None:
    address = emu.heap_alloc(max(len(data), 1), heap="LocalAlloc")
    emu.mem_write(address, data)
    put(emu, place, len(data), 4)
    emu.write_ptr(place + emu.get_ptr_size(), address)


def _cipher(salt: bytes, entropy: bytes) -> Cipher:
    key = hmac.digest(hashlib.sha1(MASTER_KEY, usedforsecurity=False).digest(), salt + entropy, "sha512")
    return Cipher(name="AES", key=key[:32])


def _counted(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data


def protected(data: bytes, described: str, entropy: bytes, salts: tuple[bytes, bytes]) -> bytes:
    """A blob with *data*; *salts* of the key and of the signature."""
    name = f"{described}\0".encode("utf-16-le")
    body = struct.pack("<I", 1) + MASTER_KEY_NAME + struct.pack("<I", 0) + _counted(name)
    body += struct.pack("<II", AES_256, 256) + _counted(salts[0]) + _counted(b"")
    body += struct.pack("<II", SHA_512, 512) + _counted(salts[1])
    body += _counted(_cipher(salts[0], entropy).encrypt(data, padded=True))
    return struct.pack("<I", 1) + PROVIDER + body + _counted(_signature(body, salts[1], entropy))


def _signature(body: bytes, salt: bytes, entropy: bytes) -> bytes:
    return hmac.digest(MASTER_KEY, salt + entropy + body, "sha512")


def unprotected(blob: bytes, entropy: bytes) -> tuple[bytes, str]:
    """What a blob has, and its description. Raises ValueError where it is not of this user."""
    if blob[4:20] != PROVIDER or blob[24:40] != MASTER_KEY_NAME:
        raise ValueError("not protected by this user")
    place, parts = 44, []
    for skipped in (0, 8, 0, 8, 0, 0):
        start = place + skipped + 4
        place = start + int.from_bytes(blob[start - 4 : start], "little")
        parts.append(blob[start:place])
    name, salt, _, other, data, signature = parts[0], parts[1], parts[2], parts[3], parts[4], parts[5]
    signed = blob[20 : place - len(signature) - 4]
    if place > len(blob) or not hmac.compare_digest(signature, _signature(signed, other, entropy)):
        raise ValueError("changed, or protected with another entropy")
    return _cipher(salt, entropy).decrypt(data, padded=True), name.decode("utf-16-le", "replace").rstrip("\0")


def _protect(emu: Any, _name: str, argv: list[Any]) -> int:
    described = read_text(emu, argv[1], wide=True) if argv[1] else ""
    if not argv[0] or not argv[6]:
        return failed(emu, ERROR_INVALID_PARAMETER)
    salts = emu.crypto.random(32), emu.crypto.random(32)
    _put_blob(emu, argv[6], protected(_blob_at(emu, argv[0]), described, _blob_at(emu, argv[2]), salts))
    return 1


def _unprotect(emu: Any, _name: str, argv: list[Any]) -> int:
    try:
        data, described = unprotected(_blob_at(emu, argv[0]), _blob_at(emu, argv[2]))
    except (ValueError, BadLength, BadPadding):
        return failed(emu, ERROR_INVALID_DATA)
    if argv[1]:
        text = f"{described}\0".encode("utf-16-le")
        place = emu.heap_alloc(len(text), heap="LocalAlloc")
        emu.mem_write(place, text)
        emu.write_ptr(argv[1], place)
    _put_blob(emu, argv[6], data)
    return 1


def _memory(emu: Any, name: str, argv: list[Any]) -> int:
    """``CryptProtectMemory`` and ``CryptUnprotectMemory``, in place."""
    size = argv[1] & 0xFFFFFFFF
    if size % MEMORY_BLOCK:
        return failed(emu, ERROR_INVALID_PARAMETER)
    cipher = _cipher(b"memory", b"")
    change = cipher.encrypt if "Unprotect" not in name else cipher.decrypt
    emu.mem_write(argv[0], change(bytes_at(emu, argv[0], size), padded=False))
    return 1


APIS = {
    "CryptProtectData": Api(words=7, answer=_protect),
    "CryptUnprotectData": Api(words=7, answer=_unprotect),
    "CryptProtectMemory": Api(words=3, answer=_memory),
    "CryptUnprotectMemory": Api(words=3, answer=_memory),
}
