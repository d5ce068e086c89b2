"""Variables of the environment. That one is not set is an error: programs tell it from an empty one."""

from __future__ import annotations

from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import Api, text_argument

ERROR_ENVVAR_NOT_FOUND: Final = 203


def _get(emu: Any, name: str, argv: list[Any]) -> int:
    """``GetEnvironmentVariable``: its length without a zero, or the room that it needs with one."""
    buffer, room = int(argv[1]), int(argv[2])
    value = emu.get_env().get(text_argument(emu, name, argv, 0).lower())
    if value is None:
        emu.set_last_error(ERROR_ENVVAR_NOT_FOUND)
        return 0
    wide = name.endswith("W")
    text = str(value).encode("utf-16-le") if wide else str(value).encode("cp1252", "replace")
    width = 2 if wide else 1
    length = len(text) // width
    if room <= length or not buffer:
        return length + 1
    emu.mem_write(buffer, text + bytes(width))
    emu.set_last_error(0)
    return length


def _set(emu: Any, name: str, argv: list[Any]) -> int:
    """``SetEnvironmentVariable``; with no value it is removed."""
    variable = text_argument(emu, name, argv, 0)
    if argv[1]:
        emu.set_env(variable, text_argument(emu, name, argv, 1))
    elif emu.get_env().pop(variable.lower(), None) is None:
        emu.set_last_error(ERROR_ENVVAR_NOT_FOUND)
        return 0
    return 1


APIS = {
    "GetEnvironmentVariable": Api(words=3, answer=_get),
    "SetEnvironmentVariable": Api(words=2, answer=_set),
}
