"""When a canary is due, what it did, and what it says of its slot."""

from __future__ import annotations

import json
import sqlite3
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from drakcelery.errors import Blame, EngineError
from drakcelery.host import doubts
from drakcelery.host.canaries import IDLE_SECONDS, Due, due, is_rested
from drakcelery.host.checkup import checkup, has_fallen
from drakcelery.host.doubts import Calls
from drakcelery.host.drains import Closed, Drain
from drakcelery.host.history import Facts, Kind, Run
from drakcelery.host.judgement import is_doubtful
from drakcelery.host.slot import CANARY, Slot, SlotState
from drakcelery.host.slots import SlotTable
from drakcelery.host.workspace import Workspace
from drakcelery.ledger.canaries import Known
from drakcelery.settings import Settings
from drakcelery.stages.context import HostContext
from drakcelery.worker import behaviour
from drakcelery.worker.canary import CanaryRunner, compare, learn, workspace_of

NOW = 100_000.0
PROFILES = {"vm-1": "win10", "vm-2": "win10"}


def slot(name: str, state: SlotState = SlotState.FREE, *, since: float = NOW - 1000, **more: Any) -> Slot:
    fields = {"profile": "win10", "uid": None, "attempt": None, "failures": 0, **more}
    return Slot(name=name, state=state, since=since, **fields)


def canary_run(name: str, at: float, *, seconds: float = 30, kind: Kind = Kind.CANARY_WORKED) -> Run:
    return Run(
        number=1,
        slot=name,
        uid=CANARY,
        attempt=1,
        at=at,
        kind=kind,
        blame=None,
        charged=False,
        open=False,
        facts=Facts(seconds=seconds),
        error=None,
    )


def settings(engine: str = "emulator", **canary: Any) -> Settings:
    return Settings.model_validate(
        {"drakcelery": {"engine": engine, "quarantine_seconds": 600}, "canary": canary}
    )


def tried(
    *slots: Slot,
    runs: tuple[Run, ...] = (),
    ours: Settings | None = None,
    asked: tuple[str, ...] = (),
    began: float = NOW - 20_000,
) -> list[tuple[str, str]]:
    found = due(slots, runs, asked=asked, settings=ours or settings(), began=began, now=NOW)
    return [(one.slot, one.why) for one in found]


def test_quarantine_ends_by_a_canary() -> None:
    """After its time, each of them, with any engine; not where an operator has closed the slot."""
    waits = slot("vm-1", SlotState.QUARANTINED, since=NOW - 599)
    over = [slot(f"vm-{number}", SlotState.QUARANTINED, since=NOW - 600) for number in (2, 3)]
    assert tried(waits, *over) == [("vm-2", "quarantine"), ("vm-3", "quarantine")]
    assert tried(waits, *over, ours=settings("replay")) == [("vm-2", "quarantine"), ("vm-3", "quarantine")]
    assert tried(waits, *over, ours=settings(enabled=0)) == []


def test_a_waiting_sample_is_kept_from_no_slot() -> None:
    """A new slot takes samples at once; it is tried when it was free for so long that nothing can wait."""
    assert tried(slot("vm-1", since=NOW - IDLE_SECONDS + 1)) == []
    assert tried(slot("vm-1", since=NOW - IDLE_SECONDS)) == [("vm-1", "start")]
    assert tried(slot("vm-1", SlotState.RUNNING, uid="a", attempt=1)) == []


def test_one_slot_at_a_time() -> None:
    """Those that work are not tried all at once."""
    assert tried(slot("vm-1"), slot("vm-2")) == [("vm-1", "start")]
    assert tried(slot("vm-1", SlotState.RUNNING, uid=CANARY, attempt=1), slot("vm-2")) == []
    assert tried(slot("vm-1"), slot("vm-2"), runs=(canary_run("vm-1", NOW - 1000),)) == [("vm-2", "start")]


def test_a_slot_that_is_idle_is_tried_now_and_then() -> None:
    """By the hours of the settings; with none, never."""
    old = canary_run("vm-1", NOW - 3601, seconds=1)
    hourly = settings(idle_hours=1)
    assert tried(slot("vm-1"), runs=(old,), ours=hourly) == [("vm-1", "idle")]
    assert tried(slot("vm-1"), runs=(old,)) == []
    assert tried(slot("vm-1"), runs=(old,), ours=settings(idle_hours=0)) == []


