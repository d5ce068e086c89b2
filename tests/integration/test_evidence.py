"""No analysis is published without what its run recorded: the stages, on real servers."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

from drakcelery.errors import EvidenceLost
from drakcelery.host.workspace import Workspace
from drakcelery.model.analysis import Outcome, Stage, State
from drakcelery.recovery.takeover import vm_worker_begins
from drakcelery.stages.perform import perform
from tests.bench import Bench, bench

__all__ = ("bench",)

RUN = (Stage.PREPARE, Stage.RUN)


def other_boot(workspace: Workspace) -> None:
    """Let the machine have gone down since the run."""
    workspace.save(workspace.load(Outcome).model_copy(update={"boot_id": "another"}))


def test_a_cut_log_is_not_published(bench: Bench) -> None:
    """Raw files with length 0 after a power failure: collect gives the attempt up, and says why (R7)."""
    bench.open()
    bench.do(*RUN)
    other_boot(bench.workspace())
    for path in bench.workspace().raw.rglob("*"):
        if path.is_file():
            os.truncate(path, 0)
    with pytest.raises(EvidenceLost, match=r"400000_0123456789abcdef has 0 bytes instead of 200"):
        bench.do(Stage.COLLECT)
    record = bench.record()
    assert (record.attempt, record.state) == (2, State.QUEUED)
    assert "went down after the run" in str(record.error)
    assert "metadata.json" not in bench.objects()
    bench.do(*RUN, Stage.COLLECT, Stage.UPLOAD, Stage.PUBLISH)
    assert bench.record().state is State.PUBLISHED


def test_a_run_that_was_lost_before_it_was_told(bench: Bench) -> None:
    """A worker that died at run.saved, and whose machine went down: the next one does the run again (R7)."""
    bench.open()
    bench.do(Stage.PREPARE)
    step, workspace = bench.step(), bench.workspace()
    perform(bench.context, Stage.RUN, step)
    redis = bench.ledger._redis  # back to the moment before the ledger was told
    redis.hset("drak:analysis:{a-1}", mapping={"done": "prepare", "state": "RUNNING", "busy": "t"})
    other_boot(workspace)
    os.truncate(workspace.raw / "drakmon.log", 0)
    vm_worker_begins(bench.context, lambda _: None, ())
    assert bench.record().attempt == 2
    assert "drakmon.log has 0 bytes" in str(bench.record().error)


@pytest.mark.parametrize("name", ["procmon.log", "dumps.zip"])
@pytest.mark.parametrize("change", ["cut", "exchanged", "gone"])
def test_what_is_sent_is_what_collect_made(bench: Bench, name: str, change: str) -> None:
    """An artifact that is not what the manifest says is not sent, and nothing waits for S3 then (R7)."""
    bench.open()
    bench.do(*RUN, Stage.COLLECT)
    workspace = bench.workspace()
    (workspace.root / "uploaded.json").unlink()  # nothing of it was put in time
    path = workspace.out / name
    if change == "gone":
        path.unlink()
    else:
        path.write_bytes(b"" if change == "cut" else b"x" * path.stat().st_size)
    with pytest.raises(EvidenceLost, match=name):
        bench.do(Stage.UPLOAD)
    assert bench.record().attempt == 2
    assert "metadata.json" not in bench.objects()


def test_metadata_is_written_from_what_was_synced(bench: Bench) -> None:
    """metadata.json is not synced when collect writes it; upload writes it from the manifest, which is."""
    bench.open()
    bench.do(*RUN, Stage.COLLECT)
    path = bench.workspace().out / "metadata.json"
    before = path.read_bytes()
    os.truncate(path, 0)
    bench.do(Stage.UPLOAD)
    found = bench.context.storage.peek(bench.bucket, "a-1/metadata.json", 10**6)
    assert found == (len(before), before)
    bench.do(Stage.PUBLISH)


def test_no_failure_after_published(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A workspace that cannot be removed fails nothing: published is published, and is learned from (R14)."""
    bench.open()
    bench.do(*RUN, Stage.COLLECT, Stage.UPLOAD)

    def fails(_: Workspace) -> NoReturn:
        raise FileNotFoundError("drakrun.log")

    with monkeypatch.context() as patched:
        patched.setattr(Workspace, "remove", fails)
        bench.do(Stage.PUBLISH)
    record = bench.record()
    assert (record.state, record.failures) == (State.PUBLISHED, ())
    assert bench.ledger._redis.llen("drak:durations:win10") == 1
