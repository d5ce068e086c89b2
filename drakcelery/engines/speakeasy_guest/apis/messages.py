"""Messages that a program brings along in a resource, its message table.

The format is ``MESSAGE_RESOURCE_DATA`` of winnt.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final

from drakcelery.engines.speakeasy_guest.apis.api import MAX_DATA
from drakcelery.engines.speakeasy_guest.machine.ansi import ANSI

RT_MESSAGETABLE: Final = 11
UNICODE: Final = 1
"""``MESSAGE_RESOURCE_UNICODE``."""

MAX_BLOCKS: Final = 4096


def find(emu: Any, module: int, code: int, language: int) -> str | None:
    """The text of a message in the module at *module*, 0 for the program; in any *language* if that is 0."""
    wanted = module or emu.image.get_base()
    images = [image for image, _, _ in emu.modules if image.get_base() == wanted]
    for table in _tables(emu, images[0], language) if images else ():
        text = _text(table, code)
        if text is not None:
            return text
    return None


def _tables(emu: Any, image: Any, language: int) -> Iterator[bytes]:
    directory = getattr(image, "DIRECTORY_ENTRY_RESOURCE", None)
    for kind in directory.entries if directory else ():
        if kind.id != RT_MESSAGETABLE:
            continue
        for name in kind.directory.entries:
            for entry in name.directory.entries:
                if language in (0, entry.id):
                    place = image.get_base() + entry.data.struct.OffsetToData
                    yield bytes(emu.mem_read(place, min(entry.data.struct.Size, MAX_DATA)))


def _text(table: bytes, code: int) -> str | None:
    """The message of that number.

    Raises:
        struct.error: the table is damaged.
    """
    (count,) = struct.unpack_from("<I", table)
    for number in range(min(count, MAX_BLOCKS)):
        low, high, place = struct.unpack_from("<III", table, 4 + 12 * number)
        if not low <= code <= high:
            continue
        for _ in range(code - low):
            place += max(struct.unpack_from("<H", table, place)[0], 4)
        length, flags = struct.unpack_from("<HH", table, place)
        encoding = "utf-16-le" if flags & UNICODE else ANSI
        return table[place + 4 : place + length].decode(encoding, "replace").rstrip("\0")
    return None
