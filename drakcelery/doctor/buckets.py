"""S3: Karton's bucket, which has the samples, and the bucket of the analyses."""

from __future__ import annotations

import contextlib
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from drakcelery.doctor.commands import line
from drakcelery.doctor.finding import Check, Verdict, failed, ok, warning
from drakcelery.doctor.subject import Subject
from drakcelery.errors import StorageError
from drakcelery.model.analysis import ObjectRef
from drakcelery.settings import S3Section
from drakcelery.storage import PART_SIZE, Storage

PROBE = b"drakcelery doctor tries whether artifacts can be stored here.\n"
"""Repeated up to what is uploaded in two parts."""


def _reachable(subject: Subject) -> Verdict:
    subject.storage.has_bucket(subject.settings.s3.bucket)
    return ok(f"{subject.settings.s3.address} answers, and knows our key")


def _samples(subject: Subject) -> Verdict:
    bucket, tests = subject.settings.s3.bucket, subject.settings.drakrun.sample_testing
    if not subject.storage.has_bucket(bucket):
        return failed(
            f"there is no bucket {bucket!r}, in which Karton keeps its samples",
            "Set [s3] bucket to what Karton's karton.ini has; a new Karton makes its bucket when "
            "karton-system starts with --setup-bucket.",
        )
    key = _unique()
    _read(subject.storage, bucket, key)
    if tests:  # their artifacts go there
        return _write(subject.storage, bucket, key, copies=False)
    return ok(f"{bucket!r} can be read")


def _analyses(subject: Subject) -> Verdict:
    bucket, section = subject.settings.drakcelery.bucket, subject.settings.s3
    if bucket == section.bucket:
        return failed(
            f"{bucket!r} is Karton's own bucket, in which Karton deletes whatever no task refers to",
            "Set [drakcelery] bucket to another one, such as drakrun.",
        )
    if not subject.storage.has_bucket(bucket):
        return warning(
            f"there is no bucket {bucket!r} yet; the first analysis makes it, if its key may",
            "To be sure, make it now, with any client of S3.",
            make_bucket(section, bucket),
        )
    key = _unique()
    _read(subject.storage, bucket, key)
    return _write(subject.storage, bucket, key, copies=subject.settings.drakcelery.keep_sample)


def make_bucket(section: S3Section, bucket: str) -> str:
    """The command of the AWS CLI, which reads a client's certificate from its own file only."""
    options = ["--endpoint-url", section.address]
    if section.region is not None:
        options += ["--region", section.region]
    if section.ssl_ca_certs is not None:
        options += ["--ca-bundle", str(section.ssl_ca_certs)]
    return line("aws", *options, "s3", "mb", f"s3://{bucket}")


def _unique() -> str:
    return f"drakcelery-doctor-{uuid.uuid4().hex}/probe"


def _read(storage: Storage, bucket: str, key: str) -> None:
    """Ask for an object that does not exist: without the right to read, even that is refused."""
    storage.list(bucket, key)
    storage.stat(bucket, key)


def _write(storage: Storage, bucket: str, key: str, *, copies: bool) -> Verdict:
    """Upload in parts, read back, copy, remove; if nothing may be removed, nothing is written.

    *copies*: whether S3 has to copy objects, as the samples that are kept.
    """
    try:
        storage.remove(bucket, key)
    except StorageError as error:
        storage.rights.begin_and_abort(bucket, key)
        return warning(
            f"{bucket!r} can be read and written; {error}, so no object was put there to try",
            "Grant s3:DeleteObject: what an earlier attempt has left beside an analysis has to go, or that "
            "analysis waits.",
        )
    data = (PROBE * (PART_SIZE // len(PROBE) + 1))[: PART_SIZE + 1]
    prefix, name = key.split("/")
    with tempfile.NamedTemporaryFile() as file, _removed(storage, bucket, key):
        file.write(data)
        file.flush()
        begun = time.monotonic()
        storage.upload_all(bucket, prefix, {name: Path(file.name)}, last=name)
        took = time.monotonic() - begun
        found = storage.peek(bucket, key, len(PROBE))
        trouble = _copy_trouble(storage, bucket, key) if copies else None
    if found != (len(data), PROBE):
        return failed(
            f"{bucket!r} gives back something else than what was put there",
            "See what stands between here and S3, and S3's own log.",
        )
    rate = len(data) / 1e6 / took
    says = f"{bucket!r} can be read and written, in parts too ({rate:.0f} MB/s), and what is there removed"
    if trouble is not None:
        return warning(f"{says}; but no sample is kept for a retry: {trouble}", trouble.remedy)
    return ok(f"{says}; S3 copies objects by itself" if copies else says)


def _copy_trouble(storage: Storage, bucket: str, key: str) -> StorageError | None:
    """Why S3 does not copy an object by itself, which keeps samples; None if it does."""
    copied = f"{key}-copy"
    with _removed(storage, bucket, copied):
        try:
            storage.copies.copy(ObjectRef(bucket=bucket, key=key, name="probe"), bucket, copied)
        except StorageError as error:
            return error
    return None


@contextlib.contextmanager
def _removed(storage: Storage, bucket: str, key: str) -> Iterator[None]:
    """Remove the object at the end of the block, even after an error."""
    try:
        yield
    finally:
        try:
            storage.remove(bucket, key)
        except StorageError as error:
            raise StorageError(
                f"{error}; the object {bucket}/{key} may have stayed there: remove it"
            ) from None


CHECKS = (
    Check(
        name="s3.reachable",
        what="Karton's S3 answers, and takes our credentials",
        remedy="See that S3 runs and can be reached from here, and that [s3] is what Karton's karton.ini "
        "has. An error of TLS names the setting; without [s3] region our key needs s3:GetBucketLocation.",
        examine=_reachable,
        needs=("settings.load",),
    ),
    Check(
        name="s3.samples",
        what="Karton's bucket is there and can be read; written too with sample_testing=1",
        remedy="Grant s3:GetObject and s3:ListBucket on Karton's bucket to our key, and s3:PutObject with "
        "sample_testing=1.",
        examine=_samples,
        needs=("s3.reachable",),
        seconds=60,
    ),
    Check(
        name="s3.analyses",
        what="the bucket of the analyses is there, not Karton's, and takes, gives, copies and drops objects",
        remedy="Grant s3:ListBucket, s3:GetObject, s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload "
        "on [drakcelery] bucket to our key.",
        examine=_analyses,
        needs=("s3.reachable",),
        seconds=60,
    ),
)
"""In their order."""
