"""Analyses as programs read them: from a Karton task and from a bucket, with real servers."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from karton.core import RemoteResource, Task
from karton.core.backend import KartonBackend

from drakcelery.embedded.services import Services
from drakcelery.errors import ArtifactMissing, ArtifactUnreadable, StorageError
from drakcelery.karton.analysis_task import build_analysis_task
from drakcelery.karton.submit import karton_config
from drakcelery.reading import Analysis
from drakcelery.settings import DrakcelerySection, Settings
from drakcelery.storage import Storage
from tests.builders import analysis, collected
from tests.objects import put_bytes

BUCKET = "analyses-to-read"


@pytest.fixture
def ours(services: Services) -> Settings:
    """Settings that name the servers and a bucket."""
    return Settings(redis=services.redis, s3=services.s3, drakcelery=DrakcelerySection(bucket=BUCKET))


@pytest.fixture
def storage(ours: Settings) -> Storage:
    """A storage with an empty bucket."""
    storage = Storage.connect(ours.s3, threads=2)
    storage.ensure_bucket(BUCKET)
    for key in storage.list(BUCKET, ""):
        storage.remove(BUCKET, key)
    return storage


@pytest.fixture
def backend(ours: Settings) -> Iterator[KartonBackend]:
    """Karton's own client."""
    backend = KartonBackend(karton_config(ours), identity="karton.reader")
    yield backend
    backend.redis.close()
    backend.s3.close()


@pytest.fixture
def uploaded(storage: Storage, tmp_path: Path) -> Task:
    """The analysis task of an analysis that is in the bucket."""
    manifest = collected(tmp_path)
    out = tmp_path / "analysis"
    storage.upload_all(BUCKET, "a-1", {path.name: path for path in out.iterdir()})
    sample = RemoteResource("sample", bucket="karton", uid="s")
    return build_analysis_task(
        Task({"type": "sample"}, payload={"sample": sample}),
        analysis(),
        manifest,
        attempt=1,
        headers={"type": "analysis", "kind": "drakrun"},
        bucket=BUCKET,
        identity="karton.drakrun-prod",
    )


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary files go. Nothing stays there."""
    directory = tmp_path / "temporary"
    directory.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    yield directory
    assert list(directory.iterdir()) == []


def check(one: Analysis) -> None:
    """All that an analysis has can be read."""
    assert one.uid == "a-1"
    assert one.logs == ("inject", "procmon", "tlsmon")
    assert list(one.events("procmon")) == [{"Plugin": "procmon", "pid": 4}]
    with one.dumps() as dumps:
        assert len(dumps) == 2
        with dumps.open("2000_00000000000000bb") as dump:
            assert dump.read() == b"x" * 101
    with one.pcap() as pcap:
        assert len(pcap.read()) == 44


@pytest.mark.usefixtures("temporary")
def test_from_a_task(uploaded: Task, backend: KartonBackend, redis_client: redis.Redis) -> None:
    """A service reads the task that Karton gives it; what it opened is gone from the disk afterwards."""
    redis_client.set(f"karton.task:{uploaded.uid}", uploaded.serialize())
    task = backend.get_task(uploaded.uid)
    assert task is not None
    one = Analysis.of(task)
    check(one)
    assert "sample" not in one.artifacts
    backend.s3.delete_object(Bucket=BUCKET, Key="a-1/procmon.log")
    with pytest.raises(ArtifactUnreadable, match=r"procmon\.log cannot be downloaded.*404"):
        list(one.events("procmon"))
    backend.s3.put_object(Bucket=BUCKET, Key="a-1/tlsmon.log", Body=b"short")
    with pytest.raises(ArtifactUnreadable, match=r"tlsmon\.log has 5 bytes instead of"):
        list(one.events("tlsmon"))
    redis_client.delete(f"karton.task:{uploaded.uid}")


@pytest.mark.usefixtures("uploaded")
@pytest.mark.usefixtures("temporary")
@pytest.mark.parametrize("by_client", [False, True])
def test_from_a_bucket(ours: Settings, storage: Storage, backend: KartonBackend, by_client: bool) -> None:
    """An analysis is read by its uid: with the settings, or with the client that a Karton service has."""
    how: dict[str, Any] = {"client": backend.s3, "bucket": BUCKET} if by_client else {"settings": ours}
    put_bytes(storage, BUCKET, "a-1/.hidden", b"x")
    put_bytes(storage, BUCKET, "a-1/deeper/procmon.log", b"x")
    put_bytes(storage, BUCKET, "a-11/metadata.json", b"{}")
    one = Analysis.from_bucket("a-1", **how)
    check(one)
    assert not {".hidden", "deeper/procmon.log"} & set(one.artifacts)
    storage.remove(BUCKET, "a-1/procmon.log")
    with pytest.raises((ArtifactMissing, ArtifactUnreadable), match=r"procmon\.log"):
        list(one.events("procmon"))
    storage.remove(BUCKET, "a-1/metadata.json")
    with pytest.raises(ArtifactMissing, match=r"no analysis a-1 .* not complete"):
        Analysis.from_bucket("a-1", **how)
    with pytest.raises(ArtifactMissing, match="no analysis a-2 in the bucket"):
        Analysis.from_bucket("a-2", **how)
    with pytest.raises(StorageError):
        Analysis.from_bucket("a-1", **how | {"bucket": "no-such-bucket"})


@pytest.mark.usefixtures("uploaded")
def test_settings_are_found(ours: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any, they come from where the command has them."""
    assert ours.s3.secret_key is not None
    file = tmp_path / "drakcelery.ini"
    file.write_text(
        f"[s3]\naddress = {ours.s3.address}\naccess_key = {ours.s3.access_key}\n"
        f"secret_key = {ours.s3.secret_key.get_secret_value()}\n[drakcelery]\nbucket = {BUCKET}\n"
    )
    monkeypatch.setenv("DRAKCELERY_CONFIG", str(file))
    assert Analysis.from_bucket("a-1").metadata.host == "rack-1"
    assert json.dumps(Analysis.from_bucket("a-1").metadata.payload())


def test_without_a_backend(uploaded: Task) -> None:
    """A task that no Karton client has read cannot be downloaded from; it is said which artifact."""
    with pytest.raises(ArtifactUnreadable, match=r"procmon\.log cannot be downloaded.*not bound"):
        list(Analysis.of(uploaded).events("procmon"))
