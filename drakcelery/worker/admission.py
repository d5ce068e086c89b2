"""The gate on the prepare queues: a host takes a sample only while it has a free slot (I4).

A vm worker always consumes its host's own queue, and each profile's prepare queues only while a slot of the
profile is free. The slot is claimed in the worker's main process as the message arrives, by the
:func:`strategy` of the prepare and run tasks. Whoever gives it back rings a bell, which wakes the event loop
of that process: the next sample is on its way before the run that had the slot is settled.

Facts (Celery 5.7, read in its source and measured): the strategy runs in the main process for every message;
``Request.on_success`` and ``execute_using_pool`` cannot be overridden, since Celery generates a class that
replaces both; ``cancel_task_queue`` does not stop a BRPOP that is under way, so a message may still come; nor
does ``add_task_queue``, so what waits in a queue that was opened comes only after it. To open or to close
a queue takes several round trips.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from celery import Celery, Task, bootsteps
from celery.worker import request, state
from celery.worker.strategy import default
from kombu.message import Message
from redis.exceptions import RedisError

from drakcelery.broker import redis_transport
from drakcelery.broker.misfits import UNREADABLE, drop, misfit, step_of
from drakcelery.broker.routing import LEFT_OVER_QUEUE, prepare_queue, task_name
from drakcelery.errors import UnreadableRecord
from drakcelery.host.avoidance import is_elsewhere, may_have
from drakcelery.host.slots import SlotState
from drakcelery.ledger.away import concerns_all
from drakcelery.model.analysis import Fault, Stage, Step
from drakcelery.model.records import Record
from drakcelery.recovery.takeover import end_held, process_died
from drakcelery.stages.context import Site
from drakcelery.telemetry.logs import about
from drakcelery.worker.bootstrap import Ground, Household, is_vm_worker
from drakcelery.worker.janitor import tell
from drakcelery.worker.prefetch import Lookahead
from drakcelery.worker.slot_metrics import SlotClock

log = structlog.get_logger(__name__)

SLOT_HEADER = "drak_slot"
"""Message header that tells the pool process which slot was claimed for it."""
SYNC_SECONDS = 0.5
"""How soon a slot that came free opens its queues, where nothing else told."""
DEFER_SECONDS = 5.0
"""How soon an attempt is sent again that came to a slot, or host, in which it has failed before."""
SWEEP_SECONDS = 3600.0
"""How often what a ``beat`` of an earlier version has sent is thrown away: some 360 messages."""
Settle = Callable[..., Any]


class Elsewhere(Exception):
    """An analysis has failed in each slot that is free here, and others have its profile."""


class Gate(bootsteps.StartStopStep):
    """Consumer step of a vm worker: opens and closes the prepare queues as slots come and go."""

    requires = ("celery.worker.consumer.tasks:Tasks",)
    site: Callable[[], Site]
    send: Callable[[Record], None]
    """Send the current attempt of a record on its way."""

    def __init__(self, parent: Any, **_: Any) -> None:
        """*parent* is the consumer."""
        super().__init__(parent)
        self.enabled = is_vm_worker(parent.hostname)
        parent.drak_gate = self
        self._timer: Any = None
        self._sweeper: Any = None
        self._lookahead: Lookahead | None = None
        self._clock = SlotClock()

    def start(self, parent: Any) -> None:
        """Called whenever the consumer (re)connects."""
        site = type(self).site()
        self._consumer = parent
        self._host = site.host
        self._slots = site.slots
        self._readiness = site.readiness
        self._turn = 1
        channel = parent.task_consumer.channel
        if isinstance(channel, redis_transport.Prompt):  # RabbitMQ shows nobody what waits
            self._lookahead = Lookahead(site, functools.partial(self._waiting, channel))
            self._lookahead.start()
        self._timer = parent.timer.call_repeatedly(SYNC_SECONDS, self.look)
        self._sweeper = parent.timer.call_repeatedly(SWEEP_SECONDS, drop_left_over, (parent.connection,))
        parent.timer.call_after(0, drop_left_over, (parent.connection,))
        # Once the event loop runs: RabbitMQ delivers at once, and before that nobody takes a message
        parent.timer.call_after(0, self.open)

    def register_with_event_loop(self, parent: Any, hub: Any) -> None:
        """Called after each :meth:`start`."""
        if Ground.bell is not None:
            hub.add_reader(Ground.bell, parent.timer.call_after, 0, self.look)  # where errors are logged

    def stop(self, parent: Any) -> None:  # noqa: ARG002 Celery's signature
        """Called when the connection is lost, and at the end."""
        type(self).site().readiness.note_broker(connected=False)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._sweeper.cancel()
        if self._lookahead is not None:
            self._lookahead.stop()
            self._lookahead = None

    shutdown = stop

    def steer(self) -> None:
        """An operator has opened or closed a slot: act on it at once, and tell the fleet."""
        self.look()
        Household.wake()

    def open(self) -> None:
        """The broker is there: the host takes samples, beginning with what waited for it meanwhile."""
        if self._timer is None:
            return  # it is gone again
        self._readiness.note_broker(connected=True)
        self._take_waiting()
        self.sync()

    def look(self) -> None:
        """A slot may have come free: take at once what waits for it; where nothing does, open its queues."""
        rung = Ground.bell is not None and Ground.bell.hush()
        if self._timer is None:
            return  # the worker ends, or is about to reconnect, and looks then
        self._readiness.note_turn()
        if rung:
            self._take_waiting()
        self.sync()

    def _take_waiting(self) -> None:
        """To open a queue, and to close it again, takes longer than to take a message from it."""
        tasks = self._consumer.task_consumer
        if not isinstance(tasks.channel, redis_transport.Prompt):
            return  # RabbitMQ delivers as soon as a queue is open
        for _ in self._slots.all():  # one each at the most: a message may turn out to be for no slot
            free = [profile for profile, is_free in self._profiles().items() if is_free]
            queues = [queue for profile in free for queue in self._queues(profile)]
            self._turn = -self._turn  # neither what asks for this host nor what does not is always first
            message = tasks.channel.get_waiting(queues[:: self._turn])
            if message is None:
                return
            tasks._receive_callback(message)  # noqa: SLF001 what kombu does with what it has consumed

    def _waiting(self, channel: redis_transport.Prompt, profiles: Sequence[str]) -> list[Step]:
        """What waits for slots of *profiles*, as far as this host may come to it. Called from any thread."""
        queues = [queue for profile in profiles for queue in self._queues(profile)]
        messages = channel.look_at(queues, most=len(self._slots.all()))
        return [step for message in messages if (step := step_of(message)) is not None]

    def sync(self) -> None:
        """Consume each profile's queues just while one of its slots is free and open."""
        for profile, is_free in self._profiles().items():
            for queue in self._queues(profile):
                consuming = self._consumer.task_consumer.consuming_from(queue)
                if is_free and not consuming:
                    self._consumer.add_task_queue(queue)
                elif consuming and not is_free:
                    self._consumer.cancel_task_queue(queue)

    @property
    def host(self) -> str:
        """The host that this worker is of."""
        return type(self).site().host

    def profiles(self) -> frozenset[str] | None:
        """Those that this host has slots of; None where this is no vm worker."""
        return frozenset(type(self).site().settings.slots.values()) if self.enabled else None

    def _profiles(self) -> dict[str, bool]:
        """This host's profiles, and whether each has a slot for another sample now."""
        slots = self._slots.all()
        self._clock.look(slots, now=time.time())
        takes = self._takes_samples()
        free = {slot.profile for slot in slots if takes and slot.is_open}
        return {slot.profile: slot.profile in free for slot in slots}

    def _queues(self, profile: str) -> tuple[str, str]:
        return prepare_queue(profile), prepare_queue(profile, self._host)

    def _takes_samples(self) -> bool:
        """Whether the host may begin anything at all; work in hand goes on in any case."""
        return self._readiness.halted() is None

    def claim(self, step: Step) -> str | None:
        """A slot for a prepare message; closes the queues when it was the last one.

        Raises:
            Elsewhere: the analysis has failed here, and is to go to another slot or host.
            UnreadableRecord: it has failed here, and nobody can read its record.
        """
        self._readiness.note_turn()
        slot = None
        if self._takes_samples():
            among = self._may_have(step)
            slot = self._slots.claim(step.profile, step.uid, step.attempt, among=among)
            if slot is None and among is not None and self._profiles().get(step.profile):
                raise Elsewhere
        self.sync()
        return slot

    def _may_have(self, step: Step) -> frozenset[str] | None:
        """The slots that an analysis may have which has failed here; None where it may have any."""
        failed = self._slots.failed_in(step.uid)
        if not failed:
            return None
        ledger = type(self).site().ledger
        try:
            record = ledger.get(step.uid)
            elsewhere = is_elsewhere(record, ledger.fleet.hosts(), host=self._host)
        except RedisError as error:
            log.warning("not_asked", error=str(error))
            elsewhere = False
        else:
            if record is not None:  # an earlier life of this uid says nothing of this one
                failed = self._slots.failed_in(step.uid, since=record.first_attempt)
                if not failed:
                    return None
        return may_have(step.profile, self._slots.all(), failed, elsewhere=elsewhere)

    def holds(self, step: Step) -> bool:
        """Whether the attempt has a slot here already."""
        return any(slot.holder == (step.uid, step.attempt) for slot in self._slots.all())

    def vacate(self, step: Step) -> None:
        """Nobody has begun what a slot was claimed for: the slot is cleaned, and free again."""
        if self.enabled and self.holds(step):
            self._slots.soil(step.uid, step.attempt)
            self.sync()

    def settle(self, stage: Stage, step: Step, *, acknowledged: bool) -> None:
        """A prepare or run message was settled. What should have been given back by now was not: DIRTY.

        A prepare that ended well leaves its slot READY (or RUNNING, if run began already); every other end
        of a stage gave the slot back itself, unless its process died or was terminated.
        """
        mine = [slot for slot in self._slots.all() if slot.holder == (step.uid, step.attempt)]
        kept = (SlotState.READY, SlotState.RUNNING) if stage is Stage.PREPARE and acknowledged else ()
        for slot in mine:
            if slot.state not in kept:
                log.warning("slot_left_behind", slot=slot.name)
                self._slots.soil(step.uid, step.attempt)
                tell(
                    functools.partial(
                        end_held,
                        type(self).site(),
                        slot,
                        "the process that watched the guest died",
                        Fault.LOST,
                    )
                )
        self.sync()


