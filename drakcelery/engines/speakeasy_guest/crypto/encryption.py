"""CryptoAPI's encryption and decryption, and how a key is told to do it."""

from __future__ import annotations

from typing import Any, Final

from Crypto.Cipher import PKCS1_OAEP, PKCS1_v1_5

from drakcelery.engines.speakeasy_guest.apis.api import Api, put
from drakcelery.engines.speakeasy_guest.crypto import algorithms
from drakcelery.engines.speakeasy_guest.crypto.ciphers import CBC, CFB, ECB, BadLength, BadPadding, Cipher
from drakcelery.engines.speakeasy_guest.crypto.hashes import Hash
from drakcelery.engines.speakeasy_guest.crypto.keys import key_of
from drakcelery.engines.speakeasy_guest.crypto.objects import ERROR_MORE_DATA, Key, bytes_at, give, number_at
from drakcelery.engines.speakeasy_guest.crypto.providers import failed

KP_IV, KP_SALT, KP_PADDING, KP_MODE, KP_MODE_BITS, KP_PERMISSIONS = 1, 2, 3, 4, 5, 6
KP_ALGID, KP_BLOCKLEN, KP_KEYLEN, KP_EFFECTIVE_KEYLEN = 7, 8, 9, 19
MODES: Final = {1: CBC, 2: ECB, 4: CFB}
"""``CRYPT_MODE_…``"""

NUMBERS: Final = {mode: number for number, mode in MODES.items()}
OAEP: Final = 0x40
PADDED: Final = 1
"""``PKCS5_PADDING``"""


def _encrypt(emu: Any, _name: str, argv: list[Any]) -> int:
    handle, hashed, final, flags, data, size, room = argv
    key, room = key_of(emu, handle), room & 0xFFFFFFFF
    if key is None:
        return 0
    count = number_at(emu, size)
    longer = _length(key, count, final=bool(final))
    if not data or longer > room:
        put(emu, size, longer, 4)
        return 1 if not data else failed(emu, ERROR_MORE_DATA)
    plain = bytes_at(emu, data, count)
    made = emu.crypto.get(hashed, Hash)
    if made is not None:
        made.update(plain)
    try:
        if key.cipher is None:
            encrypted = _scheme(emu, key, flags).encrypt(plain)[::-1]
        else:
            encrypted = key.cipher.encrypt(plain, padded=bool(final))
    except BadLength:
        return failed(emu, algorithms.BAD_DATA)
    except ValueError:
        return failed(emu, algorithms.BAD_LEN)
    _written(emu, key, encrypted, data, size, final=bool(final))
    return 1


def _length(key: Key, count: int, *, final: bool) -> int:
    """Bytes of what *count* ones become."""
    if key.cipher is None:
        return int(key.pair.size_in_bytes())
    block = key.cipher.block
    return (count // block + 1) * block if final and block > 1 else count


def _decrypt(emu: Any, _name: str, argv: list[Any]) -> int:
    handle, hashed, final, flags, data, size = argv
    key = key_of(emu, handle)
    if key is None:
        return 0
    encrypted = bytes_at(emu, data, number_at(emu, size))
    try:
        if key.cipher is None:
            plain = _decrypted(emu, key, flags, encrypted[::-1])
        else:
            plain = key.cipher.decrypt(encrypted, padded=bool(final))
    except (ValueError, TypeError):  # BadPadding, BadLength, or RSA without its private part
        if key.cipher is not None and final:
            key.cipher.begin_again()
        return failed(emu, algorithms.BAD_DATA)
    made = emu.crypto.get(hashed, Hash)
    if made is not None:
        made.update(plain)
    _written(emu, key, plain, data, size, final=bool(final))
    return 1


def _decrypted(emu: Any, key: Key, flags: int, encrypted: bytes) -> bytes:
    scheme = _scheme(emu, key, flags)
    plain = scheme.decrypt(encrypted) if flags & OAEP else scheme.decrypt(encrypted, None)
    if plain is None:
        raise BadPadding("not for this key")
    return bytes(plain)


def _scheme(emu: Any, key: Key, flags: int) -> Any:
    return (PKCS1_OAEP if flags & OAEP else PKCS1_v1_5).new(key.pair, randfunc=emu.crypto.random)


def _written(emu: Any, key: Key, data: bytes, target: int, size: int, *, final: bool) -> None:
    if data:
        emu.mem_write(target, data)
    put(emu, size, len(data), 4)
    if final and key.cipher is not None:
        key.cipher.begin_again()


def _set_parameter(emu: Any, _name: str, argv: list[Any]) -> int:
    key, kind = key_of(emu, argv[0]), argv[1] & 0xFFFFFFFF
    if key is None:
        return 0
    cipher = key.cipher
    if cipher is None:
        return failed(emu, algorithms.BAD_TYPE)
    if kind == KP_IV:
        cipher.iv = bytes_at(emu, argv[2], cipher.block) if cipher.block > 1 else b""
    elif kind == KP_MODE:
        if number_at(emu, argv[2]) not in MODES:
            return failed(emu, algorithms.BAD_DATA)
        cipher.mode = MODES[number_at(emu, argv[2])]
    elif kind == KP_EFFECTIVE_KEYLEN:
        cipher.effective_bits = number_at(emu, argv[2])
    elif kind not in (KP_SALT, KP_PADDING, KP_MODE_BITS, KP_PERMISSIONS):
        return failed(emu, algorithms.BAD_TYPE)
    cipher.begin_again()
    return 1


def _get_parameter(emu: Any, _name: str, argv: list[Any]) -> int:
    key, kind = key_of(emu, argv[0]), argv[1] & 0xFFFFFFFF
    if key is None:
        return 0
    if kind == KP_IV and key.cipher is not None:
        return int(give(emu, key.cipher.iv, argv[2], argv[3]))
    numbers = {
        KP_ALGID: key.algorithm,
        KP_KEYLEN: key.bits,
        KP_PERMISSIONS: 0x3B | (0x4 if key.exportable else 0),
    }
    numbers[KP_BLOCKLEN] = _block_bits(key.cipher, key.bits)
    if key.cipher is not None:
        numbers |= {KP_PADDING: PADDED, KP_MODE: NUMBERS[key.cipher.mode], KP_MODE_BITS: 8}
        numbers[KP_EFFECTIVE_KEYLEN] = key.cipher.effective_bits or key.bits
    if kind not in numbers:
        return failed(emu, algorithms.BAD_TYPE)
    return int(give(emu, numbers[kind].to_bytes(4, "little"), argv[2], argv[3]))


def _block_bits(cipher: Cipher | None, bits: int) -> int:
    if cipher is None:
        return bits
    return cipher.block * 8 if cipher.block > 1 else 0


APIS = {
    "CryptEncrypt": Api(words=7, answer=_encrypt),
    "CryptDecrypt": Api(words=6, answer=_decrypt),
    "CryptSetKeyParam": Api(words=4, answer=_set_parameter),
    "CryptGetKeyParam": Api(words=5, answer=_get_parameter),
}
