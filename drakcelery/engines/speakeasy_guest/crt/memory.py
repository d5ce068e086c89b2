"""Blocks of memory: ``malloc`` and its kin, ``memcpy`` and its kin, C++'s ``new`` and ``delete``."""

from __future__ import annotations

from drakcelery.engines.speakeasy_guest.crt.abi import Answer, Function
from drakcelery.engines.speakeasy_guest.crt.descriptors import EINVAL, ERANGE
from drakcelery.engines.speakeasy_guest.crt.machine import CHUNK, PAGE, from_units
from drakcelery.engines.speakeasy_guest.crt.runtime import Runtime
from drakcelery.engines.speakeasy_guest.crt.strings import compared

ENOMEM = 12


def _allocate(crt: Runtime, size: int) -> int:
    return crt.heap.allocate(size) or crt.fail(ENOMEM, 0)


def _allocate_zeroed(crt: Runtime, count: int, size: int) -> int:
    return crt.heap.zeroed(count * size) or crt.fail(ENOMEM, 0)


def _resize(crt: Runtime, address: int, size: int) -> int:
    if address and not size:
        crt.heap.release(address)
        return 0
    return crt.heap.resize(address, size) or crt.fail(ENOMEM, 0)


def _resize_zeroed(crt: Runtime, address: int, count: int, size: int) -> int:
    old = crt.heap.size_of(address) or 0
    fresh = _resize(crt, address, count * size)
    if fresh and count * size > old:
        crt.machine.fill(fresh + old, b"\0", count * size - old)
    return fresh


def _release(crt: Runtime, address: int, *_size: int) -> int:
    if address:
        crt.heap.release(address)
    return 0


def _size_of(crt: Runtime, address: int) -> int:
    size = crt.heap.size_of(address)
    return crt.fail(EINVAL) if size is None else size