def test_one_percent_of_the_time() -> None:
    """A worker that starts again and again does not try its slots each time; what was undrained is tried."""
    lately = canary_run("vm-1", NOW - 20_001, seconds=300)
    assert tried(slot("vm-1"), runs=(lately,)) == []
    assert tried(slot("vm-1"), runs=(canary_run("vm-1", NOW - 30_001, seconds=300),)) == [("vm-1", "start")]
    assert tried(slot("vm-1"), runs=(lately,), asked=("vm-1",)) == [("vm-1", "undrain")]
    assert tried(slot("vm-1"), ours=settings("replay")) == []


def test_a_clock_that_was_years_ahead() -> None:
    """What was noted before it was set back keeps no slot in quarantine, and no canary away."""
    later = NOW + 1e8
    assert tried(slot("vm-1", SlotState.QUARANTINED, since=later)) == [("vm-1", "quarantine")]
    assert tried(slot("vm-1", SlotState.QUARANTINED, since=NOW + 5)) == []
    assert tried(slot("vm-1", since=later)) == [("vm-1", "start")]
    assert tried(slot("vm-1"), runs=(canary_run("vm-1", later),)) == [("vm-1", "start")]
    since_then = canary_run("vm-1", NOW - 3600)
    assert tried(slot("vm-1"), runs=(since_then,), began=later) == []
    assert tried(slot("vm-1"), runs=(since_then,), began=NOW - 1800) == [("vm-1", "start")]


def test_a_slot_whose_score_has_fallen_is_tried_at_once() -> None:
    """As soon as it is free, beside other canaries; not where an operator has closed it."""
    why = Calls(called=1, why="score", at=NOW)
    doubted = slot("vm-1", since=NOW, calls=why)
    other = slot("vm-2", SlotState.RUNNING, uid=CANARY, attempt=1)
    assert tried(doubted, other) == [("vm-1", "score")]
    assert tried(doubted, ours=settings(enabled=0)) == []
    assert tried(slot("vm-1", SlotState.RUNNING, uid="a", attempt=1, calls=why)) == []
    closed = Drain(slot="vm-1", kind=Closed.DRAINED, by="alice", since=NOW)
    assert tried(slot("vm-1", calls=why, drain=closed)) == []


def ran(name: str, number: int, *, failed: bool = False, canary: bool = False) -> Run:
    kinds = {False: (Kind.WORKED, Kind.FAILED), True: (Kind.CANARY_WORKED, Kind.CANARY_FAILED)}
    return replace(
        canary_run(name, NOW + number, kind=kinds[canary][failed]), number=number, uid="a", charged=failed
    )


def falls(*runs: Run) -> bool:
    """Whether vm-1 does by the last of them."""
    return has_fallen(checkup(PROFILES, runs, "vm-1"), PROFILES, runs, "vm-1")


def test_a_score_falls_once() -> None:
    """With the run that makes a slot unwell, and not again with those after it; a canary makes none fall."""
    runs = [ran("vm-1", 1), *[ran("vm-2", number) for number in range(2, 8)]]
    fell = []
    for number in range(10, 15):
        runs.append(ran("vm-1", number, failed=True))
        fell.append(falls(*runs))
    assert fell == [False, True, False, False, False]
    assert not falls(*runs[:9], ran("vm-1", 20, failed=True, canary=True))
    assert not falls()


def test_a_canary_for_a_score_takes_one_percent() -> None:
    """A slot that falls each time it is let go is not tried each time."""
    runs = [canary_run("vm-1", NOW - 2999), ran("vm-1", 2)]
    assert not is_rested(runs, "vm-1", now=NOW)
    assert is_rested(runs, "vm-1", now=NOW + 1)
    assert is_rested(runs, "vm-2", now=NOW)


def line(plugin: str, **fields: str) -> bytes:
    usual = {
        "TimeStamp": "1.5",
        "PID": 4,
        "ProcessName": r"\Device\Users\a\Desktop\CANARY.exe",
        "Method": "Nt",
    }
    return json.dumps({"Plugin": plugin, **usual, **fields}).encode() + b"\n"


