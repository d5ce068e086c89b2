"""Reconcile on a real ledger: what it fixes, and what it leaves alone."""

from __future__ import annotations

import json

import pytest
import redis
from karton.core import Task
from karton.core.task import TaskState

from drakcelery.karton import contract
from drakcelery.ledger import Ledger
from drakcelery.ledger.keys import BROKER_WATCH, INBOX, WATCH, record_key
from drakcelery.model.analysis import Fault, Stage, State
from drakcelery.model.records import Record
from drakcelery.model.timeouts import DEFAULT, SHORTEST, timeouts_of
from drakcelery.recovery.isolation import MOST_TRIES
from drakcelery.recovery.reconcile import MOST_RESENDS, QUEUED_SECONDS, RENEWAL_SECONDS
from drakcelery.settings import Settings
from tests.builders import analysis
from tests.ledgers import open_analysis, watched
from tests.reconciling import HOUR, UID, Fleet


@pytest.fixture
def fleet(redis_client: redis.Redis) -> Fleet:
    """An analysis whose first attempt was begun."""
    ledger = Ledger(redis_client, identity="karton.test-reconcile", record_ttl=600)
    task = Task({"type": "sample"}, uid="{r}:t", root_uid="r")
    ledger.declare(contract.started(task))
    redis_client.zadd(INBOX, {task.uid: ledger.now()})
    open_analysis(ledger, analysis())
    watched(ledger, seconds=HOUR)
    return Fleet(ledger=ledger, task=task)


def test_nothing_amiss(fleet: Fleet) -> None:
    """A fresh analysis is left alone, at every stage."""
    assert fleet.reconcile() == {}
    fleet.ledger.sent(UID, 1)
    fleet.host("rack-1", "free")
    for stage in Stage:
        fleet.enter(stage)
        assert fleet.reconcile() == {}
        if stage is not Stage.PUBLISH:
            fleet.ledger.complete(UID, 1, stage, token="t")
            assert fleet.reconcile() == {}
    assert fleet.sent == []


def test_unsent_attempts_are_sent(fleet: Fleet) -> None:
    """What its ingress could not send is sent, as an attempt that makes the unsent one stale."""
    fleet.age(3600)
    assert fleet.reconcile() == {"sent": 1}
    assert fleet.reconcile() == {}
    assert fleet.sent == [(2, Stage.PREPARE)]


def test_an_attempt_that_is_due_later_is_left_alone(fleet: Fleet) -> None:
    """Backoff is not taken for a loss."""
    fleet.ledger._redis.zadd("drak:due", {UID: fleet.ledger.now() + 60})
    fleet.age(3600)
    assert fleet.reconcile() == {}


def test_a_lost_prepare_message(fleet: Fleet) -> None:
    """A sample that waits though a slot is free has lost its message; while no slot is free it just waits."""
    fleet.ledger.sent(UID, 1)
    fleet.age(DEFAULT.lost + 1)
    fleet.host("rack-1", "running")
    assert fleet.reconcile() == {}
    fleet.host("rack-1", "free")
    assert fleet.reconcile() == {"sent": 1}
    assert fleet.sent == [(2, Stage.PREPARE)]
    assert fleet.record.failures == ()


def test_a_prepare_message_that_a_worker_dropped(fleet: Fleet) -> None:
    """A sample that a slot was claimed for, and whose prepare never began, has lost its message as well."""
    fleet.ledger.sent(UID, 1)
    fleet.age(DEFAULT.lost + 1)
    fleet.host("rack-1", "preparing", holder=UID)
    assert fleet.reconcile() == {"sent": 1}
    assert fleet.sent == [(2, Stage.PREPARE)]


@pytest.mark.parametrize("stages", [1, 2, 3, 4])
def test_a_lost_step_is_sent_again(fleet: Fleet, stages: int) -> None:
    """A later step that shows no life goes to its host again, a few times; then the attempt is given up."""
    fleet.ledger.sent(UID, 1)
    fleet.walk(*tuple(Stage)[:stages])
    for resend in range(1, MOST_RESENDS + 1):
        fleet.host("rack-1", "running")
        fleet.age(QUEUED_SECONDS * resend + 1)
        assert fleet.reconcile() == {"resent": 1}
        assert fleet.reconcile() == {}
    assert fleet.sent == [(1, tuple(Stage)[stages])] * MOST_RESENDS
    fleet.age(QUEUED_SECONDS * (MOST_RESENDS + 1) + 1)
    assert fleet.reconcile() == {"ended": 1}
    assert "did not take up" in str(fleet.record.error)


