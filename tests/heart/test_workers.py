"""A host's workers, in this process: what is admitted, what operators ask, how they begin and end."""

from __future__ import annotations

import contextlib
import errno
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast

import kombu
import pytest
import redis
from celery import Celery
from celery.exceptions import Reject
from celery.worker import state as celery_state
from structlog.testing import capture_logs

from drakcelery.broker.routing import LEFT_OVER_QUEUE, prepare_queue, vm_queue
from drakcelery.engines import Detonation
from drakcelery.errors import EngineError, SettingsError, SlotsBlocked
from drakcelery.host.drains import Closed
from drakcelery.host.lock import sole_worker
from drakcelery.host.slot import Slot, SlotState
from drakcelery.host.workspace import Prefetched
from drakcelery.ledger.keys import lease_key, record_key
from drakcelery.model.analysis import Fault, Stage, State, Step
from drakcelery.model.news import WatchPlan
from drakcelery.model.records import HostStatus, SlotStatus
from drakcelery.settings import RedisSection, Settings
from drakcelery.settings.sections import CanarySection
from drakcelery.stages.perform import perform
from drakcelery.storage import receiving
from drakcelery.worker import commands, remote_control
from drakcelery.worker.bootstrap import Bootstrap
from drakcelery.worker.gate import drop_left_over
from drakcelery.worker.janitor import Janitor
from drakcelery.worker.mailbox import SILENT
from drakcelery.worker.prefetch import Prefetcher
from drakcelery.worker.shutdown import Stopper, give_up, on_signal
from tests.bench import HOST, SLOT, Bench
from tests.heart import workers
from tests.heart.conftest import begin
from tests.heart.workers import Rack, app_of
from tests.heart.workers import rack as rack_of
from tests.waiting import wait_until

PREPARE = prepare_queue("win10")


@pytest.fixture
def rack(bench: Bench) -> Iterator[Rack]:
    """A host with one slot."""
    with rack_of(bench) as ours:
        yield ours


@pytest.fixture
def pair(bench: Bench) -> Iterator[Rack]:
    """A host with two slots."""
    with rack_of(bench, slots=2) as ours:
        yield ours


def wait_run(rack: Rack, uid: str = "a-1") -> None:
    """Wait until the run of an analysis is done."""
    wait_until(lambda: rack.bench.record(uid).done is Stage.RUN, f"{uid} has run")


def wait_settled(rack: Rack) -> None:
    """Wait until the broker has nothing more for this host."""
    wait_until(lambda: not rack.broker.llen(PREPARE) and not rack.broker.hlen("unacked"), "all is settled")


# What is admitted


def test_samples_go_through_one_after_the_other(rack: Rack) -> None:
    """The slot goes from hand to hand, and nothing is left with the broker."""
    uids = ("a-1", "a-2", "a-3")
    for uid in uids:
        rack.bench.open(uid)
        rack.send(uid)
    with rack.vm_worker():
        for uid in uids:
            wait_run(rack, uid)
    with rack.io_worker():
        for uid in uids:
            rack.wait_over(uid)
    assert rack.broker.hlen("unacked") == 0


def test_a_drained_host_takes_nothing(rack: Rack) -> None:
    """Its message stays with the broker, for others; undrained, it takes it."""
    rack.bench.open()
    rack.bench.context.slots.close(None, Closed.DRAINED, by="alice")
    with rack.vm_worker():
        rack.send()
        (row,) = rack.ask("slots")
        assert (row["state"], row["closed_by"]) == ("drained", "alice")
        assert rack.broker.llen(PREPARE) == 1
        assert "ok" in rack.ask("undrain", by="bob")
        wait_run(rack)


def test_what_none_of_us_sent_is_dropped(rack: Rack) -> None:
    """It keeps no slot, and no worker."""
    rack.bench.open()
    with (
        rack.vm_worker(),
        capture_logs() as logs,
        Celery(broker=rack.bench.context.settings.broker_url, set_as_current=False) as other,
    ):
        for odd in ({"uid": "x", "attempt": 1, "profile": "unknown"}, {"uid": "../x"}, "no step"):
            other.send_task("drakcelery.prepare", args=(odd,), queue=PREPARE)
        rack.send()
        wait_run(rack)
        wait_settled(rack)
    assert [line["event"] for line in logs].count("message_dropped") == 3


