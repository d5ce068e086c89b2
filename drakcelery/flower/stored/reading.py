"""The artifacts of one analysis in the bucket, read by ranges."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from drakcelery.artifacts.extras import MOST_SCREENSHOTS, SCREENSHOTS
from drakcelery.errors import ArtifactMissing, ArtifactUnreadable, StorageError
from drakcelery.flower.stored.texts import Piece, bounds, is_text, piece
from drakcelery.karton.kept import KEPT
from drakcelery.model.names import is_file_name
from drakcelery.model.records import Record
from drakcelery.operators import analyses
from drakcelery.reading.dumps import BROKEN_ZIP
from drakcelery.settings import Settings
from drakcelery.storage import Storage

WINDOW = 256 * 1024
"""Bytes that a zip is read by."""
MOST_DIRECTORY = 1024**2
"""Bytes of a list of screenshots that are read; ours have some 10 kB."""
MOST_IMAGE = 16 * 1024**2
"""Bytes of a screenshot that are sent."""
_PNG = b"\x89PNG\r\n\x1a\n"
_IMAGE = re.compile(rf"{SCREENSHOTS}/([A-Za-z0-9_.-]{{1,200}}\.png)")


class Stored:
    """The artifacts of an analysis. Each method asks S3, and raises :class:`StorageError` if it fails."""

    def __init__(self, settings: Settings, storage: Storage, record: Record) -> None:
        self.uid = record.uid
        self._storage = storage
        self._bucket = analyses.bucket_of(settings, record)

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """Bytes by name; what is no artifact is left out, by its name: least of all the sample is shown."""
        if self._bucket is None:
            return {}
        prefix = f"{self.uid}/"
        found = self._storage.list(self._bucket, prefix)
        names = {key.removeprefix(prefix): size for key, size in found.items()}
        return {name: size for name, size in names.items() if is_file_name(name) and name not in KEPT}

    def read(self, name: str, first: int, length: int) -> bytes:
        """Just these bytes of an artifact. Raises :class:`StorageError` if it has become shorter, too."""
        _, data = self._piece(name, first, length)
        if len(data) != length:
            raise StorageError(f"{self.uid}/{name} has changed while it was read")
        return data

    def text(self, name: str, *, start: int | None, before: int | None) -> Piece:
        """Lines of an artifact, as :func:`~.texts.piece`.

        Raises :class:`ArtifactMissing` if there is no such text.
        """
        if not is_text(name):
            raise ArtifactMissing(f"{name} is no text")
        first, front, length = bounds(start=start, before=before)
        size, data = self._piece(name, front, length)
        return piece(data, first=first, size=size, before=before)

    def _piece(self, name: str, first: int, length: int) -> tuple[int, bytes]:
        found = None
        if self._bucket is not None and is_file_name(name) and name not in KEPT:
            found = self._storage.piece(self._bucket, f"{self.uid}/{name}", first, length)
        if found is None:
            raise ArtifactMissing(f"analysis {self.uid} has no {name}")
        return found

    def screenshots(self) -> tuple[str, ...]:
        """The names of the screenshots, in their order. Raises :class:`ArtifactUnreadable`."""
        if f"{SCREENSHOTS}.zip" not in self.sizes:
            return ()
        with self._images() as images:
            found = [match[1] for one in images.namelist() if (match := _IMAGE.fullmatch(one))]
        return tuple(found[:MOST_SCREENSHOTS])

    def screenshot(self, name: str) -> bytes:
        """A screenshot, which is a PNG by its first bytes.

        Raises :class:`ArtifactMissing`, :class:`ArtifactUnreadable`.
        """
        with self._images() as images:
            try:
                with images.open(f"{SCREENSHOTS}/{name}") as file:
                    data = file.read(MOST_IMAGE + 1)
            except KeyError:
                raise ArtifactMissing(f"there is no screenshot {name}") from None
            except BROKEN_ZIP as error:
                raise ArtifactUnreadable(f"{SCREENSHOTS}.zip: {name}: {error}") from None
        if len(data) > MOST_IMAGE or not data.startswith(_PNG):
            raise ArtifactUnreadable(f"{name} is no PNG of at most {MOST_IMAGE} bytes")
        return data

    def _images(self) -> zipfile.ZipFile:
        name = f"{SCREENSHOTS}.zip"
        try:
            return zipfile.ZipFile(_Ranges(self, name, self.sizes.get(name, 0)))
        except BROKEN_ZIP as error:
            raise ArtifactUnreadable(f"{name} is no zip: {error}") from None


class _Ranges(io.RawIOBase):
    """An artifact as a file to read from anywhere, a window at a time."""

    def __init__(self, stored: Stored, name: str, size: int) -> None:
        self._stored, self._name, self._size = stored, name, size
        self._at = self._first = 0
        self._window = b""

    def seekable(self) -> bool:
        """It is."""
        return True

    def readable(self) -> bool:
        """It is."""
        return True

    def seek(self, to: int, whence: int = io.SEEK_SET, /) -> int:
        """Go there; raises :class:`OSError` for a place before the beginning, as a file does."""
        self._at = to + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if self._at < 0:
            raise OSError(f"{self._name} has no byte {self._at}")
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        """So many bytes, fewer at the end. Raises :class:`ArtifactUnreadable` for more than fit in memory."""
        left = max(0, self._size - self._at)
        size = left if size < 0 else min(size, left)
        if size > MOST_DIRECTORY:
            raise ArtifactUnreadable(f"{self._name} has a list of {size} bytes; {MOST_DIRECTORY} are read")
        skip = self._at - self._first
        if skip < 0 or skip + size > len(self._window):
            self._first, skip = self._at, 0
            self._window = self._stored.read(self._name, self._at, min(left, max(size, WINDOW)))
        self._at += size
        return self._window[skip : skip + size]

    def readinto(self, buffer: Any, /) -> int:
        """As :meth:`read`."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
