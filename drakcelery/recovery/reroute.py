"""Reroutes attempts that wait for a host that accepts nothing any more."""

from __future__ import annotations

from collections.abc import Collection

import structlog

from drakcelery.errors import Superseded
from drakcelery.ledger import Ledger
from drakcelery.model.analysis import State
from drakcelery.model.records import Record
from drakcelery.recovery.isolation import Isolation
from drakcelery.stages.dispatch import Send
from drakcelery.telemetry import tracing
from drakcelery.telemetry.logs import about

log = structlog.get_logger(__name__)


def reroute(ledger: Ledger, send: Send, profiles: Collection[str]) -> int:
    """Send attempts again that may wait in the queue of a host without a slot of *profiles* left in use.

    After a failure an attempt is sent to another host that has a free slot just then
    (:func:`drakcelery.stages.dispatch.placement`). If that host is drained before it takes the message up, no
    other host would see it. It is not known which queue a message is in, so each such attempt is replaced by
    a new one; the message that is left behind is stale. A sample that asks for the host waits for it.

    Returns how many were sent. Raises :class:`kombu.exceptions.OperationalError` if the broker is away.
    """
    sent = 0
    isolation = Isolation(ledger.quarantine, where="reroute")
    isolation.begin()
    for record in ledger.live():
        if not isolation.skips(record.uid):
            with isolation.item(record.uid):
                sent += _waits_for_closed_host(ledger, record, profiles) and _send_on(ledger, send, record)
    return sent


def _send_on(ledger: Ledger, send: Send, record: Record) -> bool:
    """Replace the attempt of *record* by a new one. False if a worker has taken it up."""
    try:
        ledger.begin_attempt(record.uid, after=record.attempt, lost=True)
    except Superseded:
        return False
    again = ledger.get(record.uid)
    tracing.attempt_replaced(record, "its host takes nothing any more", lambda: again)
    if again is not None:
        with about(**again.log_fields):
            log.info("rerouted")
            send(again)
    return True


def _waits_for_closed_host(ledger: Ledger, record: Record, profiles: Collection[str]) -> bool:
    return (
        record.state is State.QUEUED
        and bool(record.failures)
        and not record.is_unsent
        and record.place is not None
        and record.place.host is None
        and record.place.profile in profiles
        and not ledger.is_due_later(record.uid)
    )
