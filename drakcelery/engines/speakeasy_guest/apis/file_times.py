"""``GetFileTime`` and ``SetFileTime``."""

from __future__ import annotations

from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import Api, put
from drakcelery.engines.speakeasy_guest.machine.file_times import times_of

ERROR_INVALID_HANDLE: Final = 6
NAMES: Final = ("created", "accessed", "written")
UNCHANGED: Final = (0, (1 << 64) - 1)
"""Times that mean: leave it as it is."""


def _times(emu: Any, handle: int) -> Any:
    opened = emu.disk.opened(handle)
    if opened is None:
        emu.set_last_error(ERROR_INVALID_HANDLE)
        return None
    return times_of(emu, None if opened.is_dir else opened.file)


def _get(emu: Any, _name: str, argv: list[Any]) -> int:
    times = _times(emu, argv[0])
    for place, name in zip(argv[1:4], NAMES, strict=True):
        if times is not None:
            put(emu, place, getattr(times, name), 8)
    return int(times is not None)


def _set(emu: Any, _name: str, argv: list[Any]) -> int:
    times = _times(emu, argv[0])
    for place, name in zip(argv[1:4], NAMES, strict=True):
        value = int.from_bytes(emu.mem_read(place, 8), "little") if place else 0
        if times is not None and value not in UNCHANGED:
            setattr(times, name, value)
    return int(times is not None)


APIS = {"GetFileTime": Api(words=4, answer=_get), "SetFileTime": Api(words=4, answer=_set)}
