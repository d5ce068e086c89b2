"""Completion ports, and the results of what was asked for to be done later (all is done at once)."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import Api, free_handle, put
from drakcelery.engines.speakeasy_guest.apis.handles import (
    ERROR_INVALID_HANDLE,
    ERROR_INVALID_PARAMETER,
    ERROR_NO_SYSTEM_RESOURCES,
    failed,
)
from drakcelery.engines.speakeasy_guest.calling.guest_calls import Steps
from drakcelery.engines.speakeasy_guest.scheduling.scheduler import INTERRUPTED

FIRST_HANDLE: Final = 0x9000
MAX_PORTS: Final = 1024
MAX_QUEUED: Final = 65536
WAIT_TIMEOUT, WAIT_IO_COMPLETION = 258, 192
ERROR_ABANDONED_WAIT: Final = 735

Queue = list[tuple[int, int, int]]
"""What was posted: bytes, key and address."""


@dataclass
class Ports:
    """Completion ports by handle."""

    queues: dict[int, Queue] = field(default_factory=dict)

    def add(self, queue: Queue) -> int:
        """A handle of a port, which may have others."""
        handle = free_handle(self.queues, FIRST_HANDLE)
        self.queues[handle] = queue
        return handle

    def is_open(self, queue: Queue) -> bool:
        """Whether there is still a handle of it."""
        return any(one is queue for one in self.queues.values())


def _create(emu: Any, _name: str, argv: list[Any]) -> int:
    existing = argv[1]
    if existing in emu.ports.queues:
        return int(existing)
    if existing:
        return failed(emu, ERROR_INVALID_PARAMETER)
    if len(emu.ports.queues) >= MAX_PORTS:
        return failed(emu, ERROR_NO_SYSTEM_RESOURCES)
    return int(emu.ports.add([]))


def _post(emu: Any, _name: str, argv: list[Any]) -> int:
    queue = emu.ports.queues.get(argv[0])
    if queue is None:
        return failed(emu, ERROR_INVALID_HANDLE)
    if len(queue) >= MAX_QUEUED:
        return failed(emu, ERROR_NO_SYSTEM_RESOURCES)
    queue.append((argv[1] & 0xFFFFFFFF, argv[2], argv[3]))
    return 1


def _get(emu: Any, _name: str, argv: list[Any]) -> Steps:
    port, count, key, overlapped, milliseconds = argv
    queue = emu.ports.queues.get(port)
    if queue is None:
        return failed(emu, ERROR_INVALID_HANDLE)
    size = emu.get_ptr_size()
    ports = emu.ports
    yield from emu.scheduler.wait(lambda: queue or not ports.is_open(queue), milliseconds & 0xFFFFFFFF)
    if not queue:
        put(emu, overlapped, 0, size)
        return failed(emu, WAIT_TIMEOUT if ports.is_open(queue) else ERROR_ABANDONED_WAIT)
    places = ((count, 4), (key, size), (overlapped, size))
    for (place, width), value in zip(places, queue.pop(0), strict=True):
        put(emu, place, value, width)
    return 1


def _get_many(emu: Any, _name: str, argv: list[Any]) -> Steps:
    """``GetQueuedCompletionStatusEx``: as many as there is room for, each an ``OVERLAPPED_ENTRY``."""
    queue, place = emu.ports.queues.get(argv[0]), argv[1]
    if queue is None:
        return failed(emu, ERROR_INVALID_HANDLE)
    if not argv[2] & 0xFFFFFFFF:
        return failed(emu, ERROR_INVALID_PARAMETER)
    ports, scheduler, alertable = emu.ports, emu.scheduler, bool(argv[5] & 0xFFFFFFFF)
    how = yield from scheduler.wait(
        lambda: queue or not ports.is_open(queue), argv[4] & 0xFFFFFFFF, alertable=alertable
    )
    if how == INTERRUPTED:
        yield from scheduler.queued_calls()
        return failed(emu, WAIT_IO_COMPLETION)
    if not queue:
        return failed(emu, WAIT_TIMEOUT if ports.is_open(queue) else ERROR_ABANDONED_WAIT)
    taken = queue[: argv[2] & 0xFFFFFFFF]
    del queue[: len(taken)]
    entry = "<QQQII" if emu.get_ptr_size() == 8 else "<IIII"
    rest = (0,) if emu.get_ptr_size() == 8 else ()
    for number, (count, key, overlapped) in enumerate(taken):
        packed = struct.pack(entry, key, overlapped, 0, count, *rest)
        emu.mem_write(place + number * len(packed), packed)
    put(emu, argv[3], len(taken), 4)
    return 1


def _overlapped_result(emu: Any, _name: str, argv: list[Any]) -> int:
    """How many bytes it were, which is in the structure."""
    size = emu.get_ptr_size()
    put(emu, argv[2], int(emu.read_ptr(argv[1] + size)) & 0xFFFFFFFF, 4)
    return 1


APIS = {
    "CreateIoCompletionPort": Api(words=4, answer=_create),
    "PostQueuedCompletionStatus": Api(words=4, answer=_post),
    "GetQueuedCompletionStatus": Api(words=5, answer=_get),
    "GetQueuedCompletionStatusEx": Api(words=6, answer=_get_many),
    "GetOverlappedResult": Api(words=4, answer=_overlapped_result),
}
