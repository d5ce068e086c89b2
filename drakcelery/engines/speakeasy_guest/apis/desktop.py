"""Windows on the desktop: there are those that the program made, and none of the handle 0."""

from __future__ import annotations

from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import Api

ERROR_INVALID_WINDOW_HANDLE: Final = 1400


def of_a_window(emu: Any, _name: str, argv: list[Any]) -> int:
    """1 for any window."""
    if argv[0]:
        return 1
    emu.set_last_error(ERROR_INVALID_WINDOW_HANDLE)
    return 0


APIS = {name: Api(words=1, answer=of_a_window) for name in ("IsWindow", "IsWindowVisible")}
