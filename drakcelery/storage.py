"""S3: samples in, artifacts out. The only importer of ``minio``.

Two kinds of retry, each where it belongs. A request that meets a dead connection or a busy server is repeated
by urllib3, with backoff (:data:`RETRY`); so a part of a large upload is repeated, not the upload. A transfer
whose bytes turn out wrong is repeated as a whole (:data:`TRANSFERS`). A refusal is never repeated.

A :class:`Storage` may be shared by threads, but not by processes: make one after a fork.
"""

from __future__ import annotations

import contextlib
import contextvars
import hashlib
import io
import os
import re
import ssl
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO, TypeVar, cast
from urllib.parse import urlsplit

import structlog
import urllib3
from minio import Minio
from minio.commonconfig import ENABLED, Filter
from minio.credentials.providers import IamAwsProvider
from minio.error import MinioException, S3Error
from minio.lifecycleconfig import Expiration, LifecycleConfig, Rule

from drakcelery import s3client
from drakcelery.analysis import ObjectRef
from drakcelery.errors import BadTask, SettingsError, StorageAway, StorageError
from drakcelery.etag import FileOnItsWay
from drakcelery.monitoring import metrics
from drakcelery.settings import S3Section

T = TypeVar("T")

PART_SIZE = 16 * 1024**2
"""Bytes of a part of a multipart upload; each upload thread holds one in memory."""
TRANSFERS = 3
"""How often a transfer is made whose bytes turn out wrong."""
RETRY = s3client.Retry(
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

_CHUNK = 1024**2
_SHA256_HEADER = "x-amz-meta-sha256"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{1,61}[A-Za-z0-9]")
_MISSING = ("NoSuchKey", "NoSuchObject", "NoSuchVersion")
_DAMAGED = ("BadDigest", "XAmzContentSHA256Mismatch", "IncompleteBody", "RequestTimeout", "NoSuchUpload")
"""What a server says of bytes that got lost or changed on their way. NoSuchUpload: the upload was completed,
and the answer lost."""
_UNSUPPORTED = ("NotImplemented", "MethodNotAllowed")
_BAD_CREDENTIALS = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken")

log = structlog.get_logger(__name__)


class _WrongBytesError(Exception):
    """What arrived is not what was sent: worth another transfer."""


class Storage:
    """The objects of one S3 server."""

    def __init__(
        self, client: Minio, pool: urllib3.PoolManager, *, address: str, user: str, threads: int
    ) -> None:
        self._client = client
        self._pool = pool
        self._address = address
        self._user = user
        self._threads = threads

    @classmethod
    def connect(cls, section: S3Section, *, threads: int, patience: float | None = None) -> Storage:
        """Make a client; no request is sent yet. *threads* upload at the same time.

        *patience*: seconds that one answer may take, and nothing is asked twice; None: as said above.

        Raises:
            SettingsError: credentials are missing, or the address is none.
        """
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
            ssl_context=ssl.create_default_context(),
            socket_options=s3client.SOCKET_OPTIONS,
        )
        try:
            client = s3client.Client(
                url.netloc,
                access_key=None if section.iam_auth else key,
                secret_key=None if section.iam_auth or secret is None else secret.get_secret_value(),
                credentials=IamAwsProvider() if section.iam_auth else None,
                secure=url.scheme == "https",
                http_client=pool,
            )
        except ValueError as error:
            raise SettingsError(f"[s3] address = {section.address!r}: {error}") from None
        user = "the IAM role of this machine" if section.iam_auth else f"access key {_shortened(key)}"
        return cls(client, pool, address=section.address, user=user, threads=threads)

    def __repr__(self) -> str:
        return f"<Storage {self._address}>"

    def ensure_bucket(self, name: str) -> None:
        """Create the bucket unless it exists.

        Raises:
            StorageError: it is missing and may not be created; says what to grant to whom.
        """
        if self.has_bucket(name):
            return
        with self._errors(
            f"create bucket {name!r}",
            "s3:CreateBucket, or create it yourself and grant s3:ListBucket, s3:GetBucketLocation, "
            "s3:GetObject and s3:PutObject",
            name,
        ):
            try:
                self._client.make_bucket(name)
            except S3Error as error:
                if error.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                    raise
                log.debug("bucket_created_elsewhere", bucket=name)
            else:
                log.info("bucket_created", bucket=name)

    def software(self) -> str:
        """What the server calls itself in its Server header; empty where it does not say.

        Raises :class:`StorageError`.
        """
        with self._errors("ask S3 for its name", "", ""):
            return self._pool.request("GET", self._address).headers.get("Server", "")

    def bucket_policy(self, bucket: str) -> str | None:
        """The bucket's policy, as JSON; None where it has none. Raises :class:`StorageError`."""
        with self._errors(f"read the policy of {bucket!r}", "s3:GetBucketPolicy", bucket):
            try:
                return self._client.get_bucket_policy(bucket)
            except S3Error as error:
                if error.code == "NoSuchBucketPolicy":
                    return None
                raise

    def set_bucket_policy(self, bucket: str, policy: str) -> None:
        """Replace the bucket's policy. Raises :class:`StorageError`."""
        with self._errors(f"set the policy of {bucket!r}", "s3:PutBucketPolicy", bucket):
            self._client.set_bucket_policy(bucket, policy)

    def expirations(self, bucket: str) -> dict[str, int | None]:
        """The bucket's lifecycle rules by id: the days after which all objects go; None: it says otherwise.

        Raises :class:`StorageError`.
        """
        with self._errors(f"read the lifecycle of {bucket!r}", "s3:GetLifecycleConfiguration", bucket):
            found = self._client.get_bucket_lifecycle(bucket)
        rules = found.rules if found is not None else []
        return {rule.rule_id or f"rule {number}": _days(rule) for number, rule in enumerate(rules, start=1)}

    def set_expiration(self, bucket: str, rule: str, days: int) -> None:
        """Make *rule*, which removes all objects that old, the bucket's only one. :class:`StorageError`."""
        only = Rule(ENABLED, rule_filter=Filter(prefix=""), rule_id=rule, expiration=Expiration(days=days))
        with self._errors(f"set the lifecycle of {bucket!r}", "s3:PutLifecycleConfiguration", bucket):
            self._client.set_bucket_lifecycle(bucket, LifecycleConfig([only]))

    def has_bucket(self, name: str) -> bool:
        """Whether there is such a bucket. Raises :class:`StorageError`."""
        with self._errors(f"look for bucket {name!r}", "s3:ListBucket and s3:GetBucketLocation", name):
            return self._client.bucket_exists(name)

    def stat(self, bucket: str, key: str) -> int | None:
        """The object's size in bytes; None if there is none. Raises as :meth:`head` does."""
        with self._reading(bucket, key):
            try:
                return self._client.stat_object(bucket, key).size
            except S3Error as error:
                if error.code in _MISSING:
                    return None
                raise

    def head(self, bucket: str, key: str, length: int) -> bytes:
        """The first *length* bytes of an object, fewer where it is shorter.

        Raises:
            BadTask: there is no such object, or can be none of this name.
            StorageError: S3 failed or refused.
        """
        with self._reading(bucket, key), contextlib.ExitStack() as stack:
            try:
                response = self._client.get_object(bucket, key, offset=0, length=length)
            except S3Error as error:
                if error.code == "InvalidRange":  # the object is empty
                    return b""
                raise
            stack.callback(response.close)
            return bytes(response.read(length))

    def download(self, ref: ObjectRef, target: Path, *, max_size: int) -> str:
        """Stream an object to *target*, which appears complete and checked, or not at all.

        Length and sha256 are checked as far as *ref* states them. Returns the sha256 in hex.

        Raises:
            BadTask: there is no such object, or it is larger than *max_size* bytes.
            StorageError: S3 failed or refused, or its bytes are not what *ref* states.
        """
        if ref.size is not None and ref.size > max_size:
            raise BadTask(_too_large(ref.bucket, ref.key, max_size))
        return self._fetch(ref.bucket, ref.key, target, size=ref.size, sha256=ref.sha256, max_size=max_size)

    def download_all(self, bucket: str, prefix: str, to: Path) -> list[Path]:
        """Download every object directly below ``<prefix>/`` into the directory *to*, replacing files there.

        Names are not trusted: an object whose name is no plain file name is left out and logged. The sha256
        is checked where :meth:`upload_all` stored it. Raises :class:`BadTask`, :class:`StorageError`.
        """
        to.mkdir(parents=True, exist_ok=True)
        paths = []
        for key, size in self.list(bucket, f"{prefix}/").items():
            name = key.removeprefix(f"{prefix}/")
            if not _NAME.fullmatch(name):
                log.warning("object_name_refused", bucket=bucket, key=key)
                continue
            self._fetch(bucket, key, to / name, size=size, sha256=None)
            paths.append(to / name)
        return paths

    def list(self, bucket: str, prefix: str) -> dict[str, int]:
        """Size in bytes of every object whose key starts with *prefix*. Raises :class:`StorageError`."""
        with self._errors(f"list {bucket}/{prefix}", "s3:ListBucket", bucket):
            found = self._client.list_objects(bucket, prefix=prefix, recursive=True)
            return {entry.object_name: entry.size or 0 for entry in found if entry.object_name}

    def put_bytes(self, bucket: str, key: str, data: bytes) -> None:
        """Put a small object that is not empty. Raises :class:`StorageError`."""
        self._put(bucket, key, io.BytesIO(data), len(data), parallel=1)

    def link(self, bucket: str, key: str, *, name: str, seconds: int) -> str:
        """An address from which anyone may download the object for *seconds*, as a file called *name*.

        A browser saves it and shows nothing of it: what comes of a sample never runs in S3's origin.
        No request says whether the object is there. Raises :class:`StorageError`.
        """
        if not _NAME.fullmatch(name):
            raise StorageError(f"{bucket}/{key}: no file can be called {name!r}")
        with self._errors(f"sign a link to {bucket}/{key}", "s3:GetBucketLocation", bucket):
            return self._client.presigned_get_object(
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
        with self._errors(f"remove {bucket}/{key}", "s3:DeleteObject", bucket):
            self._client.remove_object(bucket, key)

    def begin_and_abort(self, bucket: str, key: str) -> None:
        """Begin a multipart upload and give it up: shows that *key* may be written, and leaves no object.

        Raises :class:`StorageError`.
        """
        with self._errors(f"write {bucket}/{key}", "s3:PutObject and s3:AbortMultipartUpload", bucket):
            upload = self._client._create_multipart_upload(bucket, key, {})  # noqa: SLF001 minio offers no other way
            self._client._abort_multipart_upload(bucket, key, upload)  # noqa: SLF001 as above

    def upload_all(
        self,
        bucket: str,
        prefix: str,
        files: Mapping[str, Path],
        *,
        last: str = "metadata.json",
        check: Callable[[], None] | None = None,
    ) -> None:
        """Upload *files* as ``<prefix>/<name>``, in parallel, each checked; *last* when all others are there.

        Large files go one by one, their parts in parallel; then the others in parallel. Nothing runs on
        after this returned or raised. *check* is called before each object, and
        before a request is repeated; what it raises ends the upload.

        Raises:
            StorageError: names the object that failed; *last* was then not uploaded. An empty file is a
                failure: some servers stall on empty objects.
            ValueError: *last* is not among the files.
        """
        if last not in files:
            raise ValueError(f"{last} is not among the files: nothing would say that they are complete")
        with self._errors(f"write {bucket}/{prefix}", "s3:PutObject", bucket):
            sizes = {name: path.stat().st_size for name, path in files.items() if name != last}

        def put(name: str, parallel: int = 1) -> None:
            if check is not None:
                check()
            with s3client.fenced(check):
                self._put_file(bucket, f"{prefix}/{name}", files[name], parallel=parallel)

        for name in (name for name, size in sizes.items() if size > PART_SIZE):
            put(name, self._threads)
        small = [name for name, size in sizes.items() if size <= PART_SIZE]
        with ThreadPoolExecutor(self._threads, thread_name_prefix="upload") as pool:
            jobs = [pool.submit(contextvars.copy_context().run, put, name) for name in small]
            try:
                for job in as_completed(jobs):
                    job.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # leaving the block waits for what runs
                raise
        put(last)
        log.info("uploaded", bucket=bucket, prefix=prefix, objects=len(files), bytes=sum(sizes.values()))

    def _put_file(self, bucket: str, key: str, path: Path, parallel: int = 1) -> None:
        with (
            self._errors(f"write {bucket}/{key}", "s3:PutObject", bucket),
            path.open("rb") as file,
        ):
            self._put(bucket, key, file, os.fstat(file.fileno()).st_size, parallel=parallel)

    def _put(self, bucket: str, key: str, file: BinaryIO, length: int, *, parallel: int) -> None:
        """Put *length* bytes of *file*: one that grows meanwhile, as a log does, is cut off there.

        The server's ETag is compared with what was sent; where they differ, the object is read back.
        """
        sha256 = _sha256(file, length)

        def transfer() -> None:
            file.seek(0)
            sent = FileOnItsWay(file, length, PART_SIZE)
            try:
                result = self._client.put_object(
                    bucket,
                    key,
                    cast("BinaryIO", sent),  # minio only reads
                    length,
                    metadata={"sha256": sha256},
                    part_size=PART_SIZE,
                    num_parallel_uploads=parallel,
                )
            except S3Error as error:
                if error.code in _DAMAGED:
                    raise _WrongBytesError(f"the server says {error.code}") from None
                raise
            sent.check()
            etag = (result.etag or "").strip('"')
            if etag != sent.etag():  # of its own kind where the server encrypts, or the bytes are wrong
                log.debug("etag_differs", bucket=bucket, key=key, etag=etag)
                self._read(bucket, key, None, size=length, sha256=sha256)

        with self._errors(f"write {bucket}/{key}", "s3:PutObject", bucket):
            if not length:
                raise ValueError("an empty object is never put")
            self._repeated(transfer, f"{bucket}/{key}")
        metrics.uploaded(length)

    def _fetch(
        self,
        bucket: str,
        key: str,
        target: Path,
        *,
        size: int | None,
        sha256: str | None,
        max_size: int | None = None,
    ) -> str:
        part = target.with_name(f".{target.name}.{uuid.uuid4().hex}")

        def transfer() -> str:
            with part.open("wb") as out:
                return self._read(bucket, key, out, size=size, sha256=sha256, max_size=max_size)

        try:
            with self._reading(bucket, key):
                digest = self._repeated(transfer, f"{bucket}/{key}")
            part.rename(target)
        finally:
            part.unlink(missing_ok=True)
        return digest

    def _read(
        self,
        bucket: str,
        key: str,
        out: BinaryIO | None,
        *,
        size: int | None,
        sha256: str | None,
        max_size: int | None = None,
    ) -> str:
        """Stream an object to *out*, checking it; returns its sha256."""
        response = self._client.get_object(bucket, key)
        digest, length = hashlib.sha256(), 0
        try:
            stated = sha256 or response.headers.get(_SHA256_HEADER)
            for chunk in response.stream(_CHUNK):
                length += len(chunk)
                if size is not None and length > size:
                    break
                if max_size is not None and length > max_size:
                    raise BadTask(_too_large(bucket, key, max_size))
                digest.update(chunk)
                if out is not None:
                    out.write(chunk)
        except (urllib3.exceptions.ProtocolError, urllib3.exceptions.TimeoutError) as error:
            raise _WrongBytesError(f"the connection broke after {length} bytes") from error
        finally:
            response.close()
        if size is not None and length != size:
            raise _WrongBytesError(f"{length} bytes arrived instead of {size}")
        if stated and digest.hexdigest() != stated.lower():
            raise _WrongBytesError(f"its sha256 is {digest.hexdigest()} instead of {stated}")
        return digest.hexdigest()

    def _repeated(self, transfer: Callable[[], T], what: str) -> T:
        for attempt in range(1, TRANSFERS + 1):
            try:
                return transfer()
            except _WrongBytesError as error:
                problem = str(error)
                log.warning("transfer_damaged", object=what, attempt=attempt, problem=problem)
        raise StorageError(f"{what} at {self._address}: {problem}, {TRANSFERS} times in a row")

    @contextlib.contextmanager
    def _reading(self, bucket: str, key: str) -> Iterator[None]:
        if not (_BUCKET.fullmatch(bucket) and key.strip()):
            raise BadTask(f"bucket {bucket!r}, key {key!r}: no object can have this name")
        with self._errors(f"read {bucket}/{key}", "s3:GetObject and s3:ListBucket", bucket):
            try:
                yield
            except S3Error as error:
                if error.code in _MISSING:
                    raise BadTask(f"sample {key!r} is not in bucket {bucket!r} any more") from None
                raise

    @contextlib.contextmanager
    def _errors(self, action: str, grant: str, bucket: str) -> Iterator[None]:
        """Turn every failure into a sentence; *grant* is what *action* needs."""
        try:
            yield
        except S3Error as error:
            raise StorageError(self._refusal(error, action, grant, bucket)) from None
        except (MinioException, urllib3.exceptions.HTTPError) as error:
            reason = getattr(error, "reason", None) or error
            raise StorageAway(
                f"cannot {action}: S3 at {self._address} does not answer as it should "
                f"({type(reason).__name__}); see that it runs and can be reached from here"
            ) from None
        except (OSError, ValueError) as error:  # a local file; a bucket's name, or no IAM role
            raise StorageError(f"cannot {action}: {error}") from None

    def _refusal(self, error: S3Error, action: str, grant: str, bucket: str) -> str:
        if error.code in _BAD_CREDENTIALS:
            return (
                f"cannot {action}: S3 at {self._address} does not accept {self._user} or its secret "
                f"({error.code}); see [s3] access_key and secret_key"
            )
        if error.code == "RequestTimeTooSkewed":
            return (
                f"cannot {action}: S3 at {self._address} finds that the clock of this machine is wrong "
                f"({error.code}); see that it is kept right (timedatectl)"
            )
        if error.response.status == 403:
            return f"{self._user} may not {action} at {self._address}: grant {grant} on {bucket!r} to it"
        if error.code == "NoSuchBucket":
            return f"cannot {action}: there is no bucket {bucket!r} at {self._address}"
        if error.code in _UNSUPPORTED:
            return f"cannot {action}: S3 at {self._address} does not support it ({error.code})"
        return f"cannot {action}: S3 at {self._address} answers {error.code} ({error.response.status})"


def _days(rule: Rule) -> int | None:
    """None unless *rule* removes every object by age."""
    prefix = rule.rule_filter.prefix if rule.rule_filter is not None else ""
    if rule.status != ENABLED or prefix or prefix is None or rule.expiration is None:
        return None
    return rule.expiration.days


def _shortened(key: str | None) -> str:
    return f"{(key or '')[:4]}…"


def _too_large(bucket: str, key: str, max_size: int) -> str:
    return f"{bucket}/{key} is larger than the {max_size} bytes that are allowed"


def _sha256(file: BinaryIO, length: int) -> str:
    digest = hashlib.sha256()
    while length and (chunk := file.read(min(_CHUNK, length))):
        digest.update(chunk)
        length -= len(chunk)
    return digest.hexdigest()