def test_a_claim_that_fell_silent(fleet: Fleet) -> None:
    """A step is sent again a lease after the last sign of who works on it, later if it waits in a queue."""
    shortest = timeouts_of(SHORTEST)
    fleet.ledger.timeouts = shortest
    fleet.ledger.sent(UID, 1)
    fleet.walk(Stage.PREPARE)
    fleet.host("rack-1", "running")
    fleet.age(shortest.lost + 1)
    assert fleet.reconcile() == {}
    fleet.enter(Stage.RUN)
    fleet.age(shortest.lost + 1)
    assert fleet.reconcile() == {"resent": 1}
    assert fleet.sent == [(1, Stage.RUN)]


@pytest.mark.parametrize(("begun", "there"), [(Stage.PREPARE, True), (Stage.RUN, True), (Stage.RUN, False)])
def test_a_claim_goes_by_its_own_lease(fleet: Fleet, begun: Stage, there: bool) -> None:
    """A reconcile with a short lease waits for who has promised to show life less often."""
    fleet.ledger.sent(UID, 1)
    fleet.walk(*tuple(Stage)[: tuple(Stage).index(begun)])
    fleet.enter(begun)
    fleet.ledger.timeouts = timeouts_of(SHORTEST)
    fleet.host("rack-1" if there else "rack-2", "running")
    fleet.age(DEFAULT.silence - 1)
    assert fleet.reconcile() == {}
    fleet.age(DEFAULT.silence + 1)
    assert fleet.reconcile() != {}


def test_a_finished_run_waits_for_its_host(fleet: Fleet) -> None:
    """Where the host is gone, a run that is done and waits there has more time than one that is under way."""
    fleet.ledger.timeouts = timeouts_of(SHORTEST)
    fleet.ledger.sent(UID, 1)
    fleet.walk(Stage.PREPARE, Stage.RUN)
    fleet.host("rack-2", "free")
    fleet.age(fleet.ledger.timeouts.lost + 1)
    assert fleet.reconcile() == {}
    fleet.age(QUEUED_SECONDS + 1)
    assert fleet.reconcile() == {"ended": 1}


def test_a_lost_host(fleet: Fleet) -> None:
    """The work of a host that went away goes on elsewhere as the next attempt."""
    fleet.ledger.sent(UID, 1)
    fleet.walk(Stage.PREPARE)
    fleet.enter(Stage.RUN)
    fleet.host("rack-2", "free")
    assert fleet.reconcile() == {}
    fleet.age(DEFAULT.lost + 1)
    assert fleet.reconcile() == {"ended": 1}
    record = fleet.record
    assert (record.attempt, record.state, record.failures[0].fault) == (2, State.QUEUED, Fault.GONE)
    assert "rack-1 went away" in str(record.error)
    assert fleet.ledger.due() in (UID, None)


def test_a_lost_io_worker(fleet: Fleet) -> None:
    """What waits for the io worker of a host goes by that one's life, whatever the vm worker says (R8)."""
    fleet.ledger.sent(UID, 1)
    fleet.walk(Stage.PREPARE, Stage.RUN)
    fleet.host("rack-2", "free")
    fleet.host("rack-1", "halted", io_alive=False)
    assert fleet.reconcile() == {}
    fleet.age(QUEUED_SECONDS + 1)
    assert fleet.reconcile() == {"ended": 1}
    assert "io worker of rack-1 went away" in str(fleet.record.error)


def test_an_io_worker_without_its_vm_worker(fleet: Fleet) -> None:
    """A finished run is not thrown away while somebody is there who can collect it."""
    fleet.ledger.sent(UID, 1)
    fleet.walk(Stage.PREPARE, Stage.RUN)
    fleet.host("rack-2", "free")
    fleet.host("rack-1", "free", io_alive=True)
    fleet.ledger.fleet.retire("rack-1")
    fleet.ledger.fleet.show_io("rack-1")
    fleet.age(QUEUED_SECONDS + 1)
    assert fleet.reconcile() == {"resent": 1}
    assert fleet.sent == [(1, Stage.COLLECT)]


def test_poison(fleet: Fleet) -> None:
    """The third attempt that goes with its host makes the sample poison: CRASHED, with the reason."""
    fleet.host("rack-1", "running")
    for attempt in (1, 2, 3):
        fleet.ledger._redis.delete("drak:due")
        fleet.ledger.sent(UID, attempt)
        fleet.ledger.advance(UID, attempt, Stage.PREPARE, host="rack-2", slot="vm-1", token="t")
        fleet.age(DEFAULT.lost + 1)
        assert fleet.reconcile() == {"ended": 1}
    task = fleet.ledger.karton_task(fleet.task.uid)
    assert task is not None
    assert task.status is TaskState.CRASHED
    assert "poison" in str(task.error)
    assert "attempt 1" in str(task.error)
    assert fleet.record.state is State.FAILED


