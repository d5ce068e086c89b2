"""A slot whose score falls is tried by a canary before its next sample (R19). On real servers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from drakcelery.engines import create
from drakcelery.errors import EngineError, InDoubt, InfrastructureError
from drakcelery.host.checkup import checkups
from drakcelery.host.health import UNWELL
from drakcelery.host.history import Facts, facts_of
from drakcelery.host.judgement import judge
from drakcelery.host.slots import SlotTable
from drakcelery.model.analysis import Execution, Outcome, Snapshot, Stage
from drakcelery.settings import Settings
from drakcelery.settings.sections import CanarySection
from drakcelery.stages import suspicion
from drakcelery.stages.context import HostContext
from drakcelery.stages.perform import perform
from drakcelery.worker import canary
from drakcelery.worker.canary import CanaryRunner, Verdict
from drakcelery.worker.janitor import Janitor
from tests.bench import HOST, SLOT, Bench, bench
from tests.drakvuf import make_job
from tests.waiting import wait_until

__all__ = ("bench",)


def fail(bench: Bench, *uids: str) -> None:
    """Let the restores of so many analyses fail."""
    for uid in uids:
        bench.open(uid)
        with pytest.raises(InfrastructureError):
            bench.do(Stage.PREPARE, uid=uid)


def status(bench: Bench) -> str:
    return bench.context.slots.all()[0].status


def test_the_run_that_makes_it_unwell_is_the_last(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """No sample gets the slot until a canary has had it, which the janitor begins at once."""

    def fails(*_: object) -> None:
        raise EngineError("no restore")

    monkeypatch.setattr(Settings, "engine", "emulator")
    monkeypatch.setattr(type(bench.context.engine), "prepare", fails)
    monkeypatch.setattr(canary, "run_canary", lambda *_: Verdict(trouble=None))
    fail(bench, "a-1")
    assert status(bench) == "free"
    fail(bench, "a-2")
    assert status(bench) == "checking"
    assert bench.context.slots.claim("win10", "a-3", 1) is None
    canaries = CanaryRunner(bench.context, Path("none"))
    Janitor(bench.context, lambda _: None, canaries=canaries)._try_doubted(woken=False)
    wait_until(lambda: status(bench) == "free", "the canary was good")
    assert bench.context.slots.history()[-1].kind.is_canary
    assert bench.context.slots.claim("win10", "a-3", 1) == SLOT


@pytest.mark.parametrize(("engine", "enabled"), [("replay", True), ("emulator", False)])
def test_where_no_canary_comes_none_is_waited_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, engine: str, *, enabled: bool
) -> None:
    """The replay engine shows nothing of a slot, and an operator may have turned canaries off."""

    def fails(*_: object) -> None:
        raise EngineError("no restore")

    monkeypatch.setattr(Settings, "engine", engine)
    monkeypatch.setattr(type(bench.context.engine), "prepare", fails)
    settings = bench.context.settings.model_copy(update={"canary": CanarySection(enabled=enabled)})
    fail(replace(bench, context=replace(bench.context, settings=settings)), "a-1", "a-2")
    assert status(bench) == "free"


def another(bench: Bench, state_dir: Path) -> Bench:
    """A second host."""
    ours = bench.context.settings.drakcelery.model_copy(update={"host": "rack-2", "state_dir": state_dir})
    settings = bench.context.settings.model_copy(update={"drakcelery": ours})
    slots = SlotTable(state_dir, quarantine_after=3)
    slots.define({SLOT: "win10"})
    slots.cleaned(SLOT)
    context = HostContext(
        settings=settings,
        ledger=bench.ledger,
        slots=slots,
        storage=bench.context.storage,
        engine=create("replay", settings),
    )
    return replace(bench, context=context)


def break_off(bench: Bench, uid: str) -> None:
    """Let the guest vanish in the midst of a run."""
    step = bench.step(uid).model_copy(update={"host": bench.context.host})
    assert bench.context.slots.claim("win10", uid, step.attempt) == SLOT
    perform(bench.context, Stage.PREPARE, step)
    bench.context.engine.destroy(SLOT)
    with pytest.raises(EngineError, match="is gone"):
        perform(bench.context, Stage.RUN, step)


def test_a_charge_that_comes_back(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples that failed in two slots are published after all: a canary tries the slot (R19)."""
    monkeypatch.setattr(Settings, "engine", "emulator")
    there = another(bench, tmp_path / "rack-2")
    janitor = Janitor(bench.context, lambda _: None)

    def score() -> float:
        (slot,) = bench.context.slots.all()
        return checkups({SLOT: slot.profile}, bench.context.slots.history())[SLOT].score

    for uid in ("a-1", "a-2"):
        bench.open(uid)
        break_off(bench, uid)
        break_off(there, uid)
        janitor._clean_up()
        assert not bench.context.slots.history()[-1].charged  # the sample seems to be at fault
    assert score() == 1.0
    for uid in ("a-1", "a-2"):
        step = there.step(uid).model_copy(update={"host": "rack-2"})
        assert there.context.slots.claim("win10", uid, step.attempt) == SLOT
        for stage in Stage:
            perform(there.context, stage, step)
    assert status(bench) == "free"
    janitor._clean_up()
    assert [run.charged for run in bench.context.slots.history()] == [True, True]
    assert score() <= UNWELL
    assert status(bench) == "checking"
    assert bench.context.slots.claim("win10", "a-3", 1) is None


