"""Who reconciles next."""

from __future__ import annotations

import redis
from kombu.exceptions import OperationalError

from drakcelery.ledger.keys import TURN, WATCH
from drakcelery.ledger.watch import ServerId
from drakcelery.recovery.duty import SITTING_OUT, Duty
from tests.bench import Bench, bench

__all__ = ("bench",)


def no_broker() -> ServerId:
    """It is away."""
    raise OperationalError("it does not answer")


def test_who_is_cut_off_from_the_broker_leaves_the_turn(bench: Bench, redis_client: redis.Redis) -> None:
    """Nobody is kept from sending what is lost by one who cannot send (R6), and Redis is heard meanwhile."""
    duty = Duty(bench.ledger, bench.context.settings, send=lambda _: None, ask_broker=no_broker)
    redis_client.delete(TURN)
    duty._attend()
    assert redis_client.exists(TURN)
    redis_client.delete(TURN)
    for _ in range(SITTING_OUT):
        before = redis_client.hget(WATCH, "last")
        duty._attend()
        assert not redis_client.exists(TURN)
        assert redis_client.hget(WATCH, "last") != before
    duty._attend()
    assert redis_client.exists(TURN)


def test_who_reaches_the_broker_goes_on(bench: Bench, redis_client: redis.Redis) -> None:
    """The turn is taken again as soon as it is due."""
    duty = Duty(bench.ledger, bench.context.settings, send=lambda _: None, ask_broker=ServerId)
    for _ in range(2):
        redis_client.delete(TURN)
        duty._attend()
        assert redis_client.exists(TURN)
