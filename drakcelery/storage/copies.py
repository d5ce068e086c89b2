"""Objects that are copied within S3, and small ones that are written beside them, without a file here."""

from __future__ import annotations

import io
from collections.abc import Callable

from minio.commonconfig import CopySource

from drakcelery.storage.client import fenced
from drakcelery.storage.receiving import reading, receive
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

    def copy(self, bucket: str, source: str, target: str) -> None:
        """Copy an object within its bucket: none of its bytes comes here. What was there is replaced.

        Raises :class:`BadTask` if there is no such object, :class:`StorageError`.
        """
        with (
            reading(self._server, bucket, source),
            self._server.errors(
                f"copy {bucket}/{source} to {bucket}/{target}", "s3:PutObject and s3:GetObject", bucket
            ),
        ):
            self._server.client.copy_object(bucket, target, CopySource(bucket, source))

    def put(self, bucket: str, key: str, data: bytes, *, check: Callable[[], None] | None = None) -> None:
        """Put a small object that is not empty; *check* as in :meth:`sha256`. Raises `StorageError`."""
        with fenced(check):
            put(self._server, bucket, key, data)