def drop_left_over(connection: Any) -> None:
    """Throw away what a ``drakcelery beat`` that still runs has sent, or it would grow for ever.

    Workers of its version do without it while others reconcile; with RabbitMQ, their queue is left to them.
    """
    try:
        with connection.channel() as channel:
            if isinstance(channel, redis_transport.Prompt):
                channel.queue_purge(LEFT_OVER_QUEUE)
            else:
                channel.queue_delete(LEFT_OVER_QUEUE, if_unused=True)
    except (*connection.connection_errors, *connection.channel_errors) as error:
        log.debug("left_over_queue_kept", error=str(error))


class Request(request.Request):
    """Celery's, which is shown to people with arguments that name the sample (``inspect active``)."""

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
        why = misfit(stage, step, message, host=gate.host, profiles=gate.profiles())
        if step is None or why is not None:
            with about(stage=stage.value, uid=step and step.uid):
                drop(message, why or "")
            return None
        context = {"uid": step.uid, "attempt": step.attempt, "stage": stage.value, "slot": step.slot}
        holds_slot = gate.enabled and stage in (Stage.PREPARE, Stage.RUN)
        with about(**context):
            if _is_at_work(message) and _shows_life(step):
                log.info("delivered_twice")
                message.ack()
                return None
            if holds_slot and stage is Stage.PREPARE and not _admit(gate, step, message):
                return None

        @about(**context)
        def acknowledged(*args: Any, **kwargs: Any) -> None:
            ack(*args, **kwargs)
            if holds_slot and not _is_at_work(message, beside=True):
                gate.settle(stage, step, acknowledged=True)

        @about(**context)
        def rejected(*args: Any, **kwargs: Any) -> None:
            if holds_slot:
                gate.settle(stage, step, acknowledged=False)
            tell(functools.partial(process_died, Gate.site(), Gate.send, stage, step))
            reject(*args, **kwargs)

        taken = functools.partial(handle, message, body, acknowledged, rejected, callbacks, **more)
        return _take(gate, step, message, taken)

    return on_message


