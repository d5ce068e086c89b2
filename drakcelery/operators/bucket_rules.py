"""The rules of the bucket of the analyses: who may read it, and for how long its objects stay."""

from __future__ import annotations

import json

from drakcelery.errors import SettingsError, StorageError
from drakcelery.settings import Settings
from drakcelery.storage import Storage
from drakcelery.storage import bucket_policy as documents


def apply_policy(storage: Storage, name: str, reader: str) -> documents.Document:
    """Add *reader*, and return the policy that the server then has. Raises :class:`StorageError`."""
    before = storage.rights.bucket_policy(name)
    if before is None:
        storage.ensure_bucket(name)  # before the first analysis there is none
    document = documents.with_readers(before, name, frozenset({reader}))
    storage.rights.set_bucket_policy(name, json.dumps(document))
    stored = storage.rights.bucket_policy(name)
    if stored is None or reader not in documents.readers(stored):
        raise StorageError(
            f"S3 took the policy of {name!r}, but {reader} is not in it; grant it at the server"
        )
    return documents.with_readers(stored, name, frozenset())


def require_retention(ours: Settings, days: int) -> None:
    """Raise :class:`SettingsError` if objects of the bucket must not go after so many *days*."""
    name, patience = ours.drakcelery.bucket, ours.drakcelery.storage_patience
    if name == ours.s3.bucket:
        raise SettingsError(
            f"[drakcelery] bucket and [s3] bucket are both {name!r}: a retention rule would remove samples "
            "that Karton still needs"
        )
    if days < (least := documents.least_days(patience)):
        raise SettingsError(
            f"--days {days}: expected at least {least}, as an upload may wait for S3 for "
            f"[drakcelery] storage_patience = {patience} seconds"
        )


def apply_retention(storage: Storage, name: str, days: int) -> None:
    """Have S3 remove what is older.

    Raises:
        StorageError: the bucket has rules of others, or the rule did not stay.
    """
    before = storage.rights.expirations(name)
    if not before:
        storage.ensure_bucket(name)  # before the first analysis there is none
    if others := set(before) - {documents.RETENTION_RULE}:
        raise StorageError(
            f"{name!r} has lifecycle rules of its own ({', '.join(sorted(others))}), which would go: "
            "add the rule that `drakcelery bucket lifecycle` prints to them with your S3 server's own tools"
        )
    storage.rights.set_expiration(name, documents.RETENTION_RULE, days)
    if storage.rights.expirations(name) != {documents.RETENTION_RULE: days}:
        raise StorageError(
            f"S3 took the lifecycle rule of {name!r}, but does not have it; set it at the server"
        )
