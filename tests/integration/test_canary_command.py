"""`drakcelery canary`: asked, run by the janitor, told by the fleet. Only the broker is left out."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from click.testing import CliRunner, Result

from drakcelery.cli import canary as command
from drakcelery.cli import cli
from drakcelery.errors import EngineError, StackError
from drakcelery.host.drains import Closed
from drakcelery.ledger.watch import ServerId
from drakcelery.model.records import CanaryStatus, HostStatus, SlotStatus
from drakcelery.operators import steering
from drakcelery.settings import Settings
from drakcelery.settings.sections import CanarySection
from drakcelery.stages.context import HostContext
from drakcelery.worker import canary, remote_control
from drakcelery.worker.canary import CanaryRunner, Verdict
from drakcelery.worker.janitor import Janitor
from drakcelery.worker.runtime import Runtime
from drakcelery.worker.wakeup import Wakeup
from tests.bench import HOST, SLOT, Bench, bench
from tests.waiting import wait_until

__all__ = ("bench",)

Type = Callable[..., Result]
NO_APP: Any = None
"""Celery's, which would only reach the broker."""


@pytest.fixture
def runtime(bench: Bench) -> Runtime:
    """What the host's vm worker works with."""
    return Runtime(context=bench.context, wakeup=Wakeup(), send=lambda _: None, ask_broker=ServerId)


@pytest.fixture
def type_in(
    bench: Bench, runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Type]:
    """Types the command where its host has a janitor."""
    sample = tmp_path / "sample"
    sample.write_bytes(b"MZ")
    janitor = Janitor(bench.context, lambda _: None, canaries=CanaryRunner(bench.context, sample))
    state = SimpleNamespace(
        hostname=f"vm@{HOST}",
        app=SimpleNamespace(runtime=runtime),
        consumer=SimpleNamespace(drak_gate=SimpleNamespace(steer=janitor.wake)),
    )

    def ask(_: object, node: str, name: str, *, timeout: int, **arguments: Any) -> Any:  # noqa: ARG001 as the original
        assert node == state.hostname
        answer: Any = getattr(remote_control, name)(state, **arguments)
        if "error" in answer:
            raise StackError(answer["error"])
        return answer

    monkeypatch.setattr(steering, "ask", ask)
    monkeypatch.setattr("drakcelery.wiring.make_ledger", lambda _: bench.ledger)
    monkeypatch.setattr(command, "read_settings", lambda *_: bench.context.settings)
    janitor.start()
    wait_until(bench.ledger.fleet.hosts, "the host reports")
    yield lambda *arguments: CliRunner().invoke(cli, ["canary", *arguments])
    janitor.stop()


def first(done: Result) -> dict[str, Any]:
    """The first slot that was printed, after what the worker, which is here the same process, has logged."""
    found, _ = json.JSONDecoder().raw_decode(done.stdout, done.stdout.index("[\n"))
    slot: dict[str, Any] = found[0]
    return slot