def test_a_message_that_comes_twice_at_once(pair: Rack) -> None:
    """Its attempt has a slot already: the second one claims no other."""
    slots = pair.bench.context.slots
    with pair.vm_worker():
        pair.bench.open()
        assert slots.claim("win10", "a-1", 1) == SLOT
        pair.send()
        wait_settled(pair)
        assert [slot.holder for slot in slots.all()] == [("a-1", 1), None]
        slots.release(SLOT, "a-1", 1)


def test_a_message_of_what_is_at_work(rack: Rack) -> None:
    """As long as the first delivery shows life, a second one is dropped: the work is the first one's."""

    class Request:
        id = "a-1/1/prepare"
        message = None

    at_work = Request()
    with rack.vm_worker():
        rack.bench.open()
        rack.bench.ledger.advance("a-1", 1, Stage.PREPARE, host=HOST, slot=SLOT, token="at work")
        celery_state.active_requests.add(at_work)
        rack.send()
        wait_settled(rack)
        celery_state.active_requests.discard(at_work)
    assert rack.bench.record().busy == "at work"
    assert [slot.holder for slot in rack.bench.context.slots.all()] == [None]


def test_a_message_that_celery_cannot_read(rack: Rack) -> None:
    """Its step is ours, and the rest of it is not: it goes, and keeps no slot."""
    rack.bench.open()
    step = {"uid": "a-1", "attempt": 1, "profile": "win10"}
    headers = {"lang": "py", "task": "drakcelery.prepare", "id": "a-1/1/prepare", "timelimit": "x"}
    origin = {"exchange": "", "routing_key": PREPARE}
    message = {
        "body": json.dumps([[step], {}, {}]),
        "headers": headers,
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "properties": {"delivery_tag": "odd", "delivery_info": origin, "body_encoding": ""},
    }
    with rack.vm_worker(), capture_logs() as logs:
        rack.broker.lpush(PREPARE, json.dumps(message))
        wait_until(lambda: "message_dropped" in [line["event"] for line in logs], "it is dropped")
        wait_until(lambda: rack.bench.context.slots.all()[0].is_open, "the slot is free")
        rack.send()
        wait_run(rack)


def test_what_has_failed_here_goes_elsewhere(pair: Rack) -> None:
    """Where another host has its profile in use, it is sent again later."""
    slots, ledger = pair.bench.context.slots, pair.bench.ledger
    with pair.vm_worker():
        pair.bench.open()
        assert slots.claim("win10", "a-1", 1) == SLOT
        slots.failed(SLOT, "a-1", 1)
        slots.release(SLOT, "a-1", 1)
        slot = SlotStatus(name="vm-1", profile="win10", state="running", since=0)
        ledger.fleet.report(HostStatus(host="rack-2", engine="replay", slots=(slot,)))
        pair.send()
        wait_until(lambda: ledger.is_due_later("a-1"), "it is deferred")
        wait_settled(pair)
        ledger.fleet.retire("rack-2")
    assert pair.bench.record().failures == ()


