"""What is learned, and what is estimated of it, on a real Valkey; and ``status``, which shows it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner
from karton.core import Resource, Task
from karton.core.backend import KartonBackendBase
from karton.core.task import TaskPriority
from rich.console import Console

from drakcelery import cli, wiring
from drakcelery.embedded.services import Services
from drakcelery.forecast.backlog import LISTED
from drakcelery.forecast.durations import Durations
from drakcelery.forecast.forecast import Forecast, make_forecast
from drakcelery.forecast.learning import Learned, Watched
from drakcelery.ledger import Ledger, Patience
from drakcelery.ledger.durations import KEPT, MEMORY
from drakcelery.model.analysis import Place, Stage, State
from drakcelery.model.records import HostStatus, Record, SlotStatus
from drakcelery.operators import top, waiting_table
from drakcelery.operators.waiting import looks
from drakcelery.settings import DrakrunSection, Settings, WatchSection
from tests.builders import analysis
from tests.ledgers import inbox_of
from tests.notifying import opened, publish
from tests.operating import point_at

IDENTITY = "karton.test-outlook"
PROFILE = analysis().profile
TEN = Learned(timeout=60, prepare=2, run=8, rest=5)


@pytest.fixture
def ledger(redis_client: redis.Redis) -> Ledger:
    """A ledger of its own identity."""
    return Ledger(redis_client, identity=IDENTITY, record_ttl=600)


@pytest.fixture
def ours() -> Settings:
    """Settings whose default profile is the one that the fleet has."""
    default = Settings().drakcelery.model_copy(update={"default_profile": PROFILE})
    return Settings(drakrun=DrakrunSection(identity=IDENTITY, analysis_timeout=60), drakcelery=default)


def teach(ledger: Ledger, *durations: Learned) -> None:
    """As if such had been published."""
    key = f"drak:durations:{PROFILE}"
    ledger._redis.rpush(key, *(one.model_dump_json() for one in durations))
    ledger._redis.expire(key, MEMORY)


def report(ledger: Ledger, *slots: tuple[str, str | None]) -> None:
    """A host says what its slots do: state, and the analysis that is there."""
    reported = [
        SlotStatus(name=f"vm-{number}", profile=PROFILE, state=state, uid=uid, attempt=1, since=0)
        for number, (state, uid) in enumerate(slots, 1)
    ]
    ledger.fleet.report(HostStatus(host="rack-1", engine="replay", slots=tuple(reported)), lasts=600)


def send(ledger: Ledger, uid: str, priority: TaskPriority = TaskPriority.NORMAL, **payload: Any) -> Task:
    """A sample task on Karton's queue."""
    task = Task({"type": "sample"}, uid=f"{{root-{uid}}}:{uid}", root_uid=f"root-{uid}", priority=priority)
    task.add_payload("sample", Resource("x.exe", content=b"MZ", bucket="karton"))
    for name, value in payload.items():
        task.add_payload(name, value)
    ledger.declare(task)
    ledger._redis.rpush(KartonBackendBase.get_queue_name(IDENTITY, priority), task.uid)
    return task


def run_now(ledger: Ledger, uid: str) -> Record:
    """An analysis whose guest runs."""
    opened(ledger, uid)
    for stage in (Stage.PREPARE, Stage.RUN):
        ledger.advance(uid, 1, stage, host="rack-1", slot="vm-1", token="t")
        if stage is Stage.PREPARE:
            ledger.complete(uid, 1, stage, token="t")
    record = ledger.get(uid)
    assert record is not None
    return record


def in_seconds(forecast: Forecast, uid: str) -> tuple[float, float]:
    """From now until the middle of the start, and the end, of what waits under *uid*."""
    queued = forecast.find(uid)
    estimate = queued.estimate if queued else forecast.estimates[uid]
    assert estimate is not None
    assert estimate.start is not None
    return round(estimate.start.middle - forecast.now), round(estimate.finish.middle - forecast.now)


# What is learned


def test_a_published_analysis_teaches(ledger: Ledger) -> None:
    """How long its stages took, by the clock of Redis: also when the io worker takes it up late."""
    publish(ledger, "a")
    record = ledger.get("a")
    assert record is not None
    assert record.finished is not None
    assert State.COLLECTING in record.entered
    assert Durations(ledger.durations).learn(record)
    (learned,) = Durations(ledger.durations).of(PROFILE)
    assert learned.timeout == 60
    spent = learned.prepare + learned.run + learned.rest
    assert spent == pytest.approx(record.finished - record.entered[State.PREPARING], abs=0.03)


