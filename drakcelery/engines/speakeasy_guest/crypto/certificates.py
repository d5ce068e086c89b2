"""Keys in DER: ``CryptDecodeObject``, and ``CryptImportPublicKeyInfo`` of what it gives."""

from __future__ import annotations

import struct
from typing import Any, Final

from Crypto.PublicKey import RSA
from Crypto.Util.asn1 import DerBitString, DerObjectId, DerSequence

from drakcelery.engines.speakeasy_guest.apis.api import Api, put, read_string
from drakcelery.engines.speakeasy_guest.crypto import algorithms, rsa
from drakcelery.engines.speakeasy_guest.crypto.cng import INVALID_PARAMETER, CngKey
from drakcelery.engines.speakeasy_guest.crypto.objects import Key, bytes_at, give
from drakcelery.engines.speakeasy_guest.crypto.providers import failed, provider_of

PUBLIC_KEY_INFO, RSA_PUBLIC, RSA_PRIVATE = 8, 19, 43
"""``X509_PUBLIC_KEY_INFO``, ``RSA_CSP_PUBLICKEYBLOB``, ``PKCS_RSA_PRIVATE_KEY``."""

ALLOCATE: Final = 0x8000
"""``CRYPT_DECODE_ALLOC_FLAG``: the program gets an address, and frees it by ``LocalFree``."""

ERROR_FILE_NOT_FOUND: Final = 2
CRYPT_E_ASN1_BADTAG: Final = 0x8009310B
RSA_IDENTIFIER: Final = b"1.2.840.113549.1.1.1"
LONGEST_IDENTIFIER: Final = 256


def _decoded(emu: Any, kind: int, der: bytes, place: int) -> bytes:
    """What a structure is that is to lie at *place*. Raises ValueError for what is none."""
    if kind == RSA_PUBLIC:
        return rsa.export(RSA.import_key(der), rsa.PUBLIC, algorithms.KEYX)
    if kind == RSA_PRIVATE:
        key = RSA.import_key(der)
        if not key.has_private():
            raise ValueError("a public key")
        return rsa.export(key, rsa.PRIVATE, algorithms.KEYX)
    return _public_key_info(emu.get_ptr_size(), der, place)


def _public_key_info(size: int, der: bytes, place: int) -> bytes:
    """``CERT_PUBLIC_KEY_INFO``, with what it points to behind it."""
    algorithm, bits = DerSequence().decode(der)[:]
    parts = DerSequence().decode(algorithm)
    name = DerObjectId().decode(parts[0]).value.encode("ascii") + b"\0"
    parameters = bytes(parts[1]) if len(parts) > 1 else b""
    key = DerBitString().decode(bits).value
    form = "<6I" if size == 4 else "<QI4xQI4xQI4x"
    behind = place + struct.calcsize(form)
    at = (behind, behind + len(name), behind + len(name) + len(parameters))
    head = struct.pack(form, at[0], len(parameters), at[1], len(key), at[2], 0)
    return bytes(head + name + parameters + key)


def _decode(emu: Any, name: str, argv: list[Any]) -> int:
    """``CryptDecodeObject``, and ``…Ex``, which has one argument more, not used by programs."""
    _, kind, source, length, flags, *rest = argv
    target, size = rest[1:] if name.endswith("Ex") else rest
    if kind not in (PUBLIC_KEY_INFO, RSA_PUBLIC, RSA_PRIVATE):
        return failed(emu, ERROR_FILE_NOT_FOUND)  # no function for such a thing
    der = bytes_at(emu, source, length)
    try:
        found = _decoded(emu, kind, der, target)
        if flags & ALLOCATE and name.endswith("Ex"):
            place = emu.heap_alloc(len(found), heap="crypto")
            emu.mem_write(place, _decoded(emu, kind, der, place))
            put(emu, target, place, emu.get_ptr_size())
            put(emu, size, len(found), 4)
            return 1
    except (ValueError, IndexError, TypeError):
        return failed(emu, CRYPT_E_ASN1_BADTAG)
    return int(give(emu, found, target, size))


def _key_in(emu: Any, place: int) -> Any:
    """The RSA key that a ``CERT_PUBLIC_KEY_INFO`` has. Raises ValueError for any other."""
    size = emu.get_ptr_size()
    identifier = read_string(emu, emu.read_ptr(place), 1, LONGEST_IDENTIFIER)
    if identifier != RSA_IDENTIFIER:
        raise ValueError("another kind of key")
    length = int.from_bytes(emu.mem_read(place + 3 * size, 4), "little")
    return RSA.import_key(bytes_at(emu, emu.read_ptr(place + 4 * size), length))


def _import(emu: Any, name: str, argv: list[Any]) -> int:
    """``CryptImportPublicKeyInfo``, and ``…Ex``, which also says what the key is for."""
    if provider_of(emu, argv[0]) is None:
        return 0
    algorithm = argv[3] & 0xFFFFFFFF if name.endswith("Ex") else 0
    try:
        key = Key(algorithm=algorithm or algorithms.KEYX, pair=_key_in(emu, argv[2]))
    except (ValueError, IndexError, TypeError):
        return failed(emu, algorithms.BAD_DATA)
    put(emu, argv[-1], emu.crypto.add(key), emu.get_ptr_size())
    return 1


def _import_cng(emu: Any, _name: str, argv: list[Any]) -> int:
    """``CryptImportPublicKeyInfoEx2``: a key of CNG."""
    try:
        pair = _key_in(emu, argv[1])
    except (ValueError, IndexError, TypeError):
        return failed(emu, INVALID_PARAMETER)
    put(emu, argv[4], emu.crypto.add(CngKey(name="RSA", pair=pair)), emu.get_ptr_size())
    return 1


APIS = {
    "CryptDecodeObject": Api(words=7, answer=_decode),
    "CryptDecodeObjectEx": Api(words=8, answer=_decode),
    "CryptImportPublicKeyInfo": Api(words=4, answer=_import),
    "CryptImportPublicKeyInfoEx": Api(words=7, answer=_import),
    "CryptImportPublicKeyInfoEx2": Api(words=5, answer=_import_cng),
}
