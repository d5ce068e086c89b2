"""CNG: algorithms, their properties, and hashes (bcrypt.dll; learn.microsoft.com, "CNG Reference")."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import Api, put, read_text
from drakcelery.engines.speakeasy_guest.crypto import ciphers, hashes
from drakcelery.engines.speakeasy_guest.crypto.ciphers import CBC, Cipher
from drakcelery.engines.speakeasy_guest.crypto.hashes import Hash
from drakcelery.engines.speakeasy_guest.crypto.objects import bytes_at

SUCCESS: Final = 0
INVALID_HANDLE, INVALID_PARAMETER, NOT_SUPPORTED = 0xC0000008, 0xC000000D, 0xC00000BB
BUFFER_TOO_SMALL, NOT_FOUND = 0xC0000023, 0xC0000225
"""``STATUS_…``"""

WITH_KEY, REUSABLE = 0x8, 0x20
"""``BCRYPT_ALG_HANDLE_HMAC_FLAG`` and ``BCRYPT_HASH_REUSABLE_FLAG``."""

OBJECT_LENGTH: Final = 654
"""Bytes that a program is to have for each of our objects; nothing is put there."""

MAX_ROUNDS: Final = 20_000_000
"""Of one key that is derived from a password."""

OTHERS: Final = ("RNG", "RSA", "PBKDF2")


@dataclass(kw_only=True, eq=False)
class Algorithm:
    """What ``BCryptOpenAlgorithmProvider`` gives a handle of; keys get its properties."""

    name: str
    mode: str = CBC
    with_key: bool = False
    """A hash is made with a key."""


@dataclass(kw_only=True, eq=False)
class CngKey:
    """A key behind a handle."""

    name: str
    cipher: Cipher | None = None
    pair: Any = None
    mode: str = CBC


@dataclass(kw_only=True, eq=False)
class CngHash:
    """A hash behind a handle."""

    made: Hash
    reusable: bool = False


def constants() -> dict[int, tuple[str, str, bool]]:
    """Names, modes, and whether it is a hash with a key, by the ``BCRYPT_…_ALG_HANDLE`` of Windows 10."""
    plain = (*hashes.BLOCKS, "RC4", "RNG")
    keyed = ("MD5", "SHA1", "SHA256", "SHA384", "SHA512")
    modes = (CBC, ciphers.ECB, ciphers.CFB, ciphers.CCM, ciphers.GCM)
    return {
        **{0x01 + 0x10 * number: (name, CBC, False) for number, name in enumerate(plain)},
        **{0x91 + 0x10 * number: (name, CBC, True) for number, name in enumerate(keyed)},
        0xE1: ("RSA", CBC, False),
        **{0x1A1 + 0x10 * number: ("AES", mode, False) for number, mode in enumerate(modes)},
    }


def algorithm_of(emu: Any, handle: int) -> Algorithm | None:
    """The algorithm behind a handle, or a constant in place of one."""
    known = constants().get(handle)
    if known is not None:
        return Algorithm(name=known[0], mode=known[1], with_key=known[2])
    found: Algorithm | None = emu.crypto.get(handle, Algorithm)
    return found


def give_status(emu: Any, data: bytes, target: int, room: int, told: int) -> int:
    """Put *data* where there is *room*, and say at *told* how much it is; a status."""
    put(emu, told, len(data), 4)
    if not target:
        return SUCCESS
    if len(data) > room & 0xFFFFFFFF:
        return BUFFER_TOO_SMALL
    if data:
        emu.mem_write(target, data)
    return SUCCESS


def name_at(emu: Any, argv: list[Any], number: int) -> str:
    """A name of CNG, which also takes its place in the log."""
    argv[number] = read_text(emu, argv[number], wide=True) if argv[number] else ""
    return str(argv[number])


def _open(emu: Any, _name: str, argv: list[Any]) -> int:
    place = argv[0]
    wanted = name_at(emu, argv, 1).upper()
    if wanted not in (*hashes.BLOCKS, *ciphers.BLOCKS, *OTHERS):
        return NOT_FOUND
    made = Algorithm(name=wanted, with_key=bool(argv[3] & WITH_KEY))
    put(emu, place, emu.crypto.add(made), emu.get_ptr_size())
    return SUCCESS


def _close(emu: Any, _name: str, argv: list[Any]) -> int:
    return SUCCESS if emu.crypto.close(argv[0], Algorithm) else INVALID_HANDLE


def _get_property(emu: Any, _name: str, argv: list[Any]) -> int:
    thing = algorithm_of(emu, argv[0]) or emu.crypto.get(argv[0], CngKey) or emu.crypto.get(argv[0], CngHash)
    if thing is None:
        return INVALID_HANDLE
    value = _properties(thing).get(name_at(emu, argv, 1))
    if value is None:
        return NOT_SUPPORTED
    data = f"{value}\0".encode("utf-16-le") if isinstance(value, str) else value
    return give_status(emu, data, argv[2], argv[3], argv[4])


def _properties(thing: Algorithm | CngKey | CngHash) -> dict[str, str | bytes]:
    name = thing.made.name if isinstance(thing, CngHash) else thing.name
    numbers = {"ObjectLength": OBJECT_LENGTH}
    more: dict[str, str | bytes] = {"AlgorithmName": name}
    if name in hashes.BLOCKS:
        numbers |= {"HashDigestLength": hashes.size(name), "HashBlockLength": hashes.BLOCKS[name]}
    if name in ciphers.BLOCKS and not isinstance(thing, CngHash):
        lengths = [size * 8 for size in ciphers.LENGTHS[name]]
        step = lengths[1] - lengths[0] if len(lengths) > 1 else 0
        numbers["BlockLength"] = ciphers.BLOCKS[name]
        more["KeyLengths"] = struct.pack("<3I", lengths[0], lengths[-1], step)
        more["ChainingMode"] = f"ChainingMode{thing.mode}"
        if name == "AES":
            more["AuthTagLength"] = struct.pack("<3I", 12, 16, 1)
    if isinstance(thing, CngKey):
        bits = thing.pair.size_in_bits() if thing.cipher is None else len(thing.cipher.key) * 8
        numbers |= {"KeyLength": bits, "KeyStrength": bits}
        if thing.cipher is None:
            numbers["BlockLength"] = thing.pair.size_in_bytes()
    return more | {key: number.to_bytes(4, "little") for key, number in numbers.items()}


def _set_property(emu: Any, _name: str, argv: list[Any]) -> int:
    thing = emu.crypto.get(argv[0], Algorithm) or emu.crypto.get(argv[0], CngKey)
    if thing is None:
        return INVALID_HANDLE
    known = name_at(emu, argv, 1)
    if known == "ChainingMode":
        mode = name_at(emu, argv, 2).removeprefix("ChainingMode")
        if mode not in (*ciphers.MODES, ciphers.GCM, ciphers.CCM) or thing.name not in ciphers.BLOCKS:
            return INVALID_PARAMETER
        thing.mode = mode
        return SUCCESS
    if known == "IV" and isinstance(thing, CngKey) and thing.cipher is not None:
        thing.cipher.iv = bytes_at(emu, argv[2], thing.cipher.block)
        return SUCCESS
    return NOT_SUPPORTED


def _create_hash(emu: Any, _name: str, argv: list[Any]) -> int:
    algorithm = algorithm_of(emu, argv[0])
    if algorithm is None or algorithm.name not in hashes.BLOCKS:
        return INVALID_HANDLE
    key = bytes_at(emu, argv[4], argv[5]) if algorithm.with_key else None
    if key is None and argv[4] and argv[5] & 0xFFFFFFFF:
        return INVALID_PARAMETER
    made = CngHash(made=Hash(algorithm.name, key), reusable=bool(argv[6] & REUSABLE))
    put(emu, argv[1], emu.crypto.add(made), emu.get_ptr_size())
    return SUCCESS


def _hash_data(emu: Any, _name: str, argv: list[Any]) -> int:
    found = emu.crypto.get(argv[0], CngHash)
    if found is None or found.made.value is not None:
        return INVALID_HANDLE
    found.made.update(bytes_at(emu, argv[1], argv[2]))
    return SUCCESS


def _finish_hash(emu: Any, _name: str, argv: list[Any]) -> int:
    found = emu.crypto.get(argv[0], CngHash)
    if found is None or found.made.value is not None:
        return INVALID_HANDLE
    if argv[2] & 0xFFFFFFFF != hashes.size(found.made.name):
        return INVALID_PARAMETER
    emu.mem_write(argv[1], found.made.finish())
    if found.reusable:
        found.made.begin_again()
    return SUCCESS


def _duplicate_hash(emu: Any, _name: str, argv: list[Any]) -> int:
    found = emu.crypto.get(argv[0], CngHash)
    if found is None:
        return INVALID_HANDLE
    copy = CngHash(made=found.made.copy(), reusable=found.reusable)
    put(emu, argv[1], emu.crypto.add(copy), emu.get_ptr_size())
    return SUCCESS


def _destroy_hash(emu: Any, _name: str, argv: list[Any]) -> int:
    return SUCCESS if emu.crypto.close(argv[0], CngHash) else INVALID_HANDLE


def _hash_at_once(emu: Any, _name: str, argv: list[Any]) -> int:
    algorithm = algorithm_of(emu, argv[0])
    if algorithm is None or algorithm.name not in hashes.BLOCKS:
        return INVALID_HANDLE
    if argv[6] & 0xFFFFFFFF != hashes.size(algorithm.name):
        return INVALID_PARAMETER
    made = Hash(algorithm.name, bytes_at(emu, argv[1], argv[2]) if algorithm.with_key else None)
    made.update(bytes_at(emu, argv[3], argv[4]))
    emu.mem_write(argv[5], made.finish())
    return SUCCESS


def _derive(emu: Any, _name: str, argv: list[Any]) -> int:
    """``BCryptDeriveKeyPBKDF2``, whose count is a number of 64 bits."""
    algorithm = algorithm_of(emu, argv[0])
    if algorithm is None or algorithm.name not in hashes.BLOCKS:
        return INVALID_HANDLE
    wide = emu.get_ptr_size() == 8
    rounds = argv[5] if wide else argv[5] & 0xFFFFFFFF | (argv[6] & 0xFFFFFFFF) << 32
    target, size = argv[6:8] if wide else argv[7:9]
    if not rounds or not size & 0xFFFFFFFF:
        return INVALID_PARAMETER
    if rounds > MAX_ROUNDS:
        raise ValueError(f"{rounds} rounds")
    password, salt = bytes_at(emu, argv[1], argv[2]), bytes_at(emu, argv[3], argv[4])
    name = algorithm.name.lower()
    emu.mem_write(target, hashlib.pbkdf2_hmac(name, password, salt, rounds, size & 0xFFFFFFFF))
    return SUCCESS


APIS = {
    "BCryptOpenAlgorithmProvider": Api(words=4, answer=_open),
    "BCryptCloseAlgorithmProvider": Api(words=2, answer=_close),
    "BCryptGetProperty": Api(words=6, answer=_get_property),
    "BCryptSetProperty": Api(words=5, answer=_set_property),
    "BCryptCreateHash": Api(words=7, answer=_create_hash),
    "BCryptHashData": Api(words=4, answer=_hash_data),
    "BCryptFinishHash": Api(words=4, answer=_finish_hash),
    "BCryptDuplicateHash": Api(words=5, answer=_duplicate_hash),
    "BCryptDestroyHash": Api(words=1, answer=_destroy_hash),
    "BCryptHash": Api(words=7, answer=_hash_at_once),
    "BCryptDeriveKeyPBKDF2": Api(words=10, answer=_derive),
}
