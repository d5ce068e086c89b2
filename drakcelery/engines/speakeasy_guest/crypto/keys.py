"""CryptoAPI's keys: derived, made, imported and exported."""

from __future__ import annotations

from typing import Any, Final

from Crypto.Cipher import PKCS1_v1_5

from drakcelery.engines.speakeasy_guest.apis.api import Api, put
from drakcelery.engines.speakeasy_guest.crypto import algorithms, hashes, rsa
from drakcelery.engines.speakeasy_guest.crypto.ciphers import Cipher
from drakcelery.engines.speakeasy_guest.crypto.hashes import Hash
from drakcelery.engines.speakeasy_guest.crypto.hashing import hash_of
from drakcelery.engines.speakeasy_guest.crypto.objects import Key, Provider, bytes_at, give
from drakcelery.engines.speakeasy_guest.crypto.providers import failed, provider_of

EXPORTABLE, NO_SALT = 0x1, 0x10
"""``CRYPT_…`` flags of a new key."""

SIMPLE, PLAINTEXT = 0x1, 0x8
"""``SIMPLEBLOB`` and ``PLAINTEXTKEYBLOB``."""

SALT: Final = bytes(11)
"""What keys of 40 bits have behind them, unless ``CRYPT_NO_SALT`` is said."""

OLD_HASHES: Final = ("MD2", "MD4", "MD5", "SHA1")


def key_of(emu: Any, handle: int) -> Key | None:
    """The key behind a handle; without one, the last error says so."""
    key: Key | None = emu.crypto.get(handle, Key)
    if key is None:
        failed(emu, algorithms.BAD_KEY)
    return key


def _put_key(emu: Any, place: int, key: Key) -> int:
    put(emu, place, emu.crypto.add(key), emu.get_ptr_size())
    return 1


def _session_key(algorithm: int, material: bytes, flags: int) -> Key:
    """Raises ValueError for a key of a length that there is not."""
    name = algorithms.CIPHERS[algorithm][0]
    bits = len(material) * 8
    if name in ("RC2", "RC4") and bits == 40 and not flags & NO_SALT:
        material += SALT
    cipher = Cipher(name=name, key=material, effective_bits=bits if name == "RC2" else 0)
    return Key(algorithm=algorithm, cipher=cipher, exportable=bool(flags & EXPORTABLE))


def _bits(provider: Provider, algorithm: int, flags: int) -> int:
    return flags >> 16 & 0xFFFF or algorithms.default_bits(provider.name, algorithm)


def derived(made: Hash, size: int, *, block: bool) -> bytes:
    """Bytes of a key that come from a hash (learn.microsoft.com, "CryptDeriveKey function")."""
    value = made.finish()
    if size <= len(value) and not (block and made.name in OLD_HASHES):
        return value[:size]
    padded = value.ljust(64, b"\0")
    inner, outer = (
        hashes.new(made.name, bytes(one ^ pad for one in padded)).digest() for pad in (0x36, 0x5C)
    )
    return bytes(inner + outer)[:size]


def _derive(emu: Any, _name: str, argv: list[Any]) -> int:
    provider, algorithm, flags = provider_of(emu, argv[0]), argv[1] & 0xFFFFFFFF, argv[3]
    made = hash_of(emu, argv[2]) if provider else None
    if provider is None or made is None:
        return 0
    if algorithm not in algorithms.CIPHERS or not algorithms.has(provider.kind, algorithm):
        return failed(emu, algorithms.BAD_ALGID)
    block = algorithms.CIPHERS[algorithm][0] in ("AES", "3DES", "3DES_112")
    size = _bits(provider, algorithm, flags) // 8
    material = derived(made, size, block=block)
    if len(material) < size:
        return failed(emu, algorithms.BAD_FLAGS)
    try:
        return _put_key(emu, argv[4], _session_key(algorithm, material, flags))
    except ValueError:
        return failed(emu, algorithms.BAD_FLAGS)


