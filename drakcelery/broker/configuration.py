"""Celery's configuration for each kind of broker: Redis (Valkey, Sentinel) and RabbitMQ.

RabbitMQ's queues are quorum queues: what it has confirmed survives the end of a node. Facts (RabbitMQ's
guides on quorum queues and consumer prefetch; Celery 5.7 and kombu 5.7, read): a quorum queue counts how
often a message was delivered, and from RabbitMQ 4 on drops it after 20 times; it has only one prefetch for
each consumer, so a worker may get more prepare messages than it has slots; the gate sends them back.
"""

from __future__ import annotations

from typing import Any

from celery.app import amqp
from kombu import Queue
from kombu.utils.url import parse_url

from drakcelery.broker import redis_transport
from drakcelery.model.timeouts import Timeouts

POLL_SECONDS = 0.2
"""How long one BRPOP of a worker lasts (kombu's Redis transport: 1 s). A prepare queue that the gate opens is
read only from the next BRPOP on, so a free slot may have to wait so many seconds for a waiting sample."""
DELIVERIES = 2**31 - 1
"""How often RabbitMQ may deliver a message: as often as hosts without a free slot send it back. An analysis
that ends its workers is ended by the ledger, with the reason."""


class Queues(amqp.Queues):
    """Celery's table of queues. RabbitMQ demands that all processes declare a queue in the same way."""

    def new_missing(self, name: str) -> Queue:
        """A queue that is named for the first time."""
        queue = super().new_missing(name)
        if queue.queue_arguments:  # the arguments of a quorum queue
            queue.queue_arguments["x-delivery-limit"] = DELIVERIES
        return queue

    def add_compat(self, name: str, **_: Any) -> Queue:
        """As above, for a queue that a worker is told to consume, which Celery would make differently."""
        queue = self.new_missing(name)
        self.add(queue)
        return queue


class AMQP(amqp.AMQP):
    """Celery's AMQP, with the queues above, and connections that use Redis' clock."""

    queues_cls = Queues
    Connection = redis_transport.Connection


def _tls_of(broker_url: str) -> dict[str, Any]:
    """The options for TLS that kombu reads in the URL by itself, and Flower's page of queues here only."""
    if not broker_url.startswith("rediss:"):
        return {}
    return {"broker_use_ssl": parse_url(broker_url).get("ssl", True)}


def configuration(broker_url: str, times: Timeouts, *, sentinel_master: str | None = None) -> dict[str, Any]:
    """Celery's settings for a broker; *sentinel_master* is the name of the master that Sentinel watches."""
    if not broker_url.startswith("amqp"):
        options = {
            **redis_transport.options(times),
            "polling_interval": POLL_SECONDS,
            # kombu would ask four lists for each queue. What is urgent has come from Karton first
            "priority_steps": [0],
        }
        master = {"master_name": sentinel_master} if sentinel_master else {}
        return {"broker_transport_options": {**options, **master}, **_tls_of(broker_url)}
    return {
        # What was sent is on disk: else what the ledger notes as sent would not be so
        "broker_transport_options": {"confirm_publish": True},
        # RabbitMQ gives back what a host had from which it heard nothing for two of these
        "broker_heartbeat": int(times.connection),
        # py-amqp verifies the certificate in any case, but whose it is only where a name is expected: kombu's
        # host name, with None
        "broker_use_ssl": {"server_hostname": None} if broker_url.startswith("amqps:") else False,
        "task_default_queue_type": "quorum",
        "task_create_missing_queue_type": "quorum",
    }
