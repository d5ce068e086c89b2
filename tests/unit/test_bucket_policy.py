"""The documents that say who may read the bucket of the analyses, and for how long its objects stay."""

from __future__ import annotations

import json
from typing import Any

import pytest

from drakcelery.errors import SettingsError, StorageError
from drakcelery.storage import bucket_policy
from drakcelery.storage.bucket_policy import (
    BUCKET_SID,
    OBJECTS_SID,
    least_days,
    minio_commands,
    principal,
    read_policy,
    readers,
    retention,
    with_readers,
)

ANN = "arn:aws:iam::123456789012:user/ann"
BOB = "arn:aws:iam::123456789012:role/bob"


def granted(*principals: str, policy: str | None = None) -> str:
    """The policy of the bucket ``drakrun``, as S3 would store it."""
    return json.dumps(with_readers(policy, "drakrun", frozenset(principals)))


def test_a_reader_may_read_and_nothing_else() -> None:
    """The rights are those of reading one bucket: no write, no delete, no other bucket, nobody named."""
    statements = read_policy("drakrun")["Statement"]
    rights = {(action, one["Resource"][0]) for one in statements for action in one["Action"]}
    assert rights == {
        ("s3:GetBucketLocation", "arn:aws:s3:::drakrun"),
        ("s3:ListBucket", "arn:aws:s3:::drakrun"),
        ("s3:GetObject", "arn:aws:s3:::drakrun/*"),
    }
    assert all(one["Effect"] == "Allow" and "Principal" not in one for one in statements)


def test_readers_add_up() -> None:
    """A second reader does not take the right from the first, and a repeated grant changes nothing."""
    one = granted(ANN)
    assert readers(one) == {ANN}
    both = granted(BOB, policy=one)
    assert readers(both) == {ANN, BOB}
    assert json.loads(granted(ANN, policy=both)) == json.loads(both)


def test_what_others_wrote_stays() -> None:
    """Statements that are not ours are kept as they are, also where S3 wrote the only one without a list."""
    theirs = {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "arn:aws:s3:::drakrun/x"}
    policy = json.dumps({"Version": "2008-10-17", "Id": "theirs", "Statement": theirs})
    document = json.loads(granted(ANN, policy=policy))
    assert (document["Version"], document["Id"], document["Statement"][0]) == ("2008-10-17", "theirs", theirs)
    assert [one["Sid"] for one in document["Statement"][1:]] == [BUCKET_SID, OBJECTS_SID]


@pytest.mark.parametrize(
    ("bucket_principal", "objects_principal", "expected"),
    [
        ({"AWS": ANN}, {"AWS": [BOB, ANN]}, {ANN}),
        ("*", {"AWS": [ANN]}, set()),
        ({"AWS": [ANN]}, None, set()),
    ],
)
def test_a_reader_has_both_halves(bucket_principal: Any, objects_principal: Any, expected: set[str]) -> None:
    """Only who is named for the bucket and for its objects counts, in each form that S3 may answer."""
    statements = [
        {"Sid": BUCKET_SID, "Principal": bucket_principal},
        {"Sid": OBJECTS_SID, "Principal": objects_principal},
    ]
    assert readers(json.dumps({"Statement": statements})) == expected


@pytest.mark.parametrize("policy", ["<xml/>", "[]", "null"])
def test_a_policy_that_is_none(policy: str) -> None:
    """What cannot be read is not replaced."""
    with pytest.raises(StorageError, match="no JSON object"):
        granted(ANN, policy=policy)


@pytest.mark.parametrize(
    ("user", "software", "expected"),
    [
        ("ann", "SeaweedFS 8000GB 4.48", "arn:aws:iam::000000000000:user/ann"),
        (ANN, "SeaweedFS 8000GB 4.48", ANN),
        (BOB, "AmazonS3", BOB),
        ("arn:aws:iam::123456789012:root", "AmazonS3", "arn:aws:iam::123456789012:root"),
        ("arn:aws:iam::usfolks:user/fred:sub", "", "arn:aws:iam::usfolks:user/fred:sub"),
        ("arn:aws:iam:::user/fred", "", "arn:aws:iam:::user/fred"),
    ],
)
def test_a_name_becomes_an_arn(user: str, software: str, expected: str) -> None:
    """SeaweedFS' identities have one account; everywhere else the user's ARN is taken as it is."""
    assert principal(user, software) == expected


@pytest.mark.parametrize("user", ["*", "arn:aws:iam::1:user/*", "arn:aws:s3:::drakrun", "a b", "", "ann\n"])
@pytest.mark.parametrize("software", ["SeaweedFS 8000GB 4.48", "AmazonS3"])
def test_nobody_is_everybody(user: str, software: str) -> None:
    """No wildcard gets in, which would open the bucket to the world, and nothing that is no user."""
    with pytest.raises(SettingsError, match="neither a user's name nor the ARN"):
        principal(user, software)


def test_a_name_is_not_enough_elsewhere() -> None:
    """The refusal says what an ARN looks like at AWS and at Ceph."""
    with pytest.raises(SettingsError, match=r"arn:aws:iam::ACCOUNT:user/ann, Ceph arn:aws:iam::TENANT:user"):
        principal("ann", "AmazonS3")


def test_mc_commands_are_safe_to_paste() -> None:
    """A user's name is quoted for the shell that the commands are pasted into."""
    assert minio_commands("drakrun", "ann")[1].endswith("drakrun-read --user ann")
    assert minio_commands("drakrun", "a; rm -rf .")[1].endswith("--user 'a; rm -rf .'")


def test_retention() -> None:
    """One rule, by its name, for every object of the bucket."""
    (rule,) = retention(30)["Rules"]
    assert rule["ID"] == bucket_policy.RETENTION_RULE
    assert (rule["Status"], rule["Filter"], rule["Expiration"]) == ("Enabled", {"Prefix": ""}, {"Days": 30})


@pytest.mark.parametrize(
    ("patience_hours", "least"), [(0, 1), (6, 1), (12, 1), (12.1, 2), (24, 2), (36, 2), (240, 11)]
)
def test_an_upload_is_over_before_its_objects_go(patience_hours: float, least: int) -> None:
    """The shortest retention is longer than an upload may wait for S3, with half a day for its transfer."""
    patience = int(patience_hours * 3600)
    assert least_days(patience) == least
    assert least * 24 * 3600 >= patience + 12 * 3600 > (least - 1) * 24 * 3600