def test_features_do_not_vary() -> None:
    """Only what the canary's own process did, without what is another each time."""
    first = [
        line("filetracer", FileName=r"\Users\a\Temp\out-123.txt", Handle="0x1f4", TimeStamp="1.5"),
        line("filetracer", FileName="x", ProcessName="svchost.exe"),
        line("apimon", CalledFrom="0x1"),
        b"no JSON canary.exe\n",
        b"[]\n",
    ]
    second = [line("filetracer", FileName=r"\Users\a\Temp\OUT-9.txt", Handle="0x222", TimeStamp="7.25")]
    seen = behaviour.features(first, process="canary.exe")
    assert len(seen) == 1
    assert seen == behaviour.features(second, process="canary.exe")


def test_what_a_canary_should_do_is_learnt() -> None:
    """From the first good ones: what all of them did. One that lacks much of it is bad."""
    deeds = frozenset(f"deed {number}" for number in range(10))
    known = Known()
    for number in range(behaviour.LEARNED):
        assert compare(known, frozenset(), restored=1, host="rack-1") is None
        known = learn(known, deeds | {f"chance {number}"}, restored=1, host="rack-1")
    known = Known.model_validate_json(learn(known, frozenset(), restored=2, host="rack-2").model_dump_json())
    assert compare(known, deeds, restored=1, host="rack-1") is None
    assert compare(known, deeds - {"deed 1", "deed 2"}, restored=1, host="rack-1") is None
    trouble = compare(known, deeds - {"deed 1", "deed 2", "deed 3"}, restored=1, host="rack-1")
    assert trouble == "the canary did not do 3 things it does elsewhere: deed 1; deed 2; deed 3"
    assert (
        compare(known, deeds, restored=3.1, host="rack-1") == "the restore took 3.1 s, 1.0 s at other times"
    )
    assert compare(known, deeds, restored=3.1, host="rack-2") is None
    assert compare(known, deeds, restored=30, host="rack-3") is None


@pytest.fixture
def table(tmp_path: Path) -> SlotTable:
    """A host with a slot that is in quarantine, and one that is free."""
    slots = SlotTable(tmp_path, quarantine_after=1)
    slots.define(PROFILES)
    slots.cleaned("vm-1")
    slots.cleaned("vm-2")
    assert slots.claim("win10", "a", 1) == "vm-1"
    slots.failed("vm-1", "a", 1)
    slots.release("vm-1", "a", 1)
    return slots


def states(table: SlotTable) -> list[str]:
    return [one.status for one in table.all()]


def test_a_canary_holds_its_slot(table: SlotTable) -> None:
    """As a guest does; nobody else gets it, and only the canary's word counts."""
    held = table.borrow("vm-1")
    assert held is not None
    assert held.attempt is not None
    assert table.borrow("vm-1") is None
    assert states(table) == ["checking", "free"]
    assert not table.tried("vm-1", held.attempt + 1, facts=Facts(), trouble=None, gone=True)
    assert table.tried("vm-1", held.attempt, facts=Facts(seconds=3), trouble="no log", gone=True)
    assert states(table) == ["quarantined", "free"]
    again = table.borrow("vm-1")
    assert again is not None
    assert table.tried("vm-1", again.attempt or 0, facts=Facts(seconds=3), trouble=None, gone=True)
    assert states(table) == ["free", "free"]
    assert [(run.kind, run.error) for run in table.history()][1:] == [
        (Kind.CANARY_FAILED, "no log"),
        (Kind.CANARY_WORKED, None),
    ]


def test_a_canary_that_nobody_can_judge(table: SlotTable) -> None:
    """The slot is what it was; and an operator's slot is left alone."""
    for name, status in (("vm-1", "quarantined"), ("vm-2", "free")):
        held = table.borrow(name)
        assert held is not None
        table.give_back(name, held.attempt or 0, was=held.state, gone=True)
        assert next(one.status for one in table.all() if one.name == name) == status
    held = table.borrow("vm-2")
    assert held is not None
    table.give_back("vm-2", held.attempt or 0, was=held.state, gone=False)
    assert states(table) == ["quarantined", "dirty"]
    table.close("vm-1", Closed.DRAINED, by="alice")
    assert table.borrow("vm-1") is None
    assert table.borrow("vm-9") is None


