"""Configuration files of the old kind (``.ini``): ``GetPrivateProfileString`` and its kin."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis import texts
from drakcelery.engines.speakeasy_guest.apis.api import Api, read_text, text_argument
from drakcelery.engines.speakeasy_guest.machine.ansi import ANSI

ERROR_FILE_NOT_FOUND: Final = 2
MAX_INI: Final = 1024 * 1024
"""Bytes of a file that is read as one."""

NUMBER: Final = re.compile(r"\s*([-+]?\d+)")
BOM: Final = b"\xff\xfe"
WIN_INI: Final = "C:\\Windows\\win.ini"


def _path(name: str) -> str:
    """Where a file lies that is named without a folder."""
    return name if "\\" in name or "/" in name else f"C:\\Windows\\{name}"


def _lines(emu: Any, path: str) -> list[str]:
    """The lines of a file; none where it is not there."""
    file = emu.disk.find(path)
    if file is None:
        return []
    data = emu.disk.read(file, 0, MAX_INI)
    emu.disk.note(path, "open")
    emu.disk.note(path, "read", size=len(data))
    text = data[2:].decode("utf-16-le", "replace") if data.startswith(BOM) else data.decode(ANSI, "replace")
    return str(text).splitlines()


def _section_of(line: str) -> str | None:
    """The section that a line begins."""
    line = line.strip()
    return line[1 : line.index("]")] if line.startswith("[") and "]" in line else None


def _inside(lines: list[str], section: str) -> tuple[int, int] | None:
    """Where the lines of a section begin and end; None without it."""
    first = None
    for number, line in enumerate(lines):
        name = _section_of(line)
        if name is not None and first is not None:
            return first, number
        if name is not None and name.lower() == section.lower():
            first = number + 1
    return None if first is None else (first, len(lines))


def _entries(lines: list[str], section: str) -> list[tuple[str, str]]:
    """Keys and values of a section."""
    place = _inside(lines, section)
    if place is None:
        return []
    parts = (line.partition("=") for line in lines[slice(*place)] if not line.lstrip().startswith(";"))
    return [(key.strip(), _unquoted(value.strip())) for key, equals, value in parts if equals]


def _unquoted(value: str) -> str:
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
    return value[1:-1] if quoted else value


def _value(lines: list[str], section: str, key: str) -> str | None:
    """The first value of that name."""
    return next((value for name, value in _entries(lines, section) if name.lower() == key.lower()), None)


def _put_list(emu: Any, name: str, items: list[str], target: int, room: int) -> int:
    """Texts with a zero behind each, and another one at the end."""
    room &= 0xFFFFFFFF
    joined = "".join(f"{text}\0" for text in items) or "\0"
    if len(joined) + 1 > room:
        joined = joined[: max(room - 2, 0)] + "\0"
    if room > 1:
        texts.write(emu, target, joined, wide=name.endswith("W"))
    return len(joined) if items else 0


def _get_string(file: int) -> Callable[[Any, str, list[Any]], int]:
    """``Get…ProfileString``; the file's name is argument number *file*, of some the file is win.ini."""

    def answer(emu: Any, name: str, argv: list[Any]) -> int:
        section, key = argv[0], argv[1]
        path = _path(text_argument(emu, name, argv, file)) if file else WIN_INI
        default = text_argument(emu, name, argv, 2).rstrip()
        target, room = argv[3], argv[4]
        lines = _lines(emu, path)
        if not section:
            sections = [found for line in lines if (found := _section_of(line)) is not None]
            return _put_list(emu, name, sections, target, room)
        section = text_argument(emu, name, argv, 0)
        if not key:
            return _put_list(emu, name, [one for one, _ in _entries(lines, section)], target, room)
        value = _value(lines, section, text_argument(emu, name, argv, 1))
        return texts.write_cut(
            emu, target, default if value is None else value, room, wide=name.endswith("W")
        )

    return answer


