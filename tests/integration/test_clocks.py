"""A host whose clock is an hour wrong, to the real servers: whose message it is, what S3 thinks of it, when
reconcile is due. And writes that come late, as those of a host that was cut off do.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from kombu import Queue
from pydantic import SecretStr

from drakcelery.broker import lease
from drakcelery.broker.redis_transport import Connection
from drakcelery.embedded.services import BUCKET, Services
from drakcelery.errors import StorageError, Superseded
from drakcelery.ledger import Ledger, clock
from drakcelery.ledger.keys import TURN
from drakcelery.recovery.duty import Turn
from drakcelery.storage import Storage
from drakcelery.storage import client as storage_client
from tests.faults.proxy import LOOPBACK, Proxy
from tests.objects import put_bytes
from tests.waiting import wait_until

HOUR = 3600
QUEUE = Queue("test-clocks", routing_key="test-clocks")
VISIBLE_SECONDS = 2.0


@pytest.fixture(params=[HOUR, -HOUR], ids=["ahead", "behind"])
def wrong(request: pytest.FixtureRequest) -> int:
    """By how many seconds this host's clock is wrong."""
    return int(request.param)


@pytest.fixture
def broker(services: Services) -> Iterator[redis.Redis]:
    """The broker's database, without what the test leaves there."""
    with redis.Redis.from_url(services.redis.address(db_offset=7), decode_responses=True) as client:
        yield client
        client.delete(*client.keys(), "unacked")


@contextmanager
def worker(services: Services) -> Iterator[Any]:
    """The channel of a worker that takes what is in the queue."""
    options = {"visibility_timeout": VISIBLE_SECONDS, "polling_interval": 0.05}
    with Connection(services.redis.address(db_offset=7), transport_options=options) as connection:
        yield connection.default_channel


def take(channel: Any) -> Any:
    """The message that comes next, not yet acknowledged; None if there is none."""
    return channel.basic_get(QUEUE.name)


def send(connection: Connection) -> None:
    """Put a message into the queue."""
    connection.Producer().publish({}, routing_key=QUEUE.name, declare=[QUEUE])


