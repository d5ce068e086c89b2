"""What a host says of itself to the fleet, and to those who ask its vm worker."""

from __future__ import annotations

import time

from drakcelery.host.checkup import checkups
from drakcelery.host.history import Run
from drakcelery.host.slot import Slot
from drakcelery.model.records import CanaryStatus, HostStatus, SlotStatus
from drakcelery.stages.context import Site


def report(site: Site, status: HostStatus) -> None:
    """Tell the fleet. Raises :class:`redis.RedisError`."""
    ledger = site.ledger
    with ledger.named():
        ledger.fleet.report(in_redis_time(site, status), lasts=ledger.timeouts.host)


def in_redis_time(site: Site, status: HostStatus) -> HostStatus:
    """As others are told: this host's clock may be wrong."""
    ahead = time.time() - site.ledger.now()
    slots = tuple(_moved(slot, ahead) for slot in status.slots)
    return status.model_copy(update={"slots": slots})


def _moved(slot: SlotStatus, ahead: float) -> SlotStatus:
    at = slot.canary.at
    canary = slot.canary.model_copy(update={"at": at - ahead if at is not None else None})
    return slot.model_copy(update={"since": slot.since - ahead, "canary": canary})


def host_status(site: Site) -> HostStatus:
    """This host as it is, by its own clock."""
    halted = site.readiness.halted()
    slots = site.slots.all()
    runs = site.slots.history()  # after the slots: what has answered a call is among them
    healths = checkups({slot.name: slot.profile for slot in slots}, runs)
    canaries = {run.slot: run for run in runs if run.kind.is_canary}
    return HostStatus(
        host=site.host,
        engine=site.engine.version(),
        slots=tuple(
            SlotStatus(
                name=slot.name,
                profile=slot.profile,
                state="halted" if halted and slot.is_open else slot.status,
                uid=None if slot.is_canary else slot.uid,
                attempt=None if slot.is_canary else slot.attempt,
                since=slot.status_since,
                closed_by=slot.closure.by if slot.closure else None,
                score=healths[slot.name].score,
                reasons=healths[slot.name].reasons,
                canary=_canary_status(slot, canaries.get(slot.name)),
            )
            for slot in slots
        ),
        draining=any(closure.slot is None for closure in site.slots.closed()),
        halted=halted,
        snapshot=site.snapshots.current,
        snapshot_changed=site.snapshots.has_changed,
        io_alive=site.readiness.io_alive,
    )


def _canary_status(slot: Slot, last: Run | None) -> CanaryStatus:
    return CanaryStatus(
        called=slot.calls.called,
        begun=slot.calls.begun,
        judged=slot.calls.judged,
        at=last.at if last else None,
        trouble=last.error if last else None,
    )
