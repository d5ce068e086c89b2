"""What dies is taken over, where the next attempt goes, and how an analysis ends before its time."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from celery import Celery
from karton.core.task import TaskState
from kombu.exceptions import OperationalError

from drakcelery.broker import routing
from drakcelery.embedded.services import Services
from drakcelery.errors import InfrastructureError, StackError, Superseded
from drakcelery.host.workspace import Workspace
from drakcelery.ledger import Ledger
from drakcelery.ledger.keys import TURN, record_key
from drakcelery.ledger.watch import ServerId
from drakcelery.model.analysis import Fault, Stage, State
from drakcelery.model.records import HostStatus, Record, SlotStatus
from drakcelery.recovery.duty import Duty
from drakcelery.recovery.isolation import MOST_TRIES, Isolation
from drakcelery.recovery.reconcile import Reconciler
from drakcelery.recovery.reroute import reroute
from drakcelery.recovery.takeover import end_held, io_worker_begins, process_died, vm_worker_begins
from drakcelery.settings import Settings
from drakcelery.stages import cancellation, dispatch
from tests.bench import HOST, SLOT, Bench
from tests.heart.conftest import Trip, begin, go_on
from tests.ledgers import watched
from tests.waiting import wait_until

FILES = (Stage.COLLECT, Stage.UPLOAD, Stage.PUBLISH)


class Sent(list[tuple[str, int, Stage | None]]):
    """What was sent: uid, attempt and the stage to begin with."""

    def __call__(self, record: Record) -> None:
        """Send the current attempt of *record* on its way."""
        self.append((record.uid, record.attempt, record.following))


@pytest.fixture
def sent() -> Sent:
    """A broker that is there."""
    return Sent()


def away(_: object = None) -> Any:
    """A broker that is not."""
    raise OperationalError("no broker")


# Dispatch


@pytest.fixture
def broker(services: Services) -> Iterator[redis.Redis]:
    """The broker's database, without what the test leaves there."""
    with redis.Redis.from_url(services.redis.address(db_offset=9), decode_responses=True) as client:
        client.flushdb()
        yield client
        client.flushdb()


@pytest.fixture
def app(services: Services, broker: redis.Redis) -> Iterator[Celery]:  # noqa: ARG001 - its database is empty
    """What sends."""
    with Celery("heart", broker=services.redis.address(db_offset=9), set_as_current=False) as ours:
        ours.conf.update(task_routes=[routing.route], task_ignore_result=True)
        yield ours


def waits(broker: redis.Redis, queue: str) -> tuple[str, list[str]]:
    """The only message of a queue: its id, and those of what follows it."""
    (text,) = broker.lrange(queue, 0, -1)
    message = json.loads(str(text))
    _, _, embedded = json.loads(base64.b64decode(message["body"]))
    return message["headers"]["id"], [link["options"]["task_id"] for link in embedded["chain"]][::-1]


def test_a_first_attempt_goes_to_anybody(bench: Bench, app: Celery, broker: redis.Redis) -> None:
    """All five stages, one behind the other; the ledger knows that they are with the broker."""
    bench.open()
    dispatch.send(app, bench.ledger, bench.record())
    first, rest = waits(broker, "drak.prepare.win10")
    assert [first, *rest] == [f"a-1/1/{stage.value}" for stage in Stage]
    assert not bench.record().is_unsent


def test_after_a_failure_it_goes_elsewhere(
    bench: Bench, app: Celery, broker: redis.Redis, trip: Trip
) -> None:
    """To a host that has a free slot of the profile, if there is one."""
    begin(bench, Stage.PREPARE)
    with pytest.raises(InfrastructureError):
        trip(bench, Stage.PREPARE, InfrastructureError("no luck"))
    slot = SlotStatus(name="vm-1", profile="win10", state="free", since=0)
    for host in (HOST, "rack-2"):
        bench.ledger.fleet.report(HostStatus(host=host, engine="replay", slots=(slot,)))
    dispatch.send(app, bench.ledger, bench.record())
    assert waits(broker, "drak.prepare.win10.rack-2")[0] == "a-1/2/prepare"
    for host in (HOST, "rack-2"):
        bench.ledger.fleet.retire(host)


@pytest.mark.parametrize(
    ("stage", "queue"), [(Stage.RUN, "drak.vm.rack-1"), (Stage.UPLOAD, "drak.io.rack-1")]
)
def test_what_has_begun_stays_on_its_host(
    bench: Bench, app: Celery, broker: redis.Redis, stage: Stage, queue: str
) -> None:
    """Only what is left of the attempt is sent."""
    begin(bench, stage)
    dispatch.send(app, bench.ledger, bench.record())
    first, rest = waits(broker, queue)
    assert [first, *rest] == [f"a-1/1/{one.value}" for one in tuple(Stage)[tuple(Stage).index(stage) :]]


