"""Who may read the bucket of the analyses, and for how long its objects stay: S3's documents. Pure.

Servers differ in what a document means. AWS S3, Ceph and SeaweedFS (seen with 4.48) keep a policy with the
bucket that names its readers by ARN. MinIO applies a bucket's policy to requests without credentials only:
its users get policies of their own, which name no one.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from typing import Any

from drakcelery.errors import SettingsError, StorageError

Document = dict[str, Any]

DAY = 24 * 3600
READ_OBJECTS = ("s3:GetObject",)
READ_BUCKET = ("s3:GetBucketLocation", "s3:ListBucket")
"""Without ListBucket an object that is gone answers 403 instead of 404."""
OBJECTS_SID = "DrakceleryReadObjects"
BUCKET_SID = "DrakceleryReadBucket"
RETENTION_RULE = "drakcelery-retention"

_ARN = re.compile(r"arn:aws[a-z-]*:iam::[\w-]*:(root|(user|role)/[\w+=,.@:/$-]+)", re.ASCII)
_NAME = re.compile(r"[\w+=,.@-]{1,128}", re.ASCII)
_LONGEST_TRANSFER = DAY // 2


def read_policy(bucket: str) -> Document:
    """What a reader's own policy must allow: it names no one, and is attached to users of the server."""
    return {"Version": "2012-10-17", "Statement": _statements(bucket)}


def with_readers(policy: str | None, bucket: str, principals: frozenset[str]) -> Document:
    """The bucket's *policy* (None: it has none) with *principals* as readers, beside those it names already.

    Statements that are not ours stay as they are. Raises :class:`StorageError`: *policy* is none.
    """
    document = _parsed(policy) if policy else {"Version": "2012-10-17", "Statement": []}
    others = [one for one in _list(document.get("Statement")) if not _is_ours(one)]
    named = {"AWS": sorted(principals | readers(policy))}
    ours = [{**statement, "Principal": named} for statement in _statements(bucket)]
    return {**document, "Statement": others + ours}


def readers(policy: str | None) -> frozenset[str]:
    """The principals that our statements of a bucket's *policy* let read both bucket and objects.

    Raises :class:`StorageError`: *policy* is none.
    """
    ours = [one for one in _list(_parsed(policy).get("Statement")) if _is_ours(one)] if policy else []
    named = {sid: frozenset[str]() for sid in (BUCKET_SID, OBJECTS_SID)}
    for statement in ours:
        principal = statement.get("Principal")
        named[statement["Sid"]] |= set(_list(principal.get("AWS"))) if isinstance(principal, dict) else set()
    return named[BUCKET_SID] & named[OBJECTS_SID]


def principal(user: str, software: str) -> str:
    """The ARN by which a bucket's policy names *user* at a server that calls itself *software*.

    Raises:
        SettingsError: *user* is no name or ARN of one user or role, or only an ARN would do.
    """
    if _ARN.fullmatch(user):
        return user
    if not _NAME.fullmatch(user):
        raise SettingsError(f"{user!r} is neither a user's name nor the ARN of a user or role")
    if is_seaweedfs(software):
        return f"arn:aws:iam::000000000000:user/{user}"  # all its identities are in this account
    raise SettingsError(
        f"this server wants the user's ARN instead of {user!r}: AWS arn:aws:iam::ACCOUNT:user/{user}, "
        f"Ceph arn:aws:iam::TENANT:user/{user} (arn:aws:iam:::user/{user} without tenants)"
    )


def is_seaweedfs(software: str) -> bool:
    """Whether a Server header is SeaweedFS's."""
    return software.startswith("SeaweedFS")


def is_minio(software: str) -> bool:
    """Whether a Server header is MinIO's."""
    return software.startswith("MinIO")


def minio_commands(bucket: str, user: str) -> tuple[str, str]:
    """What gives a MinIO user the policy in ``policy.json``; ALIAS is the server's name in ``mc``."""
    name = f"{bucket}-read"
    return (
        f"mc admin policy create ALIAS {name} policy.json",
        f"mc admin policy attach ALIAS {name} --user {shlex.quote(user)}",
    )


def retention(days: int) -> Document:
    """The lifecycle configuration that removes every object *days* days after it was written."""
    rule = {
        "ID": RETENTION_RULE,
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "Expiration": {"Days": days},
    }
    return {"Rules": [rule]}


def least_days(storage_patience: int) -> int:
    """The shortest retention, in days, that cannot reach an analysis before it is published.

    S3 counts an object's age in whole days from its writing, and each attempt writes its objects again. So
    the
    oldest object of an upload is as old as the upload: its transfer, and *storage_patience* seconds at most
    that S3 was away.
    """
    return -(-(storage_patience + _LONGEST_TRANSFER) // DAY)


def _statements(bucket: str) -> list[Document]:
    name = f"arn:aws:s3:::{bucket}"
    return [
        {"Sid": BUCKET_SID, "Effect": "Allow", "Action": list(READ_BUCKET), "Resource": [name]},
        {"Sid": OBJECTS_SID, "Effect": "Allow", "Action": list(READ_OBJECTS), "Resource": [f"{name}/*"]},
    ]


def _parsed(policy: str) -> Document:
    try:
        document = json.loads(policy)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise StorageError(
            "the bucket's policy is no JSON object; look at it with your S3 server's own tools"
        )
    return document


def _is_ours(statement: object) -> bool:
    return isinstance(statement, Mapping) and statement.get("Sid") in (BUCKET_SID, OBJECTS_SID)


def _list(value: Any) -> list[Any]:
    """S3 writes a list of one as the one."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
