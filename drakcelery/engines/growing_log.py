"""Reads a log while an engine still writes it, in bounded memory and time.

A guest that left its confinement may write into the directory, so the file is opened as
:mod:`drakcelery.safe_files` does it, and what replaces it is not followed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from drakcelery import safe_files
from drakcelery.artifacts import LOGGED_PLUGINS
from drakcelery.artifacts.lines import LineReader
from drakcelery.artifacts.log import FILE_LIMIT, LINE_LIMIT

BLOCK = 128 * 1024
"""Bytes that are split into lines at a time."""
MOST_BYTES = 8 * 1024**2
"""Bytes of one look. More is read the next time."""
Groups = Mapping[str, Sequence[bytes]]
"""The lines of a block by plugin, in their order."""


class Replaced(OSError):
    """The log is another file than it was, or shorter."""


class GrowingLog:
    """A log, of which each look reads what has come since the last one.

    Attributes:
        is_behind: whether the last look left something, since there was too much.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._position = 0
        self._rest = b""
        self._is_overlong = False
        self._lines = LineReader(LINE_LIMIT, LOGGED_PLUGINS, FILE_LIMIT)
        self.is_behind = False

    def close(self) -> None:
        """Read no more of it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def more(self, is_late: Callable[[], bool]) -> Iterator[Groups]:
        """The complete lines that came since the last look, until *is_late*, or :data:`MOST_BYTES`.

        There is nothing as long as there is no file.

        Raises:
            Replaced: it is not the file that was read before.
            OSError: it is a link or no regular file, or cannot be read.
        """
        self.is_behind = False
        if self._descriptor is None:
            try:
                self._descriptor = safe_files.open_regular(self._path)
            except FileNotFoundError:
                return
        size = self._size(self._descriptor)
        end = min(size, self._position + MOST_BYTES)
        while self._position < end and not is_late():
            data = os.pread(self._descriptor, min(BLOCK, end - self._position), self._position)
            if not data:
                raise Replaced("the log was cut short while it was read")
            self._position += len(data)
            if block := self._complete(data):
                groups = self._lines.groups(block)
                yield {plugin: lines for plugin, lines in groups.items() if plugin is not None}
        self.is_behind = self._position < size

    def _size(self, descriptor: int) -> int:
        """How long it is. Raises :class:`Replaced`."""
        opened, named = os.fstat(descriptor), self._path.lstat()
        if (opened.st_dev, opened.st_ino) != (named.st_dev, named.st_ino):
            raise Replaced("the log was replaced while it was read")
        if opened.st_size < self._position:
            raise Replaced("the log was cut short while it was read")
        return opened.st_size

    def _complete(self, data: bytes) -> bytes:
        """The complete lines of what was read so far; the rest is kept, unless it is too long to be a
        line's."""
        if self._is_overlong:
            _, newline, data = data.partition(b"\n")
            self._is_overlong = not newline
        head, newline, tail = data.rpartition(b"\n")
        block = self._rest + head + newline if newline else b""
        self._rest = tail if newline else self._rest + data
        if len(self._rest) >= LINE_LIMIT:
            self._rest, self._is_overlong = b"", True
        return block
