"""Objects that are copied within S3, and small ones that are written beside them, without a file here."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator

from minio.commonconfig import CopySource
from minio.error import S3Error

from drakcelery.errors import StorageError
from drakcelery.model.analysis import ObjectRef
from drakcelery.storage.client import fenced
from drakcelery.storage.receiving import MISSING, gone, reading, receive
from drakcelery.storage.sending import put
from drakcelery.storage.server import Server


class Copies:
    """One S3 server, as somebody needs it who makes one analysis of another."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def read(self, bucket: str, key: str, *, size: int) -> bytes:
        """An object of *size* bytes, which is small, as a whole.

        Raises :class:`BadTask` if there is none, :class:`StorageError` if it is another.
        """
        out = io.BytesIO()
        self._receive(bucket, key, out, size=size, max_size=size)
        return out.getvalue()

    def sha256(self, bucket: str, key: str, *, max_size: int, check: Callable[[], None] | None = None) -> str:
        """The sha256 of an object in hex: it is read once, in pieces, and not kept.

        *check* is called before a request is repeated. Raises as :meth:`read`, and :class:`BadTask` if it has
        more than *max_size* bytes.
        """
        with fenced(check):
            return self._receive(bucket, key, None, size=None, max_size=max_size)

    def _receive(
        self, bucket: str, key: str, out: io.BytesIO | None, *, size: int | None, max_size: int
    ) -> str:
        def transfer() -> str:
            if out is not None:
                out.seek(0)
                out.truncate()
            return receive(self._server, bucket, key, out, size=size, sha256=None, max_size=max_size)

        with reading(self._server, bucket, key):
            return self._server.repeated(transfer, f"{bucket}/{key}")

    def copy(self, source: ObjectRef, bucket: str, key: str) -> None:
        """Copy an object within S3: none of its bytes comes here. What was under *key* is replaced.

        Raises:
            BadTask: there is no such object.
            StorageError: S3 failed or refused, or the copy has another size.
        """
        size = source.size or self._size(source.bucket, source.key)
        with self._copying(source, bucket, key):
            self._server.client.copy(bucket, key, CopySource(source.bucket, source.key), size=size or 0)
        if (copied := self._size(bucket, key)) != size:
            raise StorageError(f"the copy {bucket}/{key} has {copied} bytes instead of {size}")

    def _size(self, bucket: str, key: str) -> int | None:
        with reading(self._server, bucket, key):
            return self._server.client.stat_object(bucket, key).size

    def copy_unchecked(self, source: ObjectRef, bucket: str, key: str) -> None:
        """As :meth:`copy`, by who looks at the copies' sizes himself."""
        with self._copying(source, bucket, key):
            # It asks for the source's size first, to copy in parts what is over 5 GiB
            self._server.client.copy_object(bucket, key, CopySource(source.bucket, source.key))

    @contextlib.contextmanager
    def _copying(self, source: ObjectRef, bucket: str, key: str) -> Iterator[None]:
        """Turn failures to copy into sentences."""
        right = f"s3:PutObject, and s3:GetObject on {source.bucket!r}"
        with self._server.errors(f"copy {source.bucket}/{source.key} to {bucket}/{key}", right, bucket):
            try:
                yield
            except S3Error as error:
                if error.code in MISSING:
                    raise gone(source.bucket, source.key) from None
                raise

    def put(self, bucket: str, key: str, data: bytes, *, check: Callable[[], None] | None = None) -> None:
        """Put a small object that is not empty; *check* as in :meth:`sha256`. Raises `StorageError`."""
        with fenced(check):
            put(self._server, bucket, key, data)
