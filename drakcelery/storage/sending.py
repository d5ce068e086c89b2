"""Files on their way to S3: in the background, in parallel, each read once and checked."""

from __future__ import annotations

import contextlib
import contextvars
import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import structlog
import urllib3
from minio.error import MinioException, S3Error

from drakcelery import safe_files
from drakcelery.errors import EvidenceLost, StorageAway
from drakcelery.storage import etag
from drakcelery.storage.client import fenced
from drakcelery.storage.receiving import SHA256_HEADER, receive
from drakcelery.storage.server import Server, WrongBytesError
from drakcelery.telemetry import metrics

PART_SIZE = 16 * 1024**2
"""Bytes of a part of a multipart upload; each thread of an upload holds one in memory, and their reader."""

_DAMAGED = ("BadDigest", "XAmzContentSHA256Mismatch", "IncompleteBody", "RequestTimeout", "NoSuchUpload")
"""Error codes for bytes that were lost or changed on their way. NoSuchUpload: the upload was completed, but
the answer was lost."""

log = structlog.get_logger(__name__)


class Sending:
    """Objects below one prefix, put in the background while the block lasts; nothing runs on after it.

    Small files go in parallel, large ones one by one with their parts in parallel, all over the same
    connections and threads. After the first failure nothing more is begun, and :meth:`finish` raises it.
    *check* is called before each object and before a request is repeated; what it raises is a failure.
    If it is not *patient*, no request is repeated.
    """

    def __init__(
        self,
        server: Server,
        bucket: str,
        prefix: str,
        *,
        check: Callable[[], None] | None = None,
        patient: bool = True,
    ) -> None:
        self._server = server
        self._bucket = bucket
        self._prefix = prefix
        self._check = check
        self._patient = patient
        self._context = contextvars.copy_context()  # put() may be called from a thread that knows nothing
        self._requests = ThreadPoolExecutor(server.threads, thread_name_prefix="upload")
        self._large = ThreadPoolExecutor(1, thread_name_prefix="upload-large")
        self._jobs: list[Future[None]] = []
        self._failed = False
        self.done: set[str] = set()
        """Names of the objects that are there, checked."""
        self.size = 0
        """Bytes of the files that were accepted."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._failed = self._failed or error is not None
        if error is not None:
            self._requests.shutdown(wait=False, cancel_futures=True)  # a large file gets no more parts
        self._large.shutdown(cancel_futures=error is not None)
        self._requests.shutdown()

    def put(self, name: str, path: Path, *, sha256: str | None = None) -> None:
        """Begin to put the file at *path*; one that grows meanwhile, as a log does, is cut off.

        Its sha256 is stored with it, and compared with what is sent; None: compute it.

        Raises:
            EvidenceLost: there is no file, or nothing in it.
        """
        with _local(name):
            size = path.lstat().st_size
        if not size:
            raise EvidenceLost(f"{name} is empty: nothing of it would be stored")
        self.size += size
        pool = self._large if size > PART_SIZE else self._requests
        self._jobs.append(
            pool.submit(self._context.copy().run, self._put, name, path, size=size, sha256=sha256)
        )

    def finish(self) -> None:
        """Wait for all uploads that were begun. Raises the first failure."""
        wait(self._jobs)
        for job in self._jobs:
            job.result()

    def _put(self, name: str, path: Path, *, size: int, sha256: str | None) -> None:
        if self._failed:
            return
        key = f"{self._prefix}/{name}"
        try:
            if self._check is not None:
                self._check()
            with _local(name):
                opened = safe_files.opened(path)
            with opened as file, fenced(self._before_a_repeat), self._errors(name):
                if size > PART_SIZE:
                    self._put_large(name, file, size, sha256 or _sha256(file, size))
                else:
                    data = _read(file, 0, size)
                    _compare(name, hashlib.sha256(data).hexdigest(), sha256)
                    put(self._server, self._bucket, key, data, sha256=sha256)
        except BaseException:
            self._failed = True
            raise
        self.done.add(name)

    def _before_a_repeat(self) -> None:
        if not self._patient:
            raise StorageAway(f"S3 at {self._server.address} does not answer at once")
        if self._check is not None:
            self._check()

    def _put_large(self, name: str, file: BinaryIO, size: int, sha256: str) -> None:
        client, bucket, key = self._server.client, self._bucket, f"{self._prefix}/{name}"

        def transfer() -> None:
            with _damages():
                upload = client.begin(bucket, key, {SHA256_HEADER: sha256})
                try:
                    parts, read = self._put_parts(key, upload, file, size)
                    _compare(name, read, sha256)
                    if self._check is not None:
                        self._check()  # the parts took a while, and nothing shows before they are complete
                    stored = client.complete(bucket, key, upload, [given for given, _ in parts])
                except BaseException:
                    with contextlib.suppress(MinioException, urllib3.exceptions.HTTPError):
                        client.abort(bucket, key, upload)
                    raise
            sent = etag.of_parts([computed for _, computed in parts])
            _verify(self._server, bucket, key, stored=stored, sent=sent, size=size, sha256=sha256)

        self._server.repeated(transfer, f"{bucket}/{key}")
        metrics.uploaded(size)

    def _put_parts(
        self, key: str, upload: str, file: BinaryIO, size: int
    ) -> tuple[list[tuple[str, str]], str]:
        """The ETag of each part, as the server gives it and as we compute it; the sha256 of all of them."""

        def put_part(number: int, data: bytes) -> tuple[str, str]:
            given = self._server.client.put_part(self._bucket, key, upload, number, data)
            return given, etag.of_object(data)

        digest, etags = hashlib.sha256(), list[tuple[str, str]]()
        jobs: deque[Future[tuple[str, str]]] = deque()
        try:
            for number, offset in enumerate(range(0, size, PART_SIZE), start=1):
                if len(jobs) == self._server.threads:  # so many parts are in memory, and the next one
                    etags.append(jobs.popleft().result())
                data = _read(file, offset, min(PART_SIZE, size - offset))
                digest.update(data)
                job = self._requests.submit(contextvars.copy_context().run, put_part, number, data)
                jobs.append(job)
            while jobs:
                etags.append(jobs.popleft().result())
            return etags, digest.hexdigest()
        finally:
            for job in jobs:
                job.cancel()
            for job in jobs:  # what runs is waited for; wait() would wait forever for what was cancelled
                with contextlib.suppress(Exception, CancelledError):
                    job.result()

    def _errors(self, name: str) -> contextlib.AbstractContextManager[None]:
        return self._server.errors(
            f"write {self._bucket}/{self._prefix}/{name}", "s3:PutObject", self._bucket
        )


def put(server: Server, bucket: str, key: str, data: bytes, *, sha256: str | None = None) -> None:
    """Put an object of one part that is not empty. Raises :class:`StorageError`."""
    digest = sha256 or hashlib.sha256(data).hexdigest()

    def transfer() -> None:
        with _damages():
            stored = server.client.put(bucket, key, data, {SHA256_HEADER: digest})
        sent = etag.of_object(data)
        _verify(server, bucket, key, stored=stored, sent=sent, size=len(data), sha256=digest)

    with server.errors(f"write {bucket}/{key}", "s3:PutObject", bucket):
        if not data:
            raise ValueError("an empty object is never put")
        server.repeated(transfer, f"{bucket}/{key}")
    metrics.uploaded(len(data))


def _verify(server: Server, bucket: str, key: str, *, stored: str, sent: str, size: int, sha256: str) -> None:
    """Compare ETags. If they differ, the server encrypts or the bytes are wrong, so read them back."""
    if stored != sent:
        log.debug("etag_differs", bucket=bucket, key=key, etag=stored)
        receive(server, bucket, key, None, size=size, sha256=sha256)


@contextlib.contextmanager
def _local(name: str) -> Iterator[None]:
    """Report a local file that cannot be read as our error, not as S3's, which would be waited for."""
    try:
        yield
    except OSError as error:
        raise EvidenceLost(f"{name} cannot be read: {error}") from None


def _compare(name: str, read: str, known: str | None) -> None:
    if known is not None and read != known:
        raise EvidenceLost(f"{name} is not what collect made: its sha256 is {read} instead of {known}")


@contextlib.contextmanager
def _damages() -> Iterator[None]:
    try:
        yield
    except S3Error as error:
        if error.code in _DAMAGED:
            raise WrongBytesError(f"the server says {error.code}") from None
        raise


def _read(file: BinaryIO, offset: int, length: int) -> bytes:
    """Read these bytes of a file, independently of other threads."""
    with _local(Path(file.name).name):
        data = os.pread(file.fileno(), length, offset)
        if len(data) < length:
            raise OSError("the file has become shorter")
    return data


def _sha256(file: BinaryIO, length: int) -> str:
    digest, offset = hashlib.sha256(), 0
    while offset < length:
        chunk = _read(file, offset, min(1024**2, length - offset))
        digest.update(chunk)
        offset += len(chunk)
    return digest.hexdigest()
