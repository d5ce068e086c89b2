"""Whose messages are given to others after an outage of the broker: a dead worker's, and no live one's."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
import redis
from kombu import Queue

from drakcelery.broker import lease
from drakcelery.broker.redis_transport import Connection
from drakcelery.embedded.services import Services
from drakcelery.ledger import clock
from tests.faults.apart import valkey_apart
from tests.faults.proxy import Proxy
from tests.faults.watch import start_server, stop_server
from tests.waiting import wait_until

QUEUE = Queue("test-restored", routing_key="test-restored")
VISIBLE_SECONDS = 1.5


@pytest.fixture(scope="module")
def broker(server_programs: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:  # noqa: ARG001 - a check
    """A Valkey that may go away."""
    with valkey_apart(tmp_path_factory.mktemp("restored")) as services:
        yield services


@pytest.fixture
def link(broker: Services) -> Iterator[Proxy]:
    """The way to it, which may be cut."""
    with Proxy(broker.redis.port) as proxy:
        yield proxy


@contextmanager
def restart(broker: Services) -> Iterator[None]:
    """The broker is away, and another process afterwards."""
    stop_server(broker, "Valkey")
    try:
        yield
    finally:
        start_server(broker, "Valkey")


@contextmanager
def worker(broker: Services, link: Proxy) -> Iterator[Any]:
    """The channel of a worker."""
    address = broker.redis.model_copy(update={"port": link.port}).address()
    options = {"visibility_timeout": VISIBLE_SECONDS, "polling_interval": 0.05}
    with Connection(address, transport_options=options) as connection:
        yield connection.default_channel


def take(channel: Any, number: int) -> str:
    """Have a message delivered to the worker of *channel*; returns its tag."""
    channel.connection.client.Producer().publish({"n": number}, routing_key=QUEUE.name, declare=[QUEUE])
    return str(channel.basic_get(QUEUE.name).delivery_tag)


def look(channel: Any) -> bool:
    """Have the worker of *channel* give back what others did not renew. False if it was cut off still."""
    try:
        channel.qos.restore_visible()
    except channel.connection_errors:
        return False
    return True


@pytest.mark.parametrize("kind", ["restarted", "cut off"])
def test_an_outage_makes_nobody_dead(broker: Services, link: Proxy, kind: str) -> None:
    """Who is back first gives back nothing of who lives; of who died, once he could have been heard (R6)."""
    url = broker.redis.address()
    with worker(broker, link) as alive, worker(broker, link) as dead, worker(broker, link) as first:
        heard = time.monotonic() + 2 * VISIBLE_SECONDS
        wait_until(lambda: look(first) and time.monotonic() > heard, "it has heard the broker for long")
        ours, theirs = take(alive, 1), take(dead, 2)
        outage: AbstractContextManager[None] = restart(broker) if kind == "restarted" else link.cut()
        with outage:
            over = time.monotonic() + 2 * VISIBLE_SECONDS
            wait_until(lambda: time.monotonic() > over, "the broker was away for longer than they are hidden")
            assert not look(first)
        wait_until(lambda: look(first), "the first one is back")
        with redis.Redis.from_url(url, decode_responses=True) as client:
            overdue = client.zrangebyscore("unacked_index", "-inf", clock.now(client))
            assert {ours, theirs} <= set(overdue)  # by the time alone, both would be given back
            assert set(client.hkeys("unacked")) == {ours, theirs}

            def given_back() -> bool:
                lease.renew(alive)
                assert look(first)
                assert client.hexists("unacked", ours)
                return not client.hexists("unacked", theirs)

            wait_until(lambda: lease.renew(alive) == 1, "the live worker is back")
            wait_until(given_back, "what the dead one had is given back")
            assert first.basic_get(QUEUE.name).payload == {"n": 2}
            assert first.basic_get(QUEUE.name) is None
            client.delete(*client.keys())
