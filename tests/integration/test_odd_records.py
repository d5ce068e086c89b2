"""What another version of us wrote, or nobody can read, reaches nothing else that stands in Redis."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import pytest
from kombu.exceptions import OperationalError
from redis import exceptions

from drakcelery.errors import UnreadableRecord
from drakcelery.flower.reading import Reader
from drakcelery.forecast.durations import Durations
from drakcelery.forecast.forecast import make_forecast
from drakcelery.forecast.learning import Learned
from drakcelery.ingress.fleet_metrics import FleetMetrics
from drakcelery.ledger import Ledger
from drakcelery.ledger.keys import DEAD, DONE, FLEET, host_key, record_key
from drakcelery.ledger.outbox import Dead
from drakcelery.ledger.watch import ServerId
from drakcelery.model.analysis import Execution, Fault, Stage, State
from drakcelery.model.capacity import Capacity
from drakcelery.model.records import HostStatus, Record, SlotStatus
from drakcelery.operators import analyses
from drakcelery.operators.top import Watch
from drakcelery.recovery.reconcile import Reconciler
from drakcelery.recovery.reroute import reroute
from drakcelery.recovery.takeover import io_worker_begins, process_died, vm_worker_begins
from tests.bench import HOST, Bench, bench
from tests.ledgers import inbox_of

__all__ = ("bench",)

Spoil = Callable[[Ledger, str], object]


def _no_state(ledger: Ledger, uid: str) -> None:
    ledger._redis.hdel(record_key(uid), "state")


def _odd_number(ledger: Ledger, uid: str) -> None:
    ledger._redis.hset(record_key(uid), "attempt", "several")


def _odd_analysis(ledger: Ledger, uid: str) -> None:
    ledger._redis.hset(record_key(uid), "analysis", '{"uid": NaN, "sample": []}')


def _no_json(ledger: Ledger, uid: str) -> None:
    ledger._redis.hset(record_key(uid), "failures", "[" * 100_000)


def _no_time(ledger: Ledger, uid: str) -> None:
    ledger._redis.hset(record_key(uid), mapping={"received": "nan", "at:QUEUED": "inf"})


def _odd_type(ledger: Ledger, uid: str) -> None:
    ledger._redis.delete(record_key(uid))
    ledger._redis.set(record_key(uid), "not even a hash", ex=600)


UNREADABLE: dict[str, Spoil] = {
    one.__name__.strip("_"): one
    for one in (_no_state, _odd_number, _odd_analysis, _no_json, _no_time, _odd_type)
}


def newer(ledger: Ledger, uid: str) -> None:
    """Make a record of one that a newer version might have written."""
    failure = {"attempt": 1, "stage": "dig", "error": "e", "fault": "tired", "at": 1.0, "moon": "full"}
    ledger._redis.hset(record_key(uid), "failures", json.dumps([failure]))
    for name, value in {"state": "PAUSED", "done": "dig", "moon": "full", "at:PAUSED": "12.5"}.items():
        ledger._redis.hset(record_key(uid), name, value)


def no_broker() -> ServerId:
    """A broker that is away."""
    raise OperationalError


def everything(bench: Bench) -> dict[str, set[str]]:
    """The uids that each reader of many records finds."""
    ledger, inbox, settings = bench.ledger, inbox_of(bench.ledger), bench.context.settings
    forecast = make_forecast(settings, ledger, inbox)
    FleetMetrics(settings, ledger, inbox).update()
    with ThreadPoolExecutor() as executor:
        reader = Reader(settings=settings, ledger=ledger, inbox=inbox, executor=executor, remote=executor)
        fleet = reader._read_fleet()
        rows = reader.analyses(50)
    return {
        "status": {record.uid for record in analyses.overview(ledger)},
        "outlook": set(forecast.estimates),
        "top": set(Watch(ledger, inbox).read().live),
        "Fleet page": {row.uid for row in fleet.analyses},
        "Flower": {row.uid for row in rows},
    }


@pytest.mark.parametrize("spoil", UNREADABLE.values(), ids=UNREADABLE)
def test_a_record_that_nobody_can_read(bench: Bench, spoil: Spoil) -> None:
    """It is in quarantine, and every page, command and loop has all others (R2)."""
    ledger, uids = bench.ledger, ("before", "odd", "after")
    for uid in uids:
        bench.open(uid)
    slot = SlotStatus(name="vm-1", profile="win10", state="free", since=0)
    ledger.fleet.report(HostStatus(host=HOST, engine="replay", slots=(slot,)), lasts=600)
    ledger._redis.copy(record_key("odd"), record_key("kept"))
    spoil(ledger, "odd")
    begun = time.monotonic()
    assert all(found == {"before", "after"} for found in everything(bench).values())
    (entry,) = ledger.quarantine.all()
    assert (entry.where, entry.uid) == ("ledger", "odd")
    # Tries are 1, 2, 4, … s apart, however many look at it
    assert entry.count >= 1
    assert 2 ** (entry.count - 1) - 1 <= time.monotonic() - begun
    vm_worker_begins(bench.context, lambda _: None, [])
    io_worker_begins(bench.context, lambda _: None)
    reroute(ledger, lambda _: None, ["win10"])
    with pytest.raises(UnreadableRecord, match="cannot read the record of analysis odd"):
        ledger.get("odd")
    ledger._redis.delete(record_key("odd"))
    ledger._redis.rename(record_key("kept"), record_key("odd"))
    assert [record.uid for record in ledger.live()] == ["before", "odd", "after"]
    assert ledger.quarantine.all() == []


def test_a_record_of_a_newer_version(bench: Bench) -> None:
    """A state, stage and fault that this version does not know are shown as they are, and left alone (R2)."""
    ledger = bench.ledger
    for uid in ("newer", "ours"):
        bench.open(uid)
        ledger.advance(uid, 1, Stage.PREPARE, host=HOST, slot="vm-1", token="t")
    newer(ledger, "newer")
    before = ledger._redis.hgetall(record_key("newer"))
    assert all("newer" in found for what, found in everything(bench).items() if what != "outlook")
    record = bench.record("newer")
    assert (record.state.value, record.state.is_over, record.is_foreign) == ("PAUSED", False, True)
    assert record.failures[0].sentence() == "attempt 1: dig: e"
    vm_worker_begins(bench.context, lambda _: None, [])
    io_worker_begins(bench.context, lambda _: None)
    process_died(bench.context, lambda _: None, Stage.PREPARE, bench.step("newer", attempt=1))
    reroute(ledger, lambda _: None, ["win10"])
    Reconciler(
        ledger=ledger, settings=bench.context.settings, send=lambda _: None, ask_broker=no_broker
    ).run()
    assert ledger._redis.hgetall(record_key("newer")) == before
    assert ledger.is_due_later("ours")
    assert ledger.quarantine.all() == []


@pytest.mark.parametrize("word", [State, Stage, Fault, Execution])
def test_words_of_a_newer_version(word: type[State | Stage | Fault | Execution]) -> None:
    """They keep their text, are equal to no known word, and are not listed as known."""
    known = list(word)
    unknown = word("of tomorrow")
    assert (unknown.value, str(unknown), unknown.is_known) == ("of tomorrow", "of tomorrow", False)
    assert unknown == word("of tomorrow")
    assert unknown not in known
    assert list(word) == known
    assert all(one.is_known for one in known)
    with pytest.raises(ValueError, match="12"):
        word(cast("str", 12))


_ODD_SLOT = {"name": "vm-1", "profile": "no name", "state": "free", "since": 0}
ODD_REPORTS = (
    json.dumps(
        {"host": "odd", "engine": "replay", "slots": [_ODD_SLOT | {"profile": "win10", "since": math.nan}]}
    ),
    '{"host": "odd", "slots": 3}',
    json.dumps({"host": "odd", "engine": "replay", "slots": [_ODD_SLOT]}),
    json.dumps({"host": "o@d", "engine": "replay", "slots": [_ODD_SLOT | {"profile": "win10"}]}),
)


def test_hosts_that_cannot_be_read(bench: Bench) -> None:
    """A host of another version whose report says nothing to us hides no other host."""
    ledger = bench.ledger
    slot = SlotStatus(name="vm-1", profile="win10", state="free", since=0)
    for host in ("a", "odd", "z"):
        ledger.fleet.report(HostStatus(host=host, engine="replay", slots=(slot,)), lasts=600)
    for report in ODD_REPORTS:
        ledger._redis.set(host_key("odd"), report, px=60_000)
        ledger._redis.zadd(FLEET, {"no place at all": ledger.now()})
        hosts = ledger.fleet.hosts()
        assert [status.host for status in hosts] == ["a", "z"]
        assert Capacity.of(hosts, {}, look_ahead=0).total() == 2
    assert {place.host for place in ledger.fleet.places()} == {"a", "odd", "z"}
    assert [(one.where, one.uid) for one in ledger.quarantine.all()] == [("hosts", "odd")]


def test_durations_and_notices_that_cannot_be_read(bench: Bench) -> None:
    """What another version has learned, or has given up, is skipped."""
    client, known = bench.ledger._redis, Learned(timeout=60, prepare=1.0, run=60.0, rest=9.0)
    for text in ('{"moon": "full"}', "no JSON", known.model_dump_json()):
        client.rpush("drak:durations:odd", text)
    client.expire("drak:durations:odd", 60)
    assert Durations(bench.ledger.durations).of("odd") == [known]
    dead = Dead(uid="a", task_uid="t", state="MOVED", tries=1, error="e", at=1.0)
    client.rpush(DEAD, "no JSON", dead.model_dump_json())
    client.expire(DEAD, 60)
    assert bench.ledger.outbox.dead(newest=5) == [dead]


def test_what_meets_all_is_no_records_fault(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis that is away while records are read ends the reading; nothing is in quarantine for it."""
    bench.open("a")

    def away(*_: object, **__: object) -> None:
        raise exceptions.ConnectionError("gone")

    with monkeypatch.context() as patched:
        patched.setattr(bench.ledger._redis, "execute_command", away)
        with pytest.raises(exceptions.ConnectionError):
            bench.ledger.get("a")
    assert bench.ledger.quarantine.all() == []


def test_done_records_too(bench: Bench) -> None:
    """What is over and cannot be read hides nothing else that is over."""
    ledger = bench.ledger
    for uid in ("before", "odd", "after"):
        bench.open(uid)
    bench.forget("before", "odd", "after")
    _no_state(ledger, "odd")
    found: list[Record] = list(ledger.done(newest=10))
    assert [record.uid for record in found] == ["after", "before"]
    ledger._redis.zrem(DONE, "odd")