def test_canaries_that_began_together(table: SlotTable) -> None:
    """They have one number, by the second; a guest of one that lives on makes only its own slot dirty."""
    first, second = table.borrow("vm-1"), table.borrow("vm-2")
    while first and second and first.attempt != second.attempt:
        table.give_back("vm-1", first.attempt or 0, was=first.state, gone=True)
        table.give_back("vm-2", second.attempt or 0, was=second.state, gone=True)
        first, second = table.borrow("vm-1"), table.borrow("vm-2")
    assert first is not None
    table.give_back("vm-1", first.attempt or 0, was=first.state, gone=False)
    assert states(table) == ["dirty", "checking"]


class Engine:
    """One whose restore fails with *error*."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def destroy(self, slot: str) -> None:
        """Nothing is there."""

    def prepare(self, _: object) -> None:
        raise self.error


def runner(tmp_path: Path, table: SlotTable, error: Exception) -> CanaryRunner:
    ours = settings().model_copy(deep=True)
    ours = Settings.model_validate(
        {**ours.model_dump(), "drakcelery": {**ours.drakcelery.model_dump(), "state_dir": tmp_path / "state"}}
    )
    ledger = SimpleNamespace(redis=SimpleNamespace(exists=lambda _: True))
    context = SimpleNamespace(settings=ours, slots=table, engine=Engine(error), ledger=ledger)
    sample = tmp_path / "sample.exe"
    sample.write_bytes(b"MZ")
    return CanaryRunner(cast("HostContext", context), sample)


HOST = (
    EngineError("no sample runs on this host", blames=Blame.HOST),
    OSError(28, "No space left on device"),
)


@pytest.mark.parametrize("error", HOST, ids=["network", "disk"])
def test_what_the_host_lacks_is_no_fault_of_a_slot(
    tmp_path: Path, table: SlotTable, error: Exception
) -> None:
    """Broken chains, a full disk: the canary says nothing of its slot."""
    held = table.borrow("vm-2")
    assert held is not None
    runner(tmp_path, table, error)._run(held, Due(slot="vm-2", why="start"))
    assert states(table) == ["quarantined", "free"]
    assert [run.kind for run in table.history()] == [Kind.FAILED]


def test_a_slot_is_not_held_for_ever(
    tmp_path: Path, table: SlotTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the file of the slots could not be written when a canary ended, its slot comes back later."""
    held = table.borrow("vm-2")
    assert held is not None
    runs_them = runner(tmp_path, table, EngineError("its restore fails"))

    def full(*_: object, **__: object) -> bool:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(table, "tried", full)
        runs_them._run(held, Due(slot="vm-2", why="start"))
    assert states(table) == ["quarantined", "checking"]
    runs_them.start_due(start=lambda _: None)
    assert states(table) == ["quarantined", "dirty"]


@pytest.mark.parametrize("name", ["vm-1", "win.10"])
def test_a_canarys_files_are_no_attempts(tmp_path: Path, name: str) -> None:
    """What looks after the files of attempts leaves them alone, whatever the slot is called."""
    workspace_of(tmp_path, name).create()
    assert list(Workspace.all(tmp_path)) == []


def fail(table: SlotTable, name: str, *uids: str) -> None:
    for uid in uids:
        assert table.claim("win10", uid, 1, among=[name]) == name
        runs = table.failed(name, uid, 1)
        if is_doubtful(checkup(PROFILES, runs, name), PROFILES, runs, name):
            table.doubt(name, uid, 1)
        table.release(name, uid, 1)


@pytest.fixture
def busy(tmp_path: Path) -> SlotTable:
    """A host with two slots in use."""
    slots = SlotTable(tmp_path, quarantine_after=9)
    slots.define(PROFILES)
    slots.cleaned("vm-1")
    slots.cleaned("vm-2")
    return slots


def test_no_sample_comes_before_the_canary(busy: SlotTable) -> None:
    """A slot whose score has fallen is kept for it, and only that once."""
    fail(busy, "vm-1", "a")
    assert states(busy) == ["free", "free"]
    fail(busy, "vm-1", "b")
    assert states(busy) == ["checking", "free"]
    assert [one.is_open for one in busy.all()] == [False, True]
    assert busy.claim("win10", "c", 1, among=["vm-1"]) is None
    held = busy.borrow("vm-1")
    assert held is not None
    busy.give_back("vm-1", held.attempt or 0, was=held.state, gone=True)
    fail(busy, "vm-1", "c", "d")
    assert states(busy) == ["free", "free"]


