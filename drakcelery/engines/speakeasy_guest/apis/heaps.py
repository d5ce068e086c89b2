"""Heaps: ``HeapAlloc``, ``LocalAlloc`` and ``GlobalAlloc`` take from that of the process, as ``malloc`` does.

A block that is moveable is its own handle: it stays where it is.
"""

from __future__ import annotations

from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import Answer, Api, constant, put
from drakcelery.engines.speakeasy_guest.crt.heap import Heap
from drakcelery.engines.speakeasy_guest.machine import memory

NOT_ENOUGH_MEMORY, INVALID_HANDLE, INVALID_PARAMETER, NO_MORE_ITEMS = 8, 6, 87, 259
"""``ERROR_…``"""

ZERO_MEMORY, IN_PLACE_ONLY = 0x8, 0x10
"""Flags of ``HeapAlloc`` and ``HeapReAlloc``."""

ZEROINIT, MODIFY = 0x40, 0x80
"""Flags of ``LocalAlloc`` and ``LocalReAlloc``, and of ``Global…``."""

LOW_FRAGMENTATION: Final = 2


def _heap(emu: Any) -> Heap:
    heap: Heap = emu.runtime.heap
    return heap


def _failed(emu: Any, code: int, value: int = 0) -> int:
    emu.set_last_error(code)
    return value


def _allocated(emu: Any, size: int, *, zeroed: bool) -> int:
    heap = _heap(emu)
    return (heap.zeroed(size) if zeroed else heap.allocate(size)) or _failed(emu, NOT_ENOUGH_MEMORY)


def _alloc(emu: Any, _name: str, argv: list[Any]) -> int:
    address = _allocated(emu, argv[2], zeroed=bool(argv[1] & ZERO_MEMORY))
    _heap(emu).own(argv[0], address)
    return address


def _alloc_local(emu: Any, _name: str, argv: list[Any]) -> int:
    return _allocated(emu, argv[1], zeroed=bool(argv[0] & ZEROINIT))


def _resized(emu: Any, address: int, size: int, *, zeroed: bool, in_place: bool = False) -> int:
    heap = _heap(emu)
    old = heap.size_of(address)
    if old is None:
        return _failed(emu, INVALID_PARAMETER)
    fresh = heap.resize(address, size, in_place=in_place)
    if fresh and zeroed and size > old:
        emu.mem_write(fresh + old, bytes(size - old))
    return fresh or _failed(emu, NOT_ENOUGH_MEMORY)


def _realloc(emu: Any, _name: str, argv: list[Any]) -> int:
    handle, flags, address, size = argv
    fresh = _resized(
        emu, address, size, zeroed=bool(flags & ZERO_MEMORY), in_place=bool(flags & IN_PLACE_ONLY)
    )
    if fresh:
        _heap(emu).disown(handle, address)
        _heap(emu).own(handle, fresh)
    return fresh


def _realloc_local(emu: Any, _name: str, argv: list[Any]) -> int:
    address, size, flags = argv
    if flags & MODIFY:
        return int(address)
    return _resized(emu, address, size, zeroed=bool(flags & ZEROINIT))


def _freed(emu: Any, address: int) -> bool:
    """Free a block of the heap, or what a function of Speakeasy's gave to the program."""
    if _heap(emu).release(address):
        return True
    if not memory.is_heap_block(emu, address):
        return False
    emu.mem_free(address)
    return True


def _free(emu: Any, _name: str, argv: list[Any]) -> int:
    _heap(emu).disown(argv[0], argv[2])
    return 1 if not argv[2] or _freed(emu, argv[2]) else _failed(emu, INVALID_PARAMETER)


def _free_local(emu: Any, _name: str, argv: list[Any]) -> int:
    address = int(argv[0])
    return 0 if not address or _freed(emu, address) else _failed(emu, INVALID_HANDLE, address)


def _give_back(emu: Any, _name: str, argv: list[Any]) -> int:
    """What Windows allocated for the program, such as a list of addresses."""
    _freed(emu, argv[0])
    return 0