def _take(gate: Gate, step: Step, message: Message, taken: Callable[[], Any]) -> Any:
    """Let Celery have a message. One that it cannot read keeps no slot; what was ours is sent again."""
    try:
        return taken()
    except UNREADABLE as error:
        with about(uid=step.uid, attempt=step.attempt):
            drop(message, f"Celery cannot take it: {type(error).__name__}: {error}")
            gate.vacate(step)
        return None


def _is_at_work(message: Message, *, beside: bool = False) -> bool:
    """Whether a process of this worker is at work on a delivery of it; *beside*: on another one.

    RabbitMQ gives back all that a lost connection had; the work goes on, and so does its settlement, which is
    no matter of a second delivery.
    """
    return any(
        request.id == message.headers.get("id") and not (beside and request.message is message)
        for request in state.active_requests
    )


def _shows_life(step: Step) -> bool:
    """Whether the delivery at work has a claim still. Reconcile takes it from a frozen process."""
    try:
        record = Gate.site().ledger.get(step.uid)
    except (RedisError, UnreadableRecord) as error:
        log.warning("not_asked", error=str(error))
        return True  # nobody could begin anything now; reconcile sends it again
    return record is not None and record.attempt == step.attempt and record.beat is not None


def _defer(step: Step, message: Message) -> None:
    """Send an attempt again a little later, when another slot may be free, or another host take it."""
    try:
        Gate.site().ledger.defer(step.uid, step.attempt, delay=DEFER_SECONDS)
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
    """Claim a slot and write it on the message; send the message back where there is none."""
    if gate.holds(step):
        log.info("delivered_twice")
        message.ack()
        return False
    try:
        slot = gate.claim(step)
    except Elsewhere:
        _defer(step, message)
        return False
    except UnreadableRecord as error:
        log.warning("not_asked", error=str(error))
        message.ack()  # nobody can do anything with it; reconcile sends it again, once it can be read
        return False
    if slot is None:
        message.requeue()
        return False
    message.headers[SLOT_HEADER] = slot
    return True
