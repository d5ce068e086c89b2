"""What else may happen to a stage: whatever it meets, nothing is done twice, and nothing is lost."""

from __future__ import annotations

import dataclasses
import json
import threading
from pathlib import Path
from typing import Any, NoReturn, cast

import pytest
import redis
from karton.core.task import TaskState
from redis.backoff import NoBackoff
from redis.retry import Retry

from drakcelery import failpoints
from drakcelery.behaviour.report import Report
from drakcelery.engines import Detonation
from drakcelery.errors import (
    BadTask,
    Blame,
    EngineError,
    EvidenceLost,
    GuestLost,
    InDoubt,
    InfrastructureError,
    SlotsBlocked,
    StorageAway,
    Superseded,
    UnderWay,
)
from drakcelery.host.drains import Closed
from drakcelery.host.history import Facts
from drakcelery.host.slot import SlotState
from drakcelery.host.slots import SlotTable
from drakcelery.host.workspace import Prefetched
from drakcelery.ledger import Ledger
from drakcelery.ledger.keys import durations_key, record_key, task_key
from drakcelery.model.analysis import WITH_GUEST, Fault, ObjectRef, Outcome, Stage, State
from drakcelery.model.manifest import Manifest
from drakcelery.model.timeouts import DEFAULT
from drakcelery.settings import ReportSection, Settings
from drakcelery.stages.heartbeat import Heartbeat, HeartbeatThread
from drakcelery.stages.perform import perform
from drakcelery.storage import Storage
from drakcelery.storage.sending import put
from tests import reference
from tests.bench import HOST, SLOT, Bench
from tests.heart.conftest import Trip, begin, go_on, settings_with
from tests.waiting import wait_until

ALL = tuple(Stage)


class Killed(BaseException):
    """Ends a stage as kill -9 does: nobody handles it."""


def slot_is(bench: Bench) -> tuple[SlotState, str | None]:
    """State and holder of the only slot."""
    (slot,) = bench.context.slots.all()
    return slot.state, slot.uid


def taken_up_again(bench: Bench, stage: Stage) -> None:
    """Whoever was at work on *stage* is dead: its message is delivered again."""
    bench.ledger.abandon("a-1", 1, stage)
    perform(bench.context, stage, bench.step())


# The road itself


def test_from_prepare_to_publish(bench: Bench) -> None:
    """One attempt after the other stage: the artifacts are in S3, Karton has both tasks, nothing is left."""
    ours = bench.open()
    bench.do(*Stage)
    record = bench.record()
    assert (record.state, record.attempts, record.failures) == (State.PUBLISHED, 1, ())
    assert {"metadata.json", "procmon.log", "dumps.zip"} <= set(bench.objects())
    sample, made = (bench.ledger.karton_task(uid) for uid in (ours.task_uid, str(record.analysis_task_uid)))
    assert sample is not None
    assert made is not None
    assert (sample.status, made.status) == (TaskState.FINISHED, TaskState.DECLARED)
    assert slot_is(bench) == (SlotState.FREE, None)
    assert not list((bench.context.settings.drakcelery.state_dir / "workspaces").iterdir())


@pytest.mark.slow
def test_capa(bench: Bench, tmp_path: Path) -> None:
    """Where there are rules, collect lets capa look at the calls; metadata and report have what it found."""
    called = {"Plugin": "apimon", "TimeStamp": "1700000001.000000", "PID": 200, "PPID": 4, "TID": 1}
    call = {"ProcessName": "x.bat", "Method": "WinExec", "Event": "api_called", "ReturnValue": "0x1"}
    arguments = {"Arguments": ['Arg0=0x9:"cmd.exe /c dir"']}
    log = json.dumps(called | call | arguments)
    (tmp_path / "run" / "drakmon.log").write_text(f"{log}\n", encoding="utf-8")
    with_rules = {"report": ReportSection(capa_rules=reference.ROOT / "tests" / "capa_rules")}
    settings = bench.context.settings.model_copy(update=with_rules)
    ours = dataclasses.replace(bench, context=dataclasses.replace(bench.context, settings=settings))
    ours.open(plugins=("apimon",))
    ours.do(Stage.PREPARE, Stage.RUN, Stage.COLLECT)
    report = Report.model_validate_json((ours.workspace().out / "report.json").read_bytes())
    assert report.capa is not None
    assert (report.capa.failure, report.capa.calls) == (None, 1)
    assert [one.rule for one in report.capabilities] == ["run a command of the shell"]
    assert ours.workspace().load(Manifest).metadata["capa"] == report.capa.model_dump()
    assert (settings.drakcelery.state_dir / "io" / "capa").is_dir()
    ours.do(Stage.UPLOAD, Stage.PUBLISH)
    assert ours.record().state is State.PUBLISHED