@pytest.mark.parametrize("stage", [Stage.COLLECT, Stage.UPLOAD])
def test_a_step_that_silences_its_workers(fleet: Fleet, stage: Stage) -> None:
    """The third time a step falls silent at work the analysis is over, in words, and not sent again (R4)."""
    fleet.host("rack-1", "running")
    fleet.ledger.sent(UID, 1)
    fleet.walk(*tuple(Stage)[: tuple(Stage).index(stage)])
    for deaths in (1, 2, 3):
        fleet.enter(stage)
        fleet.age(DEFAULT.lost + 1)
        assert fleet.reconcile() == ({"ended": 1} if deaths == 3 else {"resent": 1})
    assert fleet.sent == [(1, stage)] * 2
    assert (fleet.record.state, fleet.record.attempts) == (State.FAILED, 1)
    sentence = f"poison: {stage.value} of this sample killed its process 3 times; last: its worker on rack-1"
    task = fleet.ledger.karton_task(fleet.task.uid)
    assert task is not None
    assert task.status is TaskState.CRASHED
    assert sentence in str(task.error)


@pytest.mark.parametrize("status", [TaskState.FINISHED, TaskState.CRASHED, None])
def test_karton_cancels(fleet: Fleet, status: TaskState | None) -> None:
    """karton-dashboard's cancel writes FINISHED, a collector removes the task: either ends the analysis."""
    key = f"karton.task:{fleet.task.uid}"
    if status is None:
        fleet.ledger._redis.delete(key)
    else:
        fleet.task.status = status
        fleet.ledger.declare(fleet.task)
    before = fleet.ledger._redis.get(key)
    assert fleet.reconcile() == {"cancelled": 1}
    assert fleet.record.state is State.CANCELLED
    assert fleet.ledger._redis.get(key) == before
    assert fleet.reconcile() == {}


def test_karton_is_kept_from_collecting(fleet: Fleet) -> None:
    """The Karton task of a live analysis is renewed before its collector would take it, and only then."""
    key = f"karton.task:{fleet.task.uid}"
    stored = json.loads(str(fleet.ledger._redis.get(key)))
    old = stored["last_update"] - RENEWAL_SECONDS - 1
    fleet.ledger._redis.set(key, json.dumps({**stored, "last_update": old}))
    assert fleet.reconcile() == {"renewed": 1}
    assert fleet.reconcile() == {}
    renewed = json.loads(str(fleet.ledger._redis.get(key)))
    assert renewed["last_update"] >= stored["last_update"]
    assert {**renewed, "last_update": 0} == {**stored, "last_update": 0}


