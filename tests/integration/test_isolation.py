"""One item's own error reaches no other: the quarantine in a real Valkey, and the way loops use it."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import redis
from redis import exceptions

from drakcelery.errors import StorageAway, Superseded
from drakcelery.ledger import clock
from drakcelery.ledger.away import WritesRefused, concerns_all, is_away
from drakcelery.ledger.keys import QUARANTINE
from drakcelery.ledger.quarantine import MOST_DELAY, Quarantine
from drakcelery.recovery.isolation import MOST_TRIES, Isolation


@pytest.fixture
def quarantine(redis_client: redis.Redis) -> Quarantine:
    """An empty one."""
    return Quarantine(redis_client)


def work(isolation: Isolation, uids: Iterable[str], bad: BaseException | None = None) -> list[str]:
    """One turn of a loop in which ``bad`` fails; what it has dealt with."""
    done: list[str] = []
    isolation.begin()
    for uid in uids:
        if isolation.skips(uid):
            continue
        with isolation.item(uid):
            if uid == "bad" and bad is not None:
                raise bad
            done.append(uid)
    return done


@pytest.mark.parametrize(
    "error",
    [
        exceptions.ResponseError("WRONGTYPE Operation against a key"),
        exceptions.DataError("Invalid input of type: 'bool'"),
        ValueError("not JSON"),
        KeyError("payload"),
        RecursionError("too deep"),
        UnicodeEncodeError("utf-8", "\udc83", 0, 1, "surrogates not allowed"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_reaches_no_other_item(quarantine: Quarantine, error: Exception) -> None:
    """The item before and the one after are dealt with; the bad one is in quarantine with its error."""
    isolation = Isolation(quarantine, where="inbox")
    assert work(isolation, ["before", "bad", "after"], error) == ["before", "after"]
    (entry,) = quarantine.all()
    assert (entry.where, entry.uid, entry.count) == ("inbox", "bad", 1)
    assert type(error).__name__ in entry.error
    assert quarantine.counts() == {"inbox": 1}


@pytest.mark.parametrize(
    "error",
    [
        exceptions.ConnectionError("refused"),
        exceptions.TimeoutError("no answer"),
        exceptions.BusyLoadingError("LOADING"),
        exceptions.ReadOnlyError("READONLY"),
        exceptions.MasterDownError("MASTERDOWN"),
        exceptions.NoPermissionError("NOPERM"),
        exceptions.OutOfMemoryError("OOM"),
        WritesRefused("MISCONF"),
        exceptions.ResponseError("ERR ACL failure in script: User drak has no permissions to run 'zadd'"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_meets_everybody_is_no_items_fault(quarantine: Quarantine, error: Exception) -> None:
    """Redis that is away, full, or grants too little ends the turn; nobody is in quarantine for it."""
    with pytest.raises(type(error)):
        work(Isolation(quarantine, where="inbox"), ["bad", "after"], error)
    assert quarantine.all() == []
    assert concerns_all(error)
    assert is_away(error) is isinstance(error, exceptions.ConnectionError | exceptions.TimeoutError | GONE)


GONE = exceptions.ReadOnlyError | exceptions.MasterDownError


def test_a_redis_that_takes_no_writes_is_away(quarantine: Quarantine, redis_client: redis.Redis) -> None:
    """Too few replicas, or a full disk of its own: no item's fault, whether or not a script writes."""
    redis_client.config_set("min-replicas-to-write", 1)
    try:
        for refused in (
            lambda: redis_client.set("drak:test", 1),
            lambda: redis_client.mset({"drak:test": 1}),
            lambda: quarantine.put("inbox", "bad", "odd"),
        ):
            with pytest.raises(WritesRefused) as caught:
                refused()
            assert is_away(caught.value)
    finally:
        redis_client.config_set("min-replicas-to-write", 0)


def test_a_script_that_may_not_do_its_work_is_no_items_fault(redis_client: redis.Redis) -> None:
    """Rights that let a script be called, and not what is in it, are missing for every item."""
    redis_client.acl_setuser(
        "narrow",
        enabled=True,
        nopass=True,
        keys=["*"],
        commands=["+@all", "-hsetnx"],
        reset=True,
    )
    options = redis_client.connection_pool.connection_kwargs
    with redis.Redis(
        host=options["host"], port=options["port"], username="narrow", password="x", decode_responses=True
    ) as narrow:
        try:
            with pytest.raises(exceptions.ResponseError) as caught:
                Quarantine(narrow).put("inbox", "bad", "odd")
            assert concerns_all(caught.value)
        finally:
            redis_client.acl_deluser("narrow")
            redis_client.delete(f"{QUARANTINE}:inbox:bad")


