"""Objects on their way from S3: streamed, and checked by length and sha256."""

from __future__ import annotations

import contextlib
import hashlib
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import urllib3
from minio.error import S3Error

from drakcelery.errors import BadTask
from drakcelery.model.text import is_storable
from drakcelery.storage.server import Server, WrongBytesError

SHA256_HEADER = "x-amz-meta-sha256"
"""The header in which an object that we put has its sha256."""

_CHUNK = 1024**2
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{1,61}[A-Za-z0-9]")
MISSING = ("NoSuchKey", "NoSuchObject", "NoSuchVersion")
"""Error codes for an object that does not exist."""


def fetch(
    server: Server,
    bucket: str,
    key: str,
    target: Path,
    *,
    size: int | None,
    sha256: str | None,
    max_size: int | None = None,
) -> str:
    """Stream an object to *target*, which appears complete and checked, or not at all; returns its sha256.

    Raises :class:`BadTask`, :class:`DiskFull`, :class:`StorageError`.
    """
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex}")

    def transfer() -> str:
        with part.open("wb") as out:
            return receive(server, bucket, key, out, size=size, sha256=sha256, max_size=max_size)

    try:
        with reading(server, bucket, key):
            digest = server.repeated(transfer, f"{bucket}/{key}")
        part.rename(target)
    finally:
        part.unlink(missing_ok=True)
    return digest


def receive(
    server: Server,
    bucket: str,
    key: str,
    out: BinaryIO | None,
    *,
    size: int | None,
    sha256: str | None,
    max_size: int | None = None,
) -> str:
    """Stream an object to *out*, checking it; returns its sha256. Raises minio's errors and our own."""
    response = server.client.get_object(bucket, key)
    digest, length = hashlib.sha256(), 0
    try:
        stated = sha256 or response.headers.get(SHA256_HEADER)
        for chunk in response.stream(_CHUNK):
            length += len(chunk)
            if size is not None and length > size:
                break
            if max_size is not None and length > max_size:
                raise BadTask(too_large(bucket, key, max_size))
            digest.update(chunk)
            if out is not None:
                out.write(chunk)
    except (urllib3.exceptions.ProtocolError, urllib3.exceptions.TimeoutError) as error:
        raise WrongBytesError(f"the connection broke after {length} bytes") from error
    finally:
        response.close()
    if size is not None and length != size:
        raise WrongBytesError(f"{length} bytes arrived instead of {size}")
    if stated and digest.hexdigest() != stated.lower():
        raise WrongBytesError(f"its sha256 is {digest.hexdigest()} instead of {stated}")
    return digest.hexdigest()


@contextlib.contextmanager
def reading(server: Server, bucket: str, key: str) -> Iterator[None]:
    """Turn failures to read an object into sentences; one that is not there is a :class:`BadTask`."""
    if not (_BUCKET.fullmatch(bucket) and _is_key(key)):
        raise BadTask(f"bucket {bucket!r}, key {key!r}: no object can have this name")
    with server.errors(f"read {bucket}/{key}", "s3:GetObject and s3:ListBucket", bucket):
        try:
            yield
        except S3Error as error:
            if error.code in MISSING:
                raise gone(bucket, key) from None
            raise


def gone(bucket: str, key: str) -> BadTask:
    """The error about an object that is not there."""
    return BadTask(f"sample {key!r} is not in bucket {bucket!r} any more")


def _is_key(key: str) -> bool:
    """Whether an object can have this key: S3 has 1024 bytes of UTF-8 for it, clients resolve dots."""
    if not key.strip() or not is_storable(key) or len(key.encode()) > 1024:
        return False
    return not any(part in (".", "..") for part in key.split("/"))


def too_large(bucket: str, key: str, max_size: int) -> str:
    """The sentence."""
    return f"{bucket}/{key} is larger than the {max_size} bytes that are allowed"
