"""Leases: a live worker's messages stay invisible for ever, a dead worker's come back within a minute.

kombu's Redis transport gives a message that was not acknowledged to somebody else once its visibility timeout
has passed since it was delivered, whether its worker lives or not. With a short timeout, this step keeps the
messages of a live worker fresh by writing the time of their delivery anew. Measured with kombu 5.7 and a
timeout of 6 s: a task of 14 s was not delivered again, and that of a killed worker came back in 7 s.

RabbitMQ needs none of it: it gives back what a lost connection had.
"""

from __future__ import annotations

import time
from typing import Any

import structlog
from celery import bootsteps

log = structlog.get_logger(__name__)

VISIBILITY_SECONDS = 45
"""After so long without a sign of its worker a message is delivered to somebody else."""
RENEW_SECONDS = 5.0
SWEEP_SECONDS = 5.0
"""How often workers look for messages whose time has passed."""

TRANSPORT_OPTIONS: dict[str, Any] = {
    "visibility_timeout": VISIBILITY_SECONDS,
    "unacked_restore_interval": SWEEP_SECONDS,
    "unacked_restore_throttle": 1,
}
"""For kombu's Redis transport: the sweep, which is a hundred seconds by default."""


class Lease(bootsteps.StartStopStep):
    """Consumer step of every worker."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, **_: Any) -> None:
        """*parent* is the consumer."""
        super().__init__(parent)
        self._timer: Any = None

    def start(self, parent: Any) -> None:
        """Called whenever the consumer (re)connects."""
        if parent.connection.transport.driver_type != "redis":
            return
        self._timer = parent.timer.call_repeatedly(RENEW_SECONDS, renew, (parent.task_consumer.channel,))

    def stop(self, parent: Any) -> None:  # noqa: ARG002 Celery's signature
        """Called when the connection is lost, and at the end."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def renew(channel: Any) -> int:
    """Write the delivery time of every message that this worker holds anew; returns how many it holds.

    Only messages that are still held: one that another worker took over meanwhile stays its own (``XX``).
    """
    tags = list(channel.qos._delivered)  # noqa: SLF001 kombu keeps the tags of unacknowledged messages nowhere else
    if not tags:
        return 0
    now = time.time()
    try:
        with channel.conn_or_acquire() as client:
            client.zadd(channel.unacked_index_key, dict.fromkeys(tags, now), xx=True)
    except channel.connection_errors as error:
        log.warning("lease_not_renewed", error=str(error))
    return len(tags)
