"""What could not be dealt with, as people see it: ``status``, ``isolated``, and what removes it for good."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner

from drakcelery import cli
from drakcelery.embedded.services import Services
from drakcelery.ledger import DONE, INFLIGHT, LIVE, Ledger, record_key
from tests.ledgers import open_analysis
from tests.unit.test_chain import analysis


@pytest.mark.parametrize("is_hash", [True, False])
def test_an_unreadable_analysis_is_removed(redis_client: redis.Redis, is_hash: bool) -> None:
    """It is neither live nor over any more, and takes nobody's room; others stay."""
    ledger = Ledger(redis_client, identity="karton.test-foreign", record_ttl=600)
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


def test_commands(
    services: Services, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """``status`` says that something cannot be read; ``isolated`` lists, retries and removes it."""
    section = services.redis
    assert section.password is not None
    for name, value in {
        "DATA_DIR": tmp_path,  # where there is no stack
        "REDIS_HOST": section.host,
        "REDIS_PORT": section.port,
        "REDIS_PASSWORD": section.password.get_secret_value(),
        "DRAKRUN_IDENTITY": "karton.test-foreign",
    }.items():
        monkeypatch.setenv(f"DRAKCELERY_{name}", str(value))

    def type_in(*words: str) -> str:
        done = CliRunner().invoke(cli.cli, words)
        assert done.exit_code == 0, done.output
        return done.stdout

    ledger = Ledger(redis_client, identity="karton.test-foreign", record_ttl=600)
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
