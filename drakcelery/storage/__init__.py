"""S3: samples in, artifacts out. The only way there.

A :class:`Storage` may be shared by threads, but not by processes: make one after a fork.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import structlog
from minio.error import S3Error

from drakcelery.errors import BadTask, StorageAway, StorageError
from drakcelery.model.analysis import ObjectRef
from drakcelery.model.names import is_file_name
from drakcelery.settings import S3Section
from drakcelery.storage.client import fenced
from drakcelery.storage.copies import Copies
from drakcelery.storage.receiving import MISSING, fetch, reading, too_large
from drakcelery.storage.rights import Rights
from drakcelery.storage.sending import PART_SIZE, Sending
from drakcelery.storage.server import Server

__all__ = ("PART_SIZE", "Sending", "Storage")

PROBE = "drakcelery-probe"
"""A key without an object; S3 is asked for it to check that it answers."""

log = structlog.get_logger(__name__)


class Storage:
    """The objects of one S3 server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.rights = Rights(server)
        self.copies = Copies(server)

    @classmethod
    def connect(cls, section: S3Section, *, threads: int, patience: float | None = None) -> Storage:
        """Make a client; no request is sent yet. *threads* upload at the same time.

        *patience*: seconds that one answer may take, and nothing is asked twice; None: as said in
        :mod:`drakcelery.storage.server`.

        Raises:
            SettingsError: credentials are missing, or the address is none.
        """
        return cls(Server.connect(section, threads=threads, patience=patience))

    def __repr__(self) -> str:
        return f"<Storage {self._server.address}>"

    def ensure_bucket(self, name: str) -> None:
        """Create the bucket unless it exists; asked only once, until S3 says that there is none.

        Raises:
            StorageError: it is missing and may not be created; says what to grant to whom.
        """
        if name in self._server.buckets or self.has_bucket(name):
            self._server.buckets.add(name)
            return
        with self._server.errors(
            f"create bucket {name!r}",
            "s3:CreateBucket, or create it yourself and grant s3:ListBucket, s3:GetBucketLocation, "
            "s3:GetObject and s3:PutObject",
            name,
        ):
            try:
                self._server.client.make_bucket(name)
            except S3Error as error:
                if error.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                    raise
                log.debug("bucket_created_elsewhere", bucket=name)
            else:
                log.info("bucket_created", bucket=name)
        self._server.buckets.add(name)

    def has_bucket(self, name: str) -> bool:
        """Whether there is such a bucket. Raises :class:`StorageError`."""
        with self._server.errors(f"look for bucket {name!r}", "s3:ListBucket and s3:GetBucketLocation", name):
            return self._server.client.bucket_exists(name)

    def answers(self, bucket: str) -> bool:
        """Whether S3 answers at all, even if it refuses a question about *bucket*; asked once, since whoever
        asks has waited for an answer already."""

        def give_up() -> None:
            raise StorageAway("S3 does not answer")

        try:
            with fenced(give_up):
                self.peek(bucket, PROBE, 1)
        except StorageAway:
            return False
        except (BadTask, StorageError):
            return True
        return True

    def stat(self, bucket: str, key: str) -> int | None:
        """The object's size in bytes; None if there is none. Raises as :meth:`peek` does."""
        with reading(self._server, bucket, key):
            try:
                return self._server.client.stat_object(bucket, key).size
            except S3Error as error:
                if error.code in MISSING:
                    return None
                raise

    def holds(self, bucket: str, key: str) -> bool:
        """Whether there is such an object; in no bucket there is none. Raises as :meth:`peek` does."""
        with reading(self._server, bucket, key):
            try:
                self._server.client.stat_object(bucket, key)
            except S3Error as error:
                if error.code in (*MISSING, "NoSuchBucket"):
                    return False
                raise
            return True

    def peek(self, bucket: str, key: str, length: int) -> tuple[int, bytes] | None:
        """(size in bytes, the first *length* of them) in one request; None if there is no such object.

        Raises:
            BadTask: no object can have this name.
            StorageError: S3 failed or refused.
        """
        with reading(self._server, bucket, key), contextlib.ExitStack() as stack:
            try:
                response = self._server.client.get_object(bucket, key, offset=0, length=length)
            except S3Error as error:
                if error.code in MISSING:
                    return None
                if error.code == "InvalidRange":  # the object is empty
                    return 0, b""
                raise
            stack.callback(response.close)
            head = bytes(response.read(length))
            # A server that sends the whole object instead of a range says only its length
            _, _, size = response.headers.get("Content-Range", "").rpartition("/")
            return int(size or response.headers.get("Content-Length") or len(head)), head

    def piece(self, bucket: str, key: str, first: int, length: int) -> tuple[int, bytes] | None:
        """(size in bytes, at most *length* bytes from the byte *first* on), by a range request.

        None if there is no such object. No bytes behind its end. Raises as :meth:`peek` does.
        """
        if first == 0:
            return self.peek(bucket, key, length)
        with reading(self._server, bucket, key), contextlib.ExitStack() as stack:
            try:
                response = self._server.client.get_object(bucket, key, offset=first, length=length)
            except S3Error as error:
                if error.code in MISSING:
                    return None
                if error.code == "InvalidRange":
                    return self.stat(bucket, key) or 0, b""
                raise
            stack.callback(response.close)
            _, _, size = response.headers.get("Content-Range", "").rpartition("/")
            if not size.isdecimal():
                raise StorageError(f"{bucket}/{key}: S3 sends the whole object instead of a range of it")
            return int(size), bytes(response.read(length))

    def download(self, ref: ObjectRef, target: Path, *, max_size: int) -> str:
        """Stream an object to *target*, which appears complete and checked, or not at all.

        Length and sha256 are checked as far as *ref* states them. Returns the sha256 in hex.

        Raises:
            BadTask: there is no such object, or it is larger than *max_size* bytes.
            DiskFull: *target* has no room.
            StorageError: S3 failed or refused, or its bytes are not what *ref* states.
        """
        if ref.size is not None and ref.size > max_size:
            raise BadTask(too_large(ref.bucket, ref.key, max_size))
        return fetch(
            self._server, ref.bucket, ref.key, target, size=ref.size, sha256=ref.sha256, max_size=max_size
        )

    def download_all(
        self, bucket: str, prefix: str, to: Path, *, without: Collection[str] = ()
    ) -> list[Path]:
        """Download every object directly below ``<prefix>/`` into the directory *to*, replacing files there;
        none whose name is in *without*.

        Names are not trusted: an object whose name is no plain file name is left out and logged. The sha256
        is checked where :meth:`upload_all` stored it. Raises :class:`BadTask`, :class:`DiskFull`,
        :class:`StorageError`.
        """
        to.mkdir(parents=True, exist_ok=True)
        paths = []
        for key, size in self.list(bucket, f"{prefix}/").items():
            name = key.removeprefix(f"{prefix}/")
            if name in without:
                continue
            if not is_file_name(name):
                log.warning("object_name_refused", bucket=bucket, key=key)
                continue
            fetch(self._server, bucket, key, to / name, size=size, sha256=None)
            paths.append(to / name)
        return paths

    def list(self, bucket: str, prefix: str) -> dict[str, int]:
        """Size in bytes of every object whose key starts with *prefix*. Raises :class:`StorageError`."""
        with self._server.errors(f"list {bucket}/{prefix}", "s3:ListBucket", bucket):
            found = self._server.client.list_objects(bucket, prefix=prefix, recursive=True)
            return {entry.object_name: entry.size or 0 for entry in found if entry.object_name}

    def folders(self, bucket: str) -> Iterator[str]:
        """What stands before the first slash of keys, each once, as S3 lists it. Raises as :meth:`list`."""
        with self._server.errors(f"list {bucket}", "s3:ListBucket", bucket):
            for entry in self._server.client.list_objects(bucket):
                if entry.is_dir and entry.object_name:
                    yield entry.object_name.removesuffix("/")

    def link(self, bucket: str, key: str, *, name: str, seconds: int) -> str:
        """An address from which anyone may download the object for *seconds*, as a file called *name*.

        A browser saves the file without showing it, so that nothing from a sample runs in S3's origin.
        Nothing is asked of S3, so the object may be missing. Raises :class:`StorageError`.
        """
        if not is_file_name(name):
            raise StorageError(f"{bucket}/{key}: no file can be called {name!r}")
        with self._server.errors(f"sign a link to {bucket}/{key}", "s3:GetBucketLocation", bucket):
            return self._server.client.presigned_get_object(
                bucket,
                key,
                expires=timedelta(seconds=seconds),
                response_headers={
                    "response-content-disposition": f'attachment; filename="{name}"',
                    "response-content-type": "application/octet-stream",
                },
            )

    def remove(self, bucket: str, key: str) -> None:
        """Remove an object; none there is fine. Raises :class:`StorageError`."""
        with self._server.errors(f"remove {bucket}/{key}", "s3:DeleteObject", bucket):
            self._server.client.remove_object(bucket, key)

    @contextlib.contextmanager
    def sending(
        self, bucket: str, prefix: str, *, check: Callable[[], None] | None = None, patient: bool = True
    ) -> Iterator[Sending]:
        """Upload files to ``<prefix>/`` while others are still being made; see :class:`Sending`."""
        with Sending(self._server, bucket, prefix, check=check, patient=patient) as sending:
            yield sending

    def upload_all(
        self,
        bucket: str,
        prefix: str,
        files: Mapping[str, Path],
        *,
        last: str = "metadata.json",
        sha256: Mapping[str, str] | None = None,
        check: Callable[[], None] | None = None,
    ) -> None:
        """Upload *files* as ``<prefix>/<name>``, in parallel, each checked; *last* when all others are there.

        *sha256* of the files, by name, as far as it is known: the others are read once more for it. Nothing
        goes on after this has returned or raised. *check* is called before each object, and before a request
        is repeated; what it raises ends the upload.

        Raises:
            StorageError: names the object that failed; *last* was then not uploaded. An empty file is a
                failure: some servers stall on empty objects.
            ValueError: *last* is not among the files.
        """
        if last not in files:
            raise ValueError(f"{last} is not among the files: nothing would say that they are complete")
        known = sha256 or {}
        with self.sending(bucket, prefix, check=check) as sending:
            for name in sorted(files, key=lambda name: name == last):
                if name == last:
                    sending.finish()
                sending.put(name, files[name], sha256=known.get(name))
            sending.finish()
        log.info("uploaded", bucket=bucket, prefix=prefix, objects=len(files), bytes=sending.size)
