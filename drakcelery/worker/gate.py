"""The gate on the prepare queues: a host takes a sample only while it has a free slot (I4).

A vm worker always consumes its host's own queue, and each profile's prepare queues only while a slot of the
profile is free. The slot is claimed in the worker's main process as the message arrives
(:mod:`drakcelery.worker.admission`). Whoever gives it back sends a wakeup to the event loop of that process,
so the next sample is on its way before the run that had the slot is settled.

Facts (Celery 5.7, read in its source and measured): ``cancel_task_queue`` does not stop a BRPOP that is under
way, so a message may still come. ``add_task_queue`` does not stop it either, so messages in a newly opened
queue come only after that BRPOP has ended. To open or to close a queue takes several round trips.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from celery import bootsteps
from redis.exceptions import RedisError

from drakcelery.broker import redis_transport
from drakcelery.broker.lease import Consumer
from drakcelery.broker.misfits import step_of
from drakcelery.broker.routing import LEFT_OVER_QUEUE, prepare_queue
from drakcelery.errors import SlotsUnusable
from drakcelery.host.avoidance import is_elsewhere, may_have
from drakcelery.host.slot import Slot, SlotState
from drakcelery.model.analysis import Fault, Stage, Step
from drakcelery.recovery.takeover import end_held
from drakcelery.stages.context import HostContext
from drakcelery.worker.bootstrap import is_vm_worker
from drakcelery.worker.janitor import or_leave_it
from drakcelery.worker.prefetch import Prefetcher
from drakcelery.worker.runtime import Runtime
from drakcelery.worker.slot_metrics import SlotClock

log = structlog.get_logger(__name__)

SYNC_SECONDS = 0.5
"""How soon a slot that came free opens its queues if no wakeup came."""
SWEEP_SECONDS = 3600.0
"""How often the messages that a ``beat`` of an earlier version sends are thrown away: some 360 each time."""


class Elsewhere(Exception):
    """An analysis has failed in every slot that is free here, and there are other slots with its profile."""


class Gate(bootsteps.StartStopStep):
    """Consumer step of a vm worker: opens and closes the prepare queues as slots come and go."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, **_: Any) -> None:
        """*parent* is the consumer."""
        super().__init__(parent)
        self.enabled = is_vm_worker(parent.hostname)
        self._app = parent.app
        parent.drak_gate = self
        consumer: Consumer = parent
        consumer.opens_queues = self.enabled
        self._timer: Any = None
        self._sweeper: Any = None
        self._prefetcher: Prefetcher | None = None
        self._clock = SlotClock()

    @property
    def runtime(self) -> Runtime:
        """What this worker works with."""
        runtime: Runtime = self._app.runtime
        return runtime

    @property
    def context(self) -> HostContext:
        """The host that this worker is of."""
        return self.runtime.context

    def start(self, parent: Any) -> None:
        """Called whenever the consumer (re)connects."""
        self._consumer = parent
        self._direction = 1
        channel = parent.task_consumer.channel
        if isinstance(channel, redis_transport.Prompt):  # RabbitMQ does not show what waits
            self._prefetcher = Prefetcher(self.context, functools.partial(self._waiting, channel))
            self._prefetcher.start()
        self._timer = parent.timer.call_repeatedly(SYNC_SECONDS, self.fill_slots)
        self._sweeper = parent.timer.call_repeatedly(SWEEP_SECONDS, drop_left_over, (parent.connection,))
        parent.timer.call_after(0, drop_left_over, (parent.connection,))
        # Only once the event loop runs: RabbitMQ delivers at once, and before that no message is taken
        parent.timer.call_after(0, self.open)

    def register_with_event_loop(self, parent: Any, hub: Any) -> None:
        """Called after each :meth:`start`."""
        hub.add_reader(
            self.runtime.wakeup, parent.timer.call_after, 0, self.fill_slots
        )  # where errors are logged

    def stop(self, parent: Any) -> None:  # noqa: ARG002 Celery's signature
        """Called when the connection is lost, and at the end."""
        self.context.readiness.note_broker(connected=False)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._sweeper.cancel()
        if self._prefetcher is not None:
            self._prefetcher.stop()
            self._prefetcher = None

    shutdown = stop

    def steer(self) -> None:
        """An operator has opened or closed a slot: act on it at once, and tell the fleet."""
        self.fill_slots()
        if self.runtime.janitor is not None:
            self.runtime.janitor.wake()

    def open(self) -> None:
        """The broker is there: the host takes samples, first those that have waited for it meanwhile."""
        if self._timer is None:
            return  # it is gone again
        self.context.readiness.note_broker(connected=True)
        self._give_slots(look=True)

    def fill_slots(self) -> None:
        """A slot may have come free: take at once what waits for it; if nothing does, open its queues."""
        woken = self.runtime.wakeup.clear()
        if self._timer is None:
            return  # the worker ends, or is about to reconnect, and looks then
        self.context.readiness.note_loop()
        self._give_slots(look=woken)

    def _give_slots(self, *, look: bool) -> None:
        """Take what waits for free slots, if *look* is set or a queue has to be opened; then open their
        queues.

        For slots that came free meanwhile the same is done again: what waits is taken before a queue is
        opened.
        """
        profiles = self._profiles()
        to_open = self._to_open(profiles)
        if look or to_open:
            profiles = self._fetch_waiting(profiles)
        still = self._to_open(profiles)
        for queue in to_open:
            if queue in still:
                self._consumer.add_task_queue(queue)
        self._close_full(profiles)

    def _to_open(self, profiles: Mapping[str, bool]) -> list[str]:
        """The closed queues of those *profiles* that have a free slot."""
        consuming = self._consumer.task_consumer.consuming_from
        free = [profile for profile, is_free in profiles.items() if is_free]
        return [queue for profile in free for queue in self._queues(profile) if not consuming(queue)]

    def _close_full(self, profiles: Mapping[str, bool]) -> None:
        """Consume no more from the queues of those *profiles* that have no free slot."""
        for profile, is_free in profiles.items():
            for queue in self._queues(profile):
                if not is_free and self._consumer.task_consumer.consuming_from(queue):
                    self._consumer.cancel_task_queue(queue)

    def _fetch_waiting(self, profiles: dict[str, bool]) -> dict[str, bool]:
        """Take waiting messages directly: opening and closing a queue takes longer than that. Returns the
        *profiles* as they are then."""
        tasks = self._consumer.task_consumer
        if not isinstance(tasks.channel, redis_transport.Prompt):
            return profiles  # RabbitMQ delivers as soon as a queue is open
        for _ in self.context.settings.slots:  # one each at most: a message may turn out to be for no slot
            free = [profile for profile, is_free in profiles.items() if is_free]
            queues = [queue for profile in free for queue in self._queues(profile)]
            # Neither what asks for this host nor what does not is always first
            self._direction = -self._direction
            message = tasks.channel.get_waiting(queues[:: self._direction])
            if message is None:
                break
            tasks._receive_callback(message)  # noqa: SLF001 what kombu does with what it has consumed
            profiles = self._profiles()
        return profiles

    def _waiting(self, channel: redis_transport.Prompt, profiles: Sequence[str]) -> list[Step]:
        """What waits for slots of *profiles* and may come to this host next. Called from any thread."""
        queues = [queue for profile in profiles for queue in self._queues(profile)]
        messages = channel.peek_queues(queues, most=len(self.context.settings.slots))
        return [step for message in messages if (step := step_of(message)) is not None]

    def profiles(self) -> frozenset[str] | None:
        """Those that this host has slots of; None if this is no vm worker."""
        return frozenset(self.context.settings.slots.values()) if self.enabled else None

    def _profiles(self, slots: Sequence[Slot] | None = None) -> dict[str, bool]:
        """This host's profiles, and whether each has a slot for another sample now; *slots* as just read."""
        slots = self._slots() if slots is None else slots
        self._clock.observe(slots, now=time.time())
        takes = self._takes_samples()
        free = {slot.profile for slot in slots if takes and slot.is_open}
        return {profile: profile in free for profile in self.context.settings.slots.values()}

    def _slots(self) -> list[Slot]:
        """The slots; none while their file is of no use, which is logged where it is read, or is gone: the
        janitor begins anew."""
        try:
            return self.context.slots.all()
        except SlotsUnusable:
            return []

    def _queues(self, profile: str) -> tuple[str, str]:
        return prepare_queue(profile), prepare_queue(profile, self.context.host)

    def _takes_samples(self) -> bool:
        """Whether the host may begin anything at all; work in hand goes on in any case."""
        # Celery's event loop goes round once more after the signal to shut down
        return self.runtime.stopper is None and self.context.readiness.halted() is None

    def claim(self, step: Step) -> str | None:
        """Claim a slot for a prepare message; closes the queues if it was the last one.

        Raises:
            Elsewhere: the analysis has failed here, and should go to another slot or host.
            UnreadableRecord: it has failed here, and nobody can read its record.
        """
        self.context.readiness.note_loop()
        try:
            slot = self._claim(step) if self._takes_samples() else None
            profiles = self._profiles()
        except SlotsUnusable:  # as in _slots; the message goes back, and would come again at once
            slot, profiles = None, dict.fromkeys(self.context.settings.slots.values(), False)
        self._close_full(profiles)
        return slot

    def _claim(self, step: Step) -> str | None:
        among = self._may_have(step)
        slot = self.context.slots.claim(step.profile, step.uid, step.attempt, among=among)
        is_free = slot is None and among is not None and self._profiles().get(step.profile)
        if is_free and not self.holds(step):
            raise Elsewhere
        return slot

    def _may_have(self, step: Step) -> frozenset[str] | None:
        """The slots that an analysis may have although it has failed here; None if it may have any."""
        failed = self.context.slots.failed_in(step.uid)
        if not failed:
            return None
        ledger = self.context.ledger
        try:
            record = ledger.get(step.uid)
            elsewhere = is_elsewhere(record, ledger.fleet.hosts(), host=self.context.host)
        except RedisError as error:
            log.warning("not_asked", error=str(error))
            elsewhere = False
        else:
            if record is not None:  # an earlier life of this uid says nothing of this one
                failed = self.context.slots.failed_in(step.uid, since=record.first_attempt)
                if not failed:
                    return None
        return may_have(step.profile, self.context.slots.all(), failed, elsewhere=elsewhere)

    def holds(self, step: Step) -> bool:
        """Whether the attempt has a slot here already."""
        return any(slot.holder == (step.uid, step.attempt) for slot in self._slots())

    def vacate(self, step: Step) -> None:
        """Give back a slot whose stage nobody has begun: it is cleaned, and then free again."""
        if self.enabled and self.holds(step):
            or_leave_it(functools.partial(self.context.slots.soil, step.uid, step.attempt))

    def settle(self, stage: Stage, step: Step, *, acknowledged: bool) -> None:
        """A prepare or run message was settled. A slot that should have been given back by now becomes DIRTY.

        After a successful prepare the slot is READY (or RUNNING, if run has begun already). In every other
        case the stage has given the slot back itself, unless its process died or was terminated.
        """
        slots = self._slots()
        kept = (SlotState.READY, SlotState.RUNNING) if stage is Stage.PREPARE and acknowledged else ()
        for slot in slots:
            if slot.holder == (step.uid, step.attempt) and slot.state not in kept:
                log.warning("slot_left_behind", slot=slot.name)
                or_leave_it(functools.partial(self.context.slots.soil, step.uid, step.attempt))
                why = "the process that watched the guest died"
                or_leave_it(functools.partial(end_held, self.context, slot, why, Fault.LOST))
        self._close_full(self._profiles(slots))  # what was soiled here was not free either


def drop_left_over(connection: Any) -> None:
    """Throw away what a ``drakcelery beat`` of an earlier version has sent, or its queue would grow forever.

    Workers of that version do not need these messages while others reconcile. With RabbitMQ their queue is
    left to them.
    """
    try:
        with connection.channel() as channel:
            if isinstance(channel, redis_transport.Prompt):
                channel.queue_purge(LEFT_OVER_QUEUE)
            else:
                channel.queue_delete(LEFT_OVER_QUEUE, if_unused=True)
    except (*connection.connection_errors, *connection.channel_errors) as error:
        log.debug("left_over_queue_kept", error=str(error))
