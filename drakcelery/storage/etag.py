"""The ETag that S3 gives to an upload, which shows that S3 has what we sent."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def of_object(data: bytes) -> str:
    """The ETag of an object that was put in one request."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def of_parts(parts: Sequence[str]) -> str:
    """The ETag of a multipart upload; *parts* are the ETags of its parts, in order."""
    digests = b"".join(bytes.fromhex(part) for part in parts)
    return f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"
