"""The S3 client below storage: it works if this host's clock is wrong, and no write of it comes too late.

Facts: each answer of an S3 server has its time in ``Date``; a request that is more than 15 minutes off is
refused as ``RequestTimeTooSkewed``, which an answer to HEAD cannot say, as it has no body (Amazon S3's error
responses; SeaweedFS 4.48, measured). If a server cannot be reached any more, the kernel keeps resending what
the host sent to it for a quarter of an hour (``tcp(7)``, ``tcp_retries2``), and urllib3 does after that.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import structlog
import urllib3
from minio import Minio
from minio.commonconfig import CopySource
from minio.datatypes import Part, parse_copy_object
from minio.error import S3Error
from minio.helpers import MAX_PART_SIZE
from minio.time import to_amz_date
from urllib3.connection import HTTPConnection

log = structlog.get_logger(__name__)

TOLERATED = timedelta(minutes=5)
"""A third of what the server tolerates; smaller differences do not matter."""
SOCKET_OPTIONS = (
    *HTTPConnection.default_socket_options,
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 20_000),
)
"""After 20 seconds the kernel gives up what it cannot send: before others take this host for lost."""

_PLAIN = "application/octet-stream"

_check: ContextVar[Callable[[], None] | None] = ContextVar("_check", default=None)


@contextlib.contextmanager
def fenced(check: Callable[[], None] | None) -> Iterator[None]:
    """Call *check* before this thread repeats a request; what it raises ends the repeats."""
    token = _check.set(check)
    try:
        yield
    finally:
        _check.reset(token)


class Retry(urllib3.Retry):
    """urllib3's, within :func:`fenced`."""

    def sleep(self, response: urllib3.BaseHTTPResponse | None = None) -> None:
        """What urllib3 does before it repeats a request."""
        super().sleep(response)
        if (check := _check.get()) is not None:
            check()


class RegionRefused(S3Error):
    """The key may not ask in which region a bucket is, which signing a request needs to know."""

    @classmethod
    def of(cls, error: S3Error) -> RegionRefused:
        """What S3 answered to that question."""
        return cls(error.response, error.code, error.message, error.resource, error.request_id, error.host_id)


class Client(Minio):
    """minio's client; a request that the server refuses for its time is signed once more, with the server's
    time.

    minio's own ``put_object`` reads all parts of a file in one thread, and uploads only whole objects. So
    this class offers the requests of an upload one by one. All raise minio's and urllib3's errors.
    """

    _ahead = timedelta()
    """How far this host's clock is known to be ahead of the server's."""

    def put(self, bucket: str, key: str, data: bytes, headers: Mapping[str, str]) -> str:
        """Put an object in one request; returns its ETag."""
        result = self._put_object(bucket, key, data, {"Content-Type": _PLAIN, **headers})
        return result.etag or ""

    def copy(self, bucket: str, key: str, source: CopySource, *, size: int) -> None:
        """Copy an object of *size* bytes within S3. minio's ``copy_object`` asks S3 for its size again."""
        if size > MAX_PART_SIZE:
            self.copy_object(bucket, key, source)  # in parts
            return
        answer = self._execute("PUT", bucket, object_name=key, headers={**source.gen_copy_headers()})
        parse_copy_object(answer)  # an error may come with status 200

    def begin(self, bucket: str, key: str, headers: Mapping[str, str]) -> str:
        """Begin a multipart upload; returns its id."""
        return self._create_multipart_upload(bucket, key, {"Content-Type": _PLAIN, **headers})

    def put_part(self, bucket: str, key: str, upload: str, number: int, data: bytes) -> str:
        """Put a part of a multipart upload, the first is 1; returns its ETag."""
        return self._upload_part(bucket, key, data, None, upload, number)

    def complete(self, bucket: str, key: str, upload: str, etags: Sequence[str]) -> str:
        """Make an object of the parts with these ETags; returns its own."""
        parts = [Part(number, etag) for number, etag in enumerate(etags, start=1)]
        result = self._complete_multipart_upload(bucket, key, upload, parts)
        return (result.etag or "").strip('"')

    def abort(self, bucket: str, key: str, upload: str) -> None:
        """Give a multipart upload up."""
        self._abort_multipart_upload(bucket, key, upload)

    def _build_headers(self, *args: Any, **kwargs: Any) -> Any:
        headers, _ = super()._build_headers(*args, **kwargs)
        date = datetime.now(tz=UTC) - self._ahead
        return {**headers, "x-amz-date": to_amz_date(date)}, date

    def _get_region(self, bucket_name: str | None = None) -> str:
        try:
            return super()._get_region(bucket_name)
        except S3Error as error:
            if error.response.status != 403 or error.code != "AccessDenied":
                raise
            raise RegionRefused.of(error) from None

    def _url_open(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super()._url_open(*args, **kwargs)
        except S3Error as error:
            if error.response.status != 403 or not self._learns(error.response.headers.get("Date")):
                raise
        return super()._url_open(*args, **kwargs)

    def _learns(self, date: str | None) -> bool:
        """Learn the server's time from a refusal; whether it was not known before."""
        if date is None:
            return False
        ahead = datetime.now(tz=UTC) - parsedate_to_datetime(date)
        if abs(ahead - self._ahead) < TOLERATED:
            return False
        log.warning("clock_is_wrong", seconds_ahead_of_s3=round(ahead.total_seconds()))
        self._ahead = ahead
        return True
