"""What a slot is charged with: as many samples as fail in it, not as many runs."""

from __future__ import annotations

import pytest

from drakcelery.errors import EngineError
from drakcelery.host.slot import SlotState
from drakcelery.model.analysis import Stage, State
from tests.bench import SLOT, Bench, bench

__all__ = ("bench",)


def fail(bench: Bench, uid: str) -> None:
    """The guest vanishes in the middle of the run."""
    bench.do(Stage.PREPARE, uid=uid)
    bench.context.engine.destroy(SLOT)
    with pytest.raises(EngineError, match="is gone"):
        bench.do(Stage.RUN, uid=uid)


def test_one_sample_that_fails_again_and_again(bench: Bench) -> None:
    """Where no other slot is there to try it in, all its attempts leave the slot in use (R19)."""
    bench.open()
    for _ in range(3):
        fail(bench, "a-1")
    assert bench.record().state is State.FAILED
    (slot,) = bench.context.slots.all()
    assert (slot.state, slot.failures) == (SlotState.FREE, 1)


def test_three_samples_that_fail(bench: Bench) -> None:
    """A slot in which one sample fails after the other is put aside."""
    for uid in ("a-1", "a-2", "a-3"):
        bench.open(uid)
        fail(bench, uid)
    (slot,) = bench.context.slots.all()
    assert slot.state is SlotState.QUARANTINED
