"""Handles of any kind: closed, duplicated, of objects that others have named; jobs."""

from __future__ import annotations

from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import Api, constant, text_argument
from drakcelery.engines.speakeasy_guest.apis.console import is_console
from drakcelery.engines.speakeasy_guest.apis.handles import (
    ERROR_FILE_NOT_FOUND,
    ERROR_INVALID_HANDLE,
    failed,
)

LOW: Final = 0xFFFFFFFF
CURRENT_PROCESS, CURRENT_THREAD = 0xFFFFFFFF, 0xFFFFFFFE
CLOSE_SOURCE: Final = 0x1
"""``DUPLICATE_CLOSE_SOURCE``."""


def _close(emu: Any, _name: str, argv: list[Any]) -> int:
    handle = argv[0]
    if emu.disk.opened(handle) is not None:
        emu.disk.close(handle)
        return 1
    if handle & LOW in (CURRENT_PROCESS, CURRENT_THREAD) or is_console(emu, handle):
        return 1
    if emu.snapshots.pop(handle, None) or emu.sections.close(handle):
        return 1
    if emu.ports.queues.pop(handle, None) is not None:
        return 1
    return int(emu.original("kernel32", "CloseHandle", argv) or 0) or failed(emu, ERROR_INVALID_HANDLE)


def _duplicate(emu: Any, _name: str, argv: list[Any]) -> int:
    """``DuplicateHandle``: another handle; of what handles have no count of, the same one."""
    handle, place, options = argv[1], argv[3], argv[6]
    fresh = _another(emu, handle)
    if not fresh:
        return failed(emu, ERROR_INVALID_HANDLE)
    if options & CLOSE_SOURCE and fresh != handle:
        _close(emu, "CloseHandle", [handle])
    if place:
        emu.write_ptr(place, fresh)
    return 1


def _another(emu: Any, handle: int) -> int:
    """Another handle of what one is of; 0 for one that is of nothing."""
    opened = emu.disk.opened(handle)
    if opened is not None:
        return int(emu.disk.add(opened))
    if is_console(emu, handle):
        return handle
    if handle in emu.sections.handles:
        return int(emu.sections.add(emu.sections.handles[handle]))
    if handle in emu.ports.queues:
        return int(emu.ports.add(emu.ports.queues[handle]))
    current = {CURRENT_PROCESS: emu.curr_process, CURRENT_THREAD: emu.curr_thread}.get(handle & LOW)
    found = current or emu.get_object_from_handle(handle)
    if not hasattr(found, "ref_cnt"):
        return handle if found is not None else 0
    return counted(emu, found)


def counted(emu: Any, found: Any) -> int:
    """A handle more of one of Speakeasy's objects, which is gone when all are closed."""
    found.ref_cnt = max(found.ref_cnt, 1) + 1
    return int(emu.om.get_handle(found))


def _open_named(emu: Any, name: str, argv: list[Any]) -> int:
    """``OpenMutex`` and its kin."""
    text = text_argument(emu, name, argv, 2)
    found = emu.get_object_from_name(text) if text else None
    if found is None:
        return failed(emu, ERROR_FILE_NOT_FOUND)
    return counted(emu, found)


def _create_job(emu: Any, name: str, argv: list[Any]) -> int:
    handle, _ = emu.create_event(text_argument(emu, name, argv, 1))
    return int(handle)


APIS = {
    "WSACloseEvent": Api(words=1, answer=_close),
    "CloseHandle": Api(words=1, answer=_close),
    "DuplicateHandle": Api(words=7, answer=_duplicate),
    **{
        f"Open{kind}": Api(words=3, answer=_open_named)
        for kind in ("Mutex", "Event", "Semaphore", "WaitableTimer")
    },
    "CreateJobObject": Api(words=2, answer=_create_job),
    "SetInformationJobObject": Api(words=4, answer=constant(1)),
    "AssignProcessToJobObject": Api(words=2, answer=constant(1)),
}
