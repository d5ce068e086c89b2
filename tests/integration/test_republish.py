"""A published analysis is sent to its consumers again: real stages, servers, karton-system and consumers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.shell_completion import ShellComplete
from karton.core import Karton, RemoteResource, Task
from karton.core.backend import KartonBackend
from karton.core.task import TaskState
from karton.system import SystemService

from drakcelery.cli import cli
from drakcelery.errors import StackError
from drakcelery.karton.analysis_task import STORED
from drakcelery.karton.kept import KEPT, SAMPLE
from drakcelery.karton.submit import karton_config
from drakcelery.ledger.keys import record_key, task_key
from drakcelery.model.analysis import Stage
from drakcelery.operators.republish import Republished, republish
from drakcelery.reading import Analysis
from tests.bench import Bench, bench
from tests.objects import put_bytes

__all__ = ("bench",)


class Consumer(Karton):
    """A service that reads analyses."""

    identity = "karton.second"
    filters = [{"type": "analysis", "kind": "drakrun"}]  # noqa: RUF012 Karton's own type

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.received: list[Task] = []
        self.backend.register_bind(self._bind)

    def process(self, task: Task) -> None:
        """Reads all that the analysis has."""
        one = Analysis.of(task)
        for name in one.artifacts:
            with one.open(name) as file:
                assert file.read()
        assert task.get_resource("sample").content
        self.received.append(task)

    def take(self) -> Task:
        """The task that waits for it."""
        task = self.backend.consume_routed_task(self.identity, timeout=5)
        assert task is not None
        self.internal_process(task)
        assert task.status is TaskState.FINISHED, task.error
        return self.received.pop()


class Other(Consumer):
    """Another one."""

    identity = "karton.third"


class Unfit(Consumer):
    """One that wants something else."""

    identity = "karton.unfit"
    filters = [{"type": "report"}]  # noqa: RUF012 Karton's own type


def config(bench: Bench) -> Any:
    """For Karton's own programs; nobody listens to their logs."""
    made = karton_config(bench.context.settings)
    made.load_from_dict({"logging": {"enable_publish": "0"}, "system": {"enable_gc": "0"}})
    return made


def analyse(bench: Bench, uid: str = "a-1", *, persistent: bool = False) -> None:
    """An analysis from its sample task to publish; its sample may be *persistent*, for all tasks to come."""
    ours = bench.open(uid)
    task = bench.ledger.karton_task(ours.task_uid)
    assert task is not None
    sample = ours.sample
    resource = RemoteResource(sample.name, bucket=sample.bucket, uid=sample.key)
    if persistent:
        task.payload.pop("sample", None)
    task.add_payload("sample", resource, persistent=persistent)
    task.merge_persistent_headers(Task({}, headers_persistent={"share_3rd_party": False}))
    bench.ledger.declare(task)
    bench.do(*Stage, uid=uid)


@pytest.fixture
def published(bench: Bench, request: pytest.FixtureRequest) -> Bench:
    """An analysis that was published; Karton has collected its tasks since. A parameter: see analyse."""
    analyse(bench, persistent=getattr(request, "param", False))
    record = bench.record()
    for uid in (record.task_uid, record.analysis_task_uid):
        bench.redis.delete(task_key(str(uid)))
    bench.redis.delete("karton.tasks")
    return bench


@pytest.fixture
def consumers(published: Bench) -> Iterator[tuple[Consumer, ...]]:
    """Two services that want analyses, and one that does not."""
    backend = KartonBackend(config(published), identity="karton.consumers")
    yield tuple(kind(config=config(published), backend=backend) for kind in (Consumer, Other, Unfit))
    for kind in (Consumer, Other, Unfit):
        backend.unregister_bind(kind.identity)
    backend.redis.close()
    backend.s3.close()


def again(bench: Bench, uid: str = "a-1", **how: Any) -> Republished:
    """As the command does it."""
    return republish(bench.context.settings, bench.ledger, bench.context.storage, uid, by="me@here", **how)


def route(bench: Bench) -> None:
    """What karton-system does with what waits."""
    system = SystemService(config=config(bench))
    system.process_routing()
    system.backend.redis.close()
    system.backend.s3.close()


