"""A slot whose score falls is tried by a canary before its next sample (R19). On real servers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from drakcelery.engines import create
from drakcelery.errors import EngineError, InfrastructureError
from drakcelery.host.checkup import checkups
from drakcelery.host.health import UNWELL
from drakcelery.host.slots import SlotTable
from drakcelery.model.analysis import Stage
from drakcelery.settings import Settings
from drakcelery.settings.sections import CanarySection
from drakcelery.stages import perform
from drakcelery.stages.context import Site
from drakcelery.worker import canary
from drakcelery.worker.canary import CanaryRunner, Verdict
from drakcelery.worker.janitor import Janitor
from tests.bench import SLOT, Bench, bench
from tests.waiting import wait_until

__all__ = ("bench",)


def fail(bench: Bench, *uids: str) -> None:
    """Let the restores of so many analyses fail."""
    for uid in uids:
        bench.open(uid)
        with pytest.raises(InfrastructureError):
            bench.do(Stage.PREPARE, uid=uid)


def status(bench: Bench) -> str:
    return bench.site.slots.all()[0].status


def test_the_run_that_makes_it_unwell_is_the_last(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """No sample gets the slot until a canary has had it, which the janitor begins at once."""

    def fails(*_: object) -> None:
        raise EngineError("no restore")

    monkeypatch.setattr(Settings, "engine", "emulator")
    monkeypatch.setattr(type(bench.site.engine), "prepare", fails)
    monkeypatch.setattr(canary, "run_canary", lambda *_: Verdict(trouble=None))
    fail(bench, "a-1")
    assert status(bench) == "free"
    fail(bench, "a-2")
    assert status(bench) == "checking"
    assert bench.site.slots.claim("win10", "a-3", 1) is None
    canaries = CanaryRunner(bench.site, Path("none"))
    Janitor(bench.site, lambda _: None, canaries=canaries)._look_at_doubted(woken=False)
    wait_until(lambda: status(bench) == "free", "the canary was good")
    assert bench.site.slots.history()[-1].kind.is_canary
    assert bench.site.slots.claim("win10", "a-3", 1) == SLOT


@pytest.mark.parametrize(("engine", "enabled"), [("replay", True), ("emulator", False)])
def test_where_no_canary_comes_none_is_waited_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, engine: str, *, enabled: bool
) -> None:
    """The replay engine shows nothing of a slot, and an operator may have turned canaries off."""

    def fails(*_: object) -> None:
        raise EngineError("no restore")

    monkeypatch.setattr(Settings, "engine", engine)
    monkeypatch.setattr(type(bench.site.engine), "prepare", fails)
    settings = bench.site.settings.model_copy(update={"canary": CanarySection(enabled=enabled)})
    fail(replace(bench, site=replace(bench.site, settings=settings)), "a-1", "a-2")
    assert status(bench) == "free"


def another(bench: Bench, state_dir: Path) -> Bench:
    """A second host."""
    ours = bench.site.settings.drakcelery.model_copy(update={"host": "rack-2", "state_dir": state_dir})
    settings = bench.site.settings.model_copy(update={"drakcelery": ours})
    slots = SlotTable(state_dir, quarantine_after=3)
    slots.define({SLOT: "win10"})
    slots.cleaned(SLOT)
    site = Site(
        settings=settings,
        ledger=bench.ledger,
        slots=slots,
        storage=bench.site.storage,
        engine=create("replay", settings),
    )
    return replace(bench, site=site)


def break_off(bench: Bench, uid: str) -> None:
    """Let the guest vanish in the midst of a run."""
    step = bench.step(uid).model_copy(update={"host": bench.site.host})
    assert bench.site.slots.claim("win10", uid, step.attempt) == SLOT
    perform(bench.site, Stage.PREPARE, step)
    bench.site.engine.destroy(SLOT)
    with pytest.raises(EngineError, match="is gone"):
        perform(bench.site, Stage.RUN, step)


def test_a_charge_that_comes_back(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples that failed in two slots are published after all: a canary tries the slot (R19)."""
    monkeypatch.setattr(Settings, "engine", "emulator")
    there = another(bench, tmp_path / "rack-2")
    janitor = Janitor(bench.site, lambda _: None)

    def score() -> float:
        (slot,) = bench.site.slots.all()
        return checkups({SLOT: slot.profile}, bench.site.slots.history())[SLOT].score

    for uid in ("a-1", "a-2"):
        bench.open(uid)
        break_off(bench, uid)
        break_off(there, uid)
        janitor._look_after()
        assert not bench.site.slots.history()[-1].charged  # the sample seems to be at fault
    assert score() == 1.0
    for uid in ("a-1", "a-2"):
        step = there.step(uid).model_copy(update={"host": "rack-2"})
        assert there.site.slots.claim("win10", uid, step.attempt) == SLOT
        for stage in Stage:
            perform(there.site, stage, step)
    assert status(bench) == "free"
    janitor._look_after()
    assert [run.charged for run in bench.site.slots.history()] == [True, True]
    assert score() <= UNWELL
    assert status(bench) == "checking"
    assert bench.site.slots.claim("win10", "a-3", 1) is None
