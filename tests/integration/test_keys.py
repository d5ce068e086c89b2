"""docs/keys.md, the code and what a fleet leaves in Redis agree; and a leaked key does not pass unnoticed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from karton.core import Task

from drakcelery.embedded.services import Services
from drakcelery.karton import contract
from drakcelery.ledger import Ledger
from drakcelery.ledger.fleet import MEMORY
from drakcelery.ledger.keys import record_key
from drakcelery.model.analysis import State
from drakcelery.model.timeouts import DEFAULT
from drakcelery.recovery.duty import TURN_SHARE
from tests import keys
from tests.builders import analysis
from tests.faults.fleet import Fleet, Options
from tests.ledgers import open_analysis
from tests.servers import lent
from tests.waiting import wait_until

HOST = "rack-1"


@pytest.fixture(scope="module")
def fleet(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet that has published, refused and failed, on servers of its own."""
    directory = tmp_path_factory.mktemp("keys")
    options = Options(hosts=(HOST,), slots=1)
    with (
        lent(services),
        Fleet(directory / "fleet", services, options) as ours,
    ):
        ours.plan("retried", "prepare.ready", "exception")
        ours.push("published")
        ours.push("retried")
        ours.push("refused", host="nowhere")
        ended = ours.wait_over(["published", "retried", "refused"])
        assert [ended[uid].state for uid in ("published", "retried", "refused")] == [
            State.PUBLISHED,
            State.PUBLISHED,
            State.FAILED,
        ]
        yield ours


def test_stated_times_are_the_real_ones() -> None:
    """What the page says in numbers is what the code has."""
    stated = {key.pattern: key.ttl for key in keys.ALL}
    assert stated["drak:host:<host>"] == f"{DEFAULT.host:.0f} seconds; half of `[drakcelery] lease_seconds`"
    assert stated["drak:reconciled"].startswith(f"{TURN_SHARE * DEFAULT.reconcile:.0f} seconds;")
    assert stated["drak:fleet"].startswith(f"{MEMORY // 86400} days")


def test_a_fleet_leaves_documented_keys_only(fleet: Fleet) -> None:
    """Every key in both databases has a row whose type and TTL are right; none is left behind."""
    section = fleet.settings.redis
    for offset in (0, 1):
        with redis.Redis.from_url(section.address(db_offset=offset), decode_responses=True) as client:
            wait_until(lambda client=client: not client.exists("unacked"), "the broker is at rest")  # type: ignore[misc] # mypy cannot type a lambda with a default
            found = set(client.scan_iter(count=1000))
            assert found
            for key in found:
                kind, ttl = client.type(key), client.ttl(key)
                if kind == "none":  # expired, or taken, just now
                    continue
                rows = [one for one in keys.ALL if one.matches(key)]
                assert rows, f"docs/keys.md lacks {key} ({kind}, TTL {ttl})"
                assert any(kind in one.kind for one in rows), (key, kind)
                assert ttl != -1 or not all(one.expires for one in rows), f"{key} should expire"
            assert keys.leaked(client, found) == []


def test_a_leak_is_noticed(redis_client: redis.Redis) -> None:
    """The check of the fixture tells a key that stays forever from one that expires or is owned."""
    ledger = Ledger(redis_client, identity="karton.test-keys", record_ttl=600)
    task = Task({"type": "sample"}, uid="{r}:t", root_uid="r")
    ledger.declare(contract.started(task))
    redis_client.zadd("drak:inbox", {"{r}:t": 0})
    open_analysis(ledger, analysis())
    uid = analysis().uid
    redis_client.set("drak:oops", "left")
    redis_client.set("drak:brief", "expires", ex=60)
    redis_client.set("drak:host:rack-1", "{}")
    made = [record_key(uid), "drak:live", "drak:oops", "drak:brief", "drak:host:rack-1"]
    assert keys.leaked(redis_client, made) == ["drak:host:rack-1", "drak:oops"]
    redis_client.zrem("drak:live", uid)
    assert record_key(uid) in keys.leaked(redis_client, made)
    redis_client.delete(*made)
