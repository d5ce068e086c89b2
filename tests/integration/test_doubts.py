"""A slot whose score falls is tried by a canary before its next sample (R19). On real servers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from drakcelery.errors import EngineError, InfrastructureError
from drakcelery.model.analysis import Stage
from drakcelery.settings import Settings
from drakcelery.settings.sections import CanarySection
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
