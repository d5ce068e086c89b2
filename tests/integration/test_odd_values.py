"""Keys of the right type with odd values in them, of another version or of nobody: all others go on."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from drakcelery.flower.reading import Reader
from drakcelery.forecast.curve import WatchedRun
from drakcelery.ingress import Ingress
from drakcelery.ingress.fleet_metrics import FleetMetrics
from drakcelery.ledger.deployment import Deployment
from drakcelery.ledger.host_names import HostNames
from drakcelery.ledger.keys import (
    ASIDE,
    BROKER_WATCH,
    DEPLOYMENT,
    DONE,
    DUE,
    FLEET,
    INBOX,
    INFLIGHT,
    LIVE,
    NEWS,
    NOTICES,
    QUARANTINE,
    WAITING,
    WATCH,
    host_key,
    io_key,
    lease_key,
    news_key,
    stops_key,
)
from drakcelery.ledger.watch import ServerId
from drakcelery.model.analysis import Place
from drakcelery.model.news import News
from drakcelery.model.records import HostStatus, SlotStatus
from drakcelery.recovery.reconcile import Reconciler
from drakcelery.telemetry import instruments
from drakcelery.worker.janitor import Janitor
from tests.bench import HOST, Bench, bench
from tests.ledgers import inbox_of
from tests.operating import COMMANDS, fleet, said

__all__ = ("bench", "fleet")

SLOT = {"name": "vm-1", "profile": "win10", "state": "free", "since": 0}
MORE = (
    *COMMANDS,
    ("watch-report",),
    ("isolated", "list"),
    ("isolated", "list", "--json"),
    ("slots", "--json"),
)
MARKUP = "[/x]\x1b[31m"
HUGE = 10**300


def status(**fields: object) -> str:
    """What a host says about itself."""
    return json.dumps({"host": "odd", "engine": "replay", "slots": [SLOT], **fields})


def slot(**fields: object) -> str:
    """What a host says whose one slot is odd."""
    return status(slots=[SLOT | fields])


HOSTS = {
    "surrogates": slot(name="vm\udc83", reasons=["\udc83"], closed_by="\udc83", uid="\udc83"),
    "markup": slot(state=MARKUP, reasons=[MARKUP], closed_by=MARKUP, uid=MARKUP, name=MARKUP),
    "markup of the host": status(engine=MARKUP, halted=MARKUP, snapshot=MARKUP),
    "huge": slot(since=1e308, score=1e308, attempt=HUGE),
    "negative": slot(since=-1e308, score=-5, attempt=-1),
    "NaN": slot(since=float("nan")),
    "another host": status(host="other"),
    "fields of a newer version": status(moon=1, canaries={"a": 1}),
    "no slots": status(slots=[]),
    "the same slot twice": status(slots=[SLOT, SLOT]),
    "deep": "[" * 100_000,
    "a long name": status(engine="e" * 100_000),
    **{text or "nothing": text for text in ("", "null", "[]", "{}", "\x1b")},
}


def walk(bench: Bench) -> None:
    """Let everybody look: commands, the Fleet page, metrics, reconcile, ingress and janitor."""
    ledger, inbox, settings = bench.ledger, inbox_of(bench.ledger), bench.context.settings
    slots = (SlotStatus(name="vm-1", profile="win10", state="free", since=0),)
    ledger.fleet.report(HostStatus(host=HOST, engine="replay", slots=slots), lasts=600)
    for words in MORE:
        code, text = said(*words)
        assert code == 0, text
    FleetMetrics(settings, ledger, inbox).update()
    assert instruments.REDIS_UP._value.get() == 1
    with ThreadPoolExecutor() as executor:
        reader = Reader(settings=settings, ledger=ledger, inbox=inbox, executor=executor, remote=executor)
        assert HOST in reader._read_fleet().model_dump_json()
        assert "live-1" in {row.uid for row in reader.analyses(50)}
    Reconciler(ledger=ledger, settings=settings, send=lambda _: None, ask_broker=ServerId).run()
    ingress = Ingress(
        settings=settings, ledger=ledger, inbox=inbox, storage=bench.context.storage, send=lambda _: None
    )
    ingress.work()
    watch = ledger.watch()
    for part in (ingress._adopt, ingress._give_up):
        part(watch)
    ingress._try_again()
    ingress._withdraw()
    assert ingress._sight.capacity().free(Place(profile="win10", host=HOST)) > 0
    Janitor(bench.context, lambda _: None)._clean_up()
    HostNames(ledger._redis).claim(HOST, bench.context.machine, role="vm", lasts=5.0)
    Deployment(ledger._redis, ledger.identity).claim()
    assert Deployment(ledger._redis, "karton.x").found() is not None


@pytest.mark.parametrize("report", HOSTS.values(), ids=HOSTS)
def test_what_a_host_says_of_itself(fleet: Bench, report: str) -> None:
    """It hides no other host, and no command or page breaks over it."""
    client = fleet.ledger._redis
    client.set(host_key("odd"), report, px=60_000)
    client.set(io_key("odd"), "garbage", px=60_000)
    client.zadd(FLEET, {"win10@odd": fleet.ledger.now()})
    walk(fleet)


def _quarantine(client: redis.Redis) -> None:
    members = {"": 1.0, "nospace": 1.0, "inbox ": 1.0, " x": -1e308, f"{MARKUP} {MARKUP}": 2.0}
    client.zadd(QUARANTINE, {**members, "a b": 1e308, "c d": float("inf"), "e f": 2.0})
    client.hset(f"{QUARANTINE}:a:b", mapping={"count": "1e400", "first": "inf", "error": MARKUP})
    client.hset(f"{QUARANTINE}:c:d", "moon", "full")
    client.set(f"{QUARANTINE}:e:f", "not even a hash")
    client.hset(f"{QUARANTINE}:{MARKUP}:{MARKUP}", "error", MARKUP)


def _durations(client: redis.Redis) -> None:
    for seconds in (HUGE, -1, 1e308):
        taken = dict.fromkeys(("prepare", "run", "rest"), seconds)
        client.rpush("drak:durations:win10", json.dumps({"timeout": 60, **taken}))
    client.rpush("drak:durations:win10", '{"timeout": 1e400}', "no JSON", "[" * 100_000)


def _news(client: redis.Redis) -> None:
    client.zadd(
        NEWS, {"": 1, "a": float("inf"), f"{MARKUP}/{MARKUP}": 1.0, "win10/high": 1e300, "win10/odd": 1}
    )
    client.rpush(news_key("win10", "high"), "no JSON", '{"seconds": 1e400, "timeout": 1}', "[" * 5000)
    client.rpush(
        news_key(MARKUP, MARKUP), WatchedRun(seconds=60, timeout=60, news=News(seconds=1)).model_dump_json()
    )
    client.set(stops_key("win10", "odd"), "not even a list")


def _waiting(client: redis.Redis) -> None:
    client.sadd(WAITING, "", "a@b@c", "win10@nowhere", "ghost")
    client.zadd(f"{WAITING}:ghost", {"": float("inf"), "x": -1.0, "y": 1e300})


def _places(client: redis.Redis) -> None:
    names = {
        "": 1e12,
        "@": 1e12,
        "a@b@c": 1e12,
        "win10@": 1e12,
        "@h": 1e12,
        "w" * 5000: 1e12,
        "sp ace@x": 1e12,
    }
    ends = {"win10@inf": float("inf"), "win10@-inf": float("-inf"), "win10@far": 1e300, "win10@back": -1e300}
    client.zadd(FLEET, {**names, **ends})


VALUES: dict[str, Callable[[redis.Redis], object]] = {
    "deployment": lambda client: client.hset(
        DEPLOYMENT, mapping={"identity": "karton.test-bench", "renewed": "several"}
    ),
    "deployment of nobody": lambda client: client.hset(DEPLOYMENT, mapping={"moon": "full"}),
    "watch": lambda client: client.hset(WATCH, mapping={"since": "several", "last": "nan"}),
    "since": lambda client: client.hset(WATCH, "since", "several"),
    "since NaN": lambda client: client.hset(WATCH, "since", "nan"),
    "since tomorrow": lambda client: client.hset(WATCH, "since", "1e300"),
    "since nothing": lambda client: client.hdel(WATCH, "since"),
    "gaps": lambda client: client.zadd(
        f"{WATCH}:gaps", dict.fromkeys(("x", "a b", "1 2 3", "nan nan", "inf 1", ""), 1e15)
    ),
    "gaps of the broker": lambda client: client.zadd(f"{BROKER_WATCH}:gaps", {"x": 1e15, "a b": 1e15}),
    "quarantine": _quarantine,
    "durations": _durations,
    "news": _news,
    "waiting": _waiting,
    "places": _places,
    "live": lambda client: client.zadd(LIVE, {"": 1, "{x}": 1, "a" * 10_000: -1e308, "b": float("inf")}),
    "done": lambda client: client.zadd(DONE, {"": 1e12, "b": float("inf")}),
    "due": lambda client: client.zadd(DUE, {"": 1, "nobody": 0, "live-1": float("inf")}),
    "in flight": lambda client: client.hset(INFLIGHT, mapping={"": "x", "a@b@c": "9", "win10": "nan"}),
    "inbox": lambda client: client.zadd(INBOX, {"": 0, "{": 0, "x" * 5000: float("-inf"), "}{:": 0}),
    "aside": lambda client: client.zadd(ASIDE, {"": 0, "{": 0}),
    "notices": lambda client: client.zadd(NOTICES, {"": 0, "x": float("inf")}),
    "counts of notices": lambda client: client.hset("drak:notices:counts", mapping={"sent": "many"}),
    "canaries": lambda client: client.hset(
        "drak:canary:win10", mapping={"": "x", "replay|": "[]", "a": "NaN"}
    ),
    "a name's lease": lambda client: client.hset(
        lease_key(HOST), mapping={"key": "zz", "renewed": "several", "lasts": "nan", "node": MARKUP}
    ),
}


@pytest.mark.parametrize("spoil", VALUES.values(), ids=VALUES)
def test_what_stands_in_a_key(fleet: Bench, spoil: Callable[[redis.Redis], object]) -> None:
    """Whoever reads the key skips what says nothing, and the watch is kept."""
    ledger = fleet.ledger
    ledger.watch()
    ledger.watch_broker(ServerId())
    spoil(ledger._redis)
    try:
        walk(fleet)
        before = ledger.watch()
        after = ledger.watch()
        assert before.since == after.since <= after.now
    finally:
        for key in ledger._redis.scan_iter(match="drak:*"):
            ledger._redis.expire(key, 60)


def test_who_may_begin_beside_a_deployment_without_a_time(fleet: Bench) -> None:
    """One that says not when it was last alive is silent; its samples count still."""
    client = fleet.ledger._redis
    client.hset(DEPLOYMENT, mapping={"identity": "karton.other", "renewed": "several"})
    found = Deployment(client, fleet.ledger.identity).found()
    assert found is not None
    assert found.samples > 0
    fleet.forget("live-1")
    Deployment(client, fleet.ledger.identity).claim()
