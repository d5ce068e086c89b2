"""Canaries in real slots: what each of them finds, and what becomes of the slot."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from drakcelery.embedded.layout import home
from drakcelery.engines import Detonation
from drakcelery.errors import Blame, DiskFull, EngineError, InfrastructureError
from drakcelery.host.drains import Closed
from drakcelery.host.history import Kind
from drakcelery.host.slot import SlotState
from drakcelery.host.slots import SlotTable
from drakcelery.ledger.canaries import Canaries, Known
from drakcelery.model.analysis import Execution, Outcome
from drakcelery.settings import Settings
from drakcelery.worker.canary import SAMPLE, CanaryRunner
from tests.bench import SLOT, Bench

Run = Callable[[Any, Detonation], Outcome]


def look(bench: Bench, *, why: str = "asked") -> str:
    """Let a canary that is called for have the slot; what the slot is then."""
    if why == "asked":
        bench.context.slots.ask_canary(SLOT)
    else:
        bench.context.slots.doubt(SLOT)
    runner(bench).start_due(together)
    (slot,) = bench.context.slots.all()
    return slot.status


def runner(bench: Bench) -> CanaryRunner:
    """What begins with canaries."""
    return CanaryRunner(bench.context, home() / "samples" / SAMPLE)


def together(thread: threading.Thread) -> None:
    """Start a canary's thread, and wait for its end."""
    thread.start()
    thread.join()


def found(bench: Bench) -> list[tuple[Kind, str | None]]:
    """What canaries have said."""
    return [(run.kind, run.error) for run in bench.context.slots.history()]


@pytest.fixture
def known(bench: Bench) -> None:
    """A canary was good in the profile before, on some host: it is not the canary that is broken."""
    Canaries(bench.redis).put("win10", "another engine", Known())


def ends(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, change: Callable[[Detonation, Outcome], Outcome]
) -> None:
    """Let the end of each run be another."""
    run: Run = type(bench.context.engine).run
    monkeypatch.setattr(type(bench.context.engine), "run", lambda engine, job: change(job, run(engine, job)))


def fails(
    monkeypatch: pytest.MonkeyPatch, bench: Bench, error: BaseException, *, at: str = "prepare"
) -> None:
    """Let the engine fail."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(type(bench.context.engine), at, fail)


def test_a_good_one(bench: Bench) -> None:
    """The slot is in use again, with a clean record; what the canary did is known from now on."""
    assert look(bench) == "free"
    assert found(bench) == [(Kind.CANARY_WORKED, None)]
    assert Canaries(bench.redis).has("win10")
    (slot,) = bench.context.slots.all()
    assert (slot.calls.called, slot.calls.judged) == (1, 1)


@pytest.mark.usefixtures("known")
def test_one_that_did_not_start(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slot is put aside, and the next good one ends that."""
    with monkeypatch.context() as patched:
        not_executed = {"execution": Execution.NOT_EXECUTED, "reason": "no process"}
        ends(bench, patched, lambda _, outcome: outcome.model_copy(update=not_executed))
        assert look(bench) == "quarantined"
    assert look(bench) == "free"
    assert found(bench) == [
        (Kind.CANARY_FAILED, "the canary was not started: no process"),
        (Kind.CANARY_WORKED, None),
    ]


@pytest.mark.usefixtures("known")
def test_one_that_left_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a record that is played may have no log."""

    def empty(job: Detonation, outcome: Outcome) -> Outcome:
        job.log.unlink()
        return outcome

    ends(bench, monkeypatch, empty)
    assert look(bench) == "free"
    monkeypatch.setattr(Settings, "engine", "emulator")
    assert look(bench) == "quarantined"
    assert found(bench)[-1] == (Kind.CANARY_FAILED, "the canary left an empty log")


@pytest.mark.usefixtures("known")
def test_one_that_did_not_do_what_it_does(bench: Bench) -> None:
    """By what the first good ones did, wherever they ran."""
    assert look(bench) == "free"
    (kind,) = [name for name in bench.redis.hkeys("drak:canary:win10") if "replay" in str(name)]
    Canaries(bench.redis).put("win10", str(kind), Known(runs=(frozenset({"procmon NtCreate x"}),) * 3))
    assert look(bench) == "quarantined"
    assert "did not do 1 things it does elsewhere" in str(found(bench)[-1][1])


@pytest.mark.usefixtures("known")
def test_one_whose_restore_takes_too_long(bench: Bench) -> None:
    """By what it takes on this host at other times."""
    assert look(bench) == "free"
    (kind,) = [name for name in bench.redis.hkeys("drak:canary:win10") if "replay" in str(name)]
    Canaries(bench.redis).put("win10", str(kind), Known(restore={bench.context.host: -10.0}))
    assert look(bench) == "quarantined"
    assert "the restore took" in str(found(bench)[-1][1])


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(
    ("error", "words"),
    [(InfrastructureError("no luck"), "no luck"), (ValueError("oops"), "ValueError: oops")],
)
def test_one_that_breaks_off(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    """Whatever it was, the slot does not work."""
    fails(monkeypatch, bench, error)
    assert look(bench) == "quarantined"
    assert found(bench) == [(Kind.CANARY_FAILED, words)]


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(
    "error",
    [
        EngineError("no bridge", blames=Blame.HOST),
        DiskFull("no space"),
        redis.ConnectionError("away"),
        OSError(28, "no space"),
    ],
)
def test_one_that_says_nothing_of_its_slot(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The host, or Redis, is to blame: the slot is what it was."""
    fails(monkeypatch, bench, error)
    assert look(bench) == "free"
    assert found(bench) == []


