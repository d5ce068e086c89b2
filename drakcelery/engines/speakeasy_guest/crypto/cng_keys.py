"""CNG's keys: made, imported, exported, and what they encrypt (bcrypt.dll)."""

from __future__ import annotations

from typing import Any, Final

from Crypto.Cipher import PKCS1_OAEP, PKCS1_v1_5

from drakcelery.engines.speakeasy_guest.apis.api import Api, put
from drakcelery.engines.speakeasy_guest.crypto import ciphers, hashes, rsa
from drakcelery.engines.speakeasy_guest.crypto.ciphers import BadLength, BadPadding, Cipher
from drakcelery.engines.speakeasy_guest.crypto.cng import (
    BUFFER_TOO_SMALL,
    INVALID_HANDLE,
    INVALID_PARAMETER,
    NOT_SUPPORTED,
    SUCCESS,
    Algorithm,
    CngKey,
    algorithm_of,
    give_status,
    name_at,
)
from drakcelery.engines.speakeasy_guest.crypto.objects import bytes_at, number_at

INVALID_BUFFER_SIZE, DATA_ERROR, AUTH_TAG_MISMATCH = 0xC0000206, 0xC000003E, 0xC000A002
"""``STATUS_…``"""

BLOCK_PADDING, PAD_PKCS1, PAD_OAEP = 1, 2, 4
KEY_DATA, OPAQUE = "KeyDataBlob", "OpaqueKeyBlob"
PRIVATE_BLOBS: Final = ("RSAPRIVATEBLOB", "RSAFULLPRIVATEBLOB", "PRIVATEBLOB")
CAPI_BLOBS: Final = {"CAPIPUBLICBLOB": rsa.PUBLIC, "CAPIPRIVATEBLOB": rsa.PRIVATE}
AUTHENTICATED: Final = (ciphers.GCM, ciphers.CCM)
CHAIN_CALLS: Final = 1


def _put_key(emu: Any, place: int, key: CngKey) -> int:
    put(emu, place, emu.crypto.add(key), emu.get_ptr_size())
    return SUCCESS


def _symmetric(algorithm: Algorithm, material: bytes) -> CngKey | None:
    if algorithm.name not in ciphers.BLOCKS:
        return None
    try:
        cipher = Cipher(name=algorithm.name, key=material)
    except ValueError:
        return None
    return CngKey(name=algorithm.name, cipher=cipher, mode=algorithm.mode)


def _generate(emu: Any, _name: str, argv: list[Any]) -> int:
    algorithm = algorithm_of(emu, argv[0])
    if algorithm is None:
        return INVALID_HANDLE
    key = _symmetric(algorithm, bytes_at(emu, argv[4], argv[5]))
    return INVALID_PARAMETER if key is None else _put_key(emu, argv[1], key)


def _import(emu: Any, _name: str, argv: list[Any]) -> int:
    algorithm, kind = algorithm_of(emu, argv[0]), name_at(emu, argv, 2)
    if algorithm is None:
        return INVALID_HANDLE
    blob = bytes_at(emu, argv[6], argv[7])
    if kind not in (KEY_DATA, OPAQUE) or argv[1]:
        return NOT_SUPPORTED
    size = int.from_bytes(blob[8:12], "little")
    if blob[:4] != b"KDBM" or len(blob) < 12 + size:
        return INVALID_PARAMETER
    key = _symmetric(algorithm, blob[12 : 12 + size])
    return INVALID_PARAMETER if key is None else _put_key(emu, argv[3], key)


def _generate_pair(emu: Any, _name: str, argv: list[Any]) -> int:
    algorithm = algorithm_of(emu, argv[0])
    if algorithm is None or algorithm.name != "RSA":
        return INVALID_HANDLE if algorithm is None else NOT_SUPPORTED
    try:
        pair = rsa.generate(argv[2] & 0xFFFFFFFF, emu.crypto.random)
    except ValueError:
        return INVALID_PARAMETER
    return _put_key(emu, argv[1], CngKey(name="RSA", pair=pair))