def test_a_run_ends_when_its_slot_is_free(ledger: Ledger) -> None:
    """COLLECTING is entered when run is done, not when collect begins: between is no slot's time."""
    run_now(ledger, "a")
    ledger.complete("a", 1, Stage.RUN, token="t")
    record = ledger.get("a")
    assert record is not None
    assert record.state is State.COLLECTING
    left = record.entered[State.COLLECTING]
    ledger.advance("a", 1, Stage.COLLECT, host="rack-1", slot="vm-1", token="t")
    record = ledger.get("a")
    assert record is not None
    assert record.entered[State.COLLECTING] == left


def test_what_is_remembered_is_bounded(ledger: Ledger) -> None:
    """The newest of each profile are kept, and forgotten when nothing comes any more."""
    teach(ledger, *[TEN] * KEPT)
    publish(ledger, "a")
    record = ledger.get("a")
    assert record is not None
    Durations(ledger.durations).learn(record)
    known = Durations(ledger.durations).of(PROFILE)
    assert (len(known), known[0] != TEN, known[1]) == (KEPT, True, TEN)
    assert 0 < ledger._redis.ttl(f"drak:durations:{PROFILE}") <= MEMORY


# What is estimated


def test_everything_that_waits_has_its_place(ledger: Ledger, ours: Settings) -> None:
    """What runs, what is with Celery, in line, on Karton's queues: in the order in which slots are given."""
    teach(ledger, *[TEN] * 10)
    run_now(ledger, "runs")
    opened(ledger, "queued")
    report(ledger, ("running", "runs"))
    send(ledger, "low", TaskPriority.LOW)
    send(ledger, "normal")
    send(ledger, "high", TaskPriority.HIGH)
    lined = send(ledger, "lined")
    inbox = inbox_of(ledger)
    ledger._redis.lrem(KartonBackendBase.get_queue_name(IDENTITY, TaskPriority.NORMAL), 1, lined.uid)
    inbox.adopt(lined.uid)
    inbox.wait(lined, Place(profile=PROFILE))
    forecast = make_forecast(ours, ledger, inbox)
    assert [(one.uid, one.position) for one in forecast.queued] == [
        *(("high", 1), ("lined", 2), ("normal", 3), ("low", 4))
    ]
    assert [in_seconds(forecast, uid) for uid in ("queued", "high", "lined", "normal", "low")] == [
        *((8, 23), (18, 33), (28, 43), (38, 53), (48, 63))
    ]
    assert (forecast.behind, forecast.estimates["runs"].start) == (0, None)
    newcomer = forecast.newcomers[PROFILE].start
    assert newcomer is not None
    assert round(newcomer.middle - forecast.now) == 48
    assert forecast.find("root-high") == forecast.find("{root-high}:high") == forecast.queued[0]
    assert forecast.find("nobody") is None


def test_what_is_far_behind_is_counted(ledger: Ledger, ours: Settings) -> None:
    """A long queue is read as far as it is listed; a newcomer's estimate knows of the rest."""
    teach(ledger, *[TEN] * 10)
    report(ledger, ("free", None), ("free", None))
    for number in range(LISTED):
        send(ledger, f"t{number}")
    ledger._redis.rpush(
        KartonBackendBase.get_queue_name(IDENTITY, TaskPriority.NORMAL), *(f"far{n}" for n in range(800))
    )
    forecast = make_forecast(ours, ledger, inbox_of(ledger))
    assert (len(forecast.queued), forecast.behind) == (LISTED, 800)
    start = forecast.newcomers[PROFILE].start
    assert start is not None
    assert start.middle - forecast.now == pytest.approx(5000, rel=0.02)


def test_wishes_of_a_task_count(ledger: Ledger, ours: Settings) -> None:
    """A task that asks for a profile that is offline waits for it; one that will be refused takes no time."""
    teach(ledger, *[TEN] * 10)
    report(ledger, ("free", None))
    send(ledger, "elsewhere", vm_profile="win7")
    send(ledger, "nonsense", timeout="soon")
    send(ledger, "next")
    forecast = make_forecast(ours, ledger, inbox_of(ledger))
    assert [(one.uid, one.position, one.place) for one in forecast.queued] == [
        *(("elsewhere", 1, "win7"), ("next", 3, PROFILE))
    ]
    assert forecast.queued[0].estimate is None
    assert in_seconds(forecast, "next") == (0, 15)


