"""The queues of the stages, and how an attempt is sent on its way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from drakcelery.model.analysis import STAGES, Analysis, Stage, Step

if TYPE_CHECKING:
    from celery import Celery

NO_QUEUE = "drak.none"
"""Celery's default queue, to which nothing is sent: each message has a stage, and each stage a queue."""
LEFT_OVER_QUEUE = "drak.reconcile"
"""The queue to which the ``drakcelery beat`` of earlier versions sends; it is not consumed any more."""


def task_name(stage: Stage) -> str:
    """The Celery task of a stage."""
    return f"drakcelery.{stage.value}"


def task_id(uid: str, attempt: int, stage: Stage) -> str:
    """A Celery task id that a person can read."""
    return f"{uid}/{attempt}/{stage.value}"


def prepare_queue(profile: str, host: str | None = None) -> str:
    """The queue in which a sample waits for a slot of *profile*: on any host, or on the one that was asked
    for."""
    return f"drak.prepare.{profile}.{host}" if host else f"drak.prepare.{profile}"


def vm_queue(host: str) -> str:
    """The queue that the host's vm worker always consumes."""
    return f"drak.vm.{host}"


def io_queue(host: str) -> str:
    """The queue that the host's io worker consumes."""
    return f"drak.io.{host}"


def queue_of(stage: Stage, step: Step) -> str:
    """The queue of a stage. After prepare the step names the host that it is pinned to."""
    if stage is Stage.PREPARE:
        return prepare_queue(step.profile, step.host)
    if step.host is None:
        raise ValueError(f"{stage.value} of {step.uid} names no host")
    return vm_queue(step.host) if stage is Stage.RUN else io_queue(step.host)


def route(
    name: str,
    args: Sequence[Mapping[str, Any]],
    kwargs: Mapping[str, Any],  # noqa: ARG001 Celery's signature of a router
    options: Mapping[str, Any],  # noqa: ARG001
    task: object = None,  # noqa: ARG001
    **_: object,
) -> dict[str, str] | None:
    """Celery's router: the queue follows from the message, so it is right for a step that is sent again,
    too."""
    stage = next((stage for stage in STAGES if task_name(stage) == name), None)
    if stage is None:
        return None
    return {"queue": queue_of(stage, Step.parse(dict(args[0])))}


def send(app: Celery, analysis: Analysis, step: Step, *, attempts: int, first: Stage = STAGES[0]) -> None:
    """Send the chain of an attempt, or what is left of it from the stage *first* on.

    Each task has a readable id, and names the sample in Flower, with the number of its *attempts* for people.

    Raises:
        kombu.exceptions.OperationalError: the broker is away.
    """
    from celery import signature  # callers that only need a queue's name need no Celery

    label = f"({analysis.sample_label}, attempt {attempts})"
    links = [
        signature(
            task_name(stage),
            app=app,
            task_id=task_id(step.uid, step.attempt, stage),
            argsrepr=label,
            kwargsrepr="",
            ignore_result=True,  # a sender without our tasks cannot know this setting
        )
        for stage in STAGES[STAGES.index(first) :]
    ]
    # The message that celery.chain() sends, at half its cost: it clones and freezes each link first
    link, *rest = links
    app.send_task(task_name(first), args=(step.message(),), chain=rest[::-1], **link.options)