def test_an_odd_entry_hides_no_other(quarantine: Quarantine, redis_client: redis.Redis) -> None:
    """What somebody else wrote among the entries is shown as odd, and written over when its item fails."""
    for uid in ("type", "number", "fine"):
        quarantine.put("inbox", uid, "was odd")
    redis_client.delete(f"{QUARANTINE}:inbox:type")
    redis_client.set(f"{QUARANTINE}:inbox:type", "no hash", ex=600)
    redis_client.hset(f"{QUARANTINE}:inbox:number", mapping={"count": "many", "first": "nan"})
    redis_client.zadd(QUARANTINE, {"nospace": 1, "": 2})
    entries = {entry.uid: entry for entry in quarantine.all()}
    assert entries.keys() == {"type", "number", "fine"}
    assert "cannot be read" in entries["type"].error
    assert (entries["number"].count, entries["number"].first) == (0, 0)
    assert [quarantine.put("inbox", uid, "odd") for uid in ("type", "number", "fine")] == [1, 1, 2]
    assert sum(quarantine.remove(uid) for uid in ("type", "number", "fine")) == 3


@pytest.mark.parametrize("error", [Superseded("over"), StorageAway("gone"), KeyboardInterrupt()])
def test_what_the_loop_knows_passes(quarantine: Quarantine, error: BaseException) -> None:
    """What says nothing against the item is the loop's own to treat."""
    with pytest.raises(type(error)):
        work(Isolation(quarantine, where="due"), ["bad"], error)
    assert quarantine.all() == []


def test_tries_grow_rarer_until_it_is_given_up(quarantine: Quarantine, redis_client: redis.Redis) -> None:
    """Each failure doubles the wait, up to a bound; then the loop's own way to end it is taken."""
    given_up: list[str] = []

    def give_up(uid: str, reason: str) -> bool:
        given_up.append(f"{uid}: {reason}")
        return True

    isolation = Isolation(quarantine, where="inbox", give_up=give_up)
    waits = []
    for number in range(1, MOST_TRIES + 1):
        assert work(isolation, ["bad", "good"], ValueError("odd")) == ["good"]
        if number < MOST_TRIES:
            waits.append(quarantine.all()[0].next - clock.now(redis_client))
            assert work(isolation, ["bad", "good"]) == ["good"], "not before its time"
            assert quarantine.release("bad") == 1
    assert waits == sorted(waits)
    assert 0 < waits[0] <= 1
    assert waits[-1] <= MOST_DELAY
    assert len(given_up) == 1
    assert given_up[0].startswith("bad: ")
    assert "odd" in given_up[0]
    assert quarantine.all() == []


def test_what_cannot_be_ended_stays_visible(quarantine: Quarantine) -> None:
    """Where giving up fails as well the item stays in quarantine, and the others go on."""

    def give_up(uid: str, reason: str) -> bool:
        raise exceptions.ResponseError(f"{uid}: {reason}")

    isolation = Isolation(quarantine, where="inbox", give_up=give_up)
    for _ in range(MOST_TRIES + 2):
        quarantine.release("bad")
        assert work(isolation, ["bad", "good"], ValueError("odd")) == ["good"]
    (entry,) = quarantine.all()
    assert entry.count == MOST_TRIES + 2
    assert quarantine.remove("bad") == 1
    assert quarantine.all() == []
    assert quarantine.remove("bad") == 0


def test_a_success_ends_the_trouble(quarantine: Quarantine) -> None:
    """What works again leaves the quarantine by itself; another loop's entry of the same uid stays."""
    first, second = (Isolation(quarantine, where=where) for where in ("inbox", "reconcile"))
    for isolation in (first, second):
        work(isolation, ["bad"], ValueError("odd"))
    quarantine.release("bad")
    assert work(first, ["bad"]) == ["bad"]
    assert [entry.where for entry in quarantine.all()] == ["reconcile"]


def test_names_and_errors_may_be_anything(quarantine: Quarantine, redis_client: redis.Redis) -> None:
    """Spaces, colons and lone surrogates in an error do no harm; what has expired leaves the list."""
    quarantine.put("inbox", "{r}:a b:c", "cannot read \udc83\ud800")
    (entry,) = quarantine.all()
    assert entry.uid == "{r}:a b:c"
    assert entry.error == "cannot read ??"
    redis_client.delete(f"{QUARANTINE}:inbox:{{r}}:a b:c")
    assert quarantine.all() == []
    assert quarantine.counts() == {}
