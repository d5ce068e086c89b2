"""The artifacts of an analysis as objects in S3, reached by our storage or by the client of boto3."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from drakcelery import settings as our_settings
from drakcelery.artifacts.metadata import METADATA
from drakcelery.errors import ArtifactMissing, BadTask, StorageError
from drakcelery.karton.kept import KEPT
from drakcelery.model.analysis import ObjectRef
from drakcelery.model.names import is_file_name
from drakcelery.reading.sources import parsed, temporary
from drakcelery.settings import DrakcelerySection, Settings

if TYPE_CHECKING:
    from drakcelery.storage import Storage

THREADS = 1
"""Objects are read one after the other."""


class Client(Protocol):
    """What is needed of boto3's client of S3."""

    def get_paginator(self, operation_name: str, /) -> Any:
        """What lists objects."""

    def download_file(self, *, Bucket: str, Key: str, Filename: str) -> None:  # noqa: N803 boto3's names
        """Write an object into a file."""


class Objects(Protocol):
    """Objects in S3."""

    def sizes(self, bucket: str, prefix: str) -> Mapping[str, int]:
        """The size in bytes of each object, by key. Raises :class:`StorageError`."""

    def download(self, bucket: str, key: str, target: Path, *, size: int) -> None:
        """Write an object into a file."""


class StoredObjects:
    """Those that our storage reaches; it checks their sha256."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def sizes(self, bucket: str, prefix: str) -> Mapping[str, int]:
        """All of them."""
        return self._storage.list(bucket, prefix)

    def download(self, bucket: str, key: str, target: Path, *, size: int) -> None:
        """Checked by size and sha256. Raises :class:`ArtifactMissing`, :class:`StorageError`."""
        ref = ObjectRef(bucket=bucket, key=key, name=key, size=size)
        try:
            self._storage.download(ref, target, max_size=size)
        except BadTask:
            raise ArtifactMissing(f"{bucket}/{key} is not there any more") from None


class ClientObjects:
    """Those that a client of boto3 reaches."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def sizes(self, bucket: str, prefix: str) -> Mapping[str, int]:
        """All of them."""
        found = {}
        try:
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                found.update({entry["Key"]: entry["Size"] for entry in page.get("Contents", ())})
        except (BotoCoreError, ClientError) as error:
            raise StorageError(f"list {bucket}/{prefix}: {error}") from None
        return found

    def download(self, bucket: str, key: str, target: Path, *, size: int) -> None:  # noqa: ARG002 checked after
        """Raises boto3's errors."""
        self._client.download_file(Bucket=bucket, Key=key, Filename=str(target))


def objects_of(settings: Settings | None, client: Client | None) -> tuple[Objects, str]:
    """Objects by *client*, else by *settings*, else by those that the command would read; and the bucket of
    analyses there.

    Raises :class:`~drakcelery.errors.SettingsError`.
    """
    if client is not None:
        bucket = settings.drakcelery.bucket if settings else DrakcelerySection().bucket
        return ClientObjects(client), bucket
    from drakcelery.storage import Storage

    ours = settings or our_settings.load(our_settings.find())
    return StoredObjects(Storage.connect(ours.s3, threads=THREADS)), ours.drakcelery.bucket


class BucketSource:
    """The objects of an analysis, below its uid."""

    def __init__(self, objects: Objects, bucket: str, uid: str) -> None:
        self.where = f"{bucket}/{uid}"
        self._objects = objects
        self._bucket, self._prefix = bucket, f"{uid}/"
        found = objects.sizes(bucket, self._prefix)
        names = {key.removeprefix(self._prefix): size for key, size in found.items()}
        self._sizes = {name: size for name, size in names.items() if is_file_name(name) and name not in KEPT}
        if METADATA not in self._sizes:
            raise ArtifactMissing(
                f"no analysis {uid} in the bucket {bucket!r}"
                + (f": it is not complete, since it has no {METADATA}" if found else "")
            )

    def sizes(self) -> Mapping[str, int]:
        """As S3 said at the beginning."""
        return self._sizes

    def open(self, name: str) -> BinaryIO:
        """Downloaded."""
        size = self._sizes[name]
        return temporary(
            lambda path: self._objects.download(self._bucket, self._prefix + name, path, size=size),
            f"{self.where}/{name}",
            size=size,
        )

    def metadata(self) -> Any:
        """The object's."""
        return parsed(self.open(METADATA), f"{self.where}/{METADATA}")

    def headers(self) -> Mapping[str, Any] | None:
        """They are in an object."""
        return None
