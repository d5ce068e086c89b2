"""What could not be dealt with, as people see it: ``status``, ``isolated``, and what removes it
permanently."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner
from karton.core import Task

from drakcelery import cli
from drakcelery.doctor import CHECKS
from drakcelery.embedded.services import Services
from drakcelery.ingress import orphans
from drakcelery.karton import contract
from drakcelery.ledger import Ledger
from drakcelery.ledger.keys import DEPLOYMENT, DONE, INFLIGHT, LIVE, record_key
from drakcelery.ledger.watch import ServerId
from drakcelery.model.analysis import Fault, State
from drakcelery.model.records import Record
from drakcelery.model.timeouts import DEFAULT
from drakcelery.recovery.isolation import MOST_TRIES
from drakcelery.recovery.reconcile import Reconciler
from drakcelery.settings import Settings
from drakcelery.stages.failures import failure_of
from tests.builders import analysis
from tests.ledgers import inbox_of, open_analysis, watched
from tests.operating import point_at

IDENTITY = "karton.test-foreign"
TypeIn = Callable[..., str]


@pytest.mark.parametrize("is_hash", [True, False])
def test_an_unreadable_analysis_is_removed(redis_client: redis.Redis, is_hash: bool) -> None:
    """It is neither live nor over any more, and takes nobody's room; others stay."""
    ledger = Ledger(redis_client, identity=IDENTITY, record_ttl=600)
    redis_client.zadd("drak:inbox", {"{r}:t": 0})
    open_analysis(ledger, analysis())
    uid = analysis().uid
    if is_hash:
        redis_client.hset(record_key(uid), "failures", "{")
    else:
        redis_client.delete(record_key(uid))
        redis_client.set(record_key(uid), "x", ex=60)
    assert list(ledger.live()) == []
    assert ledger.remove(uid, reason="nobody can read it")
    assert not ledger.remove(uid, reason="once is enough")
    assert redis_client.zscore(LIVE, uid) is None
    assert redis_client.zscore(DONE, uid) is None
    if is_hash:  # else nobody knows its place any more
        assert not redis_client.exists(INFLIGHT)
    redis_client.delete(INFLIGHT)


