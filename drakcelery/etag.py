"""The ETag that S3 gives to an upload, computed while the file is read for it."""

from __future__ import annotations

import hashlib
import io
from typing import BinaryIO


class FileOnItsWay(io.RawIOBase):
    """Reads a file for an upload in parts of *part_size* bytes, and computes the ETag of what was read.

    Never raises: minio's part threads would wait for ever for the end of a file that breaks off. What cannot
    be read is sent as zeros, and :meth:`check` says so.
    """

    def __init__(self, file: BinaryIO, length: int, part_size: int) -> None:
        self._file = file
        self._left = length
        self._part_size = part_size
        self._parts = [hashlib.md5(usedforsecurity=False)]
        self._in_part = 0
        self._problem: OSError | None = None

    def read(self, size: int = -1) -> bytes:
        """The next *size* bytes, never fewer before the end."""
        size = self._left if size < 0 else min(size, self._left)
        data = b""
        try:
            data = self._file.read(size)
        except OSError as error:
            self._problem = error
        if len(data) < size:
            self._problem = self._problem or OSError("the file has become shorter")
            data = data.ljust(size, b"\0")
        self._left -= size
        self._digest(data)
        return data

    def _digest(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            if self._in_part == self._part_size:
                self._parts.append(hashlib.md5(usedforsecurity=False))
                self._in_part = 0
            piece = view[: self._part_size - self._in_part]
            self._parts[-1].update(piece)
            self._in_part += len(piece)
            view = view[len(piece) :]

    def check(self) -> None:
        """Raise the :class:`OSError` that reading met."""
        if self._problem is not None:
            raise self._problem

    def etag(self) -> str:
        """MD5 of a single object; of a multipart upload: of the parts' MD5s, and how many they are."""
        if len(self._parts) == 1:
            return self._parts[0].hexdigest()
        digests = b"".join(part.digest() for part in self._parts)
        return f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(self._parts)}"
