"""A guest that is destroyed slowly is no silence, and hides no reason (H4). On real servers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NoReturn, cast

import pytest

from drakcelery.engines import Detonation, Engine
from drakcelery.errors import EngineError
from drakcelery.model.analysis import Fault, Stage, State
from drakcelery.model.timeouts import DEFAULT
from tests.bench import Bench, bench
from tests.waiting import wait_until

__all__ = ("bench",)


class Slow:
    """An engine that lets its guest die only once the claim has been renewed twice meanwhile."""

    def __init__(self, engine: Engine, beat: Callable[[], float | None]) -> None:
        self._engine = engine
        self._beat = beat
        self.fails: Stage | None = None

    def __getattr__(self, name: str) -> object:
        return getattr(self._engine, name)

    def prepare(self, job: Detonation) -> object:
        return self._fail() if self.fails is Stage.PREPARE else self._engine.prepare(job)

    def run(self, job: Detonation) -> object:
        return self._fail() if self.fails is Stage.RUN else self._engine.run(job)

    def _fail(self) -> NoReturn:
        raise EngineError("the true reason", code=225)

    def destroy(self, slot: str) -> None:
        seen: set[float | None] = {None}

        def lives() -> bool:
            seen.add(self._beat())
            return len(seen) > 3

        wait_until(lives, "signs of life while the guest dies")
        self._engine.destroy(slot)


@pytest.fixture
def slow(bench: Bench) -> tuple[Bench, Slow]:
    """The bench, with fast signs of life and such an engine."""
    bench.ledger.timeouts = dataclasses.replace(DEFAULT, heartbeat=0.05)
    engine = Slow(bench.context.engine, lambda: bench.record().beat)
    context = dataclasses.replace(bench.context, engine=cast("Engine", engine))
    return dataclasses.replace(bench, context=context), engine


@pytest.mark.parametrize("stage", [Stage.PREPARE, Stage.RUN])
def test_a_failure_is_noted_with_its_reason(slow: tuple[Bench, Slow], stage: Stage) -> None:
    """The heartbeat beats until the guest is gone and the failure noted, by the reason that the engine
    gave."""
    bench, engine = slow
    bench.open()
    if stage is Stage.RUN:
        bench.do(Stage.PREPARE)
    engine.fails = stage
    with pytest.raises(EngineError, match="the true reason"):
        bench.do(stage)
    record = bench.record()
    assert (record.attempt, record.state, record.beat) == (2, State.QUEUED, None)
    assert [(one.error, one.code, one.fault, one.stage) for one in record.failures] == [
        ("the true reason", 225, Fault.FAILED, stage)
    ]
    assert not bench.context.slots.holds("vm-1", "a-1", 1)


def test_a_run_that_is_done_beats_on(slow: tuple[Bench, Slow]) -> None:
    """A run whose guest dies slowly is still this delivery's until it is gone: nobody sends it again."""
    bench, _ = slow
    bench.open()
    bench.do(Stage.PREPARE, Stage.RUN)
    record = bench.record()
    assert (record.attempt, record.state, record.failures) == (1, State.COLLECTING, ())
    assert not bench.context.slots.holds("vm-1", "a-1", 1)