GOOD = Facts(seconds=60, restore_seconds=3, snapshot="s", log_size=900, pcap_size=400)


def many(bench: Bench, count: int, *runs: tuple[str, Facts]) -> None:
    """So many slots, with runs that have worked."""
    slots = {f"vm-{number}": "win10" for number in range(1, count + 1)}
    bench.context.slots.define(slots)
    for name in slots:
        bench.context.slots.cleaned(name)
    for number, (name, facts) in enumerate(runs):
        assert bench.context.slots.claim("win10", f"r-{number}", 1, among={name}) == name
        bench.context.slots.worked(name, f"r-{number}", 1, facts=facts)
        bench.context.slots.release(name, f"r-{number}", 1)


def outcome(execution: Execution) -> Outcome:
    return Outcome(
        engine="drakvuf", snapshot=Snapshot(version=1, sha256="s"), started=1, finished=2, execution=execution
    )


@pytest.mark.parametrize("engine", ["drakvuf", "emulator"])
def test_what_windows_does_not_start_says_nothing_of_its_slot(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    """Three such samples in a row leave no traffic; the slot is well. After five a canary says so (R19)."""
    monkeypatch.setattr(Settings, "engine", engine)
    many(bench, 3, ("vm-2", GOOD), ("vm-3", GOOD))
    facts = replace(GOOD, pcap_size=24, traffic_due=False, log_size=0 if engine == "emulator" else 200)
    for number in range(5):
        uid = f"a-{number}"
        bench.open(uid)
        step = bench.step(uid)
        assert bench.context.slots.claim("win10", uid, step.attempt, among={SLOT}) == SLOT
        excused = suspicion.is_excused(bench.context, step, outcome(Execution.NOT_EXECUTED), facts)
        runs = bench.context.slots.worked(SLOT, uid, step.attempt, facts=facts, excused=excused)
        suspicion.judge_slot(bench.context, step, runs)
        assert bench.context.slots.all()[0].calls.is_due == (number == 4)
        bench.context.slots.release(SLOT, uid, step.attempt)
    assert (
        checkups(dict.fromkeys(("vm-1", "vm-2", "vm-3"), "win10"), bench.context.slots.history())[SLOT].score
        == 1
    )
    assert status(bench) == "checking"


def test_an_emulators_slot_is_not_judged_by_what_samples_leave(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its canary makes traffic and most samples do not: three of them had the slot put aside (R19)."""
    monkeypatch.setattr(Settings, "engine", "emulator")
    many(bench, 1, (SLOT, GOOD))
    for number in range(6):
        uid = f"a-{number}"
        bench.open(uid)
        step = bench.step(uid)
        facts = replace(GOOD, pcap_size=None, log_size=0)
        assert bench.context.slots.claim("win10", uid, step.attempt) == SLOT
        excused = suspicion.is_excused(bench.context, step, outcome(Execution.EXECUTED), facts)
        runs = bench.context.slots.worked(SLOT, uid, step.attempt, facts=facts, excused=excused)
        suspicion.judge_slot(bench.context, step, runs)
        bench.context.slots.release(SLOT, uid, step.attempt)
        assert status(bench) == "free"


def test_what_is_due_of_a_sample_that_was_not_started(tmp_path: Path) -> None:
    """No traffic; of one that was, there is some to be, unless its task wants none."""
    job = make_job(tmp_path)
    for execution, net_enable, due in (
        (Execution.EXECUTED, None, True),
        (Execution.EXECUTED, False, False),
        (Execution.NOT_EXECUTED, None, False),
    ):
        asked = replace(job, net_enable=net_enable)
        assert facts_of(asked, outcome(execution), seconds=1).traffic_due is due


def test_another_windows_may_start_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the slot has another snapshot, what it does not start is tried elsewhere (R19)."""
    monkeypatch.setattr(Settings, "engine", "drakvuf")
    many(bench, 3, (SLOT, GOOD), ("vm-2", GOOD), ("vm-3", GOOD))
    bench.open()
    facts = replace(GOOD, snapshot="other", pcap_size=24)
    with pytest.raises(InDoubt, match="another snapshot") as doubted:
        suspicion.is_excused(bench.context, bench.step(), outcome(Execution.NOT_EXECUTED), facts)
    assert doubted.value.lacks == "snapshot"


def test_two_slots_that_are_sick_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of seven one may be put aside by its score, though the first one's guest is not yet gone (R19)."""
    monkeypatch.setattr(Settings, "engine", "emulator")
    many(bench, 7, *[(f"vm-{number}", GOOD) for number in range(3, 8)] * 6)
    sick = replace(GOOD, log_size=0)
    for number in range(3):
        for name in ("vm-1", "vm-2"):
            uid = f"{name}-{number}"
            assert bench.context.slots.claim("win10", uid, 1, among={name}) == name
            bench.context.slots.worked(name, uid, 1, facts=sick)
            if number < 2:
                bench.context.slots.release(name, uid, 1)
    slots = bench.context.slots
    healths = checkups({slot.name: slot.profile for slot in slots.all()}, slots.history())
    aside = [
        judge(slots, (name, f"{name}-2", 1), healths[name], bench.ledger.fleet, host=HOST)
        for name in ("vm-1", "vm-2")
    ]
    assert aside == [True, False]
    for name in ("vm-1", "vm-2"):
        bench.context.slots.release(name, f"{name}-2", 1)
    assert [slot.state.value for slot in bench.context.slots.all()] == ["quarantined"] + ["free"] * 6
