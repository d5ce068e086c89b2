"""Pipes with a name and without, by which threads talk, and programs read what those they start print."""

from __future__ import annotations

from typing import Any, Final

from speakeasy.windows.fileman import File

from drakcelery.engines.speakeasy_guest.apis.api import Api, put, text_argument
from drakcelery.engines.speakeasy_guest.apis.handles import (
    ERROR_BROKEN_PIPE,
    ERROR_FILE_NOT_FOUND,
    ERROR_INVALID_HANDLE,
    ERROR_PIPE_LISTENING,
    failed,
    invalid_handle,
)
from drakcelery.engines.speakeasy_guest.calling.guest_calls import Steps
from drakcelery.engines.speakeasy_guest.machine.pipes import PREFIX, Pipe, pair, served
from drakcelery.engines.speakeasy_guest.scheduling.scheduler import TIMED_OUT

ERROR_SEM_TIMEOUT: Final = 121
ERROR_INVALID_NAME: Final = 123
ERROR_PIPE_CONNECTED: Final = 535

NOWAIT: Final = 0x1
"""``PIPE_NOWAIT``."""

DEFAULT_WAIT: Final = 50
"""Milliseconds that ``WaitNamedPipe`` waits if the pipe says nothing else."""


def _end(emu: Any, handle: int) -> Pipe | None:
    found = emu.disk.opened(handle)
    return found if isinstance(found, Pipe) else None


def _create(emu: Any, _name: str, argv: list[Any]) -> int:
    for place, end in zip(argv[:2], pair(emu.disk), strict=True):
        emu.write_ptr(place, emu.disk.add(end))
    return 1


def _create_named(emu: Any, name: str, argv: list[Any]) -> int:
    path = text_argument(emu, name, argv, 0)
    if not path.lower().startswith(PREFIX):
        return failed(emu, ERROR_INVALID_NAME, invalid_handle(emu))
    emu.recorder.log_file_access(None, path, "create")
    end = Pipe(emu.disk, File(path), serves=True, at_once=bool(argv[2] & NOWAIT))
    return failed(emu, 0, emu.disk.add(end))


def _connect(emu: Any, _name: str, argv: list[Any]) -> Steps:
    """``ConnectNamedPipe``: wait until somebody opens the pipe's name."""
    end = _end(emu, argv[0])
    if end is None:
        return failed(emu, ERROR_INVALID_HANDLE)
    if end.connected:
        return failed(emu, ERROR_PIPE_CONNECTED)
    if end.at_once:
        return failed(emu, ERROR_PIPE_LISTENING)
    yield from emu.scheduler.wait(lambda: end.connected)
    return 1


def _disconnect(emu: Any, _name: str, argv: list[Any]) -> int:
    end = _end(emu, argv[0])
    if end is None:
        return failed(emu, ERROR_INVALID_HANDLE)
    end.disconnect()
    return 1


def _peek(emu: Any, _name: str, argv: list[Any]) -> int:
    end = _end(emu, argv[0])
    if end is None:
        return failed(emu, ERROR_INVALID_HANDLE)
    if not end.waiting and not end.has_writer():
        return failed(emu, ERROR_BROKEN_PIPE)
    data = bytes(end.waiting[: argv[2] & 0xFFFFFFFF]) if argv[1] else b""
    if data:
        emu.mem_write(argv[1], data)
    for place, value in ((argv[3], len(data)), (argv[4], len(end.waiting)), (argv[5], 0)):
        put(emu, place, value, 4)
    return 1


def _wait(emu: Any, name: str, argv: list[Any]) -> Steps:
    """``WaitNamedPipe``: until the pipe can be opened."""
    path = text_argument(emu, name, argv, 0)
    if not served(emu.disk, path):
        return failed(emu, ERROR_FILE_NOT_FOUND)
    limit = argv[1] & 0xFFFFFFFF or DEFAULT_WAIT
    result = yield from emu.scheduler.wait(
        lambda: any(not one.connected for one in served(emu.disk, path)), limit
    )
    return failed(emu, ERROR_SEM_TIMEOUT) if result == TIMED_OUT else 1


def _set_state(emu: Any, _name: str, argv: list[Any]) -> int:
    end = _end(emu, argv[0])
    if end is None:
        return failed(emu, ERROR_INVALID_HANDLE)
    if argv[1]:
        end.at_once = bool(emu.mem_read(argv[1], 1)[0] & NOWAIT)
    return 1


APIS = {
    "CreatePipe": Api(words=4, answer=_create),
    "CreateNamedPipe": Api(words=8, answer=_create_named),
    "ConnectNamedPipe": Api(words=2, answer=_connect),
    "DisconnectNamedPipe": Api(words=1, answer=_disconnect),
    "PeekNamedPipe": Api(words=6, answer=_peek),
    "WaitNamedPipe": Api(words=2, answer=_wait),
    "SetNamedPipeHandleState": Api(words=4, answer=_set_state),
}
