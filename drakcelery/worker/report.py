"""What a host says about itself to the fleet, and to those who ask its vm worker."""

from __future__ import annotations

import time

from drakcelery.host.checkup import checkups
from drakcelery.host.history import Run
from drakcelery.host.slot import Slot
from drakcelery.model.records import CanaryStatus, HostStatus, SlotStatus
from drakcelery.model.slot_state import ReportedState
from drakcelery.stages.context import HostContext


def report(context: HostContext, status: HostStatus) -> None:
    """Tell the fleet. Raises :class:`redis.RedisError`."""
    ledger = context.ledger
    with ledger.named():
        ledger.fleet.report(in_redis_time(context, status), lasts=ledger.timeouts.host)


def in_redis_time(context: HostContext, status: HostStatus) -> HostStatus:
    """*status* with its times by Redis' clock, since this host's may be wrong."""
    ahead = time.time() - context.ledger.now()
    slots = tuple(_moved(slot, ahead) for slot in status.slots)
    return status.model_copy(update={"slots": slots})


def _moved(slot: SlotStatus, ahead: float) -> SlotStatus:
    at = slot.canary.at
    canary = slot.canary.model_copy(update={"at": at - ahead if at is not None else None})
    return slot.model_copy(update={"since": slot.since - ahead, "canary": canary})


def host_status(context: HostContext) -> HostStatus:
    """This host as it is, by its own clock."""
    halted = context.readiness.halted()
    slots = context.slots.all()
    runs = context.slots.history()  # after the slots: what has answered a call is among them
    healths = checkups({slot.name: slot.profile for slot in slots}, runs)
    canaries = {run.slot: run for run in runs if run.kind.is_canary}
    return HostStatus(
        host=context.host,
        engine=context.engine.version(),
        slots=tuple(
            SlotStatus(
                name=slot.name,
                profile=slot.profile,
                state=ReportedState.HALTED if halted and slot.is_open else slot.status,
                uid=None if slot.is_canary else slot.uid,
                attempt=None if slot.is_canary else slot.attempt,
                since=slot.status_since,
                closed_by=slot.drain.by if slot.drain else None,
                score=healths[slot.name].score,
                reasons=healths[slot.name].reasons,
                canary=_canary_status(slot, canaries.get(slot.name)),
            )
            for slot in slots
        ),
        draining=any(drain.slot is None for drain in context.slots.closed()),
        halted=halted,
        snapshot=context.snapshots.current,
        snapshot_changed=context.snapshots.has_changed,
        io_alive=context.readiness.io_alive,
    )


def _canary_status(slot: Slot, last: Run | None) -> CanaryStatus:
    return CanaryStatus(
        called=slot.calls.called,
        begun=slot.calls.begun,
        judged=slot.calls.judged,
        at=last.at if last else None,
        trouble=last.error if last else None,
    )
