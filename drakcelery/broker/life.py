"""Whether the broker is there, and which one it is."""

from __future__ import annotations

import kombu
from celery import Celery
from kombu.exceptions import OperationalError

from drakcelery.broker.redis_transport import Prompt
from drakcelery.ledger.watch import ServerId

SECONDS = 5
"""How long a broker has to give a sign of life."""


def ask(app: Celery) -> ServerId:
    """Ask the broker of *app* for a sign of life.

    Raises:
        kombu.exceptions.OperationalError: it is away, or does not take what is sent.
    """
    with app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, interval_start=0, timeout=SECONDS)
        return _broker_of(connection)


def _broker_of(connection: kombu.Connection) -> ServerId:
    """Which broker answers; no more is known of one that is not Redis.

    Raises:
        kombu.exceptions.OperationalError: it does not.
    """
    channel = connection.default_channel
    if not isinstance(channel, Prompt):
        return ServerId()
    try:
        with channel.conn_or_acquire() as client:
            return ServerId.of(client)
    except connection.connection_errors as error:
        raise OperationalError(str(error)) from error
