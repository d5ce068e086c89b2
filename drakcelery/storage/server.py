"""An S3 server: how it is reached, and what its refusals mean to a person.

A request that meets a dead connection or a busy server is repeated by urllib3, with backoff (:data:`RETRY`);
so a part of a large upload is repeated, not the upload. A transfer whose bytes turn out wrong is repeated as
a whole (:data:`TRANSFERS`). A refusal is never repeated.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import urlsplit

import structlog
import urllib3
from minio.credentials.providers import IamAwsProvider
from minio.error import MinioException, S3Error

from drakcelery.errors import SettingsError, StorageAway, StorageError
from drakcelery.settings import S3Section
from drakcelery.storage.client import SOCKET_OPTIONS, Client, Retry

T = TypeVar("T")

TRANSFERS = 3
"""How often a transfer is made whose bytes turn out wrong."""
RETRY = Retry(
    total=6,
    backoff_factor=0.5,
    backoff_max=8,
    backoff_jitter=0.5,
    status_forcelist=(429, 500, 502, 503, 504),
    allowed_methods=None,  # every request may be repeated: S3 has no request that adds up
    raise_on_status=False,
)
"""Waits of 0, 1, 2, 4, 8, 8 seconds, and up to half a second each."""
TIMEOUT = urllib3.Timeout(connect=10, read=120)
"""Seconds. Completing a multipart upload may take a server a while."""

_UNSUPPORTED = ("NotImplemented", "MethodNotAllowed")
_BAD_CREDENTIALS = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken")
_OUT_OF_ORDER = ("RequestTimeTooSkewed", "SlowDown", "ServiceUnavailable", "InternalError")

log = structlog.get_logger(__name__)


class WrongBytesError(Exception):
    """What arrived is not what was sent: worth another transfer."""


@dataclass(frozen=True, kw_only=True)
class Server:
    """A connection to one S3 server. Threads may share it, processes may not: make one after a fork."""

    client: Client
    pool: urllib3.PoolManager
    address: str
    user: str
    """Who we are there, for people."""
    threads: int
    """How many requests an upload makes at the same time."""
    buckets: set[str] = field(default_factory=set)
    """Those that are known to exist."""

    @classmethod
    def connect(cls, section: S3Section, *, threads: int, patience: float | None = None) -> Server:
        """As :meth:`drakcelery.storage.Storage.connect`, which explains it."""
        key, secret = section.access_key, section.secret_key
        if not section.iam_auth and not (key and secret):
            raise SettingsError("[s3] expected access_key and secret_key, or iam_auth = 1")
        url = urlsplit(section.address)
        if "@" in url.netloc:
            raise SettingsError("[s3] address: expected no credentials in it, but access_key and secret_key")
        if url.query or url.fragment:
            raise SettingsError(f"[s3] address = {section.address!r}: expected nothing after host and port")
        pool = urllib3.PoolManager(
            maxsize=2 * threads,
            retries=RETRY if patience is None else urllib3.Retry(0),
            timeout=TIMEOUT if patience is None else urllib3.Timeout(connect=patience, read=patience),
            # To read the certificates of the machine takes 20 ms
            ssl_context=ssl.create_default_context() if url.scheme == "https" else None,
            socket_options=SOCKET_OPTIONS,
        )
        try:
            client = Client(
                url.netloc,
                access_key=None if section.iam_auth else key,
                secret_key=None if section.iam_auth or secret is None else secret.get_secret_value(),
                credentials=IamAwsProvider() if section.iam_auth else None,
                secure=url.scheme == "https",
                http_client=pool,
            )
        except ValueError as error:
            raise SettingsError(f"[s3] address = {section.address!r}: {error}") from None
        user = "the IAM role of this machine" if section.iam_auth else f"access key {(key or '')[:4]}…"
        return cls(client=client, pool=pool, address=section.address, user=user, threads=threads)

    def repeated(self, transfer: Callable[[], T], what: str) -> T:
        """Make the transfer, and make it again where its bytes turn out wrong."""
        for attempt in range(1, TRANSFERS + 1):
            try:
                return transfer()
            except WrongBytesError as error:
                problem = str(error)
                log.warning("transfer_damaged", object=what, attempt=attempt, problem=problem)
        raise StorageError(f"{what} at {self.address}: {problem}, {TRANSFERS} times in a row")

    @contextlib.contextmanager
    def errors(self, action: str, grant: str, bucket: str) -> Iterator[None]:
        """Turn every failure into a sentence; *grant* is what *action* needs."""
        try:
            yield
        except S3Error as error:
            if error.code == "NoSuchBucket":
                self.buckets.discard(bucket)
            kind = StorageAway if self._concerns_all(error) else StorageError
            raise kind(self._refusal(error, action, grant, bucket)) from None
        except (MinioException, urllib3.exceptions.HTTPError) as error:
            reason = getattr(error, "reason", None) or error
            raise StorageAway(
                f"cannot {action}: S3 at {self.address} does not answer as it should "
                f"({type(reason).__name__}); see that it runs and can be reached from here"
            ) from None
        except (OSError, ValueError) as error:  # a local file; a bucket's name, or no IAM role
            raise StorageError(f"cannot {action}: {error}") from None

    @staticmethod
    def _concerns_all(error: S3Error) -> bool:
        """Whether S3 would answer so to any request: that says nothing of the object that was asked for."""
        code, status = error.code, error.response.status
        return code in (*_BAD_CREDENTIALS, *_OUT_OF_ORDER) or status in RETRY.status_forcelist

    def _refusal(self, error: S3Error, action: str, grant: str, bucket: str) -> str:
        if error.code in _BAD_CREDENTIALS:
            return (
                f"cannot {action}: S3 at {self.address} does not accept {self.user} or its secret "
                f"({error.code}); see [s3] access_key and secret_key"
            )
        if error.code == "RequestTimeTooSkewed":
            return (
                f"cannot {action}: S3 at {self.address} finds that the clock of this machine is wrong "
                f"({error.code}); see that it is kept right (timedatectl)"
            )
        if error.response.status == 403:
            return f"{self.user} may not {action} at {self.address}: grant {grant} on {bucket!r} to it"
        if error.code == "NoSuchBucket":
            return f"cannot {action}: there is no bucket {bucket!r} at {self.address}"
        if error.code in _UNSUPPORTED:
            return f"cannot {action}: S3 at {self.address} does not support it ({error.code})"
        return f"cannot {action}: S3 at {self.address} answers {error.code} ({error.response.status})"