def test_slots_out_of_use_take_nothing(ledger: Ledger, ours: Settings) -> None:
    """A quarantined slot is nobody's hope."""
    teach(ledger, *[TEN] * 10)
    report(ledger, ("quarantined", None), ("free", None))
    opened(ledger, "a")
    opened(ledger, "b")
    forecast = make_forecast(ours, ledger, inbox_of(ledger))
    assert [in_seconds(forecast, uid)[0] for uid in ("a", "b")] == [0, 10]


def as_twin(ledger: Ledger, uid: str, of: str) -> Task:
    """A task that waits for the result of another analysis."""
    task = send(ledger, uid)
    inbox = inbox_of(ledger)
    ledger._redis.lrem(KartonBackendBase.get_queue_name(IDENTITY, TaskPriority.NORMAL), 1, task.uid)
    inbox.adopt(task.uid)
    assert inbox.twins.wait(task.uid, of)
    return task


def test_twins_are_in_the_forecast(ledger: Ledger, ours: Settings) -> None:
    """Those that wait for an analysis are over moments after it, and take no slot; of one that nobody knows
    any more nothing is said."""
    teach(ledger, *[TEN] * 10)
    run_now(ledger, "runs")
    report(ledger, ("running", "runs"))
    for uid in ("twin-1", "twin-2"):
        as_twin(ledger, uid, "runs")
    send(ledger, "next")
    ledger._redis.hset("drak:twins:waiting", "{root-gone}:gone", "5 runs")
    forecast = make_forecast(ours, ledger, inbox_of(ledger))
    assert [(one.uid, one.position, one.twin, one.reuses) for one in forecast.queued] == [
        *(("next", 1, None, False), ("twin-1", 0, "runs", True), ("twin-2", 0, "runs", True))
    ]
    assert in_seconds(forecast, "next") == (8, 23)
    runs = forecast.estimates["runs"].finish
    for queued in forecast.queued[1:]:
        assert queued.estimate is not None
        assert queued.estimate.start is None
        assert runs.high < queued.estimate.finish.middle < queued.estimate.finish.high <= runs.high + 4


def test_how_a_run_is_watched_counts(ledger: Ledger, ours: Settings) -> None:
    """By its task and the settings: learned from stopped runs, one that asks for `off` takes its whole
    timeout; a newcomer is stopped, as most are."""
    stopped = Watched(seconds=20, stop=20, ended="quiet")
    teach(ledger, *[TEN.model_copy(update={"run": 20, "watched": stopped})] * 10)
    report(ledger, ("free", None))
    watch = WatchSection(enabled=True, mode="active", min_seconds=10, quiet_seconds=10, measure_share=0.0)
    send(ledger, "active")
    send(ledger, "off", watch="off")
    send(ledger, "shadow", watch="shadow")
    send(ledger, "long", timeout=200, watch="off")
    forecast = make_forecast(ours.model_copy(update={"watch": watch}), ledger, inbox_of(ledger))
    assert [in_seconds(forecast, uid) for uid in ("active", "off", "shadow", "long")] == [
        *((0, 27), (22, 89), (84, 151), (146, 353))
    ]
    newcomer = forecast.newcomers[PROFILE]
    assert round(newcomer.finish.middle - newcomer.start.middle) == 27  # type: ignore[union-attr]


def test_a_run_that_may_go_on_is_expected_to(ledger: Ledger, ours: Settings) -> None:
    """With `extend_to` a run that always was busy until its timeout may last longer, and who waits knows."""
    busy = Watched(seconds=60, ended="timeout")
    teach(ledger, *[TEN.model_copy(update={"run": 60, "watched": busy})] * 10)
    report(ledger, ("free", None))
    send(ledger, "a")
    watch = WatchSection(enabled=True, mode="active", min_seconds=10, quiet_seconds=10, extend_to=300)
    forecast = make_forecast(ours.model_copy(update={"watch": watch}), ledger, inbox_of(ledger))
    assert in_seconds(forecast, "a") == (0, 307)


# status


