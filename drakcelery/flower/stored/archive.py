"""All artifacts as one zip, made while it is sent: in memory is one piece of one artifact. Pure.

Nothing is packed: most of what is large is packed already, and Flower has other things to do. Sizes and
checksums follow the data (PKWARE's APPNOTE.TXT 6.3.3, section 4.3.9), since they are not known before.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

PIECE = 4 * 1024**2
"""Bytes that are read at a time."""
LARGE = 2**31 - 2**24
"""From so many bytes on a member says that it is a zip64: with room for what a header adds."""
_EPOCH = (1980, 1, 1, 0, 0, 0)


class _Sent(io.RawIOBase):
    """What the zip has written, until somebody asks for it."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        """Keep it."""
        piece = bytes(data)
        self._pieces.append(piece)
        return len(piece)

    def written(self) -> bytes:
        """All that has come since the last time."""
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data


def archive(
    sizes: Mapping[str, int], read: Callable[[str, int, int], bytes], *, folder: str
) -> Iterator[bytes]:
    """The zip of the artifacts with these names and *sizes*, below *folder*, piece by piece.

    *read* gets a name, a first byte and a length, and returns no less; what it raises ends the zip, which is
    then no zip.
    """
    sent = _Sent()
    with zipfile.ZipFile(sent, "w", zipfile.ZIP_STORED) as made:
        for name, size in sorted(sizes.items()):
            member = zipfile.ZipInfo(f"{folder}/{name}", _EPOCH)
            member.external_attr = 0o644 << 16
            with made.open(member, "w", force_zip64=size >= LARGE) as out:
                for first in range(0, size, PIECE):
                    out.write(read(name, first, min(PIECE, size - first)))
                    yield sent.written()
    yield sent.written()
