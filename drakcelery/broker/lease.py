"""Leases: a live worker's messages stay invisible forever, a dead worker's come back within a minute.

kombu's Redis transport delivers a message that was not acknowledged to another worker once its visibility
timeout has passed, whether its worker is alive or not. With a short timeout, this step keeps the messages of
a live worker by writing again and again until when they belong to it. Measured with kombu 5.7 and a timeout
of 6 s: a task of 14 s was not delivered again, and that of a killed worker came back in 7 s.

RabbitMQ does not need this: when a connection is lost, it delivers its messages again.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import structlog
from celery import bootsteps
from celery.exceptions import CPendingDeprecationWarning
from celery.worker import consumer, state
from kombu.message import Message

from drakcelery.telemetry import metrics

log = structlog.get_logger(__name__)

EVENT_SECONDS = 0.5
"""Seconds until Flower hears of an event of a task, at most."""
IDLE_SECONDS = 2.0
"""How long one BRPOP of a worker lasts that opens no queues; else
:data:`drakcelery.broker.configuration.POLL_SECONDS`."""


class Consumer(consumer.Consumer):
    """Celery's consumer, except that a lost connection costs neither the worker nor what it has in hand.

    Celery and kombu 5.7 end the worker ("Unrecoverable error") if a connection to Redis is lost while
    messages are not acknowledged: kombu puts them back, or acknowledges them later, through a channel that
    has no connection any more. But a delivery lives in Redis, not in the connection: any channel can renew
    and acknowledge it. So deliveries at work are handed on to the next channel, and stay this worker's.
    """

    class Blueprint(consumer.Consumer.Blueprint):  # type: ignore[misc,valid-type] # the stubs call it Any
        """Leaves out delayed delivery by quorum queues, which makes 28 queues for delays that we do not
        use."""

        default_steps = tuple(
            step
            for step in consumer.Consumer.Blueprint.default_steps
            if not step.endswith(":DelayedDelivery")
        )

    connection: Any
    task_consumer: Any
    timer: Any
    opens_queues = False
    """Whether a step of the worker opens and closes queues while it runs; that step says so."""
    _flush_events: Callable[[], None]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As Celery's."""
        self._held: dict[str, Message] = {}
        self._events_go_at = 0.0
        super().__init__(*args, **kwargs)

    def on_send_event_buffered(self) -> None:  # type: ignore[override] # the stubs have its body for a type
        """Called for each event of a task: it goes out with those of the next :data:`EVENT_SECONDS`.

        Celery sends what one round of its event loop brings, which is often a single event.
        """
        now = time.monotonic()
        if now >= self._events_go_at:  # by the clock, since a lost connection takes its timers with it
            self._events_go_at = now + EVENT_SECONDS
            self.timer.call_after(EVENT_SECONDS, self._flush_events)

    def stop(self) -> None:
        """Send the last events."""
        self._flush_events()
        super().stop()

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Close what is left of the connection; Celery then makes another."""
        transport = self.connection.transport
        if transport.driver_type == "redis":
            for channel in transport.channels:
                channel.do_restore = False
                self._held.update(channel.qos._delivered)  # noqa: SLF001 kombu has it nowhere else
        with warnings.catch_warnings():
            # of another default in Celery 6: ours is chosen
            warnings.simplefilter("ignore", CPendingDeprecationWarning)
            super().on_connection_error_after_connected(exc)

    def hand_on(self, channel: Any) -> None:
        """Let *channel* acknowledge what earlier channels delivered; it keeps what is still at work.

        Celery has dropped messages that no pool process has begun; they are delivered again.
        """
        at_work = {request.message.delivery_tag for request in state.active_requests}
        for tag, message in self._held.items():
            message.channel = channel
            if tag in at_work:
                channel.qos._delivered[tag] = message  # noqa: SLF001 as above
        if self._held:
            log.info("handed_on", held=len(self._held), at_work=len(at_work))
        self._held.clear()


class Lease(bootsteps.StartStopStep):
    """Consumer step of every worker."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, **_: Any) -> None:
        """*parent* is the consumer."""
        super().__init__(parent)
        self._timer: Any = None

    def start(self, parent: Consumer) -> None:
        """Called whenever the consumer (re)connects."""
        if parent.connection.transport.driver_type != "redis":
            return
        channel = parent.task_consumer.channel
        parent.hand_on(channel)
        if not parent.opens_queues:
            # A queue that is opened would be asked from the next BRPOP on; a message ends one at once
            channel.brpop_timeout = IDLE_SECONDS
        # As often as it looks for what others did not renew
        self._timer = parent.timer.call_repeatedly(channel.unacked_restore_interval, renew, (channel,))

    def stop(self, parent: Any) -> None:  # noqa: ARG002 Celery's signature
        """Called when the connection is lost, and at the end."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def renew(channel: Any) -> int:
    """Keep every message that this worker holds from being delivered to others; returns how many it holds."""
    try:
        held = int(channel.qos.renew())
    except channel.connection_errors as error:
        log.warning("lease_not_renewed", error=str(error))
        return 0
    metrics.lease_renewed()
    return held
