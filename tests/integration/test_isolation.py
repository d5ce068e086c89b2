"""One item's own error reaches no other: the quarantine in a real Valkey, and the way loops use it."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import redis
from redis import exceptions

from drakcelery import redistime
from drakcelery.errors import StorageAway, Superseded
from drakcelery.ledger.away import concerns_all, is_away
from drakcelery.ledger.quarantine import MOST_DELAY, QUARANTINE, Quarantine
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
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_meets_everybody_is_no_items_fault(quarantine: Quarantine, error: Exception) -> None:
    """Redis that is away, full, or grants too little ends the turn; nobody is in quarantine for it."""
    with pytest.raises(type(error)):
        work(Isolation(quarantine, where="inbox"), ["bad", "after"], error)
    assert quarantine.all() == []
    assert concerns_all(error)
    assert is_away(error) is not isinstance(error, exceptions.NoPermissionError | exceptions.OutOfMemoryError)


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
            waits.append(quarantine.all()[0].next - redistime.now(redis_client))
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