def _aligned(crt: Runtime, size: int, alignment: int, *_offset: int) -> int:
    alignment = min(max(alignment, 16), 1 << 20)
    block = _allocate(crt, size + alignment if alignment > 16 else size)
    if alignment <= 16 or not block:
        return block
    return crt.heap.alias(block, -(-block // alignment) * alignment)


def _aligned_resize(crt: Runtime, address: int, size: int, alignment: int) -> int:
    fresh = _aligned(crt, size, alignment)
    if address and fresh:
        crt.machine.write(fresh, crt.machine.read(address, min(crt.heap.size_of(address) or 0, size)))
        crt.heap.release(address)
    return fresh


def _duplicate(width: int) -> Answer:
    def answer(crt: Runtime, text: int) -> int:
        if not text:
            return 0
        data = crt.machine.string(text, width) + bytes(width)
        fresh = _allocate(crt, len(data))
        if fresh:
            crt.machine.write(fresh, data)
        return fresh

    return answer


# Contents. Counts are in units of *width* bytes.


def _copy(width: int) -> Answer:
    def answer(crt: Runtime, target: int, source: int, count: int) -> int:
        crt.machine.write(target, crt.machine.read(source, count * width))
        return target

    return answer


def _copy_to_end(crt: Runtime, target: int, source: int, count: int) -> int:
    crt.machine.write(target, crt.machine.read(source, count))
    return target + count


def _copy_s(width: int) -> Answer:
    def answer(crt: Runtime, target: int, room: int, source: int, count: int) -> int:
        if not count:
            return 0
        if not target or not source or count > room:
            if target:
                crt.machine.fill(target, b"\0", room * width)
            return crt.fail(ERANGE if target and source else EINVAL, ERANGE if target and source else EINVAL)
        crt.machine.write(target, crt.machine.read(source, count * width))
        return 0

    return answer


def _set(crt: Runtime, target: int, value: int, count: int) -> int:
    crt.machine.fill(target, bytes((value & 0xFF,)), count)
    return target


def _set_wide(crt: Runtime, target: int, value: int, count: int) -> int:
    crt.machine.fill(target, (value & 0xFFFF).to_bytes(2, "little"), count)
    return target


def _compare(crt: Runtime, left: int, right: int, count: int) -> int:
    for start in range(0, count, CHUNK):
        size = min(CHUNK, count - start)
        one, two = crt.machine.read(left + start, size), crt.machine.read(right + start, size)
        if one != two:
            return -1 if one < two else 1
    return 0


def _compare_wide(crt: Runtime, left: int, right: int, count: int) -> int:
    for start in range(0, count * 2, PAGE):
        size = min(PAGE, count * 2 - start)
        one, two = (crt.machine.read(place + start, size) for place in (left, right))
        if one != two:
            return compared(from_units(one, 2), from_units(two, 2))
    return 0


def _compare_caseless(crt: Runtime, left: int, right: int, count: int) -> int:
    one, two = (crt.machine.read(place, count).lower() for place in (left, right))
    return (one > two) - (one < two)


def _find(crt: Runtime, block: int, value: int, count: int) -> int:
    for start in range(0, count, PAGE):
        data = crt.machine.read(block + start, min(PAGE, count - start))
        found = data.find(value & 0xFF)
        if found >= 0:
            return block + start + found
    return 0


def _find_wide(crt: Runtime, block: int, value: int, count: int) -> int:
    for start in range(0, count * 2, PAGE):
        data = crt.machine.read(block + start, min(PAGE, count * 2 - start))
        found = from_units(data, 2).find(chr(value & 0xFFFF))
        if found >= 0:
            return block + start + 2 * found
    return 0


_NEW = Function("p", _allocate)
_DELETE = Function("p", _release)

FUNCTIONS: dict[str, Function] = {
    "malloc": Function("p", _allocate),
    "_malloc_base": Function("p", _allocate),
    "calloc": Function("pp", _allocate_zeroed),
    "_calloc_base": Function("pp", _allocate_zeroed),
    "realloc": Function("pp", _resize),
    "_realloc_base": Function("pp", _resize),
    "_recalloc": Function("ppp", _resize_zeroed),
    "free": Function("p", _release),
    "_free_base": Function("p", _release),
    "_msize": Function("p", _size_of),
    "_expand": Function("pp", lambda _crt, _address, _size: 0),
    "_aligned_malloc": Function("pp", _aligned),
    "_aligned_offset_malloc": Function("ppp", _aligned),
    "_aligned_realloc": Function("ppp", _aligned_resize),
    "_aligned_free": Function("p", _release),
    "_heapmin": Function("", lambda _crt: 0),
    "_heapchk": Function("", lambda _crt: -2),
    "_get_heap_handle": Function("", lambda _crt: 0x10000),
    "_strdup": Function("s", _duplicate(1)),
    "strdup": Function("s", _duplicate(1)),
    "_mbsdup": Function("s", _duplicate(1)),
    "_wcsdup": Function("w", _duplicate(2)),
    "wcsdup": Function("w", _duplicate(2)),
    **dict.fromkeys(("??2@YAPAXI@Z", "??2@YAPEAX_K@Z", "??_U@YAPAXI@Z", "??_U@YAPEAX_K@Z"), _NEW),
    **dict.fromkeys(
        (
            *("??3@YAXPAX@Z", "??3@YAXPEAX@Z", "??_V@YAXPAX@Z", "??_V@YAXPEAX@Z"),
            *("??3@YAXPAXI@Z", "??3@YAXPEAX_K@Z", "??_V@YAXPAXI@Z", "??_V@YAXPEAX_K@Z"),
        ),
        _DELETE,
    ),
    "memcpy": Function("ppp", _copy(1)),
    "memmove": Function("ppp", _copy(1)),
    "wmemcpy": Function("ppp", _copy(2)),
    "wmemmove": Function("ppp", _copy(2)),
    "mempcpy": Function("ppp", _copy_to_end),
    "memcpy_s": Function("pppp", _copy_s(1)),
    "memmove_s": Function("pppp", _copy_s(1)),
    "wmemcpy_s": Function("pppp", _copy_s(2)),
    "wmemmove_s": Function("pppp", _copy_s(2)),
    "memset": Function("pip", _set),
    "wmemset": Function("pip", _set_wide),
    "memcmp": Function("ppp", _compare),
    "wmemcmp": Function("ppp", _compare_wide),
    "_memicmp": Function("ppp", _compare_caseless),
    "memicmp": Function("ppp", _compare_caseless),
    "memchr": Function("pip", _find),
    "wmemchr": Function("pip", _find_wide),
}
"""Functions by name."""
