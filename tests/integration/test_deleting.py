"""Analyses are deleted: artifacts, record, index and links, and nothing else. Real stages and servers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from karton.core import Task
from karton.core.task import TaskState

from drakcelery.errors import StackError
from drakcelery.ledger.keys import BINDS, task_key
from drakcelery.model.analysis import Stage, State
from drakcelery.model.query import Query
from drakcelery.model.records import Record
from drakcelery.operators import deleting, finding
from drakcelery.operators.deleting import Deleted
from tests.bench import Bench, bench
from tests.objects import put_bytes

__all__ = ("bench",)


@pytest.fixture(autouse=True)
def buckets(bench: Bench) -> Iterator[None]:
    """Karton's bucket is there, and nothing is left of its queues."""
    bench.context.storage.ensure_bucket(bench.context.settings.s3.bucket)
    yield
    bench.redis.delete(BINDS)


def publish(bench: Bench, uid: str) -> Record:
    """An analysis that was published."""
    bench.open(uid)
    bench.do(*Stage, uid=uid)
    return bench.record(uid)


def delete(bench: Bench, *uids: str) -> list[Deleted | StackError]:
    """As the command does it."""
    settings, ledger, storage = bench.context.settings, bench.ledger, bench.context.storage
    chosen = deleting.choose(settings, ledger, storage, uids)
    return list(deleting.delete(settings, ledger, storage, chosen))


def names(bench: Bench, **query: str) -> list[str]:
    """The uids that are found."""
    return [one.uid for one in finding.find(bench.ledger, Query(**query), limit=100).records]


def test_nothing_is_left_of_an_analysis(bench: Bench) -> None:
    """No object, no record, no way to find it, not even its name; of others all stays."""
    for uid in ("a-1", "a-11", "b-1"):
        publish(bench, uid)
    assert "sample" in bench.objects("a-1")
    name = bench.record("a-1").sample
    assert name is not None
    others = {uid: (bench.objects(uid), bench.record(uid)) for uid in ("a-11", "b-1")}
    keys = {key for key in bench.redis.scan_iter("*") if "a-1}" in key}
    assert keys
    (gone,) = delete(bench, "a-1")
    assert isinstance(gone, Deleted)
    assert gone.objects > 2
    assert bench.objects("a-1") == {}
    assert bench.ledger.get("a-1") is None
    assert {uid: (bench.objects(uid), bench.record(uid)) for uid in ("a-11", "b-1")} == others
    for query in ({"uid": "a-1"}, {"name": name.name}, {"state": "PUBLISHED"}, {}):
        assert sorted(names(bench, **query)) == [
            uid for uid in ("a-11", "b-1") if uid.startswith(query.get("uid", ""))
        ]
    assert [uid for uid, _ in bench.ledger.ended_since(0, most=100)] == ["a-11", "b-1"]
    veiled = bytes(byte + 128 for byte in b"a-1")
    raw = b"".join(_raw(bench, key) for key in bench.redis.scan_iter("drak:index:text:*"))
    assert b"\n" + veiled + b"\t" not in raw
    assert raw.count(b"\t") == 4  # the lines of the other two


def _raw(bench: Bench, key: str) -> bytes:
    """A string as it is: uids are veiled in it."""
    with redis.Redis.from_url(bench.context.settings.redis.address()) as client:
        found = client.get(key)
    assert isinstance(found, bytes)
    return found


def test_what_is_under_way_is_refused(bench: Bench) -> None:
    """With the command that ends it; nothing is deleted, of none that was named."""
    publish(bench, "a-1")
    bench.open("c-1")
    bench.do(Stage.PREPARE, uid="c-1")
    with pytest.raises(StackError, match=r"c-1 is PREPARING: .*`drakcelery cancel c-1`"):
        delete(bench, "a-1", "c-1")
    assert bench.record("a-1").state is State.PUBLISHED
    with pytest.raises(StackError, match="no analysis none-1"):
        delete(bench, "none-1")
    with pytest.raises(StackError, match="no analysis"):
        delete(bench, "../x")


def test_others_of_a_root_stay(bench: Bench) -> None:
    """Who deletes twice what has retries, whose root it is, deletes none of these."""
    record = publish(bench, "a-1")
    for uid in (record.root_uid, record.task_uid):
        with pytest.raises(StackError, match="of the analysis a-1, which is deleted by its own uid only"):
            delete(bench, uid)
    assert bench.record("a-1") == record