def test_a_process_that_dies(rack: Rack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its slot is cleaned, its attempt over, and its message goes back to the broker."""

    def dies(*_: object) -> None:
        monkeypatch.setattr(workers, "perform", perform)
        rack.bench.ledger.advance("a-1", 1, Stage.PREPARE, host=HOST, slot=SLOT, token="dead")
        raise Reject("killed", requeue=True)

    monkeypatch.setattr(workers, "perform", dies)
    rack.bench.open()
    with rack.vm_worker():
        rack.send()
        wait_until(lambda: rack.bench.record().failures, "its attempt is over")
        wait_until(lambda: rack.bench.context.slots.all()[0].state is SlotState.FREE, "the slot is clean")
        wait_settled(rack)
    (failure,) = rack.bench.record().failures
    assert (failure.fault, failure.error) == (Fault.LOST, "the process that watched the guest died")


def test_a_stage_whose_process_dies_with_files(rack: Rack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its message goes back, and is taken up again: with its files the stage goes on."""
    begin(rack.bench, Stage.COLLECT)

    def dies(*_: object) -> None:
        monkeypatch.setattr(workers, "perform", perform)
        rack.bench.ledger.advance("a-1", 1, Stage.COLLECT, host=HOST, slot=SLOT, token="dead")
        raise Reject("killed", requeue=True)

    with rack.io_worker():
        monkeypatch.setattr(workers, "perform", dies)
        rack.send()
        rack.wait_over()
    assert rack.bench.record().attempts == 1


def test_a_run_whose_slot_was_taken_away(rack: Rack) -> None:
    """What the message says is not what the table says: another attempt begins, elsewhere or later."""
    rack.bench.open()
    with rack.vm_worker():
        rack.bench.do(Stage.PREPARE)
        rack.bench.context.slots.soil("a-1", 1)
        rack.send()
        wait_until(lambda: rack.bench.record().failures, "its attempt is over")
    assert rack.bench.record().failures[0].fault is Fault.LOST


def test_the_next_sample_is_fetched_before_its_slot_is_free(
    rack: Rack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a guest whose time is nearly over runs, what waits is looked at, and not taken."""
    ahead = Prefetched.of(rack.bench.context.settings.drakcelery.state_dir)
    run = type(rack.bench.context.engine).run
    seen: list[State] = []

    def runs(engine: object, job: Detonation) -> object:
        if job.uid == "a-1":
            wait_until(lambda: ("a-2", 1) in ahead.all(), "the next one is fetched ahead")
            seen.append(rack.bench.record("a-2").state)
        return run(engine, job)  # type: ignore[arg-type] # as it was called

    monkeypatch.setattr(type(rack.bench.context.engine), "run", runs)
    with rack.vm_worker():
        for uid in ("a-1", "a-2"):
            rack.bench.open(uid, timeout=5)
            rack.send(uid)
        wait_run(rack, "a-2")
    assert (seen, ahead.all()) == ([State.QUEUED], {})


def test_what_an_earlier_version_has_left(rack: Rack) -> None:
    """The queue of its beat is emptied; with RabbitMQ, deleted where nobody needs it."""
    rack.broker.lpush(LEFT_OVER_QUEUE, "left over")
    with rack.vm_worker():
        wait_until(lambda: not rack.broker.exists(LEFT_OVER_QUEUE), "it is empty")
    with kombu.Connection("memory://") as other:
        drop_left_over(other)


# What operators ask


def test_what_workers_tell(rack: Rack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of slots, of an analysis, of its log; and of what is wrong with a question."""
    rack.bench.open()
    with rack.vm_worker():
        rack.send()
        wait_run(rack)
        told = rack.ask("analysis", uid="a-1")
        assert (told["state"], told["host"], told["next_stage"]) == ("COLLECTING", HOST, "collect")
        workspace = rack.bench.workspace()
        workspace.log.write_text("one\ntwo\nthr")
        log = rack.ask("analysis_log", uid="a-1")
        assert (log["lines"], log["offset"]) == (["one", "two"], 8)
        assert rack.ask("analysis_log", uid="a-1", offset=4, attempt=1)["lines"] == ["two"]
        assert rack.ask("analysis_log", uid="a-1", offset=4, attempt=9)["lines"] == ["one", "two"]
        workspace.log.unlink()
        assert rack.ask("analysis_log", uid="a-1")["lines"] == []
        errors = {
            "no analysis nobody in the ledger": rack.ask("analysis", uid="nobody"),
            "expected that of an analysis": rack.ask("analysis", uid="../x"),
            "expected a number from 0 on": rack.ask("analysis_log", uid="a-1", offset="x"),
            "unexpected keyword argument": rack.ask("analysis", uid="a-1", more=1),
        }
        with monkeypatch.context() as patched:
            patched.setattr(type(rack.bench.ledger), "get", cut_off)
            errors["Karton's Redis does not answer"] = rack.ask("analysis", uid="a-1")
        with monkeypatch.context() as patched:
            patched.setattr("drakcelery.worker.remote_control.in_redis_time", cut_off)
            assert rack.ask("slots")[0]["slot"] == SLOT
    assert [words for words, reply in errors.items() if words not in reply["error"]] == []


def cut_off(*_: object) -> None:
    """Redis is away."""
    raise redis.ConnectionError("away")


def test_what_workers_are_told(pair: Rack) -> None:
    """Drain, quarantine, release, cancel; each answer is what the host is then, or why not."""
    with pair.vm_worker():
        slots = pair.bench.context.slots

        def states() -> list[str]:
            return [slot.status for slot in slots.all()]

        pair.ask("drain", slot=SLOT, by="alice")
        pair.ask("quarantine", slot=f"{HOST}/vm-2", by="alice")
        assert states() == ["drained", "quarantined"]
        refused = {
            "no canary comes to a slot": pair.ask("canary"),
            "has no slot 'vm-9'": pair.ask("drain", slot="vm-9"),
            "expected the name of a slot": pair.ask("quarantine"),
            "expected who asks": pair.ask("drain", by=""),
            "is not in quarantine: it is drained": pair.ask("release", slot=SLOT),
        }
        pair.ask("drain", by="bob")
        refused["is drained as a whole"] = pair.ask("undrain", slot=SLOT)
        assert [words for words, reply in refused.items() if words not in reply["error"]] == []
        assert "ok" in pair.ask("undrain")
        assert "ok" in pair.ask("undrain", slot=SLOT)
        assert "ok" in pair.ask("release", slot="vm-2")
        wait_until(lambda: states() == ["free", "free"], "all is open")
        pair.bench.open()
        assert pair.ask("cancel", uid="a-1", by="alice") == {"ok": "cancelled a-1"}
        assert pair.ask("cancel", uid="a-1", by="alice") == {"ok": "cancelled a-1"}
        assert "is over already" in pair.ask("cancel", uid="a-1", by="bob")["error"]


def test_a_canary_that_is_asked_for(bench: Bench) -> None:
    """The slot is tried as soon as nobody has it."""
    with rack_of(bench) as rack, rack.vm_worker():
        assert rack.ask("canary", slot=SLOT)["calls"] == {SLOT: 1}
        wait_until(lambda: rack.bench.context.slots.history(), "the canary has been there")


def test_where_there_are_no_canaries(bench: Bench) -> None:
    """The answer says so."""
    with rack_of(bench, canary=CanarySection(enabled=False)) as rack, rack.vm_worker():
        assert "has [canary] enabled = 0" in rack.ask("canary")["error"]


def test_who_is_not_asked_keeps_silent(rack: Rack) -> None:
    """Another host's slot, another host's analysis, and whoever is no vm worker."""
    state: Any = SimpleNamespace(hostname=f"vm@{HOST}", app=rack.app)
    io: Any = SimpleNamespace(hostname=f"io@{HOST}", app=rack.app)
    slot = SlotStatus(name="vm-1", profile="win10", state="free", since=0)
    rack.bench.ledger.fleet.report(HostStatus(host="rack-2", engine="replay", slots=(slot,)))
    begin(rack.bench, Stage.PREPARE)
    rack.bench.ledger.advance("a-1", 1, Stage.PREPARE, host="rack-2", slot=SLOT, token="t")
    assert remote_control.drain(state, slot="rack-2/vm-1") is SILENT
    assert remote_control.analysis(state, uid="a-1") is SILENT
    assert remote_control.analysis_log(state, uid="a-1") is SILENT
    assert remote_control.slots(io) is SILENT
    rack.bench.ledger.fleet.retire("rack-2")


# How they begin and end


def begun(app: Any, role: str = "vm") -> str:
    """What a worker says that may not begin."""
    with pytest.raises(SystemExit) as ended:
        Bootstrap(SimpleNamespace(hostname=f"{role}@{HOST}", app=app))
    return str(ended.value)


def test_a_worker_that_may_not_begin(rack: Rack, tmp_path: Path) -> None:
    """It ends with a sentence: another runs here, or Redis is odd, or away."""
    settings = rack.bench.context.settings
    with sole_worker(settings.drakcelery.state_dir, HOST):
        assert "is running already" in begun(rack.app)
    slot = SlotStatus(name=SLOT, profile="win10", state="free", since=0)
    rack.bench.ledger.fleet.report(HostStatus(host=HOST, engine="replay", slots=(slot,)))
    rack.bench.redis.set(lease_key(HOST), "none of ours", ex=60)
    assert f"{lease_key(HOST)} is a string, not a hash" in begun(rack.app)
    rack.bench.redis.delete(lease_key(HOST))
    rack.bench.ledger.fleet.retire(HOST)
    ours = settings.drakcelery.model_copy(update={"state_dir": tmp_path / "other"})
    nowhere = RedisSection(host="127.0.0.1", port=1)
    away = app_of(settings.model_copy(update={"redis": nowhere, "drakcelery": ours}))
    assert "does not answer" in begun(away)


def test_a_disk_that_says_no(rack: Rack, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence names the setting."""
    monkeypatch.setattr(Prefetched, "clear", no_disk)
    assert begun(rack.app).endswith("[Errno 5] no disk")
    leave(rack.app)


def leave(app: Any) -> None:
    """Let the host's name be free again."""
    app.runtime.presence.leave()
    app.runtime.presence.join()


def no_disk(*_: object) -> None:
    raise OSError(5, "no disk")


def test_a_worker_of_somebody_else(rack: Rack) -> None:
    """Flower's, say: nothing of ours begins with it."""
    assert not Bootstrap(SimpleNamespace(hostname="celery@rack-1", app=rack.app)).enabled


def test_what_a_worker_says_as_it_begins(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What its settings and its engine cannot do, and what is still closed."""
    monkeypatch.setattr(Settings, "without_effect", lambda _: ["[drakvuf] says nothing to replay"])
    monkeypatch.setattr(type(bench.context.engine), "lacks", lambda _: ["a kernel"])
    with rack_of(bench) as rack, capture_logs() as logs:
        rack.bench.context.slots.close(SLOT, Closed.DRAINED, by="alice")
        with rack.vm_worker():
            pass
    said = {line["event"] for line in logs}
    assert {"setting_without_effect", "engine_lacks", "still_closed"} <= said


def test_commands_that_become_celery(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """One process each for the slots and one to spare; and the queue that is always the host's."""
    settings = bench.context.settings.model_copy(update={"slots": {"vm-1": "win10", "vm-2": "win7"}})
    seen: list[list[str]] = []
    monkeypatch.setattr("os.execve", lambda _, arguments, __: seen.append(arguments))
    for role in commands.COMMANDS:
        commands.become_celery(role, settings)
    vm, io, flower = seen
    assert {f"--hostname=vm@{HOST}", f"--queues={vm_queue(HOST)}", "--concurrency=3"} <= set(vm)
    assert f"--hostname=io@{HOST}" in io
    assert flower[-1] == "drakcelery.flower"


def test_a_host_that_is_shut_down(bench: Bench) -> None:
    """Who is restored goes elsewhere at once, who runs may finish until somebody is in a hurry."""
    begin(bench, Stage.RUN)
    stopper = on_signal(bench.context, None)
    stopper.join()
    (failure,) = bench.record().failures
    assert (failure.fault, failure.error) == (Fault.STOPPED, "the host is stopping")
    (slot,) = bench.context.slots.all()
    assert (slot.holder, slot.state) == (None, SlotState.DIRTY)


def test_a_second_signal(bench: Bench) -> None:
    """Running guests are not waited for any more."""
    begin(bench, Stage.RUN)
    bench.context.slots.move(SLOT, "a-1", 1, origin=SlotState.READY, to=SlotState.RUNNING)
    stopper = on_signal(bench.context, None)
    assert bench.record().failures == ()
    assert on_signal(bench.context, stopper) is stopper
    stopper.join()
    assert [one.fault for one in bench.record().failures] == [Fault.STOPPED]


def test_slots_that_are_blocked_as_a_host_is_shut_down(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its guests are ended as soon as somebody can tell which there are."""
    begin(bench, Stage.RUN)
    read, tries = bench.context.slots.all, iter((True, True, False))

    def blocked_first() -> list[Slot]:
        if next(tries, False):
            raise SlotsBlocked("slots.sqlite: database is locked")
        return read()

    monkeypatch.setattr(bench.context.slots, "all", blocked_first)
    on_signal(bench.context, None).join()
    assert [one.fault for one in bench.record().failures] == [Fault.STOPPED]


def test_an_end_that_nobody_can_be_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guest is ended all the same."""
    begin(bench, Stage.RUN)
    (slot,) = bench.context.slots.all()
    monkeypatch.setattr("drakcelery.worker.shutdown.end_held", no_disk)
    give_up(bench.context, slot, "the host is stopping", Fault.STOPPED)
    assert bench.context.slots.all()[0].state is SlotState.DIRTY
    assert isinstance(Stopper(bench.context), Stopper)


# The janitor


def janitor(bench: Bench) -> Janitor:
    """Of a host without canaries."""
    return Janitor(bench.context, lambda _: None)


def test_a_guest_that_does_not_die(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """After so many tries its slot is put aside; without canaries it gets another try by time alone."""
    ours = janitor(bench)
    ours._over.set()  # no pause between two tries
    bench.context.slots.define({SLOT: "win10"})

    def survives(*_: object) -> None:
        raise EngineError("it will not die")

    with monkeypatch.context() as patched:
        patched.setattr(type(bench.context.engine), "destroy", survives)
        for _ in range(3):
            ours._clean()
            ours._ending[SLOT].join()
    (slot,) = bench.context.slots.all()
    assert slot.state is SlotState.QUARANTINED
    assert bench.context.slots.probe(seconds=0) == [SLOT]
    ours._clean()
    ours._ending[SLOT].join()
    assert bench.context.slots.all()[0].state is SlotState.FREE


def test_no_room_for_a_thread(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slot is cleaned later."""
    bench.context.slots.define({SLOT: "win10"})
    ours = janitor(bench)

    def no_room(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr("threading.Thread.start", no_room)
        ours._clean()
    assert ours._ending == {}


def test_what_a_stale_attempt_has_left(bench: Bench) -> None:
    """Its slot is cleaned, and its workspace removed; those of the current one stay."""
    begin(bench, Stage.RUN)
    stale = bench.workspace().root.with_name("a-1.7")
    stale.mkdir()
    ours = janitor(bench)
    ours._clean_up()
    assert (stale.exists(), bench.workspace().root.exists()) == (False, True)
    bench.forget("a-1")
    ours._clean_up()
    (slot,) = bench.context.slots.all()
    assert (slot.state, slot.holder) == (SlotState.DIRTY, None)
    assert not list(stale.parent.iterdir())


def test_a_host_that_takes_nothing_any_more(bench: Bench) -> None:
    """What was sent to it by preference goes elsewhere, once, after all others know."""
    sent: list[str] = []
    bench.context.readiness.note_io(alive=True)
    bench.context.readiness.note_broker(connected=True)
    ours = Janitor(bench.context, lambda record: sent.append(record.uid))
    bench.open()
    failing = json.dumps([{"attempt": 1, "stage": "prepare", "error": "x", "host": "rack-2", "at": 0}])
    bench.redis.hset("drak:analysis:{a-1}", mapping={"failures": failing, "sent": 1})
    bench.context.slots.close(None, Closed.DRAINED, by="alice")
    for looks in (0, 1, 1):
        ours._reroute()
        assert len(sent) == looks
    bench.context.readiness.note_broker(connected=False)
    ours._reroute()
    assert sent == ["a-1"]


def test_it_goes_on_whatever_it_meets(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a janitor the host would be taken for dead."""
    met: list[str] = []

    def fails(janitor: Janitor) -> None:
        met.append("oops")
        janitor.wake()
        if len(met) == 3:
            janitor._over.set()
        raise ValueError("oops")

    monkeypatch.setattr(Janitor, "_clean", fails)
    monkeypatch.setattr("drakcelery.worker.janitor.host_status", no_disk)
    ours = janitor(bench)
    ours.start()
    ours.join()
    assert len(met) == 3


def test_a_table_that_is_taken_away(rack: Rack) -> None:
    """Its file is made again, every guest goes, and samples are taken again."""
    slots = rack.bench.context.slots

    def is_open() -> bool:
        try:
            return slots.all()[0].is_open
        except (SettingsError, IndexError):
            return False

    with rack.vm_worker():
        (rack.bench.context.settings.drakcelery.state_dir / "slots.sqlite").unlink()
        wait_until(is_open, "the slot is free again")
        rack.bench.open()
        rack.send()
        wait_run(rack)


def test_files_that_the_ledger_does_not_know(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are kept: an empty Redis proves nothing, and one that is away even less."""
    begin(bench, Stage.RUN)
    fields = cast("Any", bench.redis.hgetall(record_key("a-1")))
    bench.redis.delete(record_key("a-1"))
    workspace = bench.context.workspace(bench_step())
    ours = janitor(bench)
    ours._clean_up()
    assert workspace.root.exists()
    assert bench.context.slots.holds(SLOT, "a-1", 1)
    with monkeypatch.context() as patched, capture_logs() as logs:
        patched.setattr(type(bench.ledger), "standing", cut_off)
        ours._clean_up()
    assert "not_cleaned_up_after" in [line["event"] for line in logs]
    bench.redis.hset(record_key("a-1"), mapping=fields)


def bench_step() -> Step:
    """The message of an attempt that the ledger has forgotten."""
    return Step(uid="a-1", attempt=1, profile="win10", host=HOST, slot=SLOT)


def test_a_slot_gets_another_try_by_time(bench: Bench) -> None:
    """Where no canary comes, after quarantine_seconds."""
    assert bench.context.slots.claim("win10", "a", 1) == SLOT
    bench.context.slots.put_aside(SLOT, "a", 1, most=1)
    bench.context.slots.release(SLOT, "a", 1)
    janitor(bench)._clean_up()
    assert bench.context.slots.all()[0].state is SlotState.QUARANTINED
    with (
        contextlib.closing(
            sqlite3.connect(bench.context.settings.drakcelery.state_dir / "slots.sqlite")
        ) as database,
        database,
    ):
        database.execute("update slots set since = since - 86400")
    janitor(bench)._clean_up()
    assert bench.context.slots.all()[0].state is SlotState.DIRTY


# The look ahead


def test_samples_that_cannot_be_fetched_ahead(bench: Bench) -> None:
    """They are left to prepare, which says more of it; nothing of them stays."""
    ours = bench.open()
    Prefetched.of(bench.context.settings.drakcelery.state_dir).clear()
    lookahead = Prefetcher(bench.context, lambda _: [])
    bench.context.storage.remove(ours.sample.bucket, ours.sample.key)
    for step in (bench.step(), bench.step(attempt=7), bench.step().model_copy(update={"uid": "nobody"})):
        lookahead._fetch(step)
    assert Prefetched.of(bench.context.settings.drakcelery.state_dir).all() == {}


def test_no_room_for_what_is_fetched_ahead(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is left to prepare, and the look ahead goes on; nothing of it stays."""

    def receive(*_: object, **__: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    bench.open()
    ahead = Prefetched.of(bench.context.settings.drakcelery.state_dir)
    ahead.clear()
    monkeypatch.setattr(receiving, "receive", receive)
    Prefetcher(bench.context, lambda _: [])._fetch(bench.step())
    assert list(ahead.root.iterdir()) == []
    bench.forget("a-1")


@pytest.mark.parametrize(("mode", "fetched"), [("active", {("a-2", 1)}), ("shadow", set())])
def test_a_run_that_may_be_stopped_any_time(
    bench: Bench, mode: Literal["active", "shadow"], fetched: set[tuple[str, int]]
) -> None:
    """The next sample is fetched before its guest may be stopped, which is long before its time is over."""
    plan = WatchPlan(mode=mode, min_seconds=5, quiet_seconds=5)
    bench.open(timeout=3600, watch=plan)
    bench.do(Stage.PREPARE)
    slots = bench.context.slots
    assert slots.move(SLOT, "a-1", 1, origin=SlotState.READY, to=SlotState.RUNNING)
    bench.open("a-2")
    ahead = Prefetched.of(bench.context.settings.drakcelery.state_dir)
    ahead.clear()
    Prefetcher(bench.context, lambda _: [bench.step("a-2")])._prefetch()
    assert set(ahead.all()) == fetched
    ahead.clear()
    bench.forget("a-1", "a-2")


def test_a_look_ahead_goes_on(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it meets."""
    errors: list[Exception] = [redis.ConnectionError("away"), ValueError("oops")]

    def look(ahead: Prefetcher) -> None:
        if len(errors) == 1:
            ahead.stop()
        raise errors.pop(0)

    monkeypatch.setattr(Prefetcher, "_prefetch", look)
    monkeypatch.setattr("drakcelery.worker.prefetch.LOOK_SECONDS", 0.01)
    ours = Prefetcher(bench.context, lambda _: [])
    ours.start()
    ours.join()
    assert errors == []
