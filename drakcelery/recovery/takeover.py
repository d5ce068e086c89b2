"""Takeover: the work of a worker or process that died goes on at once, without waiting for silence.

Reconcile would do the same, half a minute later. A message that is sent here may be the second copy of one
that the broker still has; the ledger lets only one of the two in.
"""

from __future__ import annotations

from collections.abc import Iterable

import structlog
from kombu.exceptions import OperationalError

from drakcelery.errors import Superseded
from drakcelery.host.slot import Slot
from drakcelery.host.workspace import Workspace
from drakcelery.model.analysis import WITH_FILES, WITH_GUEST, Fault, Stage, Step
from drakcelery.model.records import Record
from drakcelery.recovery import deaths
from drakcelery.recovery.isolation import Isolation
from drakcelery.stages.context import HostContext
from drakcelery.stages.dispatch import Send
from drakcelery.stages.failures import end_attempt, failure_of
from drakcelery.telemetry import metrics
from drakcelery.telemetry.logs import about

log = structlog.get_logger(__name__)


def process_died(context: HostContext, send: Send, stage: Stage, step: Step) -> None:
    """A pool process died at *stage*; the broker delivers its message again."""
    record = context.ledger.get(step.uid)
    if record is None or record.attempt != step.attempt or record.state.is_over or record.is_foreign:
        return
    metrics.recovered("process_died")
    if record.done is stage:
        send(record)  # it had finished its stage, but may not have sent the next one
    else:  # its message comes again
        _count(context, record, stage, Fault.LOST)


def vm_worker_begins(context: HostContext, send: Send, held: Iterable[Slot]) -> None:
    """Every guest and process of the vm worker before this one is gone; *held* are the slots that had one."""
    reason = "the vm worker that watched the guest ended"
    isolation = _isolation(context)
    for slot in held:
        with about(**slot.log_fields), isolation.item(slot.uid or slot.name):
            end_held(context, slot, reason, Fault.GONE)
    for record in _here(context):
        with isolation.item(record.uid):
            if _waits_for_worker(context, record):
                _resume_guest(context, send, record, reason)


def _resume_guest(context: HostContext, send: Send, record: Record, reason: str) -> None:
    stage = record.following
    if stage in WITH_GUEST and not _has_run(context, record):
        _end(context, record, record.slot, reason, Fault.GONE)
    elif stage in WITH_GUEST or (stage is Stage.COLLECT and record.busy is None):
        _go_on(context, send, record)  # its run is done, but not noted as done, or collect was not sent


def io_worker_begins(context: HostContext, send: Send) -> None:
    """Every process of the io worker before this one is gone; the files are still there."""
    isolation = _isolation(context)
    for record in _here(context):
        with isolation.item(record.uid):
            if record.following in WITH_FILES and _waits_for_worker(context, record):
                _go_on(context, send, record)


def end_held(context: HostContext, slot: Slot, reason: str, fault: Fault) -> None:
    """End the attempt that holds *slot*, if it is still the current one.

    Not if its run is done: the chain goes on from there without a second detonation.
    """
    record = context.ledger.get(slot.uid or "")
    if record is None or record.attempt != slot.attempt or record.following not in WITH_GUEST:
        return
    if not _has_run(context, record):
        _end(context, record, slot.name, reason, fault)


def _isolation(context: HostContext) -> Isolation:
    """Reconcile's isolation, so that reconcile tries again what fails here."""
    return Isolation(context.ledger.quarantine, where="reconcile")


def _here(context: HostContext) -> list[Record]:
    """Analyses that this host has begun and that this version can handle.

    This includes those of another machine of this name: this machine has the name because nothing was heard
    of the other for as long as its claim lasts.
    """
    return [
        record for record in context.ledger.live() if record.host == context.host and not record.is_foreign
    ]


def _waits_for_worker(context: HostContext, record: Record) -> bool:
    """Whether the analysis waits for its worker only."""
    return not context.ledger.is_due_later(record.uid)


def _has_run(context: HostContext, record: Record) -> bool:
    return _workspace(context, record).run_is_whole()


def _workspace(context: HostContext, record: Record) -> Workspace:
    return Workspace.of(context.settings.drakcelery.state_dir, record.uid, record.attempt)


def _go_on(context: HostContext, send: Send, record: Record) -> None:
    with about(**record.log_fields):
        if record.following is not None and _count(context, record, record.following, Fault.GONE):
            return
        try:
            send(record)
        except OperationalError as error:
            log.warning("broker_away", error=str(error))  # reconcile will send it
        else:
            metrics.recovered("taken_up")
            log.info("taken_up")


def _count(context: HostContext, record: Record, stage: Stage, fault: Fault) -> bool:
    """Count a death, if it was one. True if the analysis is over."""
    try:
        return deaths.process_died(
            context.ledger, record, stage, fault, host=context.host, settings=context.settings
        )
    except Superseded as error:
        log.info("superseded", reason=str(error))
        return True


def _end(context: HostContext, record: Record, slot: str | None, reason: str, fault: Fault) -> None:
    lost = _workspace(context, record).lost()
    failure = failure_of(record, lost or reason, fault, host=context.host, slot=slot)
    with about(**record.log_fields | {"slot": slot}):
        try:
            end_attempt(context.ledger, record, failure, settings=context.settings)
            metrics.recovered("ended")
        except Superseded as error:
            log.info("superseded", reason=str(error))
