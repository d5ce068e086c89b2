"""Variables of the environment. That one is not set is an error: programs tell it from an empty one."""

from __future__ import annotations

import re
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis import texts
from drakcelery.engines.speakeasy_guest.apis.api import Api, text_argument

ERROR_ENVVAR_NOT_FOUND: Final = 203
MAX_VARIABLES: Final = 4096


def find(emu: Any, name: str) -> str | None:
    """The value of a variable, by its name in any case."""
    return next((str(value) for key, value in emu.get_env().items() if key.lower() == name.lower()), None)


def _get(emu: Any, name: str, argv: list[Any]) -> int:
    value = find(emu, text_argument(emu, name, argv, 0))
    if value is None:
        emu.set_last_error(ERROR_ENVVAR_NOT_FOUND)
        return 0
    emu.set_last_error(0)
    return texts.write_or_need(emu, argv[1], value, argv[2], wide=name.endswith("W"))


def _set(emu: Any, name: str, argv: list[Any]) -> int:
    """Without a value the variable goes."""
    has_value = bool(argv[1])
    variable, value = text_argument(emu, name, argv, 0), text_argument(emu, name, argv, 1)
    environment = emu.get_env()
    there = [key for key in environment if key.lower() == variable.lower()]
    if not has_value and not there:
        emu.set_last_error(ERROR_ENVVAR_NOT_FOUND)
        return 0
    for key in there:
        del environment[key]
    if has_value and len(environment) < MAX_VARIABLES:
        emu.set_env(variable, value)
    emu.runtime.variables.environment_changed()
    return 1


def _all(emu: Any, name: str, _argv: list[Any]) -> int:
    """Each with its zero, and another one at the end."""
    parts = sorted(emu.runtime.variables.environment_strings(), key=str.lower)
    data = texts.ended("\0".join((*parts, "")), wide=name.endswith("W"))
    place: int = emu.mem_map(len(data), tag="api.GetEnvironmentStrings")
    emu.mem_write(place, data)
    return place


def _free(_emu: Any, _name: str, _argv: list[Any]) -> int:
    return 1


def _temporary_folder(emu: Any, name: str, argv: list[Any]) -> int:
    """The first that is set of three variables; it ends with a backslash."""
    found = next(filter(None, (find(emu, variable) for variable in ("TMP", "TEMP", "USERPROFILE"))), "")
    folder = found or "C:\\Windows"
    text = folder if folder.endswith("\\") else f"{folder}\\"
    length = texts.write_or_need(emu, argv[1], text, argv[0], wide=name.endswith("W"))
    if length == len(text):
        argv[1] = text
    return length


def expanded(emu: Any, text: str) -> str:
    """A text with its ``%variables%`` filled in; unknown ones stay."""

    def value(found: re.Match[str]) -> str:
        known = find(emu, found[1])
        return found[0] if known is None else known

    return re.sub(r"%([^%]+)%", value, text)


def _expand(emu: Any, name: str, argv: list[Any]) -> int:
    text = expanded(emu, text_argument(emu, name, argv, 0))
    length = texts.write_or_need(emu, argv[1], text, argv[2], wide=name.endswith("W"))
    return max(length, len(text) + 1)


APIS = {
    "GetEnvironmentVariable": Api(words=3, answer=_get),
    "SetEnvironmentVariable": Api(words=2, answer=_set),
    "GetEnvironmentStrings": Api(words=0, answer=_all),
    "FreeEnvironmentStrings": Api(words=1, answer=_free),
    "GetTempPath": Api(words=2, answer=_temporary_folder),
    "GetTempPath2": Api(words=2, answer=_temporary_folder),
    "ExpandEnvironmentStrings": Api(words=3, answer=_expand),
}
