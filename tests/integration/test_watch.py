"""The watch on record in a real Valkey: what it takes for an outage, and what silence is worth after one."""

from __future__ import annotations

import pytest
import redis

from drakcelery.ledger import Ledger
from drakcelery.ledger.keys import WATCH
from drakcelery.ledger.watch import ServerId
from drakcelery.model.timeouts import DEFAULT
from tests.ledgers import watched

GAPS = f"{WATCH}:gaps"
HOUR = 3600.0


@pytest.fixture
def ledger(redis_client: redis.Redis) -> Ledger:
    """A ledger that was heard for an hour without a break."""
    ledger = Ledger(redis_client, identity="karton.test-watch", record_ttl=600)
    watched(ledger, seconds=HOUR)
    return ledger


def heard(ledger: Ledger, seconds: float) -> None:
    """Let the last note be so old."""
    ledger._redis.hset(WATCH, "last", f"{ledger.now() - seconds:.6f}")


def test_goes_on_while_it_is_noted(ledger: Ledger) -> None:
    """Notes by whoever it may be, no further apart than a watch may pause, are one watch."""
    heard(ledger, DEFAULT.pause - 1)
    other = Ledger(ledger._redis, identity=ledger.identity, record_ttl=600)
    assert ledger.watch().lasts == pytest.approx(HOUR, abs=5)
    assert other.watch().lasts == pytest.approx(HOUR, abs=5)
    assert ledger.watch().gaps == ()


def test_an_outage_begins_it_anew(ledger: Ledger) -> None:
    """Where nobody heard Redis for longer, nobody was silent before; the gap is on record."""
    heard(ledger, 600)
    watch = ledger.watch()
    assert watch.lasts == 0
    assert [round(end - begin) for begin, end in watch.gaps] == [600]
    assert watch.watched(watch.now - 1000) == pytest.approx(400, abs=1)
    assert ledger.watch().gaps == watch.gaps


def test_the_first_one_knows_nothing_of_before(ledger: Ledger) -> None:
    """Where there was none (a Redis without its data, an earlier version), nothing was watched until now."""
    ledger._redis.delete(WATCH)
    watch = ledger.watch()
    assert watch.lasts == 0
    assert watch.watched(0) == 0


@pytest.mark.parametrize("name", ["run_id", "role"])
def test_another_server_begins_it_anew(ledger: Ledger, name: str) -> None:
    """A restart or a failover counts, however short it was."""
    assert ledger._redis.hget(WATCH, name)
    ledger._redis.hset(WATCH, name, "another")
    assert ledger.watch().lasts == 0


def test_a_clock_that_is_set_back_begins_it_anew(ledger: Ledger) -> None:
    """Of a time that is still to come nobody says that it was watched."""
    heard(ledger, -HOUR)
    assert ledger.watch().lasts == 0


def test_without_the_right_to_ask(ledger: Ledger) -> None:
    """A user who may not use INFO goes by the time alone, and spoils nothing for others."""
    client = ledger._redis
    client.acl_setuser("blind", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-info"])
    try:
        address = client.connection_pool.connection_kwargs
        blind = redis.Redis(
            host=address["host"], port=address["port"], username="blind", password="x", decode_responses=True
        )
        with blind:
            assert ServerId.of(blind) == ServerId()
            other = Ledger(blind, identity=ledger.identity, record_ttl=600)
            assert other.watch().lasts == pytest.approx(HOUR, abs=5)
        assert ledger.watch().lasts == pytest.approx(HOUR, abs=5)
    finally:
        client.acl_deluser("blind")


def test_gaps_are_bounded(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that comes and goes fills nothing up."""
    monkeypatch.setattr("drakcelery.ledger.MOST_GAPS", 3)
    for _ in range(5):
        heard(ledger, DEFAULT.pause + 1)
        ledger.watch()
    assert ledger._redis.zcard(GAPS) == 3
    assert 0 < ledger._redis.ttl(GAPS) <= ledger._redis.ttl(WATCH)
