"""Artifacts that go to S3 while collect is still at work, against a real SeaweedFS."""

from __future__ import annotations

import hashlib
import os
import threading
import uuid
from pathlib import Path

import pytest

from drakcelery.embedded.services import Services
from drakcelery.errors import Superseded
from drakcelery.host.workspace import Uploaded, Workspace
from drakcelery.model.manifest import Artifact, Manifest
from drakcelery.stages.early_upload import early_upload, left
from drakcelery.storage import PART_SIZE, Storage
from tests.s3_proxy import Proxy
from tests.waiting import wait_until


def nothing() -> None:
    """The attempt is current."""


@pytest.fixture
def storage(services: Services) -> Storage:
    """A storage on the session's S3."""
    return Storage.connect(services.s3, threads=2)


@pytest.fixture
def bucket(storage: Storage) -> str:
    """A new bucket."""
    name = f"headstart-{uuid.uuid4().hex[:8]}"
    storage.ensure_bucket(name)
    return name


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """An empty one."""
    made = Workspace.of(tmp_path, "uid", 1)
    made.create()
    return made


def artifact(workspace: Workspace, name: str, data: bytes) -> Artifact:
    """A file that collect has made."""
    (workspace.out / name).write_bytes(data)
    return Artifact(name=name, size=len(data), sha256=hashlib.sha256(data).hexdigest())


def storage_sizes(storage: Storage, bucket: str) -> dict[str, int]:
    """What is in S3, by name."""
    return {key.removeprefix("uid/"): size for key, size in storage.list(bucket, "uid/").items()}


def manifest(*artifacts: Artifact) -> Manifest:
    """What collect found."""
    return Manifest(artifacts=artifacts, dumps_metadata=(), metadata={})


def test_what_is_ready_goes_at_once(storage: Storage, bucket: str, workspace: Workspace) -> None:
    """A small file and one of several parts are there before collect ends, and are not put again."""
    small = artifact(workspace, "procmon.log", b"x" * 1000)
    large = artifact(workspace, "dumps.zip", os.urandom(PART_SIZE) + b"tail")
    later = artifact(workspace, "tlsmon.log", b"y")
    with early_upload(storage, bucket, "uid", workspace, check=nothing) as start:
        start.begin(large)
        start.begin(small)
        wait_until(
            lambda: storage.list(bucket, "uid/") == {"uid/procmon.log": 1000, "uid/dumps.zip": PART_SIZE + 4},
            "both are in S3 while the block goes on",
        )
        noted = start.finish()
    assert set(noted.objects) == {small, large}
    workspace.save(noted)
    assert left(workspace, manifest(small, large, later), bucket, storage_sizes(storage, bucket)) == (later,)


def test_what_is_noted_must_agree(workspace: Workspace) -> None:
    """What an earlier collect noted counts for the same name, size, sha256 and bucket only."""
    one = artifact(workspace, "procmon.log", b"x")
    there = {"procmon.log": 1, "other.log": 1}
    assert left(workspace, manifest(one), "drakrun", there) == (one,)
    workspace.save(Uploaded(bucket="drakrun", objects=(one,)))
    assert left(workspace, manifest(one), "drakrun", there) == ()
    assert left(workspace, manifest(one), "other", there) == (one,)
    for gone in ({}, {"procmon.log": 2}):  # somebody has removed or replaced it since
        assert left(workspace, manifest(one), "drakrun", gone) == (one,)
    for change in ({"name": "other.log"}, {"size": 2}, {"sha256": "0" * 64}):
        changed = one.model_copy(update=change)
        assert left(workspace, manifest(changed), "drakrun", there) == (changed,)


def test_storage_away_is_no_failure(services: Services, workspace: Workspace, bucket: str) -> None:
    """What S3 does not take at the first request is left to the upload; it is not asked again and again."""
    proxy = Proxy(services.s3.address)
    proxy.drops = lambda request: request.startswith(("PUT", "POST"))
    storage = Storage.connect(services.s3.model_copy(update={"address": proxy.address}), threads=1)
    files = [artifact(workspace, f"{number}.log", b"x") for number in range(5)]
    files.append(artifact(workspace, "dumps.zip", bytes(PART_SIZE + 1)))
    try:
        with early_upload(storage, bucket, "uid", workspace, check=nothing) as start:
            for one in files[:5]:
                start.begin(one)
            noted = start.finish()
        with early_upload(storage, bucket, "uid", workspace, check=nothing) as start:
            start.begin(files[5])
            assert start.finish().objects == ()
    finally:
        proxy.close()
    assert noted.objects == ()
    assert [one for one in proxy.requests if one.startswith(("PUT", "POST"))] == [
        f"PUT /{bucket}/uid/0.log",
        f"POST /{bucket}/uid/dumps.zip?uploads=",
    ]


def test_a_stale_attempt_puts_nothing_more(storage: Storage, bucket: str, workspace: Workspace) -> None:
    """Once the attempt is ended no object is begun, and the stage learns why."""
    files = [artifact(workspace, name, b"x") for name in ("a.log", "b.log")]
    current = [True]

    def check() -> None:
        if not current[0]:
            raise Superseded("ended meanwhile")

    with early_upload(storage, bucket, "uid", workspace, check=check) as start:
        start.begin(files[0])
        wait_until(lambda: storage.stat(bucket, "uid/a.log"), "the first is there")
        current[0] = False
        start.begin(files[1])
        with pytest.raises(Superseded, match="ended meanwhile"):
            start.finish()
    assert storage.list(bucket, "uid/") == {"uid/a.log": 1}


def test_a_collect_that_fails_leaves_nothing_running(
    storage: Storage, bucket: str, workspace: Workspace
) -> None:
    """The error comes through, and no upload goes on behind it."""
    one = artifact(workspace, "dumps.zip", os.urandom(3 * PART_SIZE))

    def collect() -> None:
        with early_upload(storage, bucket, "uid", workspace, check=nothing) as start:
            start.begin(one)
            raise RuntimeError("collect fails")

    with pytest.raises(RuntimeError, match="collect fails"):
        collect()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("upload")]