@pytest.fixture
def status(services: Services, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """``drakcelery status …`` on the session's Valkey."""
    point_at(
        services.redis,
        monkeypatch,
        DATA_DIR=tmp_path,  # where there is no stack
        DRAKRUN_IDENTITY=IDENTITY,
        DRAKRUN_ANALYSIS_TIMEOUT=60,
        DRAKCELERY_DEFAULT_PROFILE=PROFILE,
    )

    made: list[Ledger] = []
    real = wiring.make_ledger

    def make(config: Settings, *, patience: Patience) -> Ledger:
        made.append(real(config, patience=patience))
        return made[-1]

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(cli.cli, ["status", *arguments])
        assert done.exit_code == 0, done.output
        return done.output

    monkeypatch.setattr(wiring, "make_ledger", make)
    yield run
    for one in made:  # a process of its own would end here
        one._redis.close()


def test_status_shows_what_to_expect(ledger: Ledger, status: Any) -> None:
    """In the table, in the view of one, of one that is in Karton still, and as JSON."""
    teach(ledger, *[TEN] * 10)
    run_now(ledger, "runs")
    opened(ledger, "queued")
    report(ledger, ("running", "runs"))
    send(ledger, "later")
    shown = status()
    assert "over in 0:12" in shown
    assert "start in 0:0" in shown
    assert "1 more wait in Karton." in shown
    assert f"A sample for {PROFILE} that came now would start in 0:2" in shown
    one = status("queued")
    assert "should start" in one
    assert "by 10 analyses of its profile" in one
    queued = status("root-later")
    assert "waits in Karton" in queued
    assert json.loads(status("later", "--json"))["position"] == 1
    assert json.loads(status("--json"))["waiting"] == 1
    found = {one["uid"]: one for one in json.loads(status("--json"))["analyses"]}
    assert found["runs"]["estimate"]["start"] is None
    assert found["queued"]["estimate"]["start"]["low"] < found["queued"]["estimate"]["finish"]["low"]


def test_people_see_what_a_twin_waits_for(ledger: Ledger, ours: Settings, status: Any) -> None:
    """Which analysis, and when that is expected to be over: status, and who waits for it."""
    teach(ledger, *[TEN] * 10)
    run_now(ledger, "runs")
    report(ledger, ("running", "runs"))
    as_twin(ledger, "twin", "runs")
    assert "1 more wait in Karton, 1 of them for the result of another analysis." in status()
    said = " ".join(status("twin").split())
    assert "waits for analysis runs, which is expected to be over in 0:1" in said
    assert "should be over in 0:1" in said
    assert "position" not in said
    assert json.loads(status("twin", "--json"))["twin"] == "runs"
    look = next(looks(ledger, ["twin", "runs"]))
    assert look.twins == {"twin": "runs"}
    forecast = make_forecast(ours, ledger, inbox_of(ledger))
    line = waiting_table.line(look, "twin", {}, alone=True, forecast=forecast).plain
    assert line.startswith("waits for analysis runs, which is expected to be over in 0:1")
    assert "1 waiting for another's result" in waiting_table.sum_line(look, ["twin", "runs"])
    out = io.StringIO()
    Console(file=out, width=100).print(waiting_table.waiting_table(look, ["twin"], {}, forecast=forecast))
    assert "waits for runs" in out.getvalue()
    assert "over in 0:1" in out.getvalue()
    frame = io.StringIO()
    shown = top.frame(top.Watch(ledger, inbox_of(ledger)).read(), width=80, height=None)
    Console(file=frame, width=80).print(shown)
    assert "(twins)" in frame.getvalue()


def test_a_wait_says_when_it_becomes_one_for_a_twin(ledger: Ledger) -> None:
    """A task that waited in Karton and now waits for an analysis is a change; then it is none."""
    run_now(ledger, "runs")
    task = send(ledger, "twin")
    inbox, pauses = inbox_of(ledger), iter(range(9))

    def pause(_: float) -> None:
        if next(pauses) == 1:
            inbox.adopt(task.uid)
            inbox.twins.wait(task.uid, "runs")

    seen = looks(ledger, ["twin"], pause=pause)
    assert [next(seen).changed for _ in range(4)] == [("twin",), (), ("twin",), ()]


def test_status_of_what_is_over_estimates_nothing(ledger: Ledger, status: Any) -> None:
    """A published analysis has no future."""
    publish(ledger, "a")
    assert json.loads(status("a", "--json"))["estimate"] is None
    assert "should" not in status("a")
