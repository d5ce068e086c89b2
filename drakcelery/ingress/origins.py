"""Which earlier analysis may stand for a run, and whether the hosts would run the sample as it was run."""

from __future__ import annotations

import structlog

from drakcelery.errors import UnreadableRecord
from drakcelery.ledger import Ledger
from drakcelery.ledger.twins import Twins
from drakcelery.model.analysis import Analysis, Place, State
from drakcelery.model.metadata import Metadata
from drakcelery.model.records import HostStatus, Record
from drakcelery.model.reuse import Miss, NotReused

log = structlog.get_logger(__name__)

WITH_SNAPSHOT = "drakvuf"
"""The engine whose guests are restored from a snapshot, which its hosts report."""


def origin_of(ledger: Ledger, twins: Twins, analysis: Analysis, *, limit: int) -> Record:
    """The record of an analysis under the same conditions that is young enough: than *limit* seconds, too.

    Raises :class:`NotReused`.
    """
    conditions = analysis.reuse.conditions
    if conditions is None:
        raise NotReused(Miss.OFF, "nobody says what its files contain")
    uid = twins.reusable(conditions)
    record = None
    try:
        record = ledger.get(uid) if uid is not None else None
    except UnreadableRecord:
        log.warning("origin_not_read", origin=uid)
    if record is None or record.analysis is None or record.analysis.reuse.conditions != conditions:
        raise NotReused(Miss.NONE, "there is no earlier analysis of it under the same conditions")
    if record.state is not State.PUBLISHED or record.finished is None or record.uid == analysis.uid:
        raise NotReused(Miss.NONE, f"analysis {record.uid} is {record.state.value}, or has its own uid")
    age = ledger.now() - record.finished
    if age > min(limit, analysis.reuse.seconds or 0):
        raise NotReused(Miss.OLD, f"analysis {record.uid} is {age:.0f} s old")
    return record


def require_free(ledger: Ledger, analysis: Analysis) -> int:
    """Make sure that nobody is at work under its uid; returns the number that its first attempt would
    have.

    Raises :class:`NotReused`.
    """
    try:
        before = ledger.get(analysis.uid)
    except UnreadableRecord as error:
        raise NotReused(Miss.FAILED, str(error)) from None
    if before is not None and (not before.state.is_over or before.task_uid == analysis.task_uid):
        raise NotReused(Miss.FAILED, f"there is a record of {analysis.uid}")
    return 1 if before is None else before.attempt + 1


def check_fleet(hosts: list[HostStatus], place: Place, metadata: Metadata) -> None:
    """Raise :class:`NotReused` unless every host of *place* would run it as the earlier one was run."""
    ours = [
        host
        for host in hosts
        if place.host in (None, host.host) and any(slot.profile == place.profile for slot in host.slots)
    ]
    if not ours:
        raise NotReused(Miss.FLEET, f"no host of {place} says which engine it has")
    for host in ours:
        if host.engine != metadata.engine:
            raise NotReused(Miss.FLEET, f"{host.host} has {host.engine}, not {metadata.engine}")
        unknown = host.snapshot is None and host.engine.startswith(WITH_SNAPSHOT)
        if unknown or host.snapshot != metadata.snapshot_id:
            raise NotReused(Miss.FLEET, f"{host.host} has another snapshot, or does not say which")
