"""A process that dies at a stage counts there; the stage is alone the next time, and then it is poison."""

from __future__ import annotations

import contextlib
import functools
from concurrent.futures import ThreadPoolExecutor

import pytest
from karton.core.task import TaskState

from drakcelery.errors import InfrastructureError, NeedsSolitude, Superseded
from drakcelery.host import state_dir as directories
from drakcelery.host.alone import alone
from drakcelery.model.analysis import Fault, Stage, State
from drakcelery.recovery.takeover import io_worker_begins, process_died
from drakcelery.stages import perform
from tests.bench import HOST, SLOT, Bench, bench
from tests.waiting import wait_until

__all__ = ("bench",)

FILES = (Stage.COLLECT, Stage.UPLOAD, Stage.PUBLISH)


def enter(bench: Bench, stage: Stage, uid: str = "a-1", *, beside_others: bool = False) -> None:
    """Begin a stage, and be killed there."""
    step = bench.step(uid)
    bench.ledger.advance(
        uid, step.attempt, stage, host=HOST, slot=SLOT, token="t", beside_others=beside_others
    )


@pytest.mark.parametrize("stage", FILES)
def test_a_stage_that_kills_its_process(bench: Bench, stage: Stage) -> None:
    """The second process that dies at collect, upload or publish ends the analysis with a sentence (R4)."""
    ours = bench.open()
    bench.do(*tuple(Stage)[: tuple(Stage).index(stage)])
    for _ in range(2):
        enter(bench, stage)
        process_died(bench.context, lambda _: None, stage, bench.step(attempt=1))
    record = bench.record()
    assert (record.state, record.attempts) == (State.FAILED, 1)
    sentence = f"poison: {stage.value} of this sample killed its process 2 times"
    assert sentence in str(record.error)
    task = bench.ledger.karton_task(ours.task_uid)
    assert task is not None
    assert task.status is TaskState.CRASHED
    assert sentence in str(task.error)
    with pytest.raises(Superseded):
        enter(bench, stage)


def test_a_stage_that_kills_its_worker(bench: Bench) -> None:
    """Three workers that die at the same collect are enough; those who only waited count for nothing (R4)."""
    sent: list[str] = []
    for uid in ("culprit", "waits"):
        bench.open(uid)
        bench.do(Stage.PREPARE, Stage.RUN, uid=uid)
    for deaths in (1, 2, 3):
        enter(bench, Stage.COLLECT, "culprit")
        io_worker_begins(bench.context, lambda record: sent.append(record.uid))
        assert bench.record("culprit").state.is_over is (deaths == 3)
    assert "killed its process 3 times; last: it died with its worker" in str(bench.record("culprit").error)
    assert (sent.count("culprit"), sent.count("waits")) == (2, 3)
    assert bench.ledger._redis.hget("drak:analysis:{waits}", "deaths:collect") is None
    bench.do(*FILES, uid="waits")
    assert bench.record("waits").state is State.PUBLISHED


def test_an_innocent_beside_it(bench: Bench) -> None:
    """Who was at work beside it when its worker died is alone once, and gets through (R4)."""
    for uid in ("culprit", "innocent"):
        bench.open(uid)
        bench.do(Stage.PREPARE, Stage.RUN, uid=uid)
        enter(bench, Stage.COLLECT, uid, beside_others=True)
    io_worker_begins(bench.context, lambda _: None)
    for uid in ("culprit", "innocent"):
        with pytest.raises(NeedsSolitude):
            enter(bench, Stage.COLLECT, uid, beside_others=True)
    enter(bench, Stage.COLLECT, "culprit")
    io_worker_begins(bench.context, lambda _: None)
    bench.do(*FILES, uid="innocent")
    assert bench.record("innocent").state is State.PUBLISHED
    assert not bench.record("culprit").state.is_over