def forget(bench: Bench) -> None:
    """Remove what Karton's collector would remove."""
    for key in bench.redis.scan_iter("karton.*"):
        if not str(key).startswith("karton.binds"):
            bench.redis.delete(key)


def test_to_all(published: Bench, consumers: tuple[Consumer, ...]) -> None:
    """All consumers whose filters match get the analysis as it was, as a new task of the same root."""
    sent = again(published)
    assert (sent.uid, sent.to) == ("a-1", ("karton.second", "karton.third"))
    assert sent.artifacts == len(set(published.objects()) - {"metadata.json", "drakrun.log", STORED, *KEPT})
    route(published)
    record = published.record()
    for consumer in consumers[:2]:
        task = consumer.take()
        assert task.payload["analysis_uid"] == "a-1"
        assert (task.orig_uid, task.root_uid) == (sent.task, record.root_uid)
        assert task.uid != record.analysis_task_uid
        assert task.headers_persistent == {"share_3rd_party": False}
        assert task.headers["origin"] == published.context.settings.drakrun.identity
    forget(published)


def test_to_one(published: Bench, consumers: tuple[Consumer, ...]) -> None:
    """One consumer gets it, without karton-system, and no other does."""
    sent = again(published, to="karton.third")
    assert sent.to == ("karton.third",)
    task = consumers[1].take()
    assert (task.uid, task.headers["receiver"]) == (sent.task, "karton.third")
    assert published.redis.llen("karton.tasks") == 0
    assert consumers[0].backend.consume_routed_task("karton.second", timeout=1) is None
    forget(published)


def test_it_is_the_task_that_was_published(bench: Bench, consumers: tuple[Consumer, ...]) -> None:
    """What is stored is what publish sends, but for the time: persistent headers and payload included."""
    del consumers  # bound to the same Karton
    analyse(bench, "a-2")
    record = bench.record("a-2")
    sent = json.loads(str(bench.redis.get(task_key(str(record.analysis_task_uid)))))
    found = bench.context.storage.peek(bench.bucket, f"a-2/{STORED}", 10**6)
    assert found is not None
    stored = json.loads(found[1])
    assert stored["headers_persistent"] == {"share_3rd_party": False}
    assert stored | {"last_update": 0} == sent | {"last_update": 0}


@pytest.mark.usefixtures("consumers")
def test_without_a_record(published: Bench) -> None:
    """After the record has expired, the bucket alone is enough."""
    published.redis.delete(record_key("a-1"))
    published.redis.zrem("drak:done", "a-1")
    assert again(published, to="karton.second").uid == "a-1"
    forget(published)


@pytest.mark.usefixtures("consumers")
def test_of_an_older_version(published: Bench) -> None:
    """Where no task is stored, Karton's is taken while it is there; after that it is refused."""
    storage, record = published.context.storage, published.record()
    found = storage.peek(published.bucket, f"a-1/{STORED}", 10**6)
    assert found is not None
    storage.remove(published.bucket, f"a-1/{STORED}")
    with pytest.raises(StackError, match="by a version that did not store its analysis task"):
        again(published)
    published.redis.set(task_key(str(record.analysis_task_uid)), found[1])
    assert again(published, to="karton.second").artifacts
    forget(published)


@pytest.mark.parametrize("published", [False, True], ids=["", "persistent"], indirect=True)
def test_a_sample_that_karton_has_collected(
    published: Bench, consumers: tuple[Consumer, ...], tmp_path: Path
) -> None:
    """The one that is kept is sent; without it one can be given, and another file is not taken for it."""
    storage, ours = published.context.storage, published.record().analysis
    assert ours is not None
    content = storage.peek(ours.sample.bucket, ours.sample.key, 10**6)
    assert content is not None
    sha256 = hashlib.sha256(content[1]).hexdigest()
    storage.remove(ours.sample.bucket, ours.sample.key)
    again(published)  # of the one that is kept
    route(published)
    assert consumers[0].take().get_resource("sample").content == content[1]
    storage.remove(published.bucket, f"a-1/{SAMPLE}")
    with pytest.raises(StackError, match=rf"collected the sample .*sha256 {sha256}\): give it with --sample"):
        again(published)
    other = tmp_path / "other.exe"
    other.write_bytes(b"MZ")
    with pytest.raises(StackError, match="is another file"):
        again(published, sample=other)
    other.write_bytes(content[1])
    for to in (None, "karton.second"):
        again(published, to=to, sample=other)
        if to is None:
            route(published)
        assert consumers[0].take().get_resource("sample").content == content[1]
    forget(published)


