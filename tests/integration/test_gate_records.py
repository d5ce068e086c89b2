"""The door of a host, and what the ledger says, or does not say, of an analysis that failed here before."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from drakcelery.host.slot import SlotState
from drakcelery.ledger.keys import record_key
from drakcelery.ledger.watch import ServerId
from drakcelery.model.analysis import Stage
from drakcelery.recovery.takeover import process_died
from drakcelery.worker.admission import SLOT_HEADER, _admit, _defer, _shows_life
from drakcelery.worker.gate import Gate
from drakcelery.worker.janitor import or_leave_it
from drakcelery.worker.runtime import Runtime
from drakcelery.worker.shutdown import Stopper
from drakcelery.worker.wakeup import Wakeup
from tests.bench import HOST, SLOT, Bench, bench

__all__ = ("bench",)


@dataclass(kw_only=True)
class Message:
    """What the broker has delivered, and what became of it."""

    headers: dict[str, Any] = field(default_factory=dict)
    settled: list[str] = field(default_factory=list)

    def ack(self) -> None:
        """It is done with."""
        self.settled.append("ack")

    def requeue(self) -> None:
        """It comes again, at once."""
        self.settled.append("requeue")


@pytest.fixture
def gate(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Gate:
    """Of a host with one slot, in which ``a-1`` has failed in its first attempt."""
    bench.context.readiness.note_io(alive=True)
    bench.context.readiness.note_broker(connected=True)
    runtime = Runtime(context=bench.context, wakeup=Wakeup(), send=lambda _: None, ask_broker=ServerId)
    gate = Gate(SimpleNamespace(hostname=f"vm@{HOST}", app=SimpleNamespace(runtime=runtime)))
    monkeypatch.setattr(gate, "_close_full", lambda _: None)
    bench.open("a-1")
    assert bench.context.slots.claim("win10", "a-1", 1) == SLOT
    bench.context.slots.failed(SLOT, "a-1", 1)
    bench.context.slots.release(SLOT, "a-1", 1)
    return gate


def spoil(bench: Bench, kind: str) -> None:
    """Make the record of ``a-1`` one that nobody can read."""
    if kind == "hash":
        bench.ledger._redis.hset(record_key("a-1"), "failures", "{")
        return
    bench.ledger._redis.delete(record_key("a-1"))
    bench.ledger._redis.set(record_key("a-1"), "x", ex=60)


@pytest.mark.parametrize("kind", ["hash", "string"])
def test_a_record_that_nobody_can_read_ends_no_worker(bench: Bench, gate: Gate, kind: str) -> None:
    """Its message goes: reconcile sends another once the record can be read. No slot is kept for it."""
    spoil(bench, kind)
    step, message = message_of(bench, 2), Message()
    assert not _admit(gate, step, cast("Any", message))
    assert message.settled == ["ack"]
    assert [slot.holder for slot in bench.context.slots.all()] == [None]
    assert _shows_life(bench.ledger, step)
    again = Message()
    _defer(bench.ledger, step, cast("Any", again))
    assert again.settled == ["ack"]
    bench.ledger.remove("a-1", reason="the test is over")


@pytest.mark.parametrize("kind", ["hash", "string"])
def test_its_end_ends_no_worker_either(bench: Bench, gate: Gate, kind: str) -> None:
    """The slot that its process left is cleaned, and its message goes back, as of any other."""
    slots = bench.context.slots
    assert slots.claim("win10", "a-1", 2) == SLOT
    spoil(bench, kind)
    gate.settle(Stage.RUN, message_of(bench, 2), acknowledged=False)
    assert [(slot.holder, slot.state) for slot in slots.all()] == [(None, SlotState.DIRTY)]
    or_leave_it(lambda: process_died(bench.context, lambda _: None, Stage.RUN, message_of(bench, 2)))
    bench.ledger.remove("a-1", reason="the test is over")


def message_of(bench: Bench, attempt: int) -> Any:
    """The message of an attempt, as it comes to the gate."""
    return bench.step("other", attempt=attempt).model_copy(update={"uid": "a-1", "slot": None})


def test_a_host_that_stops_begins_nothing(bench: Bench, gate: Gate) -> None:
    """What comes while its worker shuts down goes back at once, for others to take."""
    gate.runtime.stopper = Stopper(bench.context)
    message = Message()
    assert not _admit(gate, message_of(bench, 2), cast("Any", message))
    assert message.settled == ["requeue"]
    assert [slot.holder for slot in bench.context.slots.all()] == [None]


def test_an_earlier_life_says_nothing_of_this_one(bench: Bench, gate: Gate) -> None:
    """Slots in which an earlier analysis of the same uid failed are as good as any."""
    slots = bench.context.slots
    bench.ledger._redis.hset(record_key("a-1"), "first_attempt", 2)
    assert slots.failed_in("a-1") == frozenset({SLOT})
    assert slots.failed_in("a-1", since=2) == frozenset()
    step, message = message_of(bench, 2), Message()
    assert gate._may_have(step) is None
    assert _admit(gate, step, cast("Any", message))
    assert message.headers == {SLOT_HEADER: SLOT}


def test_a_failure_of_this_life_counts(bench: Bench, gate: Gate) -> None:
    """Where all slots have failed it, one more try in any is all there is."""
    assert gate._may_have(message_of(bench, 2)) == frozenset({SLOT})


def test_a_slot_table_that_is_gone_ends_no_round(bench: Bench, gate: Gate) -> None:
    """Until the janitor has made another one the host has no slot, and claims none."""
    (bench.context.settings.drakcelery.state_dir / "slots.sqlite").unlink()
    assert gate.claim(message_of(bench, 2)) is None
