"""Resources of the program and of libraries that it has loaded: found, listed, read; and texts among them.

The form is that of Microsoft's *PE Format*, "The .rsrc Section"; it is read from memory, where a packer may
have put it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis import texts
from drakcelery.engines.speakeasy_guest.apis.api import MAX_DATA, Api, read_text
from drakcelery.engines.speakeasy_guest.calling.guest_calls import GuestCall, Steps
from drakcelery.engines.speakeasy_guest.machine.ansi import ANSI

DATA_NOT_FOUND, TYPE_NOT_FOUND, NAME_NOT_FOUND, LANGUAGE_NOT_FOUND = 1812, 1813, 1814, 1815
"""``ERROR_RESOURCE_*`` of winerror.h."""

NOT_FOUND: Final = (TYPE_NOT_FOUND, NAME_NOT_FOUND, LANGUAGE_NOT_FOUND)
DIRECTORY: Final = 2
STRINGS: Final = 6
"""``RT_STRING``."""

HIGH: Final = 0x80000000
MAX_ENTRIES: Final = 4096
LANGUAGES: Final = (0, 0x409)
"""Which language is taken where the program asks for none: neutral, English; else the first."""

Key = int | str


@dataclass(frozen=True)
class Entry:
    """One entry of a directory."""

    key: Key
    place: int
    """Where its directory is, or its data's description."""


def _image(emu: Any, module: int) -> Any:
    """The module that a handle names, 0 for the program itself; None for Windows' own."""
    if not module:
        return emu.image
    own = emu.libraries.at(module)
    if own is not None:
        return own.image
    return emu.image if emu.image is not None and emu.image.get_base() == module else None


def _root(emu: Any, module: int) -> int:
    """The address of a module's resources; 0 for none."""
    image = _image(emu, module)
    directories: Any = image.OPTIONAL_HEADER.DATA_DIRECTORY if image is not None else ()
    place = directories[DIRECTORY].VirtualAddress if len(directories) > DIRECTORY else 0
    return int(image.get_base() + place) if place else 0


def _entries(emu: Any, root: int, directory: int) -> Iterator[Entry]:
    named, numbered = struct.unpack("<HH", emu.mem_read(directory + 12, 4))
    for number in range(min(named + numbered, MAX_ENTRIES)):
        name, offset = struct.unpack("<II", emu.mem_read(directory + 16 + 8 * number, 8))
        key: Key = name
        if name & HIGH:
            at = root + (name & ~HIGH)
            length = int.from_bytes(emu.mem_read(at, 2), "little")
            key = bytes(emu.mem_read(at + 2, 2 * length)).decode("utf-16-le", "replace")
        yield Entry(key, root + (offset & ~HIGH))


def key(emu: Any, value: int, *, wide: bool) -> Key:
    """A type or name as programs give it: a number, or the address of a text, which may be ``#`` and one."""
    if value < 0x10000:
        return value
    text = read_text(emu, value, wide=wide)
    return int(text[1:]) & 0xFFFF if text[:1] == "#" and text[1:].isdigit() else text


def _same(one: Key, other: Key) -> bool:
    if isinstance(one, str) and isinstance(other, str):
        return one.upper() == other.upper()
    return one == other


def _languages(emu: Any, root: int, kind: Key, name: Key) -> tuple[list[Entry], int]:
    """What there is of one resource, and the error where there is nothing."""
    place = root
    for wanted, error in ((kind, TYPE_NOT_FOUND), (name, NAME_NOT_FOUND)):
        found = next((one for one in _entries(emu, root, place) if _same(one.key, wanted)), None)
        if found is None:
            return [], error
        place = found.place
    return list(_entries(emu, root, place)), LANGUAGE_NOT_FOUND


def _found(emu: Any, module: int, kind: Key, name: Key, language: int = 0) -> int:
    """The address of a resource's description (``HRSRC``); 0 and an error for none."""
    root = _root(emu, module)
    if not root:
        emu.set_last_error(DATA_NOT_FOUND)
        return 0
    entries, error = _languages(emu, root, kind, name)
    by_language = {one.key: one.place for one in entries}
    for wanted in (language, *LANGUAGES, *by_language):
        if wanted in by_language:
            return by_language[wanted]
    emu.set_last_error(error)
    return 0


def content(emu: Any, module: int, kind: Key, name: Key) -> bytes:
    """The bytes of a resource; none, and an error, where there is no such resource."""
    place = _found(emu, module, kind, name)
    if not place:
        return b""
    offset, size = struct.unpack("<II", emu.mem_read(place, 8))
    return bytes(emu.mem_read(_image(emu, module).get_base() + offset, min(size, MAX_DATA)))


