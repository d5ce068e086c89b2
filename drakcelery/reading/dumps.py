"""The memory dumps in ``dumps.zip``, each by its name.

Format: PKWARE's APPNOTE.TXT 6.3.3, sections 4.3.14 to 4.3.16. Python's ``zipfile`` reads the whole central
directory at once, so its size is looked up before.
"""

from __future__ import annotations

import contextlib
import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, BinaryIO, Self

from drakcelery.artifacts.dumps import FOLDER, MEMBER_LIMIT, base_address
from drakcelery.errors import ArtifactMissing, ArtifactUnreadable
from drakcelery.model.names import is_file_name

DIRECTORY_LIMIT = MEMBER_LIMIT * 256
"""Bytes of the central directory: more than ours can have."""
_END, _END_64 = 22, 56 + 20
"""Bytes of the record at the end of a zip; of that of a zip64 and its locator, just before."""
_COMMENT = 65535
_RECORD = b"PK\5\6"
BROKEN_ZIP = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError),
    *(NotImplementedError, RuntimeError, ValueError, ArithmeticError, LookupError),
)
"""What ``zipfile`` raises for a zip that is damaged, encrypted, or made by a newer program, and what its
decompressors and ``struct`` do for numbers that cannot be."""


@dataclass(frozen=True, kw_only=True)
class Dump:
    """A memory dump."""

    name: str
    size: int
    """Bytes, as the zip says; no more than that are read."""
    base_address: str | None
    """Where it was in its process, such as ``0x400000``; None if its name does not say."""


class Dumps:
    """The dumps of an analysis.

    Attributes:
        odd: members whose names are none that a dump has; they are left out.
    """

    def __init__(self, archive: zipfile.ZipFile, where: str) -> None:
        self._archive, self._where = archive, where
        # Not is_dir(), which expects that a member has a name
        members = {one.filename: one for one in archive.infolist() if not one.filename.endswith("/")}
        self._members = {
            name.removeprefix(FOLDER): one
            for name, one in members.items()
            if name.startswith(FOLDER) and is_file_name(name.removeprefix(FOLDER))
        }
        self.odd = len(members) - len(self._members)

    @classmethod
    @contextlib.contextmanager
    def of(cls, file: BinaryIO, where: str) -> Iterator[Self]:
        """The dumps in the zip *file*. Raises :class:`ArtifactUnreadable`."""
        try:
            if (size := directory_size(file)) > DIRECTORY_LIMIT:
                raise ArtifactUnreadable(f"{where}: the listing of dumps.zip has {size} bytes")
            archive = zipfile.ZipFile(file)
        except BROKEN_ZIP as error:
            raise ArtifactUnreadable(f"{where}: dumps.zip is no zip: {error}") from None
        with archive:
            yield cls(archive, where)

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Dump]:
        for name, member in self._members.items():
            yield Dump(name=name, size=member.file_size, base_address=base_address(name))

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """A dump by its name, with or without ``dumps/``: a file to read, which is checked at its end.

        Raises :class:`ArtifactMissing`, and :class:`ArtifactUnreadable` also while it is read.
        """
        member = self._members.get(name.removeprefix(FOLDER))
        if member is None:
            raise ArtifactMissing(f"{self._where} has no dump {name!r:.200}; it has {len(self)} others")
        where = f"{self._where}: the dump {name}"
        try:
            file = self._archive.open(member)
        except BROKEN_ZIP as error:
            raise ArtifactUnreadable(f"{where}: {error}") from None
        with file, io.BufferedReader(_Member(file, where)) as reader:
            yield reader


class _Member(io.RawIOBase):
    """A member of a zip that is being read; what is wrong with it is ours to say."""

    def __init__(self, file: IO[bytes], where: str) -> None:
        self._file, self._where = file, where

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """As files do. Raises :class:`ArtifactUnreadable`."""
        try:
            data = self._file.read(len(buffer))
        except BROKEN_ZIP as error:
            raise ArtifactUnreadable(f"{self._where}: {error}") from None
        buffer[: len(data)] = data
        return len(data)


def directory_size(file: BinaryIO) -> int:
    """The bytes of the central directory, as the end of a zip says; 0 if it is none."""
    size = file.seek(0, 2)
    file.seek(max(0, size - _COMMENT - _END - _END_64))
    tail = file.read()
    file.seek(0)
    # As zipfile looks for it: at the end, or else before the longest comment there may be
    last = tail[-_END:]
    at = len(tail) - _END if last.startswith(_RECORD) and last.endswith(b"\0\0") else tail.rfind(_RECORD)
    if at < 0 or at + _END > len(tail):
        return 0
    (directory,) = struct.unpack_from("<I", tail, at + 12)
    record = tail[max(0, at - _END_64) : at]
    if record[:4] == b"PK\6\6" and record[56:60] == b"PK\6\7":
        (directory,) = struct.unpack_from("<Q", record, 40)
    return int(directory)
