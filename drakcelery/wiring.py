"""What is built from settings alone: the ledger, the storage, and Celery without our tasks.

What is not always needed is imported where it is made: the shell's completion needs a ledger, and quickly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from drakcelery.ledger import Ledger, Patience, connect

if TYPE_CHECKING:
    from celery import Celery

    from drakcelery.settings import Settings
    from drakcelery.storage import Storage

AMQP = "drakcelery.broker.configuration:AMQP"
"""The class with which every Celery app of ours reaches its broker."""


def make_ledger(config: Settings, *, name: str | None = None, patience: Patience = Patience.SHORT) -> Ledger:
    """A ledger on Karton's Redis; *name* and *patience* as in :func:`drakcelery.ledger.connect`."""
    return Ledger(
        connect(config.redis, name=name, patience=patience, pause=config.drakcelery.timeouts.retry),
        identity=config.drakrun.identity,
        record_ttl=config.drakcelery.record_ttl,
        timeouts=config.drakcelery.timeouts,
    )


def make_storage(config: Settings) -> Storage:
    """A storage on Karton's S3."""
    from drakcelery.storage import Storage

    return Storage.connect(config.s3, threads=config.drakcelery.upload_threads)


def make_client(config: Settings) -> Celery:
    """Celery for sending analyses on their way and asking workers something, without our tasks and steps.

    Only a worker, and Flower, which shows its tasks, need :mod:`drakcelery.celery`.
    """
    from celery import Celery

    client = Celery("drakcelery", amqp=AMQP, set_as_current=False)
    client.conf.update(celery_configuration(config))
    return client


def celery_configuration(config: Settings) -> dict[str, Any]:
    """Celery's configuration. Messages carry ids, not content; results are not kept, since the ledger has
    them."""
    from drakcelery.broker import configuration, routing

    return {
        "broker_url": config.broker_url,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,  # a broker that is away is waited for, however long
        **configuration.configuration(
            config.broker_url, config.drakcelery.timeouts, sentinel_master=config.sentinel_master
        ),
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_ignore_result": True,
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_routes": [routing.route],
        "task_default_queue": routing.NO_QUEUE,
        "worker_prefetch_multiplier": 1,
        "worker_send_task_events": True,
        # No sender event is needed: Flower hears from the worker that a task was received
        "task_send_sent_event": False,
        "worker_consumer": "drakcelery.broker.lease:Consumer",
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # After a lost connection, as before it, the slots decide how much a worker takes
        "worker_enable_prefetch_count_reduction": False,
    }
