"""An analysis never mixes the artifacts of two runs, and one that is complete is spared."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from drakcelery.errors import InfrastructureError, StackError, StorageError
from drakcelery.karton.kept import KEPT
from drakcelery.model.analysis import Stage, State
from drakcelery.operators import analyses
from drakcelery.storage import Storage
from tests.bench import Bench, bench
from tests.objects import put_bytes

__all__ = ("bench",)

UP_TO_COLLECT = (Stage.PREPARE, Stage.RUN, Stage.COLLECT)


def leave(bench: Bench, *names: str) -> None:
    """What another run has left in the bucket."""
    for name in names:
        put_bytes(bench.context.storage, bench.bucket, f"a-1/{name}", b"of another run")


def collect(bench: Bench) -> None:
    """Up to collect: what looked complete does so no more, unless S3 was slow, and all is left to upload."""
    with capture_logs() as logs:
        bench.do(*UP_TO_COLLECT)
    is_left = any(line["event"] == "left_to_upload" for line in logs)
    assert is_left or "metadata.json" not in bench.objects()


def test_an_earlier_analysis_is_replaced_as_a_whole(bench: Bench) -> None:
    """Of a complete analysis metadata.json goes first, and the rest before the new one comes (S8)."""
    leave(bench, "metadata.json", "dumps.pcap", "tlsmon.log", "procmon.log", "inner/file")
    bench.open()
    collect(bench)
    bench.do(Stage.UPLOAD, Stage.PUBLISH)
    assert set(bench.objects()) == {
        "analysis_task.json",
        *("sample", "sample_task.json"),
        "metadata.json",
        "dumps.zip",
        "procmon.log",
        "report.json",
        "process_tree.json",
    }
    for name in bench.objects():
        found = bench.context.storage.peek(bench.bucket, f"a-1/{name}", 100)
        assert found is not None
        assert b"of another run" not in found[1]


def test_a_second_attempt(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a first attempt had uploaded before it failed is not beside what the second one made (S8)."""
    bench.open()
    bench.do(*UP_TO_COLLECT)
    upload_all = Storage.upload_all

    def breaks(self: Storage, *args: object, **more: object) -> None:
        upload_all(self, *args, **more)  # type: ignore[arg-type] # as it was called
        leave(bench, "dumps.pcap")
        raise ValueError("after the last object")

    with monkeypatch.context() as patched:
        patched.setattr(Storage, "upload_all", breaks)
        with pytest.raises(InfrastructureError):
            bench.do(Stage.UPLOAD)
    assert {"metadata.json", "dumps.pcap"} <= set(bench.objects())
    collect(bench)
    bench.do(Stage.UPLOAD, Stage.PUBLISH)
    assert set(bench.objects()) == {
        "analysis_task.json",
        *("sample", "sample_task.json"),
        "metadata.json",
        "dumps.zip",
        "procmon.log",
        "report.json",
        "process_tree.json",
    }
    assert bench.record().attempts == 2


def test_an_upload_that_is_done_again(bench: Bench) -> None:
    """Delivered again after its last object, upload removes nothing and is done."""
    bench.open()
    bench.do(*UP_TO_COLLECT, Stage.UPLOAD)
    before = bench.objects()
    redis = bench.ledger._redis  # back to the moment before the ledger was told
    redis.hset("drak:analysis:{a-1}", mapping={"done": "collect", "state": "UPLOADING"})

    def remove(*_: object) -> None:
        raise AssertionError("removed something")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Storage, "remove", remove)
        bench.do(Stage.UPLOAD, Stage.PUBLISH)
    assert bench.objects().keys() == before.keys()


def test_what_may_not_be_removed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the right to remove nothing new is put beside the old: the analysis waits and says why."""
    leave(bench, "metadata.json", "dumps.pcap")
    bench.open()

    def forbidden(_: Storage, bucket: str, key: str) -> None:
        raise StorageError(f"may not remove {bucket}/{key}: grant s3:DeleteObject")

    with monkeypatch.context() as patched:
        patched.setattr(Storage, "remove", forbidden)
        bench.do(*UP_TO_COLLECT)
        assert set(bench.objects()) == {"metadata.json", "dumps.pcap"}
        with pytest.raises(StorageError, match="grant s3:DeleteObject"):
            bench.do(Stage.UPLOAD)
    assert set(bench.objects()) == {"metadata.json", "dumps.pcap"}
    assert bench.ledger.due() is None
    bench.do(Stage.UPLOAD, Stage.PUBLISH)
    assert bench.record().state is State.PUBLISHED
    assert "dumps.pcap" not in bench.objects()


def test_a_failure_leaves_a_complete_analysis_alone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log of a later life that failed early is not put into an earlier, complete analysis (S8)."""
    leave(bench, "metadata.json", "drakrun.log")
    bench.open()

    def fails(*_: object) -> None:
        bench.workspace().log.write_text("of this run")
        raise ValueError("no restore")

    monkeypatch.setattr(type(bench.context.engine), "prepare", fails)
    for _ in range(3):
        with pytest.raises(InfrastructureError):
            bench.do(Stage.PREPARE)
    assert bench.record().state is State.FAILED
    found = bench.context.storage.peek(bench.bucket, "a-1/drakrun.log", 100)
    assert found is not None
    assert found[1] == b"of another run"


def test_a_fetch_beside_an_earlier_one(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an earlier fetch has left is never taken for this analysis'; a fetch is whole or nothing (S8)."""
    bench.open()
    bench.do(*Stage)
    record, storage, to = bench.record(), bench.context.storage, tmp_path / "to"

    def fetch() -> set[str]:
        return {path.name for path in analyses.fetch(bench.context.settings, storage, record, to)}

    to.mkdir()
    (to / "dumps.pcap").write_bytes(b"of another run")
    with pytest.raises(StackError, match="is not empty"):
        fetch()
    assert [path.read_bytes() for path in to.iterdir()] == [b"of another run"]
    (to / "dumps.pcap").unlink()
    download_all = Storage.download_all

    def breaks(self: Storage, *args: str, **_: object) -> list[Path]:
        download_all(self, args[0], args[1], to)
        raise StorageError("away after the last object")

    with monkeypatch.context() as patched:
        patched.setattr(Storage, "download_all", breaks)
        with pytest.raises(StorageError):
            fetch()
    assert list(to.iterdir()) == []
    assert fetch() == {path.name for path in to.iterdir()} == set(bench.objects()) - KEPT