def test_where_none_was_ever_good(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be the canary: a slot in use stays so, unless its samples fail as well."""
    fails(monkeypatch, bench, InfrastructureError("no luck"))
    assert look(bench) == "free"
    assert found(bench) == []
    monkeypatch.setattr(Settings, "engine", "emulator")
    assert look(bench, why="score") == "quarantined"


def test_where_nobody_knows_whether_one_was_good(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis is away: the slot is not judged."""
    fails(monkeypatch, bench, InfrastructureError("no luck"))
    fails_redis(monkeypatch)
    assert look(bench) == "free"


def fails_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody say whether a canary was ever good."""

    def away(*_: object) -> bool:
        raise redis.ConnectionError("away")

    monkeypatch.setattr(Canaries, "has", away)


@pytest.mark.usefixtures("known")
def test_a_guest_that_was_left(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it does not die no canary can begin; the slot is cleaned before anything else."""
    fails(monkeypatch, bench, EngineError("it will not die"), at="destroy")
    assert look(bench) == "dirty"
    assert found(bench) == [(Kind.CANARY_FAILED, "a guest that was left in it does not die")]


def test_a_slot_in_quarantine_that_is_not_judged(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays there."""
    assert bench.context.slots.claim("win10", "a", 1) == SLOT
    for _ in range(3):
        bench.context.slots.failed(SLOT, "a", 1)
    bench.context.slots.release(SLOT, "a", 1)
    fails(monkeypatch, bench, OSError(28, "no space"))
    assert look(bench) == "quarantined"


def test_no_room_for_a_thread(bench: Bench) -> None:
    """The slot is given back at once."""

    def no_room(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    bench.context.slots.ask_canary(SLOT)
    runner(bench).start_due(no_room)
    assert bench.context.slots.all()[0].state is SlotState.FREE


def test_a_table_that_cannot_be_written(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a canary could not give back is given back by the next look."""
    ours = runner(bench)

    def no_disk(*_: object, **__: object) -> bool:
        raise OSError(28, "no space")

    bench.context.slots.ask_canary(SLOT)
    with monkeypatch.context() as patched:
        patched.setattr(SlotTable, "tried", no_disk)
        ours.start_due(together)
    assert bench.context.slots.all()[0].is_canary
    ours.start_due(together)
    assert bench.context.slots.all()[0].state is SlotState.DIRTY


def test_one_that_was_ended_with_its_worker(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slot is no longer its own: it says nothing."""

    def begins_anew(_: Detonation, outcome: Outcome) -> Outcome:
        bench.context.slots.define({SLOT: "win10"})
        return outcome

    ends(bench, monkeypatch, begins_anew)
    bench.context.slots.ask_canary(SLOT)
    runner(bench).start_due(together)
    assert found(bench) == []
    assert bench.context.slots.all()[0].state is SlotState.DIRTY


def test_a_slot_that_was_undrained(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator may have worked at it: it is tried when nobody needs it."""
    monkeypatch.setattr(Settings, "engine", "emulator")
    ours, begun = runner(bench), list[str]()

    def begin(thread: threading.Thread) -> None:
        begun.append(thread.name)

    bench.context.slots.close(SLOT, Closed.DRAINED, by="alice")
    ours.start_due(begin)
    assert begun == []
    bench.context.slots.reopen(SLOT, Closed.DRAINED)
    ours.start_due(begin)
    assert begun == ["canary"]


def test_the_sample_is_there() -> None:
    """With the stack."""
    assert Path(home() / "samples" / SAMPLE).is_file()
