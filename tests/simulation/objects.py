"""A model of S3 below the product's storage: what its client asks a server, answered from memory."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import urllib3
from minio.commonconfig import CopySource
from minio.error import S3Error

from drakcelery.storage import Storage, etag
from drakcelery.storage import client as storage_client
from drakcelery.storage.server import Server
from tests.simulation.client import Wire
from tests.simulation.theatre import Theatre

PAUSES = (0.0, 1.0, 2.0, 4.0, 8.0, 8.0)
"""Before a request is repeated; as :data:`drakcelery.storage.server.RETRY` has them."""


@dataclass(eq=False)
class Stored:
    """An object."""

    data: bytes
    headers: dict[str, str]


class Objects:
    """The server: buckets and their objects."""

    def __init__(self) -> None:
        self.buckets: dict[str, dict[str, Stored]] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.numbers = itertools.count(1)
        self.were_removed = False
        """Whether somebody has removed artifacts."""
        self.forbidden: set[str] = set()
        """Buckets to which access is refused."""

    def bucket(self, name: str) -> dict[str, Stored]:
        """One of them. Raises minio's error where there is none."""
        if name in self.forbidden:
            raise refusal("AccessDenied", 403, name)
        if name not in self.buckets:
            raise refusal("NoSuchBucket", 404, name)
        return self.buckets[name]


class Body:
    """An answer that is read in pieces."""

    def __init__(self, data: bytes, headers: Mapping[str, str]) -> None:
        self._data = data
        self.headers = dict(headers)

    def read(self, length: int | None = None) -> bytes:
        """As urllib3's."""
        return self._data[:length]

    def stream(self, chunk: int) -> Iterator[bytes]:
        """As urllib3's."""
        for begin in range(0, len(self._data), chunk):
            yield self._data[begin : begin + chunk]

    def close(self) -> None:
        """As urllib3's."""