def test_a_slot_is_tried(bench: Bench, type_in: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known; it is good; it is bad, and in quarantine; and good again, which ends that."""
    assert first(type_in("--json"))["verdict"] is None
    done = type_in(f"{HOST}/{SLOT}", "--wait", "--json")
    assert (done.exit_code, first(done)["verdict"]) == (0, "good")
    with monkeypatch.context() as patched:

        def fails(*_: object) -> NoReturn:
            raise EngineError("no restore")

        patched.setattr(type(bench.context.engine), "prepare", fails)
        done = type_in(HOST, "--wait", "--json")
        found = first(done)
        assert (done.exit_code, found["verdict"], found["state"]) == (1, "no restore", "quarantined")
    assert "no restore" in type_in().stdout
    assert type_in(HOST, "--wait").exit_code == 0
    assert bench.context.slots.all()[0].status == "free"


def test_what_cannot_be_tried(bench: Bench, runtime: Runtime, type_in: Type) -> None:
    """A slot that an operator keeps closed, one that is not there, and where canaries are off."""
    assert "has no slot 'vm-9'" in type_in(f"{HOST}/vm-9").output
    assert type_in("--wait").exit_code == 2
    assert type_in("a/b/c").exit_code == 2
    bench.context.slots.close(SLOT, Closed.DRAINED, by="alice")
    for target in (HOST, f"{HOST}/{SLOT}"):
        assert f"{SLOT} is drained" in type_in(target).output
    settings = bench.context.settings.model_copy(update={"canary": CanarySection(enabled=False)})
    runtime.context = replace(bench.context, settings=settings)
    assert "[canary] enabled = 0" in type_in(HOST).output
    assert [slot.calls.called for slot in bench.context.slots.all()] == [0]


def test_what_was_drained_for_a_moment(bench: Bench, type_in: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried once it is undrained, though that was sooner than the janitor looks of itself."""
    monkeypatch.setattr(Settings, "engine", "emulator")
    monkeypatch.setattr(canary, "run_canary", lambda *_: Verdict(trouble=None))
    steering.drain(NO_APP, HOST, slot=SLOT, by="alice")
    wait_until(lambda: bench.ledger.fleet.hosts()[0].slots[0].state == "drained", "the janitor has seen it")
    steering.undrain(NO_APP, HOST, slot=SLOT, by="alice")
    wait_until(bench.context.slots.history, "a canary has tried it")
    wait_until(lambda: first(type_in("--json"))["verdict"] == "good", "the fleet knows")


def test_a_call_in_the_midst_of_a_canary(
    bench: Bench, type_in: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that had the slot before, and is good, says nothing to who calls meanwhile."""
    begun, go_on = threading.Event(), threading.Event()
    prepare = type(bench.context.engine).prepare

    def waits(*arguments: Any) -> None:
        begun.set()
        assert go_on.wait(30)
        prepare(*arguments)

    def fails(*_: object) -> NoReturn:
        raise EngineError("no restore")

    def asks(*arguments: Any, **more: Any) -> steering.Asked:
        asked = ask(*arguments, **more)
        monkeypatch.setattr(type(bench.context.engine), "prepare", fails)
        go_on.set()
        return asked

    ask = steering.canary
    monkeypatch.setattr(type(bench.context.engine), "prepare", waits)
    assert type_in(HOST).exit_code == 0
    assert begun.wait(30)
    monkeypatch.setattr(steering, "canary", asks)
    assert first(type_in(HOST, "--wait", "--json"))["verdict"] == "no restore"


def test_a_canary_that_is_over_before_its_call_is_answered(
    type_in: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits is told what it found all the same."""
    told = remote_control._reported

    def late(context: HostContext) -> HostStatus:
        wait_until(lambda: context.slots.all()[0].calls.judged, "the canary is over")
        return told(context)

    monkeypatch.setattr(remote_control, "_reported", late)
    done = type_in(HOST, "--wait", "--json")
    assert (done.exit_code, first(done)["verdict"]) == (0, "good")


def test_a_host_that_has_forgotten_the_call(
    bench: Bench, type_in: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file of the slots is removed while a canary is at work: whoever waits is told."""
    begun, over = threading.Event(), threading.Event()
    path = bench.context.settings.drakcelery.state_dir / "slots.sqlite"

    def waits(*_: object) -> NoReturn:
        begun.set()
        over.wait(60)
        raise EngineError("too late")

    def removes(*arguments: Any, **more: Any) -> steering.Asked:
        asked = ask(*arguments, **more)
        assert begun.wait(30)
        path.unlink()
        wait_until(lambda: path.exists() and path.stat().st_size, "the janitor has made it again")
        return asked

    ask = steering.canary
    settings = bench.context.settings.model_copy(update={"slots": {SLOT: "win10"}})
    object.__setattr__(bench.context, "settings", settings)
    monkeypatch.setattr(type(bench.context.engine), "prepare", waits)
    monkeypatch.setattr(steering, "canary", removes)
    monkeypatch.setattr(command, "heard_seconds", lambda: 3.0)
    done = type_in(f"{HOST}/{SLOT}", "--wait")
    assert (done.exit_code, "slots.sqlite was removed" in done.output) == (1, True), done.output
    over.set()
    wait_until(
        lambda: [slot.status for slot in bench.context.slots.all()] == ["free"], "the slot was cleaned"
    )
    assert path.stat().st_mode & 0o777 == 0o600


def test_when_a_canary_is_over() -> None:
    """As soon as its host says so of this call, or a later one; not while it may not have heard of it."""

    def found(*calls: int, **slot: Any) -> str | None:
        known = CanaryStatus(called=calls[0], begun=calls[1], judged=calls[2], at=1, trouble="no log")
        return steering.canary_found(
            SlotStatus.model_validate(
                {"name": SLOT, "profile": "win10", "state": "free", "since": 1, "canary": known, **slot}
            ),
            2,
        )

    closed = {"state": "drained", "closed_by": "alice"}
    assert found(1, 1, 1) is None
    assert found(1, 1, 1, **closed) is None
    assert found(2, 1, 1) is None
    assert found(2, 2, 1, state="checking") is None
    assert found(2, 2, 2) == found(3, 2, 2) == found(3, 3, 3) == "no log"
    assert found(2, 2, 1) == "not judged: the log of its vm worker says why"
    assert found(2, 1, 1, **closed) == "not judged: alice keeps it closed"