def test_a_message_is_its_workers(
    services: Services, broker: redis.Redis, wrong: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a worker renews its message nobody else gets it, be its clock wrong; afterwards somebody does."""
    now = datetime.now(tz=UTC).timestamp()
    monkeypatch.setattr("kombu.transport.redis.time", lambda: now + wrong)
    with worker(services) as ours, worker(services) as theirs:
        send(ours.connection.client)
        assert take(ours) is not None
        until = broker.zscore("unacked_index", next(iter(ours.qos._delivered)))
        assert until is not None
        assert until == pytest.approx(broker.time()[0] + VISIBLE_SECONDS, abs=2)

        end = until + VISIBLE_SECONDS

        def renewed() -> bool:
            assert lease.renew(ours) == 1
            theirs.qos.restore_visible()
            assert take(theirs) is None
            return bool(broker.time()[0] > end)

        wait_until(renewed, "twice the time has passed after which messages are given to others")

        def taken() -> bool:
            theirs.qos.restore_visible()
            return take(theirs) is not None

        wait_until(taken, "the message comes to somebody else")
        assert lease.renew(ours) == 1  # of which it does not know yet
        theirs.qos.ack(next(iter(theirs.qos._delivered)))
        assert not broker.exists("unacked", "unacked_index")


def test_a_closed_channel_is_replaced(services: Services, broker: redis.Redis) -> None:
    """A message is sent although its channel was closed meanwhile, as where declaring a queue failed."""
    with Connection(services.redis.address(db_offset=7)) as connection:
        producer = connection.Producer()
        producer.publish({}, routing_key=QUEUE.name, declare=[QUEUE])
        connection.collect()
        producer.publish({}, routing_key=QUEUE.name, retry=True, retry_policy={"max_retries": 1})
    assert broker.llen(QUEUE.name) == 2


class WrongClock(datetime):
    """A clock that is wrong."""

    ahead = timedelta()

    @classmethod
    def now(cls, tz: Any = None) -> datetime:  # type: ignore[override] # a plain one will do
        """The wrong time."""
        return datetime.now(tz=tz) + cls.ahead


def test_s3_takes_the_requests_of_a_wrong_clock(
    services: Services, wrong: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Every kind of request is signed as of the server's time; a wrong secret is still refused."""
    monkeypatch.setattr(WrongClock, "ahead", timedelta(seconds=wrong))
    monkeypatch.setattr(storage_client, "datetime", WrongClock)
    put_bytes(Storage.connect(services.s3, threads=1), BUCKET, "clocks/x", b"x")
    assert Storage.connect(services.s3, threads=1).stat(BUCKET, "clocks/x") == 1
    assert Storage.connect(services.s3, threads=1).list(BUCKET, "clocks/x") == {"clocks/x": 1}
    storage = Storage.connect(services.s3, threads=1)
    (tmp_path / "metadata.json").write_bytes(b"{}")
    storage.upload_all(BUCKET, "clocks", {"metadata.json": tmp_path / "metadata.json"})
    assert storage.stat(BUCKET, "clocks/metadata.json") == 2
    assert storage.peek(BUCKET, "clocks/metadata.json", 1) == (2, b"{")
    stranger = services.s3.model_copy(update={"secret_key": SecretStr("guessed")})
    with pytest.raises(StorageError):
        put_bytes(Storage.connect(stranger, threads=1), BUCKET, "clocks/x", b"x")


def test_reconcile_is_due_by_redis_clock(redis_client: redis.Redis) -> None:
    """One of all who ask has the turn, and loses it to another when it is over by Redis' clock."""
    ledger = Ledger(redis_client, identity="karton.test-clocks", record_ttl=600)
    turns = [Turn(ledger) for _ in range(3)]
    assert [turn.acquire() for turn in turns] == [True, False, False]
    assert [turn.keep() for turn in turns] == [True, False, False]
    assert 0 < redis_client.pttl(TURN) < ledger.timeouts.reconcile * 1000
    redis_client.delete(TURN)  # as Redis does
    assert not turns[0].keep()
    assert turns[1].acquire()
    assert [turn.keep() for turn in turns] == [False, True, False]


@pytest.mark.parametrize("wanted", [True, False])
def test_a_repeated_request_is_fenced(services: Services, tmp_path: Path, wanted: bool) -> None:
    """A host that is cut off while it writes, and comes back, writes on only what is still its own."""
    theirs, ours = Storage.connect(services.s3, threads=1), tmp_path / "metadata.json"
    put_bytes(theirs, BUCKET, "late/metadata.json", b"theirs")
    ours.write_bytes(b"ours")
    asked: list[bool] = []

    def check() -> None:
        asked.append(wanted)
        if len(asked) > 1 and not wanted:
            raise Superseded("somebody else has it")

    with cut_off_once(services.s3.address) as address:
        section = services.s3.model_copy(update={"address": address})
        storage = Storage.connect(section, threads=1)
        with ExitStack() as refusal:
            if not wanted:
                refusal.enter_context(pytest.raises(Superseded))
            storage.upload_all(BUCKET, "late", {"metadata.json": ours}, check=check)
    assert len(asked) == 2
    assert theirs.peek(BUCKET, "late/metadata.json", 9) == ((4, b"ours") if wanted else (6, b"theirs"))


@contextmanager
def cut_off_once(address: str) -> Iterator[str]:
    """An address that leads to S3 from the second connection on; the first one is cut."""
    with socket.create_server((LOOPBACK, 0)) as listener, Proxy(listener.getsockname()[1]) as proxy:

        def cut() -> None:
            connection, _ = listener.accept()
            connection.recv(1)
            proxy._target = int(address.rpartition(":")[2])
            connection.close()

        thread = threading.Thread(target=cut)
        thread.start()
        yield f"http://{LOOPBACK}:{proxy.port}"
        thread.join()


def test_redis_clock_is_read_now_and_then(redis_client: redis.Redis) -> None:
    """Between two looks at Redis' clock it is known without asking, and the looks do come."""

    def asked() -> int:
        return int(redis_client.info("commandstats").get("cmdstat_time", {"calls": 0})["calls"])

    seldom, always = clock.Clock(good_for=60), clock.Clock(good_for=0)
    before = asked()
    told = [seldom.now(redis_client) for _ in range(10)]
    assert asked() == before + 1
    assert told == sorted(told)
    assert clock.now(redis_client) == pytest.approx(told[-1], abs=5)
    before = asked()
    for _ in range(3):
        always.now(redis_client)
    assert asked() == before + 3