def _generate(emu: Any, _name: str, argv: list[Any]) -> int:
    provider, algorithm, flags = provider_of(emu, argv[0]), argv[1] & 0xFFFFFFFF, argv[2]
    if provider is None:
        return 0
    if not algorithms.has(provider.kind, algorithm) or algorithm in algorithms.HASHES:
        return failed(emu, algorithms.BAD_ALGID)
    bits = _bits(provider, algorithm, flags)
    try:
        if algorithm not in algorithms.PAIRS:
            return _put_key(emu, argv[3], _session_key(algorithm, emu.crypto.random(bits // 8), flags))
        algorithm = algorithms.PAIRS[algorithm]
        pair = rsa.generate(bits, emu.crypto.random)
    except ValueError:
        return failed(emu, algorithms.BAD_FLAGS)
    key = Key(algorithm=algorithm, pair=pair, exportable=bool(flags & EXPORTABLE))
    provider.pairs[algorithm] = key
    return _put_key(emu, argv[3], key)


def _user_key(emu: Any, _name: str, argv: list[Any]) -> int:
    provider = provider_of(emu, argv[0])
    if provider is None:
        return 0
    key = provider.pairs.get(algorithms.PAIRS.get(argv[1] & 0xFFFFFFFF, 0))
    return failed(emu, algorithms.NO_KEY) if key is None else _put_key(emu, argv[2], key)


def _import(emu: Any, _name: str, argv: list[Any]) -> int:
    provider, flags = provider_of(emu, argv[0]), argv[4]
    if provider is None:
        return 0
    blob = bytes_at(emu, argv[1], argv[2])
    if len(blob) < rsa.HEADER.size:
        return failed(emu, algorithms.BAD_DATA)
    kind, _, _, algorithm = rsa.HEADER.unpack_from(blob)
    try:
        if kind in (rsa.PUBLIC, rsa.PRIVATE):
            pair = rsa.read(blob)
            key = Key(
                algorithm=algorithm, pair=pair, exportable=kind == rsa.PUBLIC or bool(flags & EXPORTABLE)
            )
            if kind == rsa.PRIVATE:
                provider.pairs[algorithm] = key
            return _put_key(emu, argv[5], key)
        if algorithm not in algorithms.CIPHERS or not algorithms.has(provider.kind, algorithm):
            return failed(emu, algorithms.BAD_ALGID)
        if kind == PLAINTEXT:
            material = blob[12 : 12 + int.from_bytes(blob[8:12], "little")]
        elif kind == SIMPLE:
            material = _unwrapped(emu, provider, argv[3], blob)
        else:
            return failed(emu, algorithms.BAD_TYPE)
        return _put_key(emu, argv[5], _session_key(algorithm, material, flags))
    except ValueError:
        return failed(emu, algorithms.BAD_DATA)


def _unwrapped(emu: Any, provider: Provider, handle: int, blob: bytes) -> bytes:
    """A session key that a public one has encrypted. Raises ValueError where it cannot be read."""
    key = emu.crypto.get(handle, Key) or provider.pairs.get(algorithms.KEYX)
    if key is None or key.pair is None or not key.pair.has_private():
        raise ValueError("no key to read it with")
    material = bytes(PKCS1_v1_5.new(key.pair).decrypt(blob[12:][::-1], b""))
    if not material:
        raise ValueError("encrypted for another key")
    return material


def _export(emu: Any, _name: str, argv: list[Any]) -> int:
    key, kind = key_of(emu, argv[0]), argv[2] & 0xFFFFFFFF
    if key is None:
        return 0
    if kind != rsa.PUBLIC and not key.exportable:
        return failed(emu, algorithms.BAD_KEY_STATE)
    blob = _blob(emu, key, kind, argv[1])
    return failed(emu, algorithms.BAD_TYPE) if blob is None else int(give(emu, blob, argv[4], argv[5]))


def _blob(emu: Any, key: Key, kind: int, handle: int) -> bytes | None:
    if key.pair is not None:
        if kind == rsa.PUBLIC or (kind == rsa.PRIVATE and key.pair.has_private()):
            return rsa.export(key.pair, kind, key.algorithm)
        return None
    if key.cipher is None:
        return None
    material = key.cipher.key
    head = rsa.HEADER.pack(kind, 2, 0, key.algorithm)
    if kind == PLAINTEXT:
        return head + len(material).to_bytes(4, "little") + material
    other = emu.crypto.get(handle, Key)
    if kind != SIMPLE or other is None or other.pair is None:
        return None
    wrapped = PKCS1_v1_5.new(other.pair, randfunc=emu.crypto.random).encrypt(material)
    return head + algorithms.KEYX.to_bytes(4, "little") + bytes(wrapped)[::-1]


def _duplicate(emu: Any, _name: str, argv: list[Any]) -> int:
    key = key_of(emu, argv[0])
    if key is None:
        return 0
    cipher = key.cipher
    if cipher is not None:
        cipher = Cipher(
            name=cipher.name,
            key=cipher.key,
            mode=cipher.mode,
            iv=cipher.iv,
            effective_bits=cipher.effective_bits,
        )
    copy = Key(algorithm=key.algorithm, cipher=cipher, pair=key.pair, exportable=key.exportable)
    return _put_key(emu, argv[3], copy)


def _destroy(emu: Any, _name: str, argv: list[Any]) -> int:
    return 1 if emu.crypto.close(argv[0], Key) else failed(emu, algorithms.BAD_KEY)


APIS = {
    "CryptDeriveKey": Api(words=5, answer=_derive),
    "CryptGenKey": Api(words=4, answer=_generate),
    "CryptGetUserKey": Api(words=3, answer=_user_key),
    "CryptImportKey": Api(words=6, answer=_import),
    "CryptExportKey": Api(words=6, answer=_export),
    "CryptDuplicateKey": Api(words=4, answer=_duplicate),
    "CryptDestroyKey": Api(words=1, answer=_destroy),
}
