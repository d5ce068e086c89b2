"""Objects that tests put into S3."""

from __future__ import annotations

import urllib3
from minio import Minio

from drakcelery.settings import S3Section
from drakcelery.storage import Storage
from drakcelery.storage.sending import put


def put_bytes(storage: Storage, bucket: str, key: str, data: bytes) -> None:
    """Put a small object, as uploads put files."""
    put(storage._server, bucket, key, data)


def client_of(section: S3Section, *, again: bool = True) -> Minio:
    """A client of the embedded S3; unless it may try *again*, it tries nothing twice."""
    assert section.secret_key is not None
    return Minio(
        section.address.removeprefix("http://"),
        access_key=section.access_key,
        secret_key=section.secret_key.get_secret_value(),
        secure=False,
        http_client=None if again else urllib3.PoolManager(timeout=10, retries=False),
    )
