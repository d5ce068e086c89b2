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
from minio.error import MinioException, S3Error

from drakcelery.errors import DiskFull, SettingsError, StorageAway, StorageError, is_full
from drakcelery.model.certificates import tls_fault
from drakcelery.settings import S3Section
from drakcelery.storage.client import SOCKET_OPTIONS, Client, Retry
from drakcelery.storage.credentials import NoCredentialsError, RoleOrKeys
from drakcelery.storage.refusals import BAD_CREDENTIALS, Asked, refusal

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

_OUT_OF_ORDER = ("RequestTimeTooSkewed", "SlowDown", "ServiceUnavailable", "InternalError")

log = structlog.get_logger(__name__)


class WrongBytesError(Exception):
    """What arrived is not what was sent: worth another transfer."""


def _tls(section: S3Section) -> ssl.SSLContext:
    """Certificates that this machine trusts, and those of the settings. To read the former takes 20 ms."""
    section.require_files()
    context = ssl.create_default_context()
    section.load_files(context)
    return context


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
        keys = (key, secret.get_secret_value()) if key and secret else None
        url = urlsplit(section.address)
        if "@" in url.netloc:
            raise SettingsError("[s3] address: expected no credentials in it, but access_key and secret_key")
        if url.query or url.fragment:
            raise SettingsError(f"[s3] address = {section.address!r}: expected nothing after host and port")
        pool = urllib3.PoolManager(
            maxsize=2 * threads,
            retries=RETRY if patience is None else urllib3.Retry(0),
            timeout=TIMEOUT if patience is None else urllib3.Timeout(connect=patience, read=patience),
            ssl_context=_tls(section) if section.is_encrypted else None,
            socket_options=SOCKET_OPTIONS,
        )
        try:
            client = Client(
                url.netloc,
                access_key=None if section.iam_auth else key,
                secret_key=None if section.iam_auth or keys is None else keys[1],
                credentials=RoleOrKeys(keys) if section.iam_auth else None,
                region=section.region,
                secure=section.is_encrypted,
                http_client=pool,
            )
        except ValueError as error:
            raise SettingsError(f"[s3] address = {section.address!r}: {error}") from None
        user = f"access key {(key or '')[:4]}…"
        if section.iam_auth:
            user = f"the IAM role of this machine (or {user})" if keys else "the IAM role of this machine"
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
            asked = Asked(action=action, grant=grant, bucket=bucket, address=self.address, user=self.user)
            said, remedy = refusal(error, asked)
            raise kind(said).mended_by(remedy) from None
        except (MinioException, urllib3.exceptions.HTTPError) as error:
            raise self._absence(error, action) from None
        except NoCredentialsError as error:
            raise StorageError(f"cannot {action}: {error}").mended_by(
                "Give it a role, or set [s3] access_key and secret_key to what Karton's karton.ini has."
            ) from None
        except (OSError, ValueError) as error:  # a local file; a bucket's name
            if is_full(error):
                raise DiskFull(f"cannot {action}: {error}") from None
            raise StorageError(f"cannot {action}: {error}") from None

    def _absence(self, error: Exception, action: str) -> StorageAway:
        """What it means that no answer came, or none that S3 gives."""
        fault = tls_fault(error, section="s3", plain="let [s3] address begin with http://")
        if fault is not None:
            return StorageAway(f"cannot {action}: S3 at {self.address} {fault.said}").mended_by(fault.remedy)
        reason = getattr(error, "reason", None) or error
        slow = isinstance(reason, urllib3.exceptions.ReadTimeoutError)
        mends = "See what it does: it took the connection, and did not answer in time." if slow else None
        return StorageAway(
            f"cannot {action}: S3 at {self.address} does not answer as it should "
            f"({type(reason).__name__}); see that it runs and can be reached from here"
        ).mended_by(mends or "See that S3 runs and can be reached from here, and see [s3] address.")

    @staticmethod
    def _concerns_all(error: S3Error) -> bool:
        """Whether S3 would answer so to any request: that says nothing of the object that was asked for."""
        code, status = error.code, error.response.status
        return code in (*BAD_CREDENTIALS, *_OUT_OF_ORDER) or status in RETRY.status_forcelist