def test_a_delivery_that_fell_silent_counts(bench: Bench) -> None:
    """Where nobody saw the process die, reconcile's second sending says that it may have (R4)."""
    bench.open()
    bench.do(Stage.PREPARE, Stage.RUN)
    bench.ledger.resend(bench.record())  # its message was lost: that is no death
    enter(bench, Stage.COLLECT, beside_others=True)
    bench.ledger.resend(bench.record())
    with pytest.raises(NeedsSolitude):
        enter(bench, Stage.COLLECT, beside_others=True)


def test_deaths_of_another_attempt_are_not_counted(bench: Bench) -> None:
    """A death that is told late, of an attempt that is over, changes nothing (I2)."""
    bench.open()
    bench.do(Stage.PREPARE, Stage.RUN)
    enter(bench, Stage.COLLECT)
    ledger = bench.ledger
    assert [ledger.abandon("a-1", *late) for late in ((2, Stage.COLLECT), (1, Stage.RUN))] == [0, 0]
    assert [ledger.abandon("a-1", 1, Stage.COLLECT) for _ in range(2)] == [1, 0]
    assert bench.record().busy is None


def test_a_run_that_is_done_and_kills_its_process(bench: Bench) -> None:
    """A process that dies again and again on what is left of a finished run does so twice (R4, its kind)."""
    bench.open()
    bench.do(Stage.PREPARE)
    for _ in range(2):
        enter(bench, Stage.RUN)
        process_died(bench.context, lambda _: None, Stage.RUN, bench.step(attempt=1))
    assert bench.record().state is State.FAILED
    assert "poison: run of this sample" in str(bench.record().error)
    bench.context.slots.soil("a-1", 1)


def test_out_of_memory_is_a_sentence(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A MemoryError ends the attempt, and after max_attempts the analysis, in words (R4)."""
    bench.open()

    def collect(**_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("drakcelery.artifacts.collect", collect)
    for _ in range(3):
        bench.do(Stage.PREPARE, Stage.RUN)
        with pytest.raises(InfrastructureError, match="collect ran out of memory"):
            bench.do(Stage.COLLECT)
    record = bench.record()
    assert record.state is State.FAILED
    assert [one.fault for one in record.failures] == [Fault.FAILED] * 3
    assert record.error == "collect ran out of memory"


def test_a_suspect_is_alone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stage that cost a process holds the host's lock for itself while it is at work; others share it."""
    entered: list[str] = []
    for name in ("alone", "together"):
        ours = getattr(perform, name)
        monkeypatch.setattr(perform, name, functools.partial(_noted, ours, name, entered))
    bench.open()
    bench.do(Stage.PREPARE, Stage.RUN)
    enter(bench, Stage.COLLECT)
    process_died(bench.context, lambda _: None, Stage.COLLECT, bench.step())
    bench.do(Stage.COLLECT)
    assert entered == ["together", "alone"]
    bench.do(Stage.UPLOAD, Stage.PUBLISH)
    assert entered == ["together", "alone", "together", "together"]


def _noted(ours: object, name: str, entered: list[str], *args: object) -> object:
    entered.append(name)
    assert callable(ours)
    return ours(*args)


def test_who_waits_shows_life(bench: Bench) -> None:
    """A stage that waits for a suspect is not taken for lost, however long that takes (R4)."""
    for uid in ("a-1", "stale"):
        bench.open(uid)
        bench.do(Stage.PREPARE, Stage.RUN, uid=uid)
    place = directories.own_io(bench.context.settings.drakcelery.state_dir)
    with ThreadPoolExecutor(2) as pool, contextlib.ExitStack() as suspect:
        suspect.enter_context(alone(place, lambda: None))
        waits = pool.submit(bench.do, Stage.COLLECT)
        wait_until(lambda: bench.record().beat, "it shows life")
        assert bench.record().busy is None
        stale = pool.submit(bench.do, Stage.COLLECT, uid="stale")
        wait_until(lambda: bench.record("stale").beat, "the other does as well")
        bench.forget("stale")
        with pytest.raises(Superseded, match="need not wait"):
            stale.result(timeout=60)
        assert not waits.done()
        suspect.close()
        waits.result(timeout=60)
    assert bench.record().done is Stage.COLLECT
    bench.do(Stage.UPLOAD, Stage.PUBLISH)
