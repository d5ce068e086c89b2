"""Where the next attempt goes, and how it is sent there: to another host after a failure, if one is free.

The host that its message reaches decides as well: it keeps an analysis out of the slots in which it failed
(:mod:`drakcelery.host.avoidance`).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable

from celery import Celery

from drakcelery.broker import routing
from drakcelery.ledger import Ledger
from drakcelery.model.analysis import Analysis, Place, Stage, Step
from drakcelery.model.records import HostStatus, Record
from drakcelery.model.slot_state import ReportedState

Send = Callable[[Record], None]
"""Sends the current attempt of a record on its way, from the stage that comes next: :func:`send`, say."""


def send(app: Celery, ledger: Ledger, record: Record) -> None:
    """Send the current attempt of *record* on its way, from the stage that comes next, unless it is over.

    Raises:
        kombu.exceptions.OperationalError: the broker is away.
    """
    analysis, stage = record.analysis, record.following
    if analysis is None or stage is None or record.state.is_over:
        return
    if stage is Stage.PREPARE:
        failed = [failure.host for failure in record.failures if failure.host]
        hosts = ledger.fleet.hosts() if failed else ()
        where = placement(analysis, hosts=hosts, failed=failed)
    else:
        where = Place(profile=analysis.profile, host=record.host)
    step = Step(
        uid=record.uid, attempt=record.attempt, profile=where.profile, host=where.host, slot=record.slot
    )
    routing.send(app, analysis, step, attempts=record.attempts, first=stage)
    ledger.sent(record.uid, record.attempt)


def placement(analysis: Analysis, *, hosts: Iterable[HostStatus] = (), failed: Iterable[str] = ()) -> Place:
    """Where the next attempt goes.

    After a failure another host that has a free slot of the profile right now is preferred. Which of them
    depends on the analysis, and on how many slots each has free: after a burst of failures not all go to one.
    """
    wanted, avoided = analysis.place, set(failed)
    if wanted.host is not None or not avoided:
        return wanted
    free = {
        status.host: sum(
            slot.profile == wanted.profile and slot.state is ReportedState.FREE for slot in status.slots
        )
        for status in hosts
        if status.host not in avoided
    }
    elsewhere = [host for host, slots in free.items() if slots]
    chosen = min(elsewhere, key=lambda host: _distance(analysis.uid, host) / free[host], default=None)
    return Place(profile=wanted.profile, host=chosen)


def _distance(uid: str, host: str) -> float:
    """Rendezvous hashing: the nearest host gets the analysis; a host's chance is proportional to its
    slots."""
    digest = hashlib.sha256(f"{uid} {host}".encode()).digest()
    return -math.log((int.from_bytes(digest[:8], "big") + 1) / (2**64 + 1))