def test_an_analysis_that_begins_again_meanwhile_stays(bench: Bench) -> None:
    """Between the question and the answer its record has changed: it is refused, and its artifacts stay."""
    settings, ledger, storage = bench.context.settings, bench.ledger, bench.context.storage
    publish(bench, "a-1")
    chosen = deleting.choose(settings, ledger, storage, ["a-1"])
    bench.redis.hset("drak:analysis:{a-1}", "updated", "9")
    before = bench.objects("a-1")
    (refused,) = deleting.delete(settings, ledger, storage, chosen)
    assert isinstance(refused, StackError)
    assert bench.objects("a-1") == before
    assert chosen[0].record is not None
    assert ledger.removal.delete(chosen[0].record) is None
    assert ledger.get("a-1") is not None


def test_artifacts_without_a_record(bench: Bench) -> None:
    """The record has expired: the whole uid names them."""
    publish(bench, "a-1")
    bench.redis.delete("drak:analysis:{a-1}")
    put_bytes(bench.context.storage, bench.bucket, "a-12/metadata.json", b"{}")
    assert isinstance(delete(bench, "a-1")[0], Deleted)
    assert bench.objects("a-1") == {}
    assert list(bench.objects("a-12")) == ["metadata.json"]


def test_links_pass_over_what_is_deleted(bench: Bench) -> None:
    """The retries of a deleted analysis become those of the one that it repeated."""
    for uid in ("a-1", "a-2", "a-3"):
        publish(bench, uid)
    for uid, of in (("a-2", "a-1"), ("a-3", "a-2")):
        record = bench.record(uid)
        assert record.analysis is not None
        analysis = record.analysis.model_copy(update={"retry_of": of})
        bench.redis.hset(f"drak:analysis:{{{uid}}}", "analysis", analysis.model_dump_json())
        bench.redis.hset(f"drak:analysis:{{{of}}}", "retries", f"{uid} x-9")
    delete(bench, "a-2")
    first, third = bench.record("a-1"), bench.record("a-3")
    assert first.retries == ("a-3", "x-9")
    assert third.analysis is not None
    assert third.analysis.retry_of == "a-1"
    delete(bench, "a-1")
    third = bench.record("a-3")
    assert third.analysis is not None
    assert third.analysis.retry_of is None


def test_those_that_are_old(bench: Bench) -> None:
    """By when they ended, the oldest first; what is under way and what is newer stays."""
    for uid in ("a-1", "b-1"):
        publish(bench, uid)
    bench.open("c-1")
    first, second = (bench.record(uid).finished for uid in ("a-1", "b-1"))
    assert first is not None
    assert second is not None
    assert deleting.choose_older(bench.ledger, first - 1) == []
    assert [one.uid for one in deleting.choose_older(bench.ledger, second)] == ["a-1", "b-1"]
    assert [one.uid for one in deleting.choose_older(bench.ledger, first)] == ["a-1"]


def test_consumers_that_are_not_done(bench: Bench) -> None:
    """Whoever still has a task that Karton made of the analysis task is named; who is done is not."""
    settings, ledger, storage = bench.context.settings, bench.ledger, bench.context.storage
    record = publish(bench, "a-1")
    task = ledger.karton_task(str(record.analysis_task_uid))
    assert task is not None
    task.status = TaskState.FINISHED
    bench.redis.set(task_key(task.uid), task.serialize())
    for name, status in (("karton.slow", TaskState.STARTED), ("karton.quick", TaskState.FINISHED)):
        fork: Task = task.fork_task()
        fork.headers["receiver"], fork.status = name, status
        bench.redis.set(task_key(fork.uid), fork.serialize())
    (chosen,) = deleting.choose(settings, ledger, storage, ["a-1"])
    assert chosen.consumers == ("karton.slow",)


def test_names_of_many_are_erased_piece_by_piece(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """However the pieces fall, the lines of the others stay as they are."""
    uids = [f"a-{number}" for number in range(12)]
    for uid in uids:
        publish(bench, uid)
    (key,) = bench.redis.scan_iter("drak:index:text:*")
    before = _raw(bench, str(key)).split(b"\n")
    monkeypatch.setattr("drakcelery.ledger.removal.BYTES_AT_ONCE", max(map(len, before)) + 9)
    bench.ledger.removal.erase(dict.fromkeys(uids[::2], str(key).rpartition(":")[2]))
    after = _raw(bench, str(key))
    assert len(after) == len(b"\n".join(before))
    assert [line for line in after.split(b"\n") if line] == before[2::2]
    assert bench.redis.ttl(key) > 0
