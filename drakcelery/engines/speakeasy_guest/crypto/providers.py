"""CryptoAPI's providers, and random numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import Api, put, text_argument
from drakcelery.engines.speakeasy_guest.crypto import algorithms
from drakcelery.engines.speakeasy_guest.crypto.objects import MAX_SIZE, Provider, give
from drakcelery.engines.speakeasy_guest.machine.ansi import ANSI

VERIFYCONTEXT, NEWKEYSET, DELETEKEYSET = 0xF0000000, 0x8, 0x10
"""Flags of ``CryptAcquireContext``: without keys of its own; make a container for them; remove it."""

ERROR_INVALID_PARAMETER: Final = 87
NO_MORE_ITEMS: Final = 259
PP_ENUMALGS, PP_IMPTYPE, PP_NAME, PP_VERSION, PP_CONTAINER = 1, 3, 4, 5, 6
PP_PROVTYPE, PP_UNIQUE_CONTAINER, SOFTWARE = 16, 36, 2

Answer = Callable[[Any, str, list[Any]], int]


def failed(emu: Any, code: int) -> int:
    """FALSE, and why."""
    emu.set_last_error(code)
    return 0


def provider_of(emu: Any, handle: int) -> Provider | None:
    """The provider behind a handle; without one, the last error says so."""
    provider: Provider | None = emu.crypto.get(handle, Provider)
    if provider is None:
        failed(emu, algorithms.BAD_UID)
    return provider


def _acquire(emu: Any, name: str, argv: list[Any]) -> int:
    kind, flags = argv[3] & 0xFFFFFFFF, argv[4] & 0xFFFFFFFF
    container, wanted = text_argument(emu, name, argv, 1), text_argument(emu, name, argv, 2)
    names = algorithms.PROVIDERS.get(kind)
    if names is None:
        return failed(emu, algorithms.BAD_PROV_TYPE)
    known = next((one for one in names if one.lower() == (wanted or names[0]).lower()), None)
    if known is None:
        return failed(emu, algorithms.NOT_DEFINED)
    pairs: dict[int, Any] = {}
    if flags & VERIFYCONTEXT != VERIFYCONTEXT:
        containers, found = emu.crypto.containers, container.lower()
        if flags & DELETEKEYSET:
            return 1 if containers.pop(found, None) is not None else failed(emu, algorithms.BAD_KEYSET)
        if flags & NEWKEYSET:
            if container and found in containers:
                return failed(emu, algorithms.EXISTS)
            containers[found] = {}
        elif found not in containers:
            return failed(emu, algorithms.BAD_KEYSET)
        pairs = containers[found]
    provider = Provider(kind=kind, name=known, container=container, pairs=pairs)
    put(emu, argv[0], emu.crypto.add(provider), emu.get_ptr_size())
    return 1


def _release(emu: Any, _name: str, argv: list[Any]) -> int:
    return 1 if emu.crypto.close(argv[0], Provider) else failed(emu, algorithms.BAD_UID)


def _known(emu: Any, _name: str, argv: list[Any]) -> int:
    """``CryptContextAddRef`` and ``CryptSetProvParam``."""
    return int(provider_of(emu, argv[0]) is not None)


def _parameter(emu: Any, _name: str, argv: list[Any]) -> int:
    provider = provider_of(emu, argv[0])
    if provider is None:
        return 0
    texts = {
        PP_NAME: provider.name,
        PP_CONTAINER: provider.container or "user",
        PP_UNIQUE_CONTAINER: provider.container or "user",
    }
    numbers = {PP_VERSION: 0x200, PP_PROVTYPE: provider.kind, PP_IMPTYPE: SOFTWARE}
    wanted = argv[1] & 0xFFFFFFFF
    if wanted in texts:
        return int(give(emu, f"{texts[wanted]}\0".encode(ANSI, "replace"), argv[2], argv[3]))
    if wanted in numbers:
        return int(give(emu, numbers[wanted].to_bytes(4, "little"), argv[2], argv[3]))
    return failed(emu, NO_MORE_ITEMS if wanted == PP_ENUMALGS else algorithms.BAD_TYPE)


def _default(emu: Any, name: str, argv: list[Any]) -> int:
    """``CryptGetDefaultProvider``."""
    names = algorithms.PROVIDERS.get(argv[0] & 0xFFFFFFFF)
    if names is None:
        return failed(emu, algorithms.BAD_PROV_TYPE)
    text = f"{names[0]}\0".encode("utf-16-le" if name.endswith("W") else ANSI)
    return int(give(emu, text, argv[3], argv[4]))


def _gen_random(emu: Any, _name: str, argv: list[Any]) -> int:
    return _fill(emu, argv[2], argv[1]) if provider_of(emu, argv[0]) else 0


def _fill(emu: Any, place: int, size: int) -> int:
    size &= 0xFFFFFFFF
    if size > MAX_SIZE:
        return failed(emu, ERROR_INVALID_PARAMETER)
    if size:
        emu.mem_write(place, emu.crypto.random(size))
    return 1


def _random(buffer: int, size: int, good: int) -> Answer:
    """A function that fills a buffer: numbers of its arguments, and what it says then."""

    def answer(emu: Any, _name: str, argv: list[Any]) -> int:
        _fill(emu, argv[buffer], argv[size])
        return good

    return answer


APIS = {
    "CryptAcquireContext": Api(words=5, answer=_acquire),
    "CryptReleaseContext": Api(words=2, answer=_release),
    "CryptContextAddRef": Api(words=3, answer=_known),
    "CryptSetProvParam": Api(words=4, answer=_known),
    "CryptGetProvParam": Api(words=5, answer=_parameter),
    "CryptGetDefaultProvider": Api(words=5, answer=_default),
    "CryptGenRandom": Api(words=3, answer=_gen_random),
    "BCryptGenRandom": Api(words=4, answer=_random(1, 2, 0)),
    "ProcessPrng": Api(words=2, answer=_random(0, 1, 1)),
    "SystemFunction036": Api(words=2, answer=_random(0, 1, 1)),
}