def _finalize(emu: Any, _name: str, argv: list[Any]) -> int:
    return SUCCESS if emu.crypto.get(argv[0], CngKey) else INVALID_HANDLE


def _import_pair(emu: Any, _name: str, argv: list[Any]) -> int:
    algorithm, kind = algorithm_of(emu, argv[0]), name_at(emu, argv, 2)
    if algorithm is None or algorithm.name != "RSA":
        return INVALID_HANDLE if algorithm is None else NOT_SUPPORTED
    blob = bytes_at(emu, argv[4], argv[5])
    try:
        pair = rsa.read(blob) if kind in CAPI_BLOBS else rsa.read_cng(blob)
    except ValueError:
        return INVALID_PARAMETER
    return _put_key(emu, argv[3], CngKey(name="RSA", pair=pair))


def _export(emu: Any, _name: str, argv: list[Any]) -> int:
    key, kind = emu.crypto.get(argv[0], CngKey), name_at(emu, argv, 2)
    if key is None:
        return INVALID_HANDLE
    if key.cipher is not None:
        if kind not in (KEY_DATA, OPAQUE):
            return NOT_SUPPORTED
        return give_status(emu, ciphers.key_blob(key.cipher.key), *argv[3:6])
    private = kind in PRIVATE_BLOBS or CAPI_BLOBS.get(kind) == rsa.PRIVATE
    if (private and not key.pair.has_private()) or kind == "RSAFULLPRIVATEBLOB":
        return NOT_SUPPORTED
    if kind in CAPI_BLOBS:
        return give_status(emu, rsa.export(key.pair, CAPI_BLOBS[kind], 0xA400), *argv[3:6])
    return give_status(emu, rsa.export_cng(key.pair, private=private), *argv[3:6])


def _duplicate(emu: Any, _name: str, argv: list[Any]) -> int:
    key = emu.crypto.get(argv[0], CngKey)
    if key is None:
        return INVALID_HANDLE
    cipher = Cipher(name=key.name, key=key.cipher.key, iv=key.cipher.iv) if key.cipher else None
    return _put_key(emu, argv[1], CngKey(name=key.name, cipher=cipher, pair=key.pair, mode=key.mode))


def _destroy(emu: Any, _name: str, argv: list[Any]) -> int:
    return SUCCESS if emu.crypto.close(argv[0], CngKey) else INVALID_HANDLE


def _transform(emu: Any, name: str, argv: list[Any]) -> int:
    """``BCryptEncrypt`` and ``BCryptDecrypt``."""
    key = emu.crypto.get(argv[0], CngKey)
    if key is None:
        return INVALID_HANDLE
    encrypting, flags = name == "BCryptEncrypt", argv[9]
    data = bytes_at(emu, argv[1], argv[2]) if argv[1] else b""
    if key.cipher is None:
        return _asymmetric(emu, key, data, argv, encrypting=encrypting)
    if key.mode in AUTHENTICATED:
        return _with_tag(emu, key.cipher.key, key.mode, data, argv, encrypting=encrypting)
    cipher = key.cipher
    cipher.mode = key.mode
    padded = bool(flags & BLOCK_PADDING)
    if len(data) % cipher.block and not (padded and encrypting):
        return INVALID_BUFFER_SIZE
    length = len(data) + cipher.block - len(data) % cipher.block if padded and encrypting else len(data)
    if not argv[6] or (encrypting and length > argv[7] & 0xFFFFFFFF):
        put(emu, argv[8], length, 4)
        return BUFFER_TOO_SMALL if argv[6] else SUCCESS
    return _in_blocks(emu, cipher, data, argv, encrypting=encrypting, padded=padded)


def _in_blocks(
    emu: Any, cipher: Cipher, data: bytes, argv: list[Any], *, encrypting: bool, padded: bool
) -> int:
    if argv[4] and cipher.block > 1:
        cipher.iv = bytes_at(emu, argv[4], cipher.block)
    if cipher.block > 1:
        cipher.begin_again()
    change = cipher.encrypt if encrypting else cipher.decrypt
    try:
        result = change(data, padded=padded)
    except (BadPadding, BadLength):
        return DATA_ERROR
    if argv[4] and cipher.block > 1 and cipher.mode != ciphers.ECB:
        last = (result if encrypting else data)[-cipher.block :]
        if len(last) == cipher.block:
            emu.mem_write(argv[4], last)
    return give_status(emu, result, *argv[6:9])


