"""kernel32's own string functions (``lstrcat`` and its like), byte for byte.

All but ``lstrcmp`` answer an address that cannot be read or written with 0 instead of ending the program, as
Microsoft's documentation says of each.
"""

from __future__ import annotations

from typing import Any, Final

from unicorn import UcError  # type: ignore[import-untyped]  # without types

from drakcelery.engines.speakeasy_guest.apis.api import Answer, Api
from drakcelery.engines.speakeasy_guest.apis.locales import compare_words
from drakcelery.engines.speakeasy_guest.machine.ansi import ANSI

CODECS: Final = {1: ANSI, 2: "utf-16-le"}


def _width(name: str) -> int:
    return 2 if name.endswith("W") else 1


def _shown(data: bytes, width: int) -> str:
    return data.decode(CODECS[width], "replace")


def _guarded(answer: Answer) -> Answer:
    def guarded(emu: Any, name: str, argv: list[Any]) -> Any:
        try:
            return answer(emu, name, argv)
        except UcError:
            return 0

    return guarded


def _length(emu: Any, name: str, argv: list[Any]) -> int:
    if not argv[0]:
        return 0
    width = _width(name)
    data = emu.mem_string(argv[0], width)
    argv[0] = _shown(data, width)
    return len(data) // width


def _copy(emu: Any, name: str, argv: list[Any]) -> int:
    width, target, source = _width(name), int(argv[0]), int(argv[1])
    if not target or not source:
        return 0
    data = emu.mem_string(source, width)
    argv[1] = _shown(data, width)
    emu.mem_write(target, data + bytes(width))
    return target


def _copy_some(emu: Any, name: str, argv: list[Any]) -> int:
    """``lstrcpyn``: the room counts the zero, which is always written."""
    width, target, source = _width(name), int(argv[0]), int(argv[1])
    room = argv[2] & 0x7FFFFFFF if not argv[2] & 0x80000000 else 0
    if not target or not source or not room:
        return target if target and source else 0
    data = emu.mem_string(source, width)
    argv[1] = _shown(data, width)
    emu.mem_write(target, data[: (room - 1) * width] + bytes(width))
    return target


def _append(emu: Any, name: str, argv: list[Any]) -> int:
    width, target, source = _width(name), int(argv[0]), int(argv[1])
    if not target or not source:
        return 0
    before, data = (emu.mem_string(place, width) for place in (target, source))
    argv[:2] = (_shown(part, width) for part in (before, data))
    emu.mem_write(target + len(before), data + bytes(width))
    return target


def _compare(emu: Any, name: str, argv: list[Any]) -> int:
    """-1, 0 or 1 as words are sorted; a NULL comes before every text."""
    width = _width(name)
    ignore = name.rstrip("AW").endswith("i")
    if not argv[0] or not argv[1]:
        return (bool(argv[0]) - bool(argv[1])) & 0xFFFFFFFF
    argv[:2] = (_shown(emu.mem_string(place, width), width) for place in argv[:2])
    return compare_words(argv[0], argv[1], ignore_case=ignore) & 0xFFFFFFFF


APIS = {
    "lstrlen": Api(words=1, answer=_guarded(_length)),
    "lstrcpy": Api(words=2, answer=_guarded(_copy)),
    "lstrcpyn": Api(words=3, answer=_guarded(_copy_some)),
    "lstrcat": Api(words=2, answer=_guarded(_append)),
    "lstrcmp": Api(words=2, answer=_compare),
    "lstrcmpi": Api(words=2, answer=_compare),
}