class ObjectClient:
    """What the product's storage asks; each request is a cut, and may not get through."""

    def __init__(self, theatre: Theatre, objects: Objects, wire: Wire, *, seconds: float) -> None:
        """*seconds*: how long an answer takes where the server is slow; it is asked of the wire."""
        self._theatre = theatre
        self._objects = objects
        self._wire = wire
        self._seconds = seconds

    def _ask(self, label: str) -> None:
        for pause in (*PAUSES, None):
            self._theatre.cut(label)
            if slow := getattr(self._wire, "seconds", 0.0):
                self._theatre.sleep(slow)
            if not self._wire.is_cut():
                return
            if pause is None:
                break
            self._theatre.sleep(pause + 0.1)
            if (check := storage_client._check.get()) is not None:
                check()
        raise urllib3.exceptions.MaxRetryError(cast("Any", None), "/", ConnectionRefusedError("refused"))

    def bucket_exists(self, name: str) -> bool:
        """As minio's."""
        self._ask("S3.HEAD")
        if name in self._objects.forbidden:
            raise refusal("AccessDenied", 403, name)
        return name in self._objects.buckets

    def make_bucket(self, name: str) -> None:
        """As minio's."""
        self._ask("S3.PUT")
        self._objects.buckets.setdefault(name, {})

    def _object(self, bucket: str, key: str) -> Stored:
        if ".." in key:
            raise refusal("XMinioInvalidObjectName", 400, bucket)
        found = self._objects.bucket(bucket).get(key)
        if found is None:
            raise refusal("NoSuchKey", 404, bucket)
        return found

    def stat_object(self, bucket: str, key: str) -> SimpleNamespace:
        """As minio's."""
        self._ask("S3.HEAD")
        found = self._object(bucket, key)
        return SimpleNamespace(size=len(found.data), metadata=found.headers, etag=etag.of_object(found.data))

    def get_object(self, bucket: str, key: str, offset: int = 0, length: int = 0) -> Body:
        """As minio's."""
        self._ask("S3.GET")
        found = self._object(bucket, key)
        size = len(found.data)
        if not length:
            return Body(found.data, {**found.headers, "Content-Length": str(size)})
        if offset >= size:
            raise refusal("InvalidRange", 416, bucket)
        part = found.data[offset : offset + length]
        return Body(
            part, {**found.headers, "Content-Range": f"bytes {offset}-{offset + len(part) - 1}/{size}"}
        )

    def list_objects(self, bucket: str, prefix: str = "", recursive: bool = False) -> list[SimpleNamespace]:  # noqa: ARG002 minio's
        """As minio's."""
        self._ask("S3.LIST")
        there = sorted(self._objects.bucket(bucket).items())
        return [
            SimpleNamespace(object_name=key, size=len(one.data))
            for key, one in there
            if key.startswith(prefix)
        ]

    def remove_object(self, bucket: str, key: str) -> None:
        """As minio's."""
        self._ask("S3.DELETE")
        self._objects.bucket(bucket).pop(key, None)

    def copy_object(self, bucket: str, key: str, source: CopySource) -> None:
        """As minio's."""
        self._ask("S3.PUT")
        found = self._object(source.bucket_name, source.object_name)
        self._objects.bucket(bucket)[key] = Stored(found.data, dict(found.headers))

    # As drakcelery.storage.client.Client has them

    def copy(self, bucket: str, key: str, source: CopySource, *, size: int) -> None:  # noqa: ARG002 as the original
        """In one request."""
        self.copy_object(bucket, key, source)

    def put(self, bucket: str, key: str, data: bytes, headers: Mapping[str, str]) -> str:
        """In one request."""
        self._ask("S3.PUT")
        self._objects.bucket(bucket)[key] = Stored(data, dict(headers))
        return etag.of_object(data)

    def begin(self, bucket: str, key: str, headers: Mapping[str, str]) -> str:  # noqa: ARG002 as the original
        """A multipart upload."""
        self._ask("S3.POST")
        self._objects.bucket(bucket)
        name = f"upload-{next(self._objects.numbers)}"
        self._objects.uploads[name] = {}
        self._headers = dict(headers)
        return name

    def put_part(self, bucket: str, key: str, upload: str, number: int, data: bytes) -> str:  # noqa: ARG002 as the original
        """Of a multipart upload."""
        self._ask("S3.PUT")
        if upload not in self._objects.uploads:
            raise refusal("NoSuchUpload", 404, bucket)
        self._objects.uploads[upload][number] = data
        return etag.of_object(data)

    def complete(self, bucket: str, key: str, upload: str, etags: Sequence[str]) -> str:
        """Make the object of its parts."""
        self._ask("S3.POST")
        parts = self._objects.uploads.pop(upload, None)
        if parts is None:
            raise refusal("NoSuchUpload", 404, bucket)
        data = b"".join(parts[number] for number in sorted(parts))
        self._objects.bucket(bucket)[key] = Stored(data, self._headers)
        return etag.of_parts(list(etags))

    def abort(self, bucket: str, key: str, upload: str) -> None:  # noqa: ARG002 as the original
        """Give a multipart upload up."""
        self._ask("S3.DELETE")
        self._objects.uploads.pop(upload, None)


def refusal(code: str, status: int, bucket: str) -> S3Error:
    """As a server says it."""
    response = urllib3.HTTPResponse(status=status, headers={})
    return S3Error(
        cast("Any", response), code, code, resource=bucket, request_id="", host_id="", bucket_name=bucket
    )


def storage_on(theatre: Theatre, objects: Objects, wire: Wire) -> Storage:
    """The product's storage on the model."""
    client = ObjectClient(theatre, objects, wire, seconds=0.0)
    return Storage(
        Server(
            client=cast("Any", client),
            pool=urllib3.PoolManager(),
            address="http://s3.simulated",
            user="the simulation",
            threads=2,
        )
    )


def digest(data: bytes) -> str:
    """sha256 in hex."""
    return hashlib.sha256(data).hexdigest()