def _with_tag(emu: Any, key: bytes, mode: str, data: bytes, argv: list[Any], *, encrypting: bool) -> int:
    """GCM and CCM: ``BCRYPT_AUTHENTICATED_CIPHER_MODE_INFO`` has the nonce, and takes or has the tag."""
    if not argv[6]:
        return give_status(emu, data, 0, 0, argv[8])
    if len(data) > argv[7] & 0xFFFFFFFF:
        return BUFFER_TOO_SMALL
    info, size = argv[3], emu.get_ptr_size()
    if not info:
        return INVALID_PARAMETER
    parts = [
        (emu.read_ptr(at), number_at(emu, at + size)) for at in range(info + 8, info + 8 + 6 * size, 2 * size)
    ]
    (nonce, nonce_size), (more, more_size), (tag, tag_size) = parts
    if number_at(emu, info + (56 if size == 4 else 80)) & CHAIN_CALLS:
        return NOT_SUPPORTED
    try:
        engine = ciphers.authenticated(
            key, mode, bytes_at(emu, nonce, nonce_size), bytes_at(emu, more, more_size), tag_size
        )
    except ValueError:
        return INVALID_PARAMETER
    if encrypting:
        result, made = engine.encrypt_and_digest(data)
        emu.mem_write(tag, made)
    else:
        try:
            result = engine.decrypt_and_verify(data, bytes_at(emu, tag, tag_size))
        except ValueError:
            return AUTH_TAG_MISMATCH
    return give_status(emu, bytes(result), *argv[6:9])


def _asymmetric(emu: Any, key: CngKey, data: bytes, argv: list[Any], *, encrypting: bool) -> int:
    size, flags = key.pair.size_in_bytes(), argv[9]
    if not argv[6]:
        return give_status(emu, bytes(size), 0, 0, argv[8])
    try:
        scheme = _scheme(emu, key, argv[3], flags)
        if scheme is None:
            return NOT_SUPPORTED
        if encrypting:
            return give_status(emu, bytes(scheme.encrypt(data)), *argv[6:9])
        plain = scheme.decrypt(data) if flags & PAD_OAEP else scheme.decrypt(data, None)
    except (ValueError, TypeError):
        return INVALID_PARAMETER
    return DATA_ERROR if plain is None else give_status(emu, bytes(plain), *argv[6:9])


def _scheme(emu: Any, key: CngKey, info: int, flags: int) -> Any:
    if flags & PAD_PKCS1:
        return PKCS1_v1_5.new(key.pair, randfunc=emu.crypto.random)
    if not flags & PAD_OAEP or not info:
        return None
    size = emu.get_ptr_size()
    name = emu.read_mem_string(emu.read_ptr(info), 2).upper()
    if name not in hashes.BLOCKS:
        raise ValueError(name)
    label = bytes_at(emu, emu.read_ptr(info + size), number_at(emu, info + 2 * size))
    return PKCS1_OAEP.new(
        key.pair, hashAlgo=hashes.for_padding(name), label=label, randfunc=emu.crypto.random
    )


APIS = {
    "BCryptGenerateSymmetricKey": Api(words=7, answer=_generate),
    "BCryptImportKey": Api(words=9, answer=_import),
    "BCryptGenerateKeyPair": Api(words=4, answer=_generate_pair),
    "BCryptFinalizeKeyPair": Api(words=2, answer=_finalize),
    "BCryptImportKeyPair": Api(words=7, answer=_import_pair),
    "BCryptExportKey": Api(words=7, answer=_export),
    "BCryptDuplicateKey": Api(words=5, answer=_duplicate),
    "BCryptDestroyKey": Api(words=1, answer=_destroy),
    "BCryptEncrypt": Api(words=10, answer=_transform),
    "BCryptDecrypt": Api(words=10, answer=_transform),
}