@pytest.mark.usefixtures("consumers")
def test_tab(published: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tab offers the consumers that there are."""
    server = published.context.settings.redis
    assert server.password is not None
    file = tmp_path / "drakcelery.ini"
    file.write_text(
        f"[redis]\nhost = {server.host}\nport = {server.port}\n"
        f"password = {server.password.get_secret_value()}\n"
    )
    monkeypatch.setenv("DRAKCELERY_CONFIG", str(file))
    offers = ShellComplete(cli, {}, "drakcelery", "_X").get_completions(
        ["republish", "a-1", "--to"], "karton.t"
    )
    assert [offer.value for offer in offers] == ["karton.third"]


@pytest.mark.usefixtures("consumers")
def test_what_is_refused(published: Bench) -> None:
    """An unknown uid, an analysis that was not published, artifacts that are gone, unfit consumers."""
    with pytest.raises(StackError, match=r"no analysis no-such in the bucket .*none in the ledger"):
        again(published, "no-such")
    with pytest.raises(StackError, match="no analysis can have the uid"):
        again(published, "../x")
    published.open("a-3")
    with pytest.raises(StackError, match=r"a-3 is QUEUED\. Only what was published"):
        again(published, "a-3")
    with pytest.raises(StackError, match=r"no consumer 'karton\.nobody' .* to karton\.second, karton\.third"):
        again(published, to="karton.nobody")
    with pytest.raises(StackError, match=r"karton\.unfit would drop the analysis"):
        again(published, to="karton.unfit")
    storage, bucket = published.context.storage, published.bucket
    storage.remove(bucket, "a-1/procmon.log")
    with pytest.raises(StackError, match=r"1 of \d artifacts are not in the bucket .*: procmon\.log"):
        again(published)
    storage.remove(bucket, "a-1/metadata.json")
    with pytest.raises(StackError, match=r"no analysis a-1 in the bucket .*its artifacts are gone"):
        again(published)


def stored(bench: Bench) -> dict[str, Any]:
    """The analysis task in the bucket."""
    found = bench.context.storage.peek(bench.bucket, f"a-1/{STORED}", 10**6)
    assert found is not None
    task: dict[str, Any] = json.loads(found[1])
    return task


def store(bench: Bench, task: dict[str, Any]) -> None:
    """Put another task in its place."""
    put_bytes(bench.context.storage, bench.bucket, f"a-1/{STORED}", json.dumps(task).encode())


@pytest.mark.parametrize("filters", [None, 5, [None], [{"type": {"$mod": 1}}], [{"type": {"$where": "1"}}]])
def test_consumers_that_want_nothing_sensible(
    published: Bench, consumers: tuple[Consumer, ...], filters: Any
) -> None:
    """Filters that Karton's query fails on match nothing; who has better ones gets the analysis."""
    bind = json.loads(str(published.redis.hget("karton.binds", "karton.third")))
    published.redis.hset("karton.binds", "karton.odd", json.dumps(bind | {"filters": filters}))
    try:
        assert again(published, to="karton.second").to == ("karton.second",)
        assert consumers[0].take().payload["analysis_uid"] == "a-1"
        with pytest.raises(StackError, match=r"karton\.odd would drop the analysis"):
            again(published, to="karton.odd")
    finally:
        published.redis.hdel("karton.binds", "karton.odd")
    forget(published)


@pytest.mark.usefixtures("consumers")
@pytest.mark.parametrize("bind", ["{", "5", "null", "{}", "\x1b[31m"])
def test_a_bind_that_is_none(published: Bench, bind: str) -> None:
    """Karton itself cannot go on with it: that is said."""
    published.redis.hset("karton.binds", "karton.odd", bind)
    try:
        with pytest.raises(StackError, match="has an entry that Karton cannot read either"):
            again(published)
    finally:
        published.redis.hdel("karton.binds", "karton.odd")
    assert published.redis.llen("karton.tasks") == 0


@pytest.mark.usefixtures("consumers")
@pytest.mark.parametrize("origin", [None, 5, "", "a b", "a?", {"x": 1}])
def test_a_producer_that_nobody_can_be(published: Bench, origin: Any) -> None:
    """Karton refuses such a name, so it is refused with a sentence."""
    task = stored(published)
    store(published, task | {"headers": task["headers"] | {"origin": origin}})
    with pytest.raises(StackError, match="the stored analysis task is of nobody: its header origin is"):
        again(published)


def test_hostile_headers(published: Bench, consumers: tuple[Consumer, ...]) -> None:
    """Whatever else the headers are, the receiver is the one that was asked for."""
    task = stored(published)
    odd = {"receiver": "karton.other", "x\x1b": {"$or": [[]]}, "quality": [None], "task": {"a": {"b": 1}}}
    store(published, task | {"headers": task["headers"] | odd})
    again(published, to="karton.second")
    received = consumers[0].take()
    assert (received.headers["receiver"], received.headers["quality"]) == ("karton.second", [None])
    store(published, task | {"headers": {"origin": "me", "type": {"\x1b": 1}}})
    with pytest.raises(StackError, match="has a bind for the headers") as caught:
        again(published)
    assert str(caught.value).isprintable()
    forget(published)


@pytest.mark.usefixtures("consumers")
@pytest.mark.parametrize("metadata", [None, [], {}])
def test_nobody_knows_which_sample_it_was(published: Bench, tmp_path: Path, metadata: Any) -> None:
    """A stored task without the sample's sha256 takes no file for the sample."""
    storage, ours = published.context.storage, published.record().analysis
    assert ours is not None
    storage.remove(ours.sample.bucket, ours.sample.key)
    task = stored(published)
    store(published, task | {"payload": task["payload"] | {"metadata": metadata}})
    (tmp_path / "x").write_bytes(b"MZ")
    with pytest.raises(StackError, match="is another file"):
        again(published, sample=tmp_path / "x")


def test_nobody_would_get_it(published: Bench) -> None:
    """Where no consumer has a bind, karton-system would drop it: that is said before."""
    with pytest.raises(StackError, match="no consumer in this Karton has a bind"):
        again(published)
    with pytest.raises(StackError, match=r"no consumer 'karton\.nobody' in this Karton; .* to nobody"):
        again(published, to="karton.nobody")


@pytest.mark.usefixtures("consumers")
@pytest.mark.parametrize(
    "change",
    [
        lambda _: "{",
        lambda _: "[]",
        lambda task: {**task, "payload": {**task["payload"], "analysis_uid": "a-9"}},
        lambda task: {**task, "payload": {**task["payload"], "x": resource("other-bucket", "a-1/x")}},
        lambda task: {**task, "payload": {**task["payload"], "x": resource(None, "a-1/../a-2/x")}},
        lambda task: {**task, "payload": {"analysis_uid": "a-1"}},
    ],
)
def test_a_stored_task_that_is_none_of_ours(published: Bench, change: Any) -> None:
    """What is in the bucket is checked: it can send nobody to another object."""
    storage = published.context.storage
    found = storage.peek(published.bucket, f"a-1/{STORED}", 10**6)
    assert found is not None
    changed = change(json.loads(found[1]))
    text = changed if isinstance(changed, str) else json.dumps(changed)
    put_bytes(
        storage,
        published.bucket,
        f"a-1/{STORED}",
        text.replace('"bucket": null', f'"bucket": "{published.bucket}"').encode(),
    )
    with pytest.raises(StackError, match=r"a-1|no sample"):
        again(published)
    assert published.redis.llen("karton.tasks") == 0


def resource(bucket: str | None, uid: str) -> dict[str, Any]:
    """A resource as Karton writes it."""
    return {
        "__karton_resource__": {
            "uid": uid,
            "name": "x",
            "bucket": bucket,
            "size": 1,
            "metadata": {},
            "flags": [],
            "sha256": None,
        }
    }