def _size(number: int, code: int, unknown: int) -> Answer:
    """The size of the block that argument *number* is; for what is none, an error and *unknown*."""

    def answer(emu: Any, _name: str, argv: list[Any]) -> int:
        size = _heap(emu).size_of(argv[number])
        if size is None:
            return _failed(emu, code, unknown & ((1 << (8 * emu.get_ptr_size())) - 1))
        return size

    return answer


def _validate(emu: Any, _name: str, argv: list[Any]) -> int:
    return int(not argv[2] or _heap(emu).size_of(argv[2]) is not None)


def _create(emu: Any, _name: str, _argv: list[Any]) -> int:
    return _heap(emu).make() or _failed(emu, NOT_ENOUGH_MEMORY)


def _destroy(emu: Any, _name: str, argv: list[Any]) -> int:
    return 1 if _heap(emu).destroy(argv[0]) else _failed(emu, INVALID_HANDLE)


def _rtl_destroy(emu: Any, _name: str, argv: list[Any]) -> int:
    return 0 if _heap(emu).destroy(argv[0]) else int(argv[0])


def _query(emu: Any, _name: str, argv: list[Any]) -> int:
    put(emu, argv[2] if argv[3] >= 4 else 0, LOW_FRAGMENTATION, 4)
    put(emu, argv[4], 4, emu.get_ptr_size())
    return 1


def _walk(emu: Any, _name: str, _argv: list[Any]) -> int:
    return _failed(emu, NO_MORE_ITEMS)


_ALLOC, _REALLOC, _FREE = (
    Api(words=3, answer=_alloc),
    Api(words=4, answer=_realloc),
    Api(words=3, answer=_free),
)
_SIZE, _VALIDATE = Api(words=3, answer=_size(2, INVALID_PARAMETER, -1)), Api(words=3, answer=_validate)
_SIZE_LOCAL = Api(words=1, answer=_size(0, INVALID_HANDLE, 0))
_ALLOC_LOCAL, _REALLOC_LOCAL = Api(words=2, answer=_alloc_local), Api(words=3, answer=_realloc_local)
_FREE_LOCAL, _YES = Api(words=1, answer=_free_local), constant(1)

APIS = {
    **{
        name: Api(words=1, answer=_give_back)
        for name in ("FreeSid", "WTSFreeMemory", "freeaddrinfo", "FreeAddrInfoW", "FreeAddrInfo")
    },
    "HeapAlloc": _ALLOC,
    "RtlAllocateHeap": _ALLOC,
    "HeapReAlloc": _REALLOC,
    "RtlReAllocateHeap": _REALLOC,
    "HeapFree": _FREE,
    "RtlFreeHeap": _FREE,
    "HeapSize": _SIZE,
    "RtlSizeHeap": _SIZE,
    "HeapValidate": _VALIDATE,
    "RtlValidateHeap": _VALIDATE,
    "HeapCreate": Api(words=3, answer=_create),
    "RtlCreateHeap": Api(words=6, answer=_create),
    "HeapDestroy": Api(words=1, answer=_destroy),
    "RtlDestroyHeap": Api(words=1, answer=_rtl_destroy),
    "HeapCompact": Api(words=2, answer=constant(0x10000)),
    "HeapLock": Api(words=1, answer=_YES),
    "HeapUnlock": Api(words=1, answer=_YES),
    "HeapSetInformation": Api(words=4, answer=_YES),
    "HeapQueryInformation": Api(words=5, answer=_query),
    "HeapWalk": Api(words=2, answer=_walk),
    "LocalAlloc": _ALLOC_LOCAL,
    "GlobalAlloc": _ALLOC_LOCAL,
    "LocalReAlloc": _REALLOC_LOCAL,
    "GlobalReAlloc": _REALLOC_LOCAL,
    "LocalFree": _FREE_LOCAL,
    "GlobalFree": _FREE_LOCAL,
    "LocalSize": _SIZE_LOCAL,
    "GlobalSize": _SIZE_LOCAL,
    "LocalFlags": Api(words=1, answer=constant(0)),
    "GlobalFlags": Api(words=1, answer=constant(0)),
}
