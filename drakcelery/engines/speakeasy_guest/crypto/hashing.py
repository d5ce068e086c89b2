"""CryptoAPI's hashes."""

from __future__ import annotations

from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import Api, put
from drakcelery.engines.speakeasy_guest.crypto import algorithms, hashes
from drakcelery.engines.speakeasy_guest.crypto.hashes import Hash
from drakcelery.engines.speakeasy_guest.crypto.objects import Key, bytes_at, give, number_at
from drakcelery.engines.speakeasy_guest.crypto.providers import failed, provider_of

HP_ALGID, HP_HASHVAL, HP_HASHSIZE, HP_HMAC_INFO = 1, 2, 4, 5
NUMBERS: Final = {name: number for number, name in algorithms.HASHES.items()}


def hash_of(emu: Any, handle: int) -> Hash | None:
    """The hash behind a handle; without one, the last error says so."""
    found: Hash | None = emu.crypto.get(handle, Hash)
    if found is None:
        failed(emu, algorithms.BAD_HASH)
    return found


def _create(emu: Any, _name: str, argv: list[Any]) -> int:
    provider, algorithm = provider_of(emu, argv[0]), argv[1] & 0xFFFFFFFF
    if provider is None:
        return 0
    key = None
    if algorithm == algorithms.HMAC:
        found = emu.crypto.get(argv[2], Key)
        if found is None or found.cipher is None:
            return failed(emu, algorithms.BAD_KEY)
        key = found.cipher.key
    elif algorithm not in algorithms.HASHES or not algorithms.has(provider.kind, algorithm):
        return failed(emu, algorithms.BAD_ALGID)
    made = Hash(algorithms.HASHES.get(algorithm, "SHA1"), key, argv[0])
    put(emu, argv[4], emu.crypto.add(made), emu.get_ptr_size())
    return 1


def _data(emu: Any, _name: str, argv: list[Any]) -> int:
    made = hash_of(emu, argv[0])
    return 0 if made is None else _fed(emu, made, bytes_at(emu, argv[1], argv[2]))


def _session_key(emu: Any, _name: str, argv: list[Any]) -> int:
    made, key = hash_of(emu, argv[0]), emu.crypto.get(argv[1], Key)
    if made is None:
        return 0
    if key is None or key.cipher is None:
        return failed(emu, algorithms.BAD_KEY)
    return _fed(emu, made, key.cipher.key)


def _fed(emu: Any, made: Hash, data: bytes) -> int:
    if made.value is not None:
        return failed(emu, algorithms.BAD_HASH_STATE)
    made.update(data)
    return 1


def _get_parameter(emu: Any, _name: str, argv: list[Any]) -> int:
    made, wanted = hash_of(emu, argv[0]), argv[1] & 0xFFFFFFFF
    if made is None:
        return 0
    if wanted == HP_HASHVAL:
        if not argv[2]:
            return int(give(emu, bytes(hashes.size(made.name)), 0, argv[3]))
        if number_at(emu, argv[3]) < hashes.size(made.name):  # it is not finished by that
            return int(give(emu, bytes(hashes.size(made.name)), argv[2], argv[3]))
        return int(give(emu, made.finish(), argv[2], argv[3]))
    algorithm = algorithms.HMAC if made.key is not None else NUMBERS[made.name]
    numbers = {HP_ALGID: algorithm, HP_HASHSIZE: hashes.size(made.name)}
    if wanted not in numbers:
        return failed(emu, algorithms.BAD_TYPE)
    return int(give(emu, numbers[wanted].to_bytes(4, "little"), argv[2], argv[3]))


def _set_parameter(emu: Any, _name: str, argv: list[Any]) -> int:
    made, kind = hash_of(emu, argv[0]), argv[1] & 0xFFFFFFFF
    if made is None:
        return 0
    if kind == HP_HASHVAL:
        made.value = bytes_at(emu, argv[2], hashes.size(made.name))
        return 1
    name = algorithms.HASHES.get(number_at(emu, argv[2]))
    if kind != HP_HMAC_INFO or name is None or made.key is None:
        return failed(emu, algorithms.BAD_TYPE if kind != HP_HMAC_INFO else algorithms.BAD_ALGID)
    made.name = name
    made.begin_again()
    return 1


def _duplicate(emu: Any, _name: str, argv: list[Any]) -> int:
    made = hash_of(emu, argv[0])
    if made is None:
        return 0
    put(emu, argv[3], emu.crypto.add(made.copy()), emu.get_ptr_size())
    return 1


def _destroy(emu: Any, _name: str, argv: list[Any]) -> int:
    return 1 if emu.crypto.close(argv[0], Hash) else failed(emu, algorithms.BAD_HASH)


APIS = {
    "CryptCreateHash": Api(words=5, answer=_create),
    "CryptHashData": Api(words=4, answer=_data),
    "CryptHashSessionKey": Api(words=3, answer=_session_key),
    "CryptGetHashParam": Api(words=5, answer=_get_parameter),
    "CryptSetHashParam": Api(words=4, answer=_set_parameter),
    "CryptDuplicateHash": Api(words=4, answer=_duplicate),
    "CryptDestroyHash": Api(words=1, answer=_destroy),
}
