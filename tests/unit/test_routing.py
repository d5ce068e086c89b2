"""Queues, ids and the order of the stages."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import celery
import pytest
from celery import Celery
from kombu import Connection

from drakcelery.broker import routing
from drakcelery.celery import app
from drakcelery.model.analysis import STAGES, Stage, Step
from drakcelery.settings import load
from drakcelery.wiring import make_client
from tests.builders import analysis


@pytest.mark.parametrize(
    ("stage", "step", "queue"),
    [
        (Stage.PREPARE, Step(uid="a", attempt=1, profile="win10"), "drak.prepare.win10"),
        (
            Stage.PREPARE,
            Step(uid="a", attempt=1, profile="win10", host="rack-1"),
            "drak.prepare.win10.rack-1",
        ),
        (Stage.RUN, Step(uid="a", attempt=1, profile="win10", host="rack-1", slot="vm-1"), "drak.vm.rack-1"),
        (Stage.COLLECT, Step(uid="a", attempt=1, profile="win10", host="rack-1"), "drak.io.rack-1"),
        (Stage.UPLOAD, Step(uid="a", attempt=1, profile="win10", host="rack-1"), "drak.io.rack-1"),
        (Stage.PUBLISH, Step(uid="a", attempt=1, profile="win10", host="rack-1"), "drak.io.rack-1"),
    ],
)
def test_queues_follow_from_the_message(stage: Stage, step: Step, queue: str) -> None:
    """A step finds its queue from its message alone, so a re-sent one finds it as well."""
    assert routing.queue_of(stage, step) == queue
    assert routing.route(routing.task_name(stage), [step.message()], {}, {}) == {"queue": queue}


def test_other_tasks_are_not_routed() -> None:
    """Other people's tasks are none of our business."""
    assert routing.route("celery.ping", [], {}, {}) is None


def test_a_pinned_stage_needs_a_host() -> None:
    """Only prepare may be sent to nobody in particular."""
    with pytest.raises(ValueError, match="names no host"):
        routing.queue_of(Stage.RUN, Step(uid="a", attempt=1, profile="win10"))


Sending = Callable[[Celery, Step, Stage], None]


def our_way(ours: Celery, step: Step, first: Stage) -> None:
    """As it is sent."""
    routing.send(ours, analysis(), step, attempts=1, first=first)


def celerys_way(ours: Celery, step: Step, first: Stage) -> None:
    """The same by Celery's own chain."""
    links = [
        ours.signature(
            routing.task_name(stage),
            args=(step.message(),) if stage is first else (),
            task_id=routing.task_id(step.uid, step.attempt, stage),
            argsrepr=f"({analysis().sample_label}, attempt 1)",
            kwargsrepr="",
            ignore_result=True,
        )
        for stage in STAGES[STAGES.index(first) :]
    ]
    celery.chain(*links, app=ours).apply_async()


def sent_by(ours: Celery, first: Stage, sending: Sending = our_way) -> list[object]:
    """What *ours* would give to the broker, but for the queue of answers, of which there are none."""
    said: list[object] = []

    def hear(_: object, name: str, message: Any, **options: Any) -> None:
        arguments, more, embedded = message.body
        for link in embedded["chain"]:
            link["options"].pop("reply_to", None)
        assert options.pop("serializer", "json") == ours.conf.task_serializer
        options.pop("reply_to", None)
        said.extend((name, message.headers, arguments, more, embedded, options))

    step = Step(uid="a-1", attempt=1, profile="win10", host="rack-1")
    with Connection("memory://") as connection, pytest.MonkeyPatch.context() as patched:
        producer = connection.Producer()
        patched.setattr(ours, "producer_or_acquire", lambda *_: contextlib.nullcontext(producer))
        patched.setattr(ours.amqp, "send_task_message", hear)
        sending(ours, step, first)
    return said


@pytest.mark.parametrize("first", [Stage.PREPARE, Stage.COLLECT])
def test_who_has_no_tasks_sends_the_same(first: Stage) -> None:
    """An ingress, which knows our tasks by their names only, sends what a worker would."""
    client = sent_by(make_client(load(None, environment={})), first)
    assert client[0] == routing.task_name(first)
    assert client == sent_by(app, first)


@pytest.mark.parametrize("first", STAGES)
def test_the_message_is_that_of_a_chain(first: Stage) -> None:
    """What is sent without Celery's chain, for it costs twice as much, is what a chain would send."""
    client = make_client(load(None, environment={}))
    assert sent_by(client, first) == sent_by(client, first, celerys_way)


def test_task_ids_can_be_read() -> None:
    """A Celery task id says which analysis, attempt and stage it is."""
    assert routing.task_id("a-1", 2, Stage.RUN) == "a-1/2/run"


def test_housekeeping_is_no_task() -> None:
    """Flower lists Celery's tasks: none but stages are there, whatever else goes on every few seconds."""
    app.finalize()
    ours = {name for name in app.tasks if not name.startswith("celery.")}
    assert ours == {routing.task_name(stage) for stage in Stage}
    assert app.conf.beat_schedule == {}
