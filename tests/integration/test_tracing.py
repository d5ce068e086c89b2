"""Traces of analyses that nobody is at work on: reconcile ends them, or begins them again."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis
from karton.core import Task
from karton.core.task import TaskState

from drakcelery.karton import contract
from drakcelery.ledger import Ledger
from drakcelery.ledger.keys import INBOX, task_key
from drakcelery.model.analysis import Stage, State
from drakcelery.model.timeouts import DEFAULT
from drakcelery.recovery.reroute import reroute
from drakcelery.settings import Settings, TracingSection
from drakcelery.stages import cancellation
from drakcelery.telemetry import tracing
from tests.builders import analysis
from tests.collector import Span, spans
from tests.ledgers import open_analysis, watched
from tests.reconciling import HOUR, UID, Fleet
from tests.webhook import receiving

Sent = Callable[[], list[Span]]


@pytest.fixture
def fleet(redis_client: redis.Redis) -> Fleet:
    """An analysis whose first attempt was begun and sent."""
    ledger = Ledger(redis_client, identity="karton.test-tracing", record_ttl=600)
    task = Task({"type": "sample"}, uid="{r}:t", root_uid="r")
    ledger.declare(contract.started(task))
    redis_client.zadd(INBOX, {task.uid: ledger.now()})
    open_analysis(ledger, analysis())
    ledger.sent(UID, 1)
    watched(ledger, seconds=HOUR)
    return Fleet(ledger=ledger, task=task)


@pytest.fixture
def sent() -> Iterator[Sent]:
    """Ends tracing, and gives what the collector got."""
    with receiving() as receiver:
        endpoint = f"http://127.0.0.1:{receiver.port}/v1/traces"
        tracing.start(Settings(tracing=TracingSection(endpoint=endpoint)))

        def stop() -> list[Span]:
            tracing.stop()
            return spans(receiver.taken)

        yield stop
        tracing.stop()


def test_a_message_that_is_lost(fleet: Fleet, sent: Sent) -> None:
    """The attempt that nobody took up is replaced, which is no failure; its trace goes on."""
    fleet.age(DEFAULT.lost + 1)
    fleet.host("rack-1", "free")
    assert fleet.reconcile() == {"sent": 1}
    (attempt,) = sent()
    assert (attempt.name, attempt["attempt"], attempt["outcome"]) == ("attempt", 1, "replaced")
    assert (attempt["error"], attempt.failed) == ("its message was lost", False)
    assert fleet.record.attempts == 1
    assert attempt.end == pytest.approx(fleet.record.entered[State.QUEUED], abs=1e-5)


def test_a_host_that_is_gone(fleet: Fleet, sent: Sent) -> None:
    """Whoever ends an attempt of a dead host says so; with the last one the analysis is over."""
    for attempt in (1, 2, 3):
        fleet.ledger.advance(UID, attempt, Stage.PREPARE, host="rack-1", slot="vm-1", token="t")
        fleet.age(DEFAULT.lost + 1)
        fleet.host("rack-2", "running")
        assert fleet.reconcile() == {"ended": 1}
        fleet.ledger.sent(UID, attempt + 1)
        fleet.ledger.due()
    assert fleet.record.state is State.FAILED
    *attempts, root = sorted(sent(), key=lambda span: span.name == "analysis")
    assert [one["attempt"] for one in attempts] == [1, 2, 3]
    assert [one.links for one in attempts] == [(), (attempts[0].id,), (attempts[1].id,)]
    assert {(one["outcome"], one.failed, one["host"], one["slot"]) for one in attempts} == {
        ("failed", True, "rack-1", "vm-1")
    }
    assert (root["outcome"], root["attempts"], root.parent) == ("failed", 3, "")
    assert root.message.startswith("poison: ")
    assert root.start == pytest.approx(fleet.record.received, abs=1e-5)
    assert root.end == pytest.approx(fleet.record.finished, abs=1e-3)  # Lua's JSON has 14 digits


@pytest.mark.parametrize("by", ["karton", "person"])
def test_a_cancelled_analysis(fleet: Fleet, sent: Sent, by: str) -> None:
    """Whoever cancels, in Karton or here: attempt and analysis are over, and not failed."""
    if by == "karton":
        fleet.task.status = TaskState.FINISHED
        fleet.ledger._redis.set(task_key(fleet.task.uid), fleet.task.serialize())
        assert fleet.reconcile() == {"cancelled": 1}
    else:
        cancellation.cancel(fleet.ledger, fleet.record, by="alice")
    attempt, root = sorted(sent(), key=lambda span: span.name == "analysis")
    assert {span["outcome"] for span in (attempt, root)} == {"cancelled"}
    assert {span.failed for span in (attempt, root)} == {False}
    assert str(root["error"]).startswith("cancelled")


def test_a_host_that_takes_nothing_any_more(fleet: Fleet, sent: Sent) -> None:
    """An attempt that goes from a drained host to another is replaced."""
    fleet.ledger.advance(UID, 1, Stage.PREPARE, host="rack-1", slot="vm-1", token="t")
    fleet.age(DEFAULT.lost + 1)
    fleet.host("rack-2", "free")
    assert fleet.reconcile() == {"ended": 1}
    assert fleet.ledger._redis.zrem("drak:due", UID)
    fleet.ledger.sent(UID, 2)
    assert reroute(fleet.ledger, fleet._send, [analysis().profile]) == 1
    first, second = sent()
    assert (first["outcome"], second["outcome"], second["attempt"]) == ("failed", "replaced", 2)
    assert second["error"] == "its host takes nothing any more"