def test_what_is_over_is_not_sent(bench: Bench, app: Celery, broker: redis.Redis) -> None:
    """Nothing is left to do."""
    bench.open()
    bench.do(*Stage)
    dispatch.send(app, bench.ledger, bench.record())
    assert broker.dbsize() == 0


# Cancellation


@pytest.mark.parametrize("stage", Stage)
def test_who_cancels_is_named(bench: Bench, stage: Stage) -> None:
    """In the ledger and in Karton; a second time there is nothing to cancel."""
    begin(bench, stage)
    cancellation.cancel(bench.ledger, bench.record(), by="alice")
    record = bench.record()
    assert (record.state, record.refusal) == (State.CANCELLED, "cancelled by alice")
    task = bench.ledger.karton_task(record.task_uid)
    assert task is not None
    assert (task.status, task.error) == (TaskState.CRASHED, ["cancelled by alice\n"])
    with pytest.raises(StackError, match="is over already: CANCELLED"):
        cancellation.cancel(bench.ledger, record, by="bob")


@pytest.mark.parametrize(
    ("status", "words"),
    [(TaskState.FINISHED, "Finished"), (TaskState.CRASHED, "Crashed"), (None, "gone")],
)
def test_karton_cancels(bench: Bench, status: TaskState | None, words: str) -> None:
    """Its task is over, or was collected: so is the analysis, once."""
    bench.open()
    assert cancellation.cancel_as_karton(bench.ledger, bench.record(), status)
    record = bench.record()
    assert (record.state, record.refusal) == (State.CANCELLED, f"cancelled: its Karton task is {words}")
    assert not cancellation.cancel_as_karton(bench.ledger, record, status)


def test_karton_waits(bench: Bench) -> None:
    """A task that is under way is none that was cancelled."""
    bench.open()
    for status in (TaskState.STARTED, TaskState.SPAWNED):
        assert not cancellation.cancel_as_karton(bench.ledger, bench.record(), status)
    assert bench.record().state is State.QUEUED


# A process that died


def enter(bench: Bench, stage: Stage) -> None:
    """Begin a stage, and be killed there."""
    bench.ledger.advance("a-1", bench.record().attempt, stage, host=HOST, slot=SLOT, token="dead")


@pytest.mark.parametrize("stage", Stage)
def test_a_process_that_died_at_work(bench: Bench, sent: Sent, stage: Stage) -> None:
    """Its message comes again, and may be taken up at once; nothing is sent for it."""
    begin(bench, stage)
    enter(bench, stage)
    process_died(bench.context, sent, stage, bench.step())
    assert (bench.record().busy, sent) == (None, [])
    go_on(bench)


@pytest.mark.parametrize("stage", tuple(Stage)[:-1])
def test_a_process_that_died_when_it_was_done(bench: Bench, sent: Sent, stage: Stage) -> None:
    """It may not have sent the next stage."""
    begin(bench, stage)
    bench.do(stage)
    process_died(bench.context, sent, stage, bench.step())
    assert sent == [("a-1", 1, bench.record().following)]


def test_a_process_of_what_is_no_more(bench: Bench, sent: Sent) -> None:
    """A record that is gone, another attempt, an analysis that is over: nothing follows."""
    bench.open()
    step = bench.step()
    for other in (step.model_copy(update={"uid": "nobody"}), step.model_copy(update={"attempt": 7})):
        process_died(bench.context, sent, Stage.PREPARE, other)
    bench.forget("a-1")
    process_died(bench.context, sent, Stage.PREPARE, step)
    assert sent == []


