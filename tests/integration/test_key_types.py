"""A key of ours that is of another type: who needs it names it and the fix; nobody else notices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
import tornado.web
from prometheus_client import generate_latest
from redis.exceptions import ConnectionError as RedisGone
from structlog.testing import capture_logs

from drakcelery.flower.kinds import sentences
from drakcelery.flower.reading import Reader
from drakcelery.ingress import Ingress
from drakcelery.ingress.fleet_metrics import FleetMetrics
from drakcelery.ledger.keys import (
    FLEET,
    INBOX,
    INFLIGHT,
    LIVE,
    QUARANTINE,
    WAITING,
    line_key,
    record_key,
)
from drakcelery.ledger.keytypes import OF_NAMES, TYPES, named, odd_keys
from drakcelery.model.analysis import Place
from drakcelery.recovery.isolation import MOST_TRIES, Isolation
from drakcelery.telemetry import instruments
from tests.bench import HOST, Bench, bench
from tests.ledgers import inbox_of
from tests.operating import COMMANDS, PROFILE, fleet, said

__all__ = ("bench", "fleet")

FULL = Place(profile="other")
NAMED = [f"{prefix}{name}" for prefix in OF_NAMES for name in (HOST, PROFILE, str(FULL))]
ALL_NEED = frozenset({LIVE, INFLIGHT, WAITING, FLEET})
"""What everything that is shown stands in: a command without them says which, and what to do."""


@pytest.fixture
def spoil(fleet: Bench) -> Iterator[Callable[[str], None]]:
    """Make a key be of a type that no key of ours is of; afterwards it is what it was."""
    client = fleet.ledger._redis
    spoilt: list[str] = []

    def spoil(key: str) -> None:
        if client.exists(key):
            client.rename(key, f"{key}-kept")
        client.xadd(key, {"odd": "1"})
        spoilt.append(key)

    yield spoil
    for key in spoilt:
        client.delete(key)
        if client.exists(f"{key}-kept"):
            client.rename(f"{key}-kept", key)


@pytest.mark.parametrize("key", [*TYPES, *NAMED])
def test_commands_name_it(fleet: Bench, spoil: Callable[[str], None], key: str) -> None:
    """They go on without what is for show, and else name the key and the command that fixes it."""
    spoil(key)
    for words in COMMANDS:
        code, text = said(*words)
        if code:
            assert key in ALL_NEED
            assert f"Error: In Karton's Redis {key} is a stream, not a" in text
            assert f"`redis-cli RENAME {key} {key}-odd` fixes it" in text
    is_known = key in {odd.key for odd in odd_keys(fleet.ledger._redis)}
    assert is_known or key in NAMED
    assert (f"`redis-cli RENAME {key} {key}-odd` fixes it" in said("status")[1]) == is_known


@pytest.mark.parametrize("key", [*TYPES, *NAMED])
def test_the_page_and_the_metrics_name_it(fleet: Bench, spoil: Callable[[str], None], key: str) -> None:
    """The Fleet page is there without it, or its 503 says which key; a gauge has it in any case."""
    ledger, inbox, settings = fleet.ledger, inbox_of(fleet.ledger), fleet.context.settings
    fleet_metrics = FleetMetrics(settings, ledger, inbox)
    spoil(key)
    is_known = key in {odd.key for odd in odd_keys(ledger._redis)}
    with ThreadPoolExecutor() as executor:
        reader = Reader(settings=settings, ledger=ledger, inbox=inbox, executor=executor, remote=executor)
        if key in ALL_NEED:
            with pytest.raises(tornado.web.HTTPError) as caught, sentences():
                reader.naming(reader._read_fleet)
            assert caught.value.status_code == 503
            assert f"redis-cli RENAME {key} {key}-odd" in str(caught.value)
        else:
            view = reader.naming(reader._read_fleet)
            assert any(key in one for one in view.odd_keys) == is_known
    fleet_metrics.update()
    told = generate_latest(instruments.INGRESS).decode()
    assert (f'drakcelery_odd_keys{{key="{key}"}} 1.0' in told) == is_known
    assert "drakcelery_redis_up 1.0" in told
    ledger._redis.delete(key)
    fleet_metrics.update()
    assert "drakcelery_odd_keys{" not in generate_latest(instruments.INGRESS).decode()


def test_a_redis_that_is_away_is_said_to_be_away() -> None:
    """Nobody is sent to look for a key then."""
    with pytest.raises(tornado.web.HTTPError, match="Karton's Redis does not answer"), sentences():
        raise RedisGone("gone")


def test_logs_name_it(fleet: Bench, spoil: Callable[[str], None]) -> None:
    """Whatever part of an ingress meets it."""
    context = fleet.context
    ingress = Ingress(
        settings=context.settings,
        ledger=context.ledger,
        inbox=inbox_of(context.ledger),
        storage=context.storage,
        send=lambda _: None,
    )
    spoil(INBOX)
    context.ledger._redis.rpush(f"karton.queue.normal:{context.ledger.identity}", "{r}:t")
    with capture_logs() as logs:
        assert ingress._safely(ingress.work) is None
    (line,) = (one for one in logs if one["event"] == "part_failed")
    assert f"redis-cli RENAME {INBOX} {INBOX}-odd" in str(line["error"])


def test_a_line_of_another_type_stops_no_other_place(fleet: Bench, spoil: Callable[[str], None]) -> None:
    """Who waits for that place is in quarantine, with the fix, and never given up for it."""
    ledger, inbox = fleet.ledger, inbox_of(fleet.ledger)
    sound = Place(profile=PROFILE)
    ledger._redis.sadd(WAITING, str(FULL), str(sound))
    ledger._redis.zadd(line_key(sound), {"{r}:waits": 2e13})
    spoil(line_key(FULL))
    assert inbox.places() == [sound]
    assert [line.place for line in inbox.lines()] == [sound]
    assert inbox.accept(limit=9, places=dict.fromkeys(inbox.counts()[1], 1), most=9) == ["{r}:waits"]
    ended: list[str] = []

    def give_up(uid: str, _: str) -> bool:
        ended.append(uid)
        return True

    isolation = Isolation(ledger.quarantine, where="inbox", give_up=give_up)
    for _ in range(MOST_TRIES + 1):
        with isolation.item("{r}:odd"):
            ledger._redis.zcard(line_key(FULL))
    (entry,) = ledger.quarantine.all()
    assert (entry.count, ended) == (MOST_TRIES + 1, [])
    assert f"redis-cli RENAME {line_key(FULL)} {line_key(FULL)}-odd" in entry.error
    inbox.drop("{r}:waits")
    ledger._redis.delete(WAITING)


def test_no_loop_stops_for_want_of_a_quarantine(fleet: Bench, spoil: Callable[[str], None]) -> None:
    """An item that fails is told in the log, and the others are dealt with."""
    spoil(QUARANTINE)
    isolation = Isolation(fleet.ledger.quarantine, where="inbox")
    isolation.begin()
    done = []
    with capture_logs() as logs:
        for uid in ("before", "odd", "after"):
            with isolation.item(uid):
                if uid == "odd":
                    raise ValueError(uid)
                done.append(uid)
    assert done == ["before", "after"]
    assert "quarantine_unusable" in [line["event"] for line in logs]


def test_other_errors_stay_what_they_are(fleet: Bench) -> None:
    """One that is about no key of another type, or about a record, is not explained away."""
    client = fleet.ledger._redis
    client.set("drak-test", "x", ex=60)
    with pytest.raises(redis.ResponseError, match="not an integer"), named(client):
        client.incr("drak-test")
    with pytest.raises(redis.ResponseError, match=r"^WRONGTYPE"), named(client):
        client.zcard(record_key("live-1"))