def _find(emu: Any, name: str, argv: list[Any]) -> int:
    wide = name.endswith("W")
    argv[1], argv[2] = (key(emu, value, wide=wide) for value in argv[1:3])
    return _found(emu, argv[0], argv[2], argv[1])


def _find_ex(emu: Any, name: str, argv: list[Any]) -> int:
    wide = name.endswith("W")
    argv[1], argv[2] = (key(emu, value, wide=wide) for value in argv[1:3])
    return _found(emu, argv[0], argv[1], argv[2], argv[3] & 0xFFFF)


def _load(emu: Any, _name: str, argv: list[Any]) -> int:
    image = _image(emu, argv[0])
    if image is None or not argv[1]:
        emu.set_last_error(DATA_NOT_FOUND)
        return 0
    return int(image.get_base()) + int.from_bytes(emu.mem_read(argv[1], 4), "little")


def _lock(_emu: Any, _name: str, argv: list[Any]) -> int:
    return int(argv[0])


def _size(emu: Any, _name: str, argv: list[Any]) -> int:
    return int.from_bytes(emu.mem_read(argv[1] + 4, 4), "little") if argv[1] else 0


def _free(_emu: Any, _name: str, _argv: list[Any]) -> int:
    return 0


def _pointer(emu: Any, key: Key, *, wide: bool) -> int:
    """A type or name as a callback gets it."""
    if isinstance(key, int):
        return key
    data = texts.ended(key, wide=wide)
    place: int = emu.heap_alloc(len(data), heap="resource")
    emu.mem_write(place, data)
    return place


def _enumerated(emu: Any, name: str, module: int, path: list[int], rest: tuple[int, int]) -> Steps:
    """Call the program for each entry at the end of *path*, until it has enough.

    *rest*: its callback, and what that gets last.
    """
    wide, (callback, parameter) = name.endswith("W"), rest
    root = _root(emu, module)
    place, error = root, DATA_NOT_FOUND
    for level, value in enumerate(path):
        wanted = key(emu, value, wide=wide)
        matching = (one for one in _entries(emu, root, place) if _same(one.key, wanted)) if place else ()
        place, error = next((one.place for one in matching), 0), NOT_FOUND[level]
    if not place:
        emu.set_last_error(error)
        return 0
    for entry in list(_entries(emu, root, place)):
        given = (module, *path, _pointer(emu, entry.key, wide=wide), parameter)
        if not (yield GuestCall(callback, given)) & 0xFFFFFFFF:
            break
    return 1


def _types(emu: Any, name: str, argv: list[Any]) -> Steps:
    return (yield from _enumerated(emu, name, argv[0], [], (argv[1], argv[2])))


def _names(emu: Any, name: str, argv: list[Any]) -> Steps:
    return (yield from _enumerated(emu, name, argv[0], [argv[1]], (argv[2], argv[3])))


def _of_languages(emu: Any, name: str, argv: list[Any]) -> Steps:
    return (yield from _enumerated(emu, name, argv[0], [argv[1], argv[2]], (argv[3], argv[4])))


def _load_string(emu: Any, name: str, argv: list[Any]) -> int:
    module, number, buffer, room = argv[0], argv[1] & 0xFFFF, argv[2], argv[3] & 0xFFFFFFFF
    description = _found(emu, module, STRINGS, (number >> 4) + 1)
    if not description or not buffer:
        return 0
    offset, size = struct.unpack("<II", emu.mem_read(description, 8))
    place = _image(emu, module).get_base() + offset
    end = place + size
    for _ in range(number & 0xF):
        place += 2 + 2 * int.from_bytes(emu.mem_read(place, 2), "little")
        if place + 2 > end:
            return 0
    length = int.from_bytes(emu.mem_read(place, 2), "little")
    if name.endswith("W") and room == 0:
        emu.write_ptr(buffer, place + 2)
        return length
    text = bytes(emu.mem_read(place + 2, 2 * length)).decode("utf-16-le", "replace")
    encoding, width = ("utf-16-le", 2) if name.endswith("W") else (ANSI, 1)
    data = text.encode(encoding, "replace")[: max(room - 1, 0) * width]
    emu.mem_write(buffer, (data + bytes(width))[: room * width])
    return len(data) // width


APIS = {
    "FindResource": Api(words=3, answer=_find),
    "FindResourceEx": Api(words=4, answer=_find_ex),
    "LoadResource": Api(words=2, answer=_load),
    "LockResource": Api(words=1, answer=_lock),
    "SizeofResource": Api(words=2, answer=_size),
    "FreeResource": Api(words=1, answer=_free),
    "EnumResourceTypes": Api(words=3, answer=_types),
    "EnumResourceNames": Api(words=4, answer=_names),
    "EnumResourceLanguages": Api(words=5, answer=_of_languages),
    "LoadString": Api(words=4, answer=_load_string),
}