def test_a_death_beside_an_end(bench: Bench, sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody ends the analysis as its second death is counted: it is over, once."""
    begin(bench, Stage.COLLECT)

    def ended(ledger: Ledger, *_: object) -> int:
        ledger.cancel(bench.record(), reason="nobody wants it", crashed=None)
        return 2

    monkeypatch.setattr(Ledger, "abandon", ended)
    process_died(bench.context, sent, Stage.COLLECT, bench.step())
    assert (bench.record().state, bench.record().failures) == (State.CANCELLED, ())


# A worker that died


@pytest.mark.parametrize("stage", [Stage.PREPARE, Stage.RUN])
def test_a_guest_that_died_with_its_worker(bench: Bench, sent: Sent, stage: Stage) -> None:
    """The attempt ends, for which nobody is charged; the third of them would be poison."""
    begin(bench, stage)
    if stage is Stage.PREPARE:
        assert bench.context.slots.claim("win10", "a-1", 1) == SLOT
    enter(bench, stage)
    held = bench.context.slots.all()
    vm_worker_begins(bench.context, sent, held)
    record = bench.record()
    assert [(one.fault, one.slot, one.charged) for one in record.failures] == [(Fault.GONE, SLOT, None)]
    assert (record.attempt, sent) == (2, [])
    vm_worker_begins(bench.context, sent, held)  # of an attempt that is not the current one any more
    assert bench.record() == record
    bench.context.slots.soil("a-1", 1)


def test_a_guest_that_holds_no_slot_any_more(bench: Bench, sent: Sent) -> None:
    """The slot table was lost as well: the record says that its host had begun."""
    begin(bench, Stage.RUN)
    bench.context.slots.soil("a-1", 1)
    vm_worker_begins(bench.context, sent, [])
    assert [one.error for one in bench.record().failures] == ["the vm worker that watched the guest ended"]


def test_a_run_that_was_done(bench: Bench, sent: Sent) -> None:
    """What its files say is enough: collect is sent, or the run's own message, which says that it is done."""
    begin(bench, Stage.COLLECT)
    vm_worker_begins(bench.context, sent, [])
    assert sent == [("a-1", 1, Stage.COLLECT)]
    bench.redis.hset(record_key("a-1"), mapping={"done": "prepare", "state": "RUNNING"})
    vm_worker_begins(bench.context, sent, [])
    assert sent[1:] == [("a-1", 1, Stage.RUN)]
    assert bench.record().failures == ()


def test_what_waits_for_its_time(bench: Bench, sent: Sent) -> None:
    """It waits for no worker."""
    begin(bench, Stage.UPLOAD)
    bench.redis.zadd("drak:due", {"a-1": bench.ledger.now() + 60})
    vm_worker_begins(bench.context, sent, [])
    io_worker_begins(bench.context, sent)
    assert sent == []


@pytest.mark.parametrize("stage", FILES)
def test_an_io_worker_that_died(bench: Bench, sent: Sent, stage: Stage) -> None:
    """Its stage goes on at once, with the files; where the broker is away, reconcile sends it."""
    begin(bench, stage)
    enter(bench, stage)
    io_worker_begins(bench.context, away)
    assert bench.record().busy is None
    io_worker_begins(bench.context, sent)
    assert sent == [("a-1", 1, stage)]
    go_on(bench)


def test_a_guest_whose_end_others_have_noted(
    bench: Bench, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reconcile was faster: the attempt ends once."""
    begin(bench, Stage.RUN)
    (slot,) = bench.context.slots.all()
    lost = Workspace.lost

    def meanwhile(workspace: Workspace) -> str | None:
        bench.forget("a-1")
        return lost(workspace)

    with monkeypatch.context() as patched:
        patched.setattr(Workspace, "lost", meanwhile)
        end_held(bench.context, slot, "its process died", Fault.LOST)
    assert (bench.record().failures, sent) == ((), [])
    bench.context.slots.soil("a-1", 1)


# Attempts that wait for a host for nothing


def test_what_somebody_takes_up_meanwhile_is_not_handed_over(
    bench: Bench, sent: Sent, trip: Trip, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has begun there after all."""
    begin(bench, Stage.PREPARE)
    with pytest.raises(InfrastructureError):
        trip(bench, Stage.PREPARE, InfrastructureError("no luck"))
    bench.redis.zrem("drak:due", "a-1")
    bench.ledger.sent("a-1", 2)

    def taken(*_: object, **__: object) -> int:
        raise Superseded("it has begun")

    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "begin_attempt", taken)
        assert reroute(bench.ledger, sent, ["win10"]) == 0
    assert reroute(bench.ledger, sent, ["win10"]) == 1
    assert sent == [("a-1", 3, Stage.PREPARE)]


# Who reconciles


def test_one_of_them_has_the_turn(bench: Bench, sent: Sent) -> None:
    """Of two that could, one reconciles; who does not reach the broker leaves the next turns to others."""
    bench.redis.delete(TURN)
    bench.open()
    watched(bench.ledger, seconds=3600)
    bench.redis.hset(record_key("a-1"), "updated", f"{bench.ledger.now() - 3600:.6f}")
    settings = bench.context.settings
    deaf = Duty(bench.ledger, settings, send=sent, ask_broker=away)
    other = Duty(bench.ledger, settings, send=sent, ask_broker=ServerId)
    deaf._attend()
    other._attend()
    assert sent == []  # nobody could send anything
    bench.redis.delete(TURN)
    deaf._attend()
    other._attend()
    assert sent == [("a-1", 2, Stage.PREPARE)]


def test_it_goes_on_whatever_it_meets(bench: Bench, sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Redis that is away, or an error nobody expected, ends no thread."""
    bench.redis.delete(TURN)
    errors = iter([redis.ConnectionError("away"), ValueError("oops")])
    ends: list[BaseException] = []
    original = Duty._attend

    def look(duty: Duty) -> None:
        for error in errors:
            ends.append(error)
            raise error
        original(duty)
        duty._over.set()

    monkeypatch.setattr(Duty, "_attend", look)
    monkeypatch.setattr(bench.ledger, "timeouts", fast(bench.ledger))
    duty = Duty(bench.ledger, bench.context.settings, send=sent, ask_broker=ServerId)
    duty.start()
    wait_until(lambda: not duty.is_alive(), "it has looked, and is told to end")
    duty.stop()
    assert len(ends) == 2


def fast(ledger: Ledger) -> Any:
    """Times of a fleet that looks all the time."""

    class Fast:
        check = 0.01

        def __getattr__(self, name: str) -> object:
            return getattr(original, name)

    original = ledger.timeouts
    return Fast()


# One item at a time


def test_an_item_that_cannot_be_given_up_stays(bench: Bench) -> None:
    """People see it, with its error; who ends it may fail as well."""
    isolation = Isolation(bench.ledger.quarantine, where="tests", give_up=give_up)
    for _ in range(MOST_TRIES):
        with isolation.item("odd"):
            raise ValueError("oops")
    isolation.begin()
    assert isolation.skips("odd")
    assert bench.ledger.quarantine.counts() == {"tests": 1}
    bench.ledger.quarantine.remove("odd")


def give_up(*_: object) -> bool:
    """It is not to be ended either."""
    raise ValueError("it cannot be written to")


def test_redis_that_goes_away_as_an_item_is_given_up(bench: Bench) -> None:
    """That is no matter of the item."""

    def cut_off(*_: object) -> bool:
        raise redis.ConnectionError("away")

    isolation = Isolation(bench.ledger.quarantine, where="tests", give_up=cut_off)
    for _ in range(MOST_TRIES - 1):
        with isolation.item("odd"):
            raise ValueError("oops")
    with pytest.raises(redis.ConnectionError), isolation.item("odd"):
        raise ValueError("oops")
    bench.ledger.quarantine.remove("odd")


def test_what_loops_have_no_words_for(bench: Bench, sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    """An analysis that reconcile cannot deal with again and again ends in words."""
    bench.open()

    def oops(*_: object) -> None:
        raise ValueError("oops")

    with monkeypatch.context() as patched:
        patched.setattr(Reconciler, "_check", oops)
        for _ in range(MOST_TRIES):
            bench.ledger.quarantine.release("a-1")
            reconcile(bench, sent)
    record = bench.record()
    assert record.state is State.FAILED
    assert str(record.error).startswith(
        "drakcelery could not deal with this task (reconcile): ValueError: oops"
    )
    assert bench.ledger.quarantine.counts() == {}


def reconcile(bench: Bench, sent: Sent) -> dict[str, int]:
    """One run."""
    return Reconciler(ledger=bench.ledger, settings=Settings(), send=sent, ask_broker=ServerId).run()


def test_a_sample_that_nobody_could_take(bench: Bench, sent: Sent) -> None:
    """All that wait for a place which nobody has had for so long are given up, with the reason."""
    watched(bench.ledger, seconds=10 * 24 * 3600)
    for uid in ("a-1", "a-2"):
        bench.open(uid)
        bench.ledger.sent(uid, 1)
        bench.redis.hset(record_key(uid), "updated", f"{bench.ledger.now() - 10 * 24 * 3600:.6f}")
    assert reconcile(bench, sent)["ended"] == 2
    assert "no VM of the profile 'win10' on any host has been online" in str(bench.record("a-2").error)


def test_a_record_that_vanishes_as_it_is_sent(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to send."""
    bench.open()
    watched(bench.ledger, seconds=3600)
    bench.redis.hset(record_key("a-1"), "updated", f"{bench.ledger.now() - 3600:.6f}")
    begin_attempt = Ledger.begin_attempt

    def vanishes(ledger: Ledger, uid: str, *, after: int, lost: bool = False) -> int:
        number = begin_attempt(ledger, uid, after=after, lost=lost)
        ledger._redis.delete(record_key(uid))
        ledger._redis.zrem("drak:live", uid)
        return number

    sent = Sent()
    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "begin_attempt", vanishes)
        assert "sent" not in reconcile(bench, sent)
    assert sent == []


def test_a_broker_that_goes_away_meanwhile(bench: Bench) -> None:
    """The attempt was begun, and is sent by a later run."""
    bench.open()
    watched(bench.ledger, seconds=3600)
    bench.redis.hset(record_key("a-1"), "updated", f"{bench.ledger.now() - 3600:.6f}")
    run = Reconciler(ledger=bench.ledger, settings=Settings(), send=away, ask_broker=ServerId)
    assert "sent" not in run.run()
    assert run.is_cut_off
    assert (bench.record().attempt, bench.record().is_unsent) == (2, True)
