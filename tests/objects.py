"""Objects that tests put into S3."""

from __future__ import annotations

from drakcelery.storage import Storage
from drakcelery.storage.sending import put


def put_bytes(storage: Storage, bucket: str, key: str, data: bytes) -> None:
    """Put a small object, as uploads put files."""
    put(storage._server, bucket, key, data)
