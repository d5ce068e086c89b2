"""``CryptSignHash`` and ``CryptVerifySignature``: RSA over a hash, padded as PKCS #1 has it (version 1.5)."""

from __future__ import annotations

from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import Api, text_argument
from drakcelery.engines.speakeasy_guest.crypto import algorithms
from drakcelery.engines.speakeasy_guest.crypto.hashes import Hash
from drakcelery.engines.speakeasy_guest.crypto.hashing import hash_of
from drakcelery.engines.speakeasy_guest.crypto.keys import key_of
from drakcelery.engines.speakeasy_guest.crypto.objects import Provider, bytes_at, give
from drakcelery.engines.speakeasy_guest.crypto.providers import failed

NO_OID: Final = 0x1
"""``CRYPT_NOHASHOID``: what is signed does not say which hash it is."""

IDENTIFIERS: Final = {
    "MD2": "2a864886f70d0202",
    "MD4": "2a864886f70d0204",
    "MD5": "2a864886f70d0205",
    "SHA1": "2b0e03021a",
    "SHA256": "608648016503040201",
    "SHA384": "608648016503040202",
    "SHA512": "608648016503040203",
}
"""Object identifiers of hashes, as DER has their bytes."""

LEAST_PADDING: Final = 8


def _padded(made: Hash, flags: int, size: int) -> bytes:
    """What RSA is applied to, *size* bytes. Raises ValueError where the key is too short."""
    value = made.finish()
    if not flags & NO_OID:
        name = bytes.fromhex(IDENTIFIERS[made.name])
        algorithm = bytes((6, len(name))) + name + b"\x05\0"
        algorithm = bytes((0x30, len(algorithm))) + algorithm + bytes((4, len(value)))
        value = bytes((0x30, len(algorithm) + len(value))) + algorithm + value
    padding = size - len(value) - 3
    if padding < LEAST_PADDING:
        raise ValueError("the key is too short for the hash")
    return b"\0\x01" + b"\xff" * padding + b"\0" + value


def _sign(emu: Any, name: str, argv: list[Any]) -> int:
    made = hash_of(emu, argv[0])
    text_argument(emu, name, argv, 2)
    if made is None:
        return 0
    wanted = algorithms.PAIRS.get(argv[1] & 0xFFFFFFFF, 0)
    provider = emu.crypto.get(made.provider, Provider)
    key = provider.pairs.get(wanted) if provider is not None else None
    if key is None or not key.pair.has_private():
        return failed(emu, algorithms.NO_KEY)
    size = key.pair.size_in_bytes()
    if not argv[4]:
        return int(give(emu, bytes(size), 0, argv[5]))
    try:
        message = int.from_bytes(_padded(made, argv[3], size), "big")
    except ValueError:
        return failed(emu, algorithms.BAD_LEN)
    signed = pow(message, int(key.pair.d), int(key.pair.n))
    return int(give(emu, signed.to_bytes(size, "little"), argv[4], argv[5]))


def _verify(emu: Any, name: str, argv: list[Any]) -> int:
    made, key = hash_of(emu, argv[0]), None
    text_argument(emu, name, argv, 4)
    if made is not None:
        key = key_of(emu, argv[3])
    if made is None or key is None:
        return 0
    if key.pair is None:
        return failed(emu, algorithms.BAD_KEY)
    size = key.pair.size_in_bytes()
    signed = int.from_bytes(bytes_at(emu, argv[1], argv[2]), "little")
    if argv[2] & 0xFFFFFFFF != size or signed >= int(key.pair.n):
        return failed(emu, algorithms.BAD_SIGNATURE)
    found = pow(signed, int(key.pair.e), int(key.pair.n)).to_bytes(size, "big")
    try:
        good = found == _padded(made, argv[5], size)
    except ValueError:
        good = False
    return 1 if good else failed(emu, algorithms.BAD_SIGNATURE)


APIS = {
    "CryptSignHash": Api(words=6, answer=_sign),
    "CryptVerifySignature": Api(words=6, answer=_verify),
}