def test_a_sample_does_not_wait_for_long(busy: SlotTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no canary comes, the slot goes on without; and a worker that starts doubts none."""
    fail(busy, "vm-1", "a", "b")
    with monkeypatch.context() as patched:
        patched.setattr(doubts, "PATIENCE", 0.0)
        assert states(busy) == ["free", "free"]
        assert busy.claim("win10", "c", 1, among=["vm-1"]) == "vm-1"
    busy.release("vm-1", "c", 1)
    assert states(busy) == ["checking", "free"]
    busy.define({"vm-1": "win10"})
    assert busy.cleaned("vm-1")
    assert states(busy) == ["free"]


def test_an_operator_asks(busy: SlotTable) -> None:
    """The slot is tried next, however long it was free or in quarantine; who holds no slot doubts none."""
    busy.doubt("vm-2", "a", 1)
    assert busy.ask_canary("vm-1") == {"vm-1": 1}
    assert states(busy) == ["checking", "free"]
    assert busy.claim("win10", "a", 1) == "vm-2"
    aside = slot("vm-3", SlotState.QUARANTINED, since=NOW, calls=Calls(called=1, why="asked", at=NOW))
    assert tried(*busy.all(), aside) == [("vm-1", "asked"), ("vm-3", "asked")]
    assert busy.borrow("vm-1") is not None
    assert [one.calls.is_due for one in busy.all()] == [False, False]


def test_a_doubt_of_a_clock_that_was_years_ahead(busy: SlotTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps no slot from its samples."""
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: 4e9)
        busy.ask_canary("vm-1")
    assert states(busy) == ["free", "free"]
    assert busy.claim("win10", "a", 1) == "vm-1"


def calls(table: SlotTable) -> tuple[int, int, int]:
    """Of the first slot: called, begun, judged."""
    one = table.all()[0].calls
    return one.called, one.begun, one.judged


def try_it(table: SlotTable) -> Slot:
    held = table.borrow("vm-1")
    assert held is not None
    return held


def judge(table: SlotTable, held: Slot) -> None:
    assert table.tried("vm-1", held.attempt or 0, facts=Facts(), trouble=None, gone=True)


def test_a_call_is_answered_by_a_canary_that_began_after_it(busy: SlotTable) -> None:
    """Not by one that had the slot already; two calls are answered by one canary that comes after both."""
    held = try_it(busy)
    assert busy.ask_canary(None) == {"vm-1": 1, "vm-2": 1}
    judge(busy, held)
    assert calls(busy) == (1, 0, 0)
    assert busy.ask_canary("vm-1") == {"vm-1": 1}
    held = try_it(busy)
    assert busy.ask_canary("vm-1") == {"vm-1": 2}
    judge(busy, held)
    assert calls(busy) == (2, 1, 1)
    judge(busy, try_it(busy))
    assert calls(busy) == (2, 2, 2)
    judge(busy, try_it(busy))  # nobody called for that one
    assert calls(busy) == (2, 2, 2)


def test_a_call_ends_without_an_answer(busy: SlotTable) -> None:
    """Where its canary could not be judged, and where the worker starts again."""
    busy.ask_canary("vm-1")
    held = try_it(busy)
    busy.give_back("vm-1", held.attempt or 0, was=held.state, gone=True)
    assert calls(busy) == (1, 1, 0)
    busy.ask_canary("vm-1")
    busy.define({"vm-1": "win10"})
    assert calls(busy) == (2, 2, 0)


def test_an_operator_asks_where_the_score_has_fallen(busy: SlotTable) -> None:
    """His word counts: the slot is tried at once even if it goes into quarantine meanwhile."""
    assert busy.claim("win10", "a", 1) == "vm-1"
    busy.doubt("vm-1", "a", 1)
    assert busy.ask_canary("vm-1") == {"vm-1": 1}
    score, asked = Calls(called=1, why="score", at=NOW), busy.all()[0].calls
    assert asked.why == "asked"
    assert tried(slot("vm-1", SlotState.QUARANTINED, since=NOW, calls=score)) == []
    assert tried(slot("vm-1", SlotState.QUARANTINED, since=NOW, calls=asked)) == [("vm-1", "asked")]
