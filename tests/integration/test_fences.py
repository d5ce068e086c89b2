"""Whoever was considered dead and wakes up: what it does last touches nobody else's slot, guest or
attempt."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from drakcelery import failpoints
from drakcelery.engines import Detonation, end_guest
from drakcelery.errors import GuestLost, InfrastructureError, StorageAway, Superseded
from drakcelery.failpoints import POINTS
from drakcelery.host.slot import Slot, SlotState
from drakcelery.model.analysis import Fault, Stage, State
from drakcelery.worker.janitor import Janitor
from drakcelery.worker.shutdown import give_up
from tests.bench import SLOT, Bench, bench

__all__ = ("bench",)


FILES_MADE = (Stage.PREPARE, Stage.RUN, Stage.COLLECT, Stage.UPLOAD)


def hand_slot_on(bench: Bench) -> None:
    """The slot of the first attempt goes to another analysis, whose guest is restored."""
    bench.context.slots.soil("a-1", 1)
    assert end_guest(bench.context.engine, SLOT)
    bench.context.slots.cleaned(SLOT)
    bench.open("other")
    bench.do(Stage.PREPARE, uid="other")


def guest_of(bench: Bench) -> str:
    """Whose guest is in the slot."""
    return (bench.context.settings.drakcelery.state_dir / "engine" / f"{SLOT}.guest").read_text()


def test_a_prepare_that_wakes_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prepare that was frozen while it fetched the sample restores nothing in a slot of another (R17)."""
    bench.open()
    download = type(bench.context.storage).download

    def frozen(*args: object, **kwargs: object) -> str:
        monkeypatch.setattr(type(bench.context.storage), "download", download)
        hand_slot_on(bench)
        return download(*args, **kwargs)  # type: ignore[arg-type] # as it was called

    monkeypatch.setattr(type(bench.context.storage), "download", frozen)
    with pytest.raises(GuestLost, match="taken away before it was restored"):
        bench.do(Stage.PREPARE)
    assert guest_of(bench) == "other"
    (slot,) = bench.context.slots.all()
    assert (slot.holder, slot.failures) == (("other", 1), 0)
    bench.do(Stage.RUN, uid="other")
    assert bench.record("other").done is Stage.RUN


def test_a_delivery_that_fails_late(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A collect that was frozen and fails leaves attempt and files to the delivery at work (R17)."""
    bench.open()
    bench.do(Stage.PREPARE, Stage.RUN)

    def collect(**_: object) -> None:
        bench.ledger.resend(bench.record())
        bench.ledger.advance("a-1", 1, Stage.COLLECT, host="rack-1", slot=SLOT, token="at work")
        raise OSError("no memory, no disk, no luck")

    with monkeypatch.context() as patched:
        patched.setattr("drakcelery.artifacts.collect", collect)
        with pytest.raises(Superseded):
            bench.do(Stage.COLLECT)
    record = bench.record()
    assert (record.attempt, record.state, record.busy, record.failures) == (
        1,
        State.COLLECTING,
        "at work",
        (),
    )
    assert bench.workspace().run_is_whole()


def test_a_slot_that_comes_free_as_the_janitor_looks(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the janitor read before an earlier ender was over makes it end nobody's guest (R17)."""
    ends, janitor = threading.Event(), Janitor(bench.context, lambda _: None)
    ender = threading.Thread(target=ends.wait)
    ender.start()
    janitor._ending[SLOT] = ender
    bench.open("other")
    bench.do(Stage.PREPARE, uid="other")
    (now,) = bench.context.slots.all()

    def stale() -> list[Slot]:
        ends.set()
        ender.join()
        before = Slot(
            name=SLOT, profile=now.profile, state=SlotState.DIRTY, uid=None, attempt=None, since=0, failures=0
        )
        return [before]

    with monkeypatch.context() as patched:
        patched.setattr(bench.context.slots, "all", stale)
        janitor._clean()
    assert janitor._ending[SLOT] is ender
    assert guest_of(bench) == "other"
    bench.do(Stage.RUN, uid="other")


def test_a_slot_that_changed_hands_as_the_worker_stops(bench: Bench) -> None:
    """The stopper ends the guest of who had the slot when it looked, not of who has it now (R17)."""
    bench.open()
    bench.do(Stage.PREPARE)
    (before,) = bench.context.slots.all()
    hand_slot_on(bench)
    give_up(bench.context, before, "the host is stopping", Fault.STOPPED)
    assert guest_of(bench) == "other"
    bench.do(Stage.RUN, uid="other")


def test_a_hosts_clock_decides_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host seven hours ahead gives up on S3 no sooner than the others (R12)."""
    bench.open()
    clock = time.time

    def away(_: Detonation) -> None:
        raise StorageAway("S3 does not answer")

    monkeypatch.setattr(type(bench.context.engine), "accept", lambda _, job: away(job))
    for hours in (0, 7, 14):
        monkeypatch.setattr(time, "time", lambda hours=hours: clock() + hours * 3600)
        with pytest.raises(StorageAway):
            bench.do(Stage.PREPARE)
    record = bench.record()
    assert (record.state, record.attempts) == (State.QUEUED, 4)
    assert all(abs(one.at - bench.ledger.now()) < 600 for one in record.failures)


OF_STAGES = [point for point in POINTS if not point.startswith(("ingress.", "publish."))]


@pytest.mark.parametrize("point", OF_STAGES)
def test_an_error_that_nobody_expected(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, point: str
) -> None:
    """At whatever point a stage breaks, also after its end: the attempt is over, and the next one begins."""
    stage = Stage(point.partition(".")[0])
    bench.open()
    bench.do(*tuple(Stage)[: tuple(Stage).index(stage)])
    (tmp_path / "a-1").write_text(f"{point} exception")
    monkeypatch.setattr(failpoints._PROCESS, "plan", tmp_path)
    with pytest.raises(InfrastructureError, match="InjectedError"):
        bench.do(stage)
    record = bench.record()
    assert (record.attempt, record.state, record.done) == (2, State.QUEUED, None)
    assert [slot.state for slot in bench.context.slots.all()] == [SlotState.FREE]
    assert not bench.context.workspace(bench.step(attempt=1)).root.exists()
    bench.do(*Stage)
    assert bench.record().state is State.PUBLISHED


def test_a_machine_without_a_clock(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host in 1970 publishes a task that Karton's collector does not take for an old one (R12)."""
    ours = bench.open()
    bench.do(*FILES_MADE)
    monkeypatch.setattr(time, "time", lambda: 3600.0)
    bench.do(Stage.PUBLISH)
    record = bench.record()
    for uid in (ours.task_uid, record.analysis_task_uid):
        task = bench.ledger.karton_task(str(uid))
        assert task is not None
        assert abs((task.last_update or 0) - bench.ledger.now()) < 600
