"""``wsprintf`` and its kind, in user32 and shlwapi: the C runtime's formats, in functions of Windows."""

from __future__ import annotations

from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import Api
from drakcelery.engines.speakeasy_guest.crt.abi import Variadic, read_arguments
from drakcelery.engines.speakeasy_guest.crt.printing import filled

MOST: Final = 1024
"""What ``wsprintf`` writes at most, its zero included."""


def _wsprintf(emu: Any, name: str, argv: list[Any]) -> int:
    _, _, arguments = read_arguments(emu.runtime.machine, "pp.")
    return _put(emu, name, argv[0], argv[1], arguments, MOST)


def _wvsprintf(emu: Any, name: str, argv: list[Any]) -> int:
    arguments = Variadic(emu.runtime.machine, argv[2])
    return _put(emu, name, argv[0], argv[1], arguments, MOST)


def _wnsprintf(emu: Any, name: str, argv: list[Any]) -> int:
    *_, arguments = read_arguments(emu.runtime.machine, "ppp.")
    return _put(emu, name, argv[0], argv[2], arguments, argv[1] & 0x7FFFFFFF)


def _wvnsprintf(emu: Any, name: str, argv: list[Any]) -> int:
    arguments = Variadic(emu.runtime.machine, argv[3])
    return _put(emu, name, argv[0], argv[2], arguments, argv[1] & 0x7FFFFFFF)


def _put(emu: Any, name: str, target: int, form: int, arguments: Variadic, room: int) -> int:
    width = 2 if name.endswith("W") else 1
    text = filled(emu.runtime, form, arguments, width)
    if room < 1:
        return 0
    emu.runtime.machine.put_text(target, text[: room - 1], width)
    return min(len(text), room - 1)


APIS = {
    "wsprintf": Api(words=2, answer=_wsprintf, cdecl=True),
    "wvsprintf": Api(words=3, answer=_wvsprintf),
    "wnsprintf": Api(words=3, answer=_wnsprintf, cdecl=True),
    "wvnsprintf": Api(words=4, answer=_wvnsprintf),
}