@pytest.fixture
def type_in(
    services: Services, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[TypeIn]:
    """The command line on the session's Redis."""
    # DATA_DIR: where there is no stack
    point_at(services.redis, monkeypatch, DATA_DIR=tmp_path, DRAKRUN_IDENTITY=IDENTITY)

    def type_in(*words: str) -> str:
        done = CliRunner().invoke(cli.cli, words)
        assert done.exit_code == 0, done.output
        return done.stdout

    yield type_in
    redis_client.delete(DEPLOYMENT)


def test_commands(type_in: TypeIn, redis_client: redis.Redis) -> None:
    """``status`` says that something cannot be read; ``isolated`` lists, retries and removes it."""
    ledger = Ledger(redis_client, identity=IDENTITY, record_ttl=600)
    assert type_in("isolated", "list") == "Nothing is in quarantine.\n"
    for uid in ("fine", "odd"):
        redis_client.zadd(DONE, {uid: ledger.now()})
        fields = {"uid": uid, "task_uid": f"{{r}}:{uid}", "root_uid": "r", "state": "FAILED", "attempt": "0"}
        more = {"first_attempt": "1", "failures": "[]", "received": "1", "updated": "1", "refusal": "why"}
        for name, value in {**fields, **more}.items():
            redis_client.hset(record_key(uid), name, value)
        redis_client.expire(record_key(uid), 60)
    redis_client.hset(record_key("odd"), "failures", "{")
    assert '"fine"' in type_in("status", "--json")
    ledger.quarantine.put("inbox", "{r}:x", "ValueError: \x1b[2Jodd [/bold]")
    isolated = json.loads(type_in("status", "--json"))["quarantine"]
    assert [(one["uid"], one["where"], one["count"]) for one in isolated] == [
        ("odd", "ledger", 1),
        ("{r}:x", "inbox", 1),
    ]
    assert "In quarantine: 2 (inbox 1, ledger 1)" in type_in("status")
    shown = type_in("isolated", "list")
    assert "{r}:x" in shown
    assert "[/bold]" in shown
    assert "\x1b" not in shown
    listed = json.loads(type_in("isolated", "list", "--json"))
    assert {one["uid"]: one["count"] for one in listed} == {"odd": 1, "{r}:x": 1}
    type_in("isolated", "retry", "odd")
    type_in("isolated", "remove", "odd")
    type_in("isolated", "remove", "{r}:x")
    assert type_in("isolated", "list") == "Nothing is in quarantine.\n"
    done = CliRunner().invoke(cli.cli, ["isolated", "remove", "odd"])
    assert (done.exit_code, "is not in quarantine" in done.output) == (1, True)
    redis_client.zrem(DONE, "fine")


@pytest.mark.parametrize("is_readable", [True, False])
def test_what_cannot_be_written_stays_until_it_is_removed(
    type_in: TypeIn, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch, is_readable: bool
) -> None:
    """An analysis that reconcile can neither fix nor end is shown with the command that removes it."""
    ledger = Ledger(redis_client, identity=IDENTITY, record_ttl=600)
    task = Task({"type": "sample"}, uid=analysis().task_uid, root_uid="r")
    ledger.declare(contract.started(task))
    redis_client.zadd("drak:inbox", {task.uid: ledger.now()})
    open_analysis(ledger, analysis())
    uid, key = analysis().uid, record_key(analysis().uid)
    watched(ledger, seconds=3600)

    def refuse(*_: object, **__: object) -> int:
        raise redis.ResponseError("no room for another field")

    def send(record: Record) -> None:
        raise ValueError(f"nobody expected {record.uid}")

    if is_readable:
        monkeypatch.setattr(ledger, "fail", refuse)
    else:
        redis_client.hset(key, "failures", "{")
    for _ in range(MOST_TRIES + 2):
        redis_client.hset(key, "updated", f"{ledger.now() - DEFAULT.unsent - 1:.6f}")
        Reconciler(ledger=ledger, settings=Settings(), send=send, ask_broker=ServerId).run()
        ledger.quarantine.release(uid)
    [entry] = ledger.quarantine.all()
    assert (entry.uid, entry.count) == (uid, MOST_TRIES + 2)
    assert "In quarantine: 1" in type_in("status")
    assert uid in type_in("isolated", "list")
    [check] = [check for check in CHECKS if check.name == "karton.quarantine"]
    assert "remove what nobody can fix" in check.remedy
    type_in("isolated", "remove", uid)
    assert redis_client.zscore(LIVE, uid) is None
    assert type_in("isolated", "list") == "Nothing is in quarantine.\n"
    redis_client.delete(INFLIGHT)


@pytest.mark.parametrize("what", ["set aside", "in the inbox", "unreadable"])
def test_what_was_removed_stays_so(type_in: TypeIn, redis_client: redis.Redis, what: str) -> None:
    """No ingress that starts later takes its Karton task for one that was left behind."""
    ledger = Ledger(redis_client, identity=IDENTITY, record_ttl=600)
    inbox, uid = inbox_of(ledger), analysis().task_uid
    task = Task({"type": "sample", "receiver": IDENTITY}, uid=uid, root_uid="r")
    redis_client.zadd("drak:inbox", {uid: ledger.now()})
    if what == "unreadable":
        open_analysis(ledger, analysis())
        redis_client.hset(record_key(analysis().uid), "failures", "{")
        assert list(ledger.live()) == []
    else:
        ledger.quarantine.put("inbox", uid, "ValueError")
    if what == "set aside":
        inbox.set_aside(uid)
    type_in("isolated", "remove", analysis().uid if what == "unreadable" else uid)
    task.last_update = 1.0
    ledger.declare(task)
    assert [found for found in orphans.find(ledger, inbox, hard_time_limit=1) if found] == []
    assert (inbox.accepted(), inbox.aside()) == ([], [])
    assert [record.state for record in ledger.done(newest=9)] == [State.CANCELLED]
    assert type_in("isolated", "list") == "Nothing is in quarantine.\n"


ODD = "[/x][bold]\x1b[2J\x9b31m\u202etxt"


def test_a_record_may_say_anything(type_in: TypeIn, redis_client: redis.Redis) -> None:
    """Markup and escape sequences in what a task, a sample or an engine said are shown as text (S5)."""
    ledger = Ledger(redis_client, identity=IDENTITY, record_ttl=600)
    odd = analysis().model_copy(
        update={
            "root_uid": f"r{ODD}",
            "start_command": f"c{ODD}",
            "start_method": "runas",
            "net_enable": False,
            "magic": f"m{ODD}",
            "file_name": f"f{ODD}",
            "plugins": (f"p{ODD}",),
            "sample": analysis().sample.model_copy(update={"name": f"n{ODD}", "sha256": f"s{ODD}"}),
        }
    )
    ledger.declare(contract.started(Task({"type": "sample"}, uid=odd.task_uid, root_uid="r")))
    redis_client.zadd("drak:inbox", {odd.task_uid: ledger.now()})
    open_analysis(ledger, odd)
    key = record_key(odd.uid)
    record = ledger.get(odd.uid)
    assert record is not None
    failure = failure_of(record, ODD, Fault.FAILED, host=ODD, slot=ODD)
    more = {
        "root_uid": f"r{ODD}",
        "host": f"h{ODD}",
        "slot": ODD,
        "failures": f"[{failure.model_dump_json()}]",
    }
    redis_client.hset(key, mapping=more)  # type: ignore[arg-type] # the stubs' invariance
    for shown in (type_in("status"), type_in("status", odd.uid)):
        assert not set(shown) & set("\x1b\x9b\u202e")
        assert "[/x][bold]" in shown
    for letter in "rcmfpnsh":
        assert f"{letter}[/x][bold]" in shown
    assert "start method runas; a guest off the Internet" in " ".join(shown.split())
    refused = {"state": "FAILED", "refusal": ODD, "analysis_task_uid": ODD}
    redis_client.hset(key, mapping=refused)  # type: ignore[arg-type] # the stubs' invariance
    shown = type_in("status", odd.uid)
    assert not set(shown) & set("\x1b\x9b\u202e")
    ledger.remove(odd.uid, reason="the test is over")
    redis_client.delete(INFLIGHT)