@pytest.mark.parametrize("stage", Stage)
def test_a_message_that_comes_twice(bench: Bench, stage: Stage) -> None:
    """Once the stage is done, its message changes nothing any more."""
    begin(bench, stage)
    bench.do(stage)
    before = bench.record()
    with pytest.raises(Superseded, match="may not enter"):
        perform(bench.context, stage, bench.step())
    assert bench.record() == before


@pytest.mark.parametrize("stage", Stage)
def test_a_message_of_an_earlier_attempt(bench: Bench, trip: Trip, stage: Stage) -> None:
    """It is stale: the attempt that has followed it goes on."""
    begin(bench, stage)
    with pytest.raises(InfrastructureError):
        trip(bench, stage, InfrastructureError("no luck"))
    before = bench.record()
    with pytest.raises(Superseded):
        perform(bench.context, stage, bench.step(attempt=1))
    assert bench.record() == before
    go_on(bench)


@pytest.mark.parametrize("stage", Stage)
def test_what_is_cancelled_stops(bench: Bench, trip: Trip, stage: Stage) -> None:
    """However a stage fails then: it is a quiet stop, and the analysis stays cancelled."""
    begin(bench, stage)

    def cancel() -> None:
        assert bench.ledger.cancel(bench.record(), reason="nobody wants it", crashed=None)

    with pytest.raises(Superseded, match="was ended meanwhile"):
        trip(bench, stage, OSError("its guest is gone"), first=cancel)
    record = bench.record()
    assert (record.state, record.failures) == (State.CANCELLED, ())
    assert slot_is(bench) == (SlotState.FREE, None)


@pytest.mark.parametrize("stage", Stage)
def test_a_record_that_is_gone(bench: Bench, trip: Trip, stage: Stage) -> None:
    """Redis has lost its data: nothing can be noted, and the files stay for who restores it."""
    begin(bench, stage)
    workspace = bench.workspace()
    step = bench.step()
    fields = cast("Any", bench.redis.hgetall(record_key("a-1")))
    with pytest.raises(InfrastructureError):
        trip(
            bench,
            stage,
            InfrastructureError("no luck"),
            first=lambda: bench.redis.delete(record_key("a-1")),
        )
    assert bench.ledger.get("a-1") is None
    assert workspace.root.exists()
    bench.redis.hset(record_key("a-1"), mapping=fields)
    assert not bench.context.slots.holds(SLOT, step.uid, step.attempt)


def test_a_record_that_says_nothing_of_its_analysis(bench: Bench) -> None:
    """The attempt fails in words, and after the last of them the analysis."""
    begin(bench, Stage.PREPARE)
    bench.redis.hdel(record_key("a-1"), "analysis")
    for _ in range(3):
        with pytest.raises(InfrastructureError, match="says nothing of the analysis"):
            bench.do(Stage.PREPARE)
    record = bench.record()
    assert record.state is State.FAILED
    assert slot_is(bench) == (SlotState.FREE, None)


# Prepare


def test_a_message_without_a_slot(bench: Bench) -> None:
    """It cannot be prepared."""
    begin(bench, Stage.PREPARE)
    with pytest.raises(InfrastructureError, match="names no slot"):
        perform(bench.context, Stage.PREPARE, bench.step().model_copy(update={"slot": None}))
    assert bench.record().attempt == 2


