"""Admission: what happens to a stage's message before Celery gets it, and after it is settled.

The :func:`strategy` of the stages' tasks drops messages that drakcelery did not send, and claims a slot for a
prepare message through the host's gate (:mod:`drakcelery.worker.gate`). A message that gets no slot here goes
back to the broker, or its attempt is sent again later.

Facts (Celery 5.7, read in its source and measured): the strategy runs in the main process for every message;
``Request.on_success`` and ``execute_using_pool`` cannot be overridden, since Celery generates a class that
replaces both.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import structlog
from celery import Celery, Task
from celery.worker import request, state
from celery.worker.strategy import default
from kombu.message import Message
from redis.exceptions import RedisError

from drakcelery.broker.misfits import UNREADABLE, drop, misfit, step_of
from drakcelery.broker.routing import task_name
from drakcelery.errors import UnreadableRecord
from drakcelery.ledger import Ledger
from drakcelery.ledger.away import concerns_all
from drakcelery.model.analysis import Stage, Step
from drakcelery.recovery.takeover import process_died
from drakcelery.telemetry.logs import about
from drakcelery.worker.gate import Elsewhere, Gate
from drakcelery.worker.janitor import or_leave_it

log = structlog.get_logger(__name__)

SLOT_HEADER = "drak_slot"
"""Message header that tells the pool process which slot was claimed for it."""
DEFER_SECONDS = 5.0
"""Seconds until an attempt is sent again that came to a slot or host where it has failed before."""
Settle = Callable[..., Any]


class Request(request.Request):
    """Celery's request, shown to people (``inspect active``) with arguments that name the sample."""

    def info(self, safe: bool = True) -> Any:  # noqa: ARG002 Celery asks without; our messages hold ids only
        """What remote control tells of a delivery."""
        return super().info(safe=True)


def strategy(task: Task[Any, Any], app: Celery, consumer: Any, **options: Any) -> Callable[..., Any]:
    """Celery's strategy for the stages: the default one, with slots and deaths accounted for."""
    handle = default(task, app, consumer, **options)
    stage = next(stage for stage in Stage if task_name(stage) == task.name)

    def on_message(
        message: Message, body: Any, ack: Settle, reject: Settle, callbacks: Any, **more: Any
    ) -> Any:
        gate: Gate = consumer.drak_gate
        step = step_of(message)
        why = misfit(stage, step, message, host=gate.context.host, profiles=gate.profiles())
        if step is None or why is not None:
            with about(stage=stage.value, uid=step and step.uid):
                drop(message, why or "")
            return None
        ours = _Delivery(gate, stage, step, message)
        if not ours.is_admitted():
            return None
        acknowledged = functools.partial(ours.acknowledged, ack)
        rejected = functools.partial(ours.rejected, reject)
        taken = functools.partial(handle, message, body, acknowledged, rejected, callbacks, **more)
        return _pass_on(gate, step, message, taken)

    return on_message


class _Delivery:
    """A message that came to this worker, from its arrival until it is settled."""

    def __init__(self, gate: Gate, stage: Stage, step: Step, message: Message) -> None:
        self._gate = gate
        self._stage = stage
        self._step = step
        self._message = message
        self._holds_slot = gate.enabled and stage in (Stage.PREPARE, Stage.RUN)
        self._context = {"uid": step.uid, "attempt": step.attempt, "stage": stage.value, "slot": step.slot}

    def is_admitted(self) -> bool:
        """Whether Celery may have the message; if not, it is settled here."""
        with about(**self._context):
            if _is_at_work(self._message) and _shows_life(self._gate.context.ledger, self._step):
                log.info("delivered_twice")
                self._message.ack()
                return False
            claims = self._holds_slot and self._stage is Stage.PREPARE
            return not claims or _admit(self._gate, self._step, self._message)

    def acknowledged(self, settle: Settle, *args: Any, **more: Any) -> None:
        """The stage is over, well or not, and *settle* says so to the broker."""
        with about(**self._context):
            settle(*args, **more)
            if self._holds_slot and not _is_at_work(self._message, beside=True):
                self._gate.settle(self._stage, self._step, acknowledged=True)

    def rejected(self, settle: Settle, *args: Any, **more: Any) -> None:
        """The stage's process died; *settle* gives the message back to the broker."""
        with about(**self._context):
            if self._holds_slot:
                self._gate.settle(self._stage, self._step, acknowledged=False)
            ours = self._gate.runtime
            or_leave_it(functools.partial(process_died, ours.context, ours.send, self._stage, self._step))
            settle(*args, **more)


def _pass_on(gate: Gate, step: Step, message: Message, taken: Callable[[], Any]) -> Any:
    """Give a message to Celery. One that Celery cannot read is dropped, and its slot is given back."""
    try:
        return taken()
    except UNREADABLE as error:
        with about(uid=step.uid, attempt=step.attempt):
            drop(message, f"Celery cannot take it: {type(error).__name__}: {error}")
            gate.vacate(step)
        return None


def _is_at_work(message: Message, *, beside: bool = False) -> bool:
    """Whether a process of this worker is at work on this message; *beside*: on another delivery of it.

    When a connection is lost, RabbitMQ delivers all its messages again. The work on the first delivery goes
    on and settles its slot by itself; the second delivery must not.
    """
    return any(
        request.id == message.headers.get("id") and not (beside and request.message is message)
        for request in state.active_requests
    )


def _shows_life(ledger: Ledger, step: Step) -> bool:
    """Whether the delivery at work still has its claim; reconcile takes the claim from a frozen process."""
    try:
        record = ledger.get(step.uid)
    except (RedisError, UnreadableRecord) as error:
        log.warning("not_asked", error=str(error))
        return True  # nobody could begin anything now; reconcile sends it again
    return record is not None and record.attempt == step.attempt and record.beat is not None


def _defer(ledger: Ledger, step: Step, message: Message) -> None:
    """Send an attempt again a little later, when another slot may be free or another host may take it."""
    try:
        ledger.defer(step.uid, step.attempt, delay=DEFER_SECONDS)
    except RedisError as error:
        log.warning("not_deferred", error=str(error))
        if concerns_all(error):
            message.requeue()
        else:
            message.ack()  # it would come again at once; reconcile sends it, once it can be dealt with
    else:
        log.info("deferred", delay=DEFER_SECONDS)
        message.ack()


def _admit(gate: Gate, step: Step, message: Message) -> bool:
    """Claim a slot and write it into the message; without a free slot the message goes back to the broker."""
    try:
        slot = gate.claim(step)
    except Elsewhere:
        _defer(gate.context.ledger, step, message)
        return False
    except UnreadableRecord as error:
        log.warning("not_asked", error=str(error))
        message.ack()  # it is of no use now; reconcile sends it again, once the record can be read
        return False
    if slot is None and gate.holds(step):
        log.info("delivered_twice")
        message.ack()
        return False
    if slot is None:
        message.requeue()
        return False
    message.headers[SLOT_HEADER] = slot
    return True
