"""Files and guests of which Redis has no record: what the janitor does, on a real ledger and slot table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import pytest

from drakcelery.host.slot import SlotState
from drakcelery.ledger.keys import record_key
from drakcelery.model.analysis import Stage
from drakcelery.model.timeouts import Watch
from drakcelery.worker.janitor import ABSENT_SECONDS, Janitor
from tests.bench import Bench, bench

__all__ = ("bench",)


@dataclass
class Clock:
    """An uninterrupted watch of Redis, whose time is made here."""

    now: float = 0.0

    def watch(self) -> Watch:
        """As :meth:`drakcelery.ledger.Ledger.watch` tells it."""
        return Watch(now=self.now, since=0.0, gaps=())


@pytest.fixture
def clock(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time by which the janitor of *bench* goes."""
    made = Clock()
    monkeypatch.setattr(bench.ledger, "watch", made.watch)
    return made


def lose_records(bench: Bench) -> dict[str, str]:
    """Let Redis have lost its data; returns what it had of the analysis."""
    fields = cast("dict[str, str]", bench.ledger._redis.hgetall(record_key("a-1")))
    bench.ledger._redis.delete(record_key("a-1"))
    return fields


def test_an_idle_guest_without_a_record(bench: Bench, clock: Clock) -> None:
    """It keeps its slot as long as its message may come, no longer; its files stay for a day (R17)."""
    bench.open()
    bench.do(Stage.PREPARE)
    janitor, files = Janitor(bench.context, lambda _: None), bench.workspace()
    fields = lose_records(bench)
    janitor._clean_up()
    clock.now = bench.ledger.timeouts.lost
    janitor._clean_up()
    assert [slot.state for slot in bench.context.slots.all()] == [SlotState.READY]
    clock.now += 1
    janitor._clean_up()
    assert [slot.state for slot in bench.context.slots.all()] == [SlotState.DIRTY]
    clock.now = ABSENT_SECONDS
    janitor._clean_up()
    assert files.root.is_dir()
    clock.now += 1
    janitor._clean_up()
    assert not files.root.exists()
    bench.ledger._redis.hset(record_key("a-1"), mapping=fields)  # type: ignore[arg-type] # the stubs' invariance
    bench.forget("a-1")


def test_a_run_without_a_record(bench: Bench, clock: Clock) -> None:
    """A guest at work is no idle one: it goes on for a day, and its record may come back (R17)."""
    bench.open()
    bench.do(Stage.PREPARE)
    slots, janitor = bench.context.slots, Janitor(bench.context, lambda _: None)
    assert slots.move("vm-1", "a-1", 1, origin=SlotState.READY, to=SlotState.RUNNING)
    fields = lose_records(bench)
    janitor._clean_up()
    clock.now = ABSENT_SECONDS
    janitor._clean_up()
    bench.ledger._redis.hset(record_key("a-1"), mapping=fields)  # type: ignore[arg-type] # the stubs' invariance
    clock.now *= 2
    janitor._clean_up()
    assert [slot.state for slot in slots.all()] == [SlotState.RUNNING]
    lose_records(bench)
    janitor._clean_up()  # the time counts again
    assert [slot.state for slot in slots.all()] == [SlotState.RUNNING]
    clock.now += ABSENT_SECONDS + 1
    janitor._clean_up()
    assert [slot.state for slot in slots.all()] == [SlotState.DIRTY]
    bench.ledger._redis.hset(record_key("a-1"), mapping=fields)  # type: ignore[arg-type] # the stubs' invariance
    bench.forget("a-1")


def test_a_record_says_at_once(bench: Bench, clock: Clock) -> None:
    """What is at another attempt by its record goes without any wait, whatever the watch says (R17)."""
    bench.open()
    bench.do(Stage.PREPARE)
    files = bench.workspace()
    bench.ledger._redis.hset(record_key("a-1"), "attempt", "2")
    Janitor(bench.context, lambda _: None)._clean_up()
    assert clock.now == 0
    assert [slot.state for slot in bench.context.slots.all()] == [SlotState.DIRTY]
    assert not files.root.exists()