def test_hooks_of_its_own(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task's hook list is fetched as its sample is, and the engine gets it."""
    hooks = ObjectRef(bucket=bench.bucket, key="hooks", name="hooks.txt")
    put(bench.context.storage._server, hooks.bucket, hooks.key, b"NtClose")
    bench.open(custom_hooks=hooks, start_command="cmd.exe /c dir")
    seen: list[Detonation] = []
    monkeypatch.setattr(type(bench.context.engine), "accept", lambda _, job: seen.append(job))
    bench.do(Stage.PREPARE)
    (job,) = seen
    assert job.hooks is not None
    assert job.hooks.read_bytes() == b"NtClose"
    assert job.start_command == "cmd.exe /c dir"  # which does not name the sample: a warning, no more
    go_on(bench)


def test_a_sample_that_is_here_already(bench: Bench) -> None:
    """What was fetched ahead is taken, and not fetched again."""
    ours = bench.open()
    ahead = Prefetched.of(bench.context.settings.drakcelery.state_dir)
    ahead.clear()
    part = ahead.part()
    part.write_bytes(b"rem")
    ahead.add(part, "a-1", 1, "ab" * 32)
    bench.context.storage.remove(ours.sample.bucket, ours.sample.key)
    bench.do(*Stage)
    assert bench.record().state is State.PUBLISHED
    assert ahead.all() == {}


def test_a_slot_that_is_taken_away_meanwhile(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A restore that lasted longer than its slot was its own is worth nothing."""
    begin(bench, Stage.PREPARE)
    prepare = type(bench.context.engine).prepare

    def slow(engine: object, job: Detonation) -> object:
        snapshot = prepare(engine, job)  # type: ignore[arg-type] # as it was called
        bench.context.slots.soil("a-1", 1)
        return snapshot

    with monkeypatch.context() as patched:
        patched.setattr(type(bench.context.engine), "prepare", slow)
        with pytest.raises(GuestLost, match="while it was being restored"):
            bench.do(Stage.PREPARE)
    record = bench.record()
    assert [one.fault for one in record.failures] == [Fault.LOST]
    assert slot_is(bench) == (SlotState.DIRTY, None)


@pytest.mark.parametrize(("stage", "is_kept"), [(Stage.PREPARE, False), (Stage.RUN, True)])
def test_a_delivery_beside_another(bench: Bench, stage: Stage, *, is_kept: bool) -> None:
    """The slot that was claimed for it is given back; the one that the other works in is not."""
    begin(bench, stage)
    bench.ledger.advance("a-1", 1, stage, host=HOST, slot=SLOT, token="at work")
    with pytest.raises(UnderWay):
        bench.do(stage)
    assert bench.context.slots.holds(SLOT, "a-1", 1) is is_kept
    assert bench.record().busy == "at work"


# Run


def test_a_run_whose_end_nobody_heard(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that died once the run was noted costs no second detonation."""
    begin(bench, Stage.RUN)
    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "complete", lambda *_, **__: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            bench.do(Stage.RUN)
    assert bench.record().following is Stage.RUN
    noted = bench.workspace().load(Outcome)
    monkeypatch.setattr(type(bench.context.engine), "run", lambda *_: pytest.fail("detonated twice"))
    taken_up_again(bench, Stage.RUN)
    assert bench.workspace().load(Outcome) == noted
    go_on(bench)


def test_a_run_that_was_lost_with_the_disk(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run had recorded is compared with what is there, before anything is made of it."""
    begin(bench, Stage.RUN)
    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "complete", lambda *_, **__: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            bench.do(Stage.RUN)
    (bench.workspace().raw / "drakmon.log").unlink()
    with pytest.raises(EvidenceLost):
        taken_up_again(bench, Stage.RUN)
    assert bench.record().attempt == 2
    go_on(bench)


def test_a_guest_that_was_lost_before_its_run(bench: Bench) -> None:
    """Its slot was cleaned meanwhile; twice, and the sample is poison."""
    bench.open()
    for _ in range(2):
        bench.do(Stage.PREPARE)
        bench.context.slots.soil("a-1", bench.record().attempt)
        with pytest.raises(GuestLost, match="was lost with the process"):
            bench.do(Stage.RUN)
        bench.context.engine.destroy(SLOT)
        bench.context.slots.cleaned(SLOT)
    record = bench.record()
    assert record.state is State.FAILED
    assert str(record.error).startswith("poison: 2 attempts lost their process or their slot")


@pytest.mark.parametrize("error", [EngineError("it will not die"), OSError("no xl")])
def test_a_guest_that_will_not_die(bench: Bench, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """It keeps its slot from everybody, until the janitor has ended it; the analysis goes on."""
    begin(bench, Stage.RUN)

    def survives(*_: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(type(bench.context.engine), "destroy", survives)
        bench.do(Stage.RUN)
    assert slot_is(bench) == (SlotState.DIRTY, None)
    assert bench.record().done is Stage.RUN
    go_on(bench)


def blocked(*_: object, **__: object) -> NoReturn:
    """What the slots' file says on a full disk."""
    raise SlotsBlocked("slots.sqlite: database or disk is full")


def test_a_run_that_cannot_be_noted_in_the_slots(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not lost; the guest is gone, and whoever has the file again gives the slot back."""
    begin(bench, Stage.RUN)
    with monkeypatch.context() as patch:
        for change in ("worked", "release"):
            patch.setattr(bench.context.slots, change, blocked)
        bench.do(Stage.RUN)
    record = bench.record()
    assert (record.attempt, record.done, record.failures) == (1, Stage.RUN, ())
    (slot,) = bench.context.slots.all()
    assert (slot.state, slot.uid) == (SlotState.RUNNING, "a-1")


@pytest.mark.parametrize("stage", WITH_GUEST)
def test_slots_that_cannot_be_written(bench: Bench, monkeypatch: pytest.MonkeyPatch, stage: Stage) -> None:
    """The attempt is over, with the reason and at its host's charge; no process counts as dead for it."""
    begin(bench, stage)
    with monkeypatch.context() as patch:
        for change in ("move", "release", "soil", "failed"):
            patch.setattr(bench.context.slots, change, blocked)
        with pytest.raises(SlotsBlocked):
            bench.do(stage)
    (one,) = bench.record().failures
    assert (one.fault, one.stage, one.charged) == (Fault.FAILED, stage, Blame.HOST)
    assert "disk is full" in one.error
    assert bench.record().attempt == 2


def test_a_guest_whose_analysis_is_cancelled(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is destroyed within a beat, which ends the run; the slot is free."""
    begin(bench, Stage.RUN)
    bench.ledger.timeouts = dataclasses.replace(DEFAULT, heartbeat=0.02)
    guest = bench.context.settings.drakcelery.state_dir / "engine" / f"{SLOT}.guest"

    def run(_: object, __: Detonation) -> None:
        bench.ledger.cancel(bench.record(), reason="nobody wants it", crashed=None)
        wait_until(lambda: not guest.exists(), "the guest is destroyed")
        raise EngineError("the guest is gone")

    with monkeypatch.context() as patched:
        patched.setattr(type(bench.context.engine), "run", run)
        with pytest.raises(Superseded):
            bench.do(Stage.RUN)
    assert slot_is(bench) == (SlotState.FREE, None)
    assert bench.record().failures == ()


def test_a_slot_in_which_restores_fail_in_a_row(bench: Bench, trip: Trip) -> None:
    """Of several slots of a profile the sick one is put aside before another sample has it."""
    slots = SlotTable(bench.context.settings.drakcelery.state_dir, quarantine_after=10)
    slots.define({SLOT: "win10", "vm-2": "win10"})
    for name in (SLOT, "vm-2"):
        slots.cleaned(name)
    ours = dataclasses.replace(bench, context=dataclasses.replace(bench.context, slots=slots))
    states = []
    for uid in ("a-1", "a-2", "a-3"):
        begin(ours, Stage.PREPARE, uid=uid)
        with pytest.raises(EngineError):
            trip(ours, Stage.PREPARE, EngineError("no answer"), uid=uid)
        states.append(slots.all()[0].state)
    assert states == [SlotState.FREE, SlotState.FREE, SlotState.QUARANTINED]
    assert slots.all()[1].state is SlotState.FREE


# What a run did not leave


GOOD = Facts(log_size=9, pcap_size=99, snapshot=None)


@pytest.fixture
def pair(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A host that says it has DRAKVUF, with two slots; runs of the second one have left traffic."""
    monkeypatch.setattr(Settings, "engine", "drakvuf")
    slots = bench.context.slots
    slots.define({SLOT: "win10", "vm-2": "win10"})
    slots.cleaned("vm-2")
    assert slots.claim("win10", "good", 1) == "vm-2"
    slots.worked("vm-2", "good", 1, facts=GOOD)
    slots.release("vm-2", "good", 1)
    slots.cleaned(SLOT)
    return bench


def test_another_slot_has_to_show_it(pair: Bench) -> None:
    """A run without traffic is doubted: it costs no attempt, and another slot is asked."""
    begin(pair, Stage.RUN)
    with pytest.raises(InDoubt, match="no traffic was recorded: another slot has to show that"):
        pair.do(Stage.RUN)
    record = pair.record()
    assert [(one.fault, one.lacks) for one in record.failures] == [(Fault.DOUBTED, "traffic")]
    step = pair.step().model_copy(update={"slot": "vm-2"})
    assert pair.context.slots.claim("win10", "a-1", 2, among={"vm-2"}) == "vm-2"
    for stage in ALL:
        perform(pair.context, stage, step)
    assert pair.record().state is State.PUBLISHED
    assert pair.record().alike


def test_where_no_other_slot_can_say(pair: Bench) -> None:
    """It is taken as it is, and a canary tries the slot."""
    pair.context.slots.close("vm-2", Closed.DRAINED, by="a test")
    begin(pair, Stage.RUN)
    pair.do(Stage.RUN)
    assert pair.record().done is Stage.RUN
    assert pair.context.slots.all()[0].awaits_canary
    go_on(pair)


def test_a_run_that_the_ledger_has_forgotten(pair: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can say whether it is doubted: the stage goes on to its end, which says so."""
    begin(pair, Stage.RUN)
    run = type(pair.context.engine).run

    def forgotten(engine: object, job: Detonation) -> Outcome:
        pair.redis.delete(record_key("a-1"))
        return run(engine, job)  # type: ignore[arg-type] # as it was called

    with monkeypatch.context() as patched:
        patched.setattr(type(pair.context.engine), "run", forgotten)
        with pytest.raises(Superseded):
            pair.do(Stage.RUN)
    assert pair.context.slots.all()[0].state is SlotState.FREE
    pair.redis.zrem("drak:live", "a-1")


# The stages that need files


def test_s3_is_waited_for_so_long(bench: Bench, trip: Trip) -> None:
    """After storage_patience the attempt is over, and another makes the files again."""
    begin(bench, Stage.UPLOAD)
    with pytest.raises(StorageAway):
        trip(bench, Stage.UPLOAD, StorageAway("S3 does not answer"))
    impatient = settings_with(bench, storage_patience=0)
    with pytest.raises(StorageAway):
        trip(impatient, Stage.UPLOAD, StorageAway("S3 does not answer"))
    record = bench.record()
    assert [(one.fault, one.stage) for one in record.failures] == [(Fault.FAILED, Stage.UPLOAD)]
    assert record.attempt == 2
    go_on(bench)


def test_a_log_that_cannot_be_kept(bench: Bench, trip: Trip, monkeypatch: pytest.MonkeyPatch) -> None:
    """S3 is away as the analysis fails: it is over all the same."""
    begin(bench, Stage.COLLECT)
    bench.workspace().log.write_text("what was said")

    def away(*_: object) -> None:
        raise StorageAway("S3 does not answer")

    monkeypatch.setattr(Storage, "holds", away)
    with pytest.raises(BadTask):
        trip(bench, Stage.COLLECT, BadTask("no sample"))
    assert bench.record().state is State.FAILED
    assert "drakrun.log" not in bench.objects()


def test_a_test_sample(bench: Bench) -> None:
    """Its artifacts go to Karton's own bucket, once the task that refers to them is declared."""
    bucket = bench.context.settings.s3.bucket
    bench.open(is_test=True)
    bench.do(Stage.PREPARE, Stage.RUN, Stage.COLLECT)
    bench.context.storage.ensure_bucket(bucket)
    assert not bench.context.storage.list(bucket, "a-1/")
    bench.do(Stage.UPLOAD, Stage.PUBLISH)
    made = bench.context.storage.list(bucket, "a-1/")
    assert "a-1/metadata.json" in made
    for key in made:
        bench.context.storage.remove(bucket, key)
    assert bench.record().state is State.PUBLISHED


def test_an_upload_whose_attempt_has_ended(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It puts nothing more."""
    begin(bench, Stage.UPLOAD)
    before = bench.objects()

    def ends(*_: object) -> None:
        bench.ledger.cancel(bench.record(), reason="nobody wants it", crashed=None)

    monkeypatch.setattr(Storage, "ensure_bucket", ends)
    with pytest.raises(Superseded):
        bench.do(Stage.UPLOAD)
    assert bench.objects() == before


def test_nobody_waits_for_it(bench: Bench) -> None:
    """Karton has dropped the sample task: there is nothing to publish."""
    begin(bench, Stage.PUBLISH)
    bench.redis.delete(task_key(bench.record().task_uid))
    with pytest.raises(BadTask, match="nobody waits for the analysis"):
        bench.do(Stage.PUBLISH)
    assert bench.record().state is State.FAILED


@pytest.mark.parametrize("point", ["publish.published", "publish.removed"])
def test_after_publish_nothing_is_a_failure(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, point: str
) -> None:
    """Whatever goes wrong as it is cleaned up: the analysis is out."""
    begin(bench, Stage.PUBLISH)
    (tmp_path / "a-1").write_text(f"{point} exception")
    monkeypatch.setattr(failpoints._PROCESS, "plan", tmp_path)
    bench.do(Stage.PUBLISH)
    assert bench.record().state is State.PUBLISHED


def test_no_heartbeat_beside_the_removal(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It would find the claim gone, and say so in the workspace's log while that is being removed."""
    begin(bench, Stage.PUBLISH)
    (tmp_path / "a-1").write_text("publish.removed hold")
    monkeypatch.setattr(failpoints._PROCESS, "plan", tmp_path)
    publishing = threading.Thread(target=bench.do, args=(Stage.PUBLISH,))
    publishing.start()
    try:
        wait_until((tmp_path / "a-1.done").exists, "the workspace is removed")
        assert bench.context.heartbeats._heartbeats == []
    finally:
        (tmp_path / "a-1.go").touch()
        publishing.join(30)
    assert bench.record().state is State.PUBLISHED


def test_estimates_that_cannot_learn(bench: Bench) -> None:
    """A key of another type costs the estimates a run, and the analysis nothing."""
    begin(bench, Stage.PUBLISH)
    bench.redis.delete(durations_key("win10"))
    bench.redis.set(durations_key("win10"), "none of ours", ex=60)
    workspace = bench.workspace()
    bench.do(Stage.PUBLISH)
    assert bench.record().state is State.PUBLISHED
    assert not workspace.root.exists()


# Signs of life


def test_a_redis_that_is_away_stops_no_work() -> None:
    """A beat that nobody hears says nothing: nobody else can begin either."""
    client = redis.Redis(port=1, retry=Retry(NoBackoff(), 0))
    away = Ledger(client, identity="karton.test-heart", record_ttl=600)
    stopped: list[str] = []
    heartbeat = Heartbeat(
        away, "a-1", 1, token="t", stop=lambda: stopped.append("guest"), heartbeats=HeartbeatThread()
    )
    heartbeat.send()
    assert (heartbeat.is_stale, stopped) == (False, [])