def _get_int(file: int) -> Callable[[Any, str, list[Any]], int]:
    def answer(emu: Any, name: str, argv: list[Any]) -> int:
        path = _path(text_argument(emu, name, argv, file)) if file else WIN_INI
        section, key = (text_argument(emu, name, argv, number) for number in (0, 1))
        value = _value(_lines(emu, path), section, key)
        found = NUMBER.match(value) if value is not None else None
        if value is None:
            return int(argv[2]) & 0xFFFFFFFF
        return int(found[1]) & 0xFFFFFFFF if found else 0

    return answer


def _get_section(emu: Any, name: str, argv: list[Any]) -> int:
    path = _path(text_argument(emu, name, argv, 3))
    entries = _entries(_lines(emu, path), text_argument(emu, name, argv, 0))
    return _put_list(emu, name, [f"{key}={value}" for key, value in entries], argv[1], argv[2])


def _get_names(emu: Any, name: str, argv: list[Any]) -> int:
    lines = _lines(emu, _path(text_argument(emu, name, argv, 2)))
    sections = [found for line in lines if (found := _section_of(line)) is not None]
    return _put_list(emu, name, sections, argv[0], argv[1])


def _write_string(emu: Any, name: str, argv: list[Any]) -> int:
    """``WritePrivateProfileString``: without a key the section goes, without a value the key."""
    if not argv[0]:
        return 0  # the cache is written; there is none
    has_key, has_value = bool(argv[1]), bool(argv[2])
    section, key, value, file = (text_argument(emu, name, argv, number) for number in range(4))
    path = _path(file)
    lines = _lines(emu, path)
    place = _inside(lines, section)
    if not has_key:
        if place is not None:
            del lines[place[0] - 1 : place[1]]
        return _write(emu, path, lines)
    fresh = [f"{key}={value}"] if has_value else []
    if place is None:
        return _write(emu, path, [*lines, f"[{section}]", *fresh] if fresh else lines)
    kept = [line for line in lines[slice(*place)] if line.partition("=")[0].strip().lower() != key.lower()]
    while kept and not kept[-1].strip():
        kept.pop()
    return _write(emu, path, [*lines[: place[0]], *kept, *fresh, *lines[place[1] :]])


def _write_section(emu: Any, name: str, argv: list[Any]) -> int:
    section, path = text_argument(emu, name, argv, 0), _path(text_argument(emu, name, argv, 2))
    wide, place = name.endswith("W"), argv[1]
    fresh: list[str] = []
    while place and (text := read_text(emu, place, wide=wide)) and len(fresh) < MAX_INI:
        fresh.append(text)
        place += (len(text) + 1) * (2 if wide else 1)
    lines = _lines(emu, path)
    there = _inside(lines, section)
    if there is None:
        return _write(emu, path, [*lines, f"[{section}]", *fresh])
    return _write(emu, path, [*lines[: there[0]], *fresh, *lines[there[1] :]])


def _write(emu: Any, path: str, lines: list[str]) -> int:
    file = emu.disk.find(path)
    if file is None:
        file = emu.disk.create(path)
        emu.disk.note(path, "create")
    text = "".join(f"{line}\r\n" for line in lines)
    wide = emu.disk.read(file, 0, len(BOM)) == BOM  # a file stays what it is
    data = BOM + text.encode("utf-16-le", "replace") if wide else text.encode(ANSI, "replace")
    emu.disk.resize(file, 0)
    emu.disk.write(file, 0, data)
    emu.disk.note(path, "write", size=len(data))
    return 1


APIS = {
    "GetPrivateProfileString": Api(words=6, answer=_get_string(5)),
    "GetPrivateProfileInt": Api(words=4, answer=_get_int(3)),
    "GetPrivateProfileSection": Api(words=4, answer=_get_section),
    "GetPrivateProfileSectionNames": Api(words=3, answer=_get_names),
    "WritePrivateProfileString": Api(words=4, answer=_write_string),
    "WritePrivateProfileSection": Api(words=3, answer=_write_section),
    "GetProfileString": Api(words=5, answer=_get_string(0)),
    "GetProfileInt": Api(words=3, answer=_get_int(0)),
}