def test_many_are_looked_at_together(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are live, the one that needs something is found; no other is asked for by itself."""
    monkeypatch.setattr("drakcelery.ledger.records.AT_ONCE", 4)
    monkeypatch.setattr("drakcelery.recovery.reconcile.AT_ONCE", 5)
    client = fleet.ledger._redis
    for number in range(11):
        task = Task({"type": "sample"}, uid=f"{{r}}:{number}", root_uid="r")
        fleet.ledger.declare(contract.started(task))
        client.zadd(INBOX, {task.uid: fleet.ledger.now()})
        open_analysis(
            fleet.ledger, analysis().model_copy(update={"uid": f"b-{number}", "task_uid": task.uid})
        )
        fleet.ledger.sent(f"b-{number}", 1)
    fleet.age(3600)
    asked = client.info("commandstats")["cmdstat_get"]["calls"]
    assert fleet.reconcile() == {"sent": 1}
    assert fleet.sent == [(2, Stage.PREPARE)]
    assert fleet.reconcile() == {}
    # Karton's tasks were read together
    assert client.info("commandstats")["cmdstat_get"]["calls"] == asked


# Silence counts only as far as somebody listened


def begun(fleet: Fleet, *done: Stage, at_work: Stage | None = None) -> None:
    """Let rack-1 have done some stages, and maybe be at work on one; another host is there as well."""
    fleet.ledger.sent(UID, 1)
    fleet.walk(*done)
    if at_work is not None:
        fleet.enter(at_work)
    fleet.host("rack-2", "free")


@pytest.mark.parametrize("done", [(), (Stage.PREPARE,), (Stage.PREPARE, Stage.RUN)])
@pytest.mark.parametrize("leases", [1, 10])
def test_who_is_back_first_judges_nobody(fleet: Fleet, done: tuple[Stage, ...], leases: int) -> None:
    """After an outage of Redis nobody counts as silent before he had a lease to be heard; then he does."""
    following = tuple(Stage)[len(done)]
    begun(fleet, *done, at_work=following if following in (Stage.PREPARE, Stage.RUN) else None)
    fleet.age(leases * DEFAULT.lost)
    fleet.ledger._redis.hset(WATCH, "last", fleet.ledger.now() - leases * DEFAULT.lost)
    for _ in range(2):
        assert fleet.reconcile() == {}
    watched(fleet.ledger, seconds=DEFAULT.lost - 1)
    assert fleet.reconcile() == {}
    watched(fleet.ledger, seconds=DEFAULT.lost + 1)
    assert fleet.reconcile() == {"ended": 1}


def test_three_outages_make_no_poison(fleet: Fleet) -> None:
    """However often Redis is away, the sample that runs meanwhile has failed never."""
    begun(fleet, Stage.PREPARE, at_work=Stage.RUN)
    for _ in range(4):
        fleet.age(100)
        fleet.ledger._redis.hset(WATCH, "run_id", "another")  # it was started again
        assert fleet.reconcile() == {}
        assert fleet.ledger.renew(UID, 1, token="t")
    assert (fleet.record.attempt, fleet.record.failures) == (1, ())


def test_a_longer_lease_has_longer_to_be_heard(fleet: Fleet) -> None:
    """A reconcile of the shortest lease waits for a host that reports less often, after an outage too."""
    begun(fleet, Stage.PREPARE)
    fleet.ledger.timeouts = timeouts_of(SHORTEST)
    fleet.age(HOUR)
    watched(fleet.ledger, seconds=DEFAULT.lost - 1)
    assert fleet.reconcile() == {}
    watched(fleet.ledger, seconds=DEFAULT.lost + 1)
    assert fleet.reconcile() == {"ended": 1}


def test_a_host_that_nobody_can_replace(fleet: Fleet) -> None:
    """What nobody else could do waits for its host, which may have it finished, for offline_patience."""
    begun(fleet, Stage.PREPARE, Stage.RUN)
    fleet.ledger.fleet.retire("rack-2")
    fleet.age(HOUR)
    assert fleet.reconcile() == {}
    patience = Settings().drakcelery.offline_patience
    watched_with_gap(fleet.ledger, hours=1, gap=patience)
    fleet.age(patience + 2)
    assert fleet.reconcile() == {}
    watched(fleet.ledger, seconds=patience + 1)
    fleet.age(patience + 2)
    assert fleet.reconcile() == {"ended": 1}


def test_a_power_cut_longer_than_offline_patience(fleet: Fleet) -> None:
    """A sample that waits is given up after a day that somebody watched, not after one without power."""
    patience = Settings().drakcelery.offline_patience
    fleet.ledger.sent(UID, 1)
    fleet.host("rack-1", "free")
    fleet.ledger.fleet.retire("rack-1")
    fleet.ledger._redis.zadd("drak:fleet", dict.fromkeys(map(str, fleet.ledger.fleet.places()), 1.0))
    fleet.ledger._redis.zadd(
        "drak:fleet", {f"{analysis().profile}@rack-1": fleet.ledger.now() - 2 * patience}
    )
    fleet.age(2 * patience)
    fleet.ledger._redis.hset(WATCH, "last", fleet.ledger.now() - 2 * patience + 60)
    assert fleet.reconcile() == {}
    # An hour after power is back nobody has come, and a minute before it went: still not a day
    watched_with_gap(fleet.ledger, hours=1, gap=2 * patience - HOUR - 60)
    assert fleet.reconcile() == {}
    watched(fleet.ledger, seconds=2 * patience)
    assert fleet.reconcile() == {"ended": 1}
    assert fleet.record.state is State.FAILED


def watched_with_gap(ledger: Ledger, *, hours: float, gap: float) -> None:
    """A watch of some hours, and before it a stretch in which nobody watched."""
    watched(ledger, seconds=hours * HOUR)
    end = ledger.now() - hours * HOUR
    ledger._redis.zadd(f"{WATCH}:gaps", {f"{end - gap:.6f} {end:.6f}": end})


@pytest.mark.parametrize("done", [(), (Stage.PREPARE, Stage.RUN)])
def test_a_broker_that_is_away(fleet: Fleet, done: tuple[Stage, ...]) -> None:
    """Only the sending waits for it: no attempt and no resend is used up, and no step counts as lost."""
    fleet.ledger.sent(UID, 1)
    fleet.walk(*done)
    fleet.host("rack-1", "free")
    fleet.broker_is_away = True
    for resends in range(MOST_RESENDS + 2):
        fleet.age(QUEUED_SECONDS * (resends + 1) + 1)
        assert fleet.reconcile() == {}
    # It is back: messages that it still has are not late before it had as long as usual to deliver them
    fleet.broker_is_away = False
    fleet.ledger._redis.hset(BROKER_WATCH, "last", fleet.ledger.now() - 60)
    assert fleet.reconcile() == {}
    assert (fleet.record.attempt, fleet.record.resends, fleet.sent) == (1, 0, [])
    watched(fleet.ledger, seconds=HOUR)
    assert sum(fleet.reconcile().values()) == 1
    assert len(fleet.sent) == 1


def test_a_broker_that_goes_away_while_something_is_sent(fleet: Fleet) -> None:
    """The one that could not be sent is sent by a later run; no other is begun for nothing meanwhile."""
    fleet.broker_goes_away = True
    fleet.age(DEFAULT.unsent + 1)
    assert fleet.reconcile() == {}
    assert fleet.record.attempt == 2
    fleet.broker_goes_away = False
    fleet.age(DEFAULT.unsent + 1)
    assert fleet.reconcile() == {"sent": 1}
    assert fleet.sent == [(3, Stage.PREPARE)]


@pytest.fixture
def two(fleet: Fleet) -> Fleet:
    """Another analysis beside the one, and both are unsent for long."""
    other = Task({"type": "sample"}, uid="{r}:other", root_uid="r")
    fleet.ledger.declare(contract.started(other))
    fleet.ledger._redis.zadd(INBOX, {other.uid: fleet.ledger.now()})
    open_analysis(fleet.ledger, analysis().model_copy(update={"uid": "other", "task_uid": other.uid}))
    for uid in (UID, "other"):
        fleet.ledger._redis.hset(record_key(uid), "updated", f"{fleet.ledger.now() - HOUR:.6f}")
    return fleet


@pytest.mark.parametrize(
    "odd",
    ['{"payload": {"score": NaN}, "status": "Started", "last_update": 1}', "{", "[]", '{"status": "Odd"}'],
)
def test_an_odd_task_stops_nobody(two: Fleet, odd: str) -> None:
    """A Karton task with NaN, or one that cannot be read: its analysis goes on, and all others do (R2)."""
    two.ledger._redis.set(f"karton.task:{two.task.uid}", odd)
    assert two.reconcile()["sent"] == 2


def test_an_analysis_that_cannot_be_dealt_with(two: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own error reaches no other analysis, and is there for people to see (R2)."""
    sending = two._send

    def send(record: Record) -> None:
        if record.uid == UID:
            raise ValueError("nobody expected that")
        sending(record)

    monkeypatch.setattr(two, "_send", send)
    assert two.reconcile() == {"sent": 1}
    assert [(one.where, one.uid) for one in two.ledger.quarantine.all()] == [("reconcile", UID)]
    two.ledger.quarantine.remove(UID, where="reconcile")


def wait_out(fleet: Fleet, tries: int) -> None:
    """Reconcile until the one was tried so often; its waits are cut short."""
    for _ in range(tries):
        fleet.host("rack-1", "running")
        fleet.age(HOUR)
        fleet.reconcile()
        fleet.ledger.quarantine.release(UID)


def test_what_cannot_be_dealt_with_ends_in_words(fleet: Fleet) -> None:
    """After the last try of reconcile itself the analysis is over, and its task CRASHED with what it was."""
    fleet.ledger.sent(UID, 1)
    fleet.walk(Stage.PREPARE, Stage.RUN)
    fleet.enter(Stage.COLLECT)
    fleet.ledger._redis.hset(record_key(UID), "deaths:collect", "many")
    wait_out(fleet, MOST_TRIES - 1)
    [entry] = fleet.ledger.quarantine.all()
    assert (entry.where, entry.count) == ("reconcile", MOST_TRIES - 1)
    assert not fleet.record.state.is_over
    wait_out(fleet, 1)
    assert fleet.ledger.quarantine.all() == []
    assert fleet.record.state is State.FAILED
    task = fleet.ledger.karton_task(fleet.task.uid)
    assert task is not None
    assert task.status is TaskState.CRASHED
    assert "drakcelery could not deal with this task (reconcile): ResponseError" in str(task.error)
