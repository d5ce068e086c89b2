"""What follows an error of a stage: it is tried again later, another attempt begins, or all is over.

========================  =======  =================  ==============================  ================
error                     fault    counts?            where next                      whom it blames
========================  =======  =================  ==============================  ================
BadTask                            is the end         nowhere: CRASHED in Karton      nobody
Superseded, UnderWay               no                 nowhere: another has it         nobody
Astray                    GONE     no; 3 are poison   again, at once                  nobody
StorageError after run             no                 same stage and host, later      nobody
… for storage_patience    FAILED   yes                again, later                    nobody
StorageAway in prepare    AWAY     no; storage_       again, later                    nobody
                                   patience ends it
InDoubt                   DOUBTED  no                 again, at once                  its slot
GuestLost                 LOST     yes; 2 are poison  again, later                    nobody
EngineError               FAILED   yes; 10 of the     again, later                    what it names
                                   host's own do not
SlotsUnusable, a guest    FAILED   yes; as above      again, later                    its host
DiskFull                  FAILED   yes; as above      again, later                    its host
any other                 FAILED   yes                again, later                    nobody
========================  =======  =================  ==============================  ================

An error that was raised from a full disk's counts as ``DiskFull``, whatever its kind is.

*Again* is from prepare on, at the place that :func:`drakcelery.stages.dispatch.placement` chooses: another
host, if one has a free slot. A host to which it comes back keeps it out of the slots in which it failed, as
long as another slot of its profile is in use (:mod:`drakcelery.host.avoidance`). *Later* is after a pause
that grows (:func:`backoff`). An error that *counts* uses up one of ``max_attempts``; once they are used up,
or the sample is poison, the analysis is over, and CRASHED in Karton with the reason of each attempt. If the
sample fails in another slot as well, the sample is to blame and no slot is (:mod:`drakcelery.host.charges`).

Attempts that are ended from outside come to :func:`end_attempt` as well: because a process (LOST) or a vm
worker (GONE) died and had a guest, because a host or an io worker went away (GONE), or because an operator
stops a host (STOPPED, which does not count). A process that dies after the run ends no attempt: its stage
comes again, alone on the host; two such deaths, or three with the worker, are poison
(:mod:`drakcelery.recovery.deaths`).
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Sequence

import structlog

from drakcelery.errors import (
    Astray,
    BadTask,
    Blame,
    DrakceleryError,
    EngineError,
    GuestLost,
    InDoubt,
    StorageAway,
    StorageError,
    Superseded,
)
from drakcelery.host import charges
from drakcelery.host.charges import COUNTED, counted
from drakcelery.host.workspace import Workspace
from drakcelery.ledger import Ledger
from drakcelery.model.analysis import WITH_FILES, WITH_GUEST, Failure, Fault, Stage, Step
from drakcelery.model.records import Record
from drakcelery.settings import Settings
from drakcelery.stages.context import HostContext
from drakcelery.stages.guest import vacate
from drakcelery.stages.kept import keep_failed
from drakcelery.telemetry import metrics, tracing

log = structlog.get_logger(__name__)

MOST_DELAY = 300.0
"""Longest wait before another attempt, seconds."""
POISON = {Fault.LOST: 2, Fault.GONE: 3}
"""How many attempts must end like that to make a sample poison."""
POISON_LOSES = {Fault.LOST: "process or their slot", Fault.GONE: "worker or their host"}
"""What these attempts were without in the end."""


def follow_up(
    context: HostContext,
    stage: Stage,
    step: Step,
    workspace: Workspace,
    error: DrakceleryError,
    token: str,
    company: contextlib.ExitStack,
) -> None:
    """Do what follows *error*, as the table above says.

    *token* names the delivery that failed. *company*, which renews its claim, is closed once the failure is
    noted.

    Raises :class:`Superseded` if another delivery has the stage by now: its work and its files stay.
    """
    if isinstance(error, Superseded):
        log.info("superseded", reason=str(error))
        metrics.stage_interrupted(stage, "superseded")
        if isinstance(error, Astray):
            _end_astray(context, step)
        return
    if isinstance(error, StorageError) and stage in WITH_FILES:
        company.close()  # failing gives the claim back, which must not look like a lost claim
        if _postponed(context, stage, step, token, error):
            return
    _settle(context, stage, step, workspace, error, token, company)


def _postponed(context: HostContext, stage: Stage, step: Step, token: str, error: StorageError) -> bool:
    """Postpone the stage until the storage is back, and keep the workspace; False once patience is at its
    end."""
    record = context.ledger.get(step.uid)
    tries = record.postponed if record else 0
    patience = context.settings.drakcelery.storage_patience
    waited = context.ledger.postpone(
        step.uid, step.attempt, token=token, delay=backoff(tries), patience=patience
    )
    if waited >= patience:
        return False
    log.warning("stage_postponed", waited=round(waited), error=str(error))
    metrics.stage_interrupted(stage, "postponed")
    return True


def _settle(
    context: HostContext,
    stage: Stage,
    step: Step,
    workspace: Workspace,
    error: DrakceleryError,
    token: str,
    company: contextlib.ExitStack,
) -> None:
    """Begin the next attempt, or end the analysis as CRASHED."""
    log.warning("stage_failed", error=str(error))
    metrics.stage_interrupted(stage, "refused" if isinstance(error, BadTask) else "failed")
    if stage in WITH_GUEST:
        vacate(context, step)  # a prepare that was done, but failed to say so, still has its slot
    record = context.ledger.get(step.uid)
    if record is None or record.attempt != step.attempt:
        return
    fault = _fault(stage, error)
    blame = charges.charge(
        record.failures, charges.blame_of(stage, error), where=(context.host, step.slot), stage=stage
    )
    failure = failure_of(
        record, str(error), fault, host=context.host, slot=step.slot, stage=stage, cause=error, charged=blame
    )
    final = isinstance(error, BadTask)
    over = end_attempt(context.ledger, record, failure, final=final, settings=context.settings, token=token)
    company.close()
    if over and record.analysis is not None:
        keep_failed(context, record.analysis, workspace)
    workspace.remove()


def _fault(stage: Stage, error: DrakceleryError) -> Fault:
    if isinstance(error, GuestLost):
        return Fault.LOST
    if isinstance(error, InDoubt):
        return Fault.DOUBTED
    # The later stages have waited for S3 already, with their files
    return Fault.AWAY if stage is Stage.PREPARE and isinstance(error, StorageAway) else Fault.FAILED


def _end_astray(context: HostContext, step: Step) -> None:
    """End an attempt of a machine that has lost its name to this one: nobody else would ever take it up."""
    record = context.ledger.get(step.uid)
    if record is None or record.attempt != step.attempt:
        return
    reason = f"the machine that was at work on it has lost its name, {context.host}, to another"
    failure = failure_of(record, reason, Fault.GONE, host=context.host, slot=step.slot)
    with contextlib.suppress(Superseded):  # somebody else was first
        end_attempt(context.ledger, record, failure, settings=context.settings)


def failure_of(
    record: Record,
    error: str,
    fault: Fault,
    *,
    host: str | None,
    slot: str | None,
    stage: Stage | None = None,
    cause: BaseException | None = None,
    charged: Blame | None = None,
) -> Failure:
    """Why the current attempt of *record* ends; *stage*: by default the one that was to be next.

    *cause* is the error, if there was one; *charged* is what it is charged to, by default nothing.

    Its time is noted by :func:`end_attempt`, by Redis' clock.
    """
    return Failure(
        attempt=record.attempts,
        number=record.attempt,
        stage=stage or record.following or Stage.PUBLISH,
        error=error,
        host=host,
        slot=slot,
        fault=fault,
        code=cause.code if isinstance(cause, EngineError) else None,
        charged=charged,
        lacks=cause.lacks if isinstance(cause, InDoubt) else None,
        at=0,
    )


def end_attempt(
    ledger: Ledger,
    record: Record,
    failure: Failure,
    *,
    settings: Settings,
    final: bool = False,
    token: str = "",
) -> bool:
    """Note a failure. Then the next attempt is due after a while, or the analysis is over (True).

    It is over if *final* is set or :func:`_is_end` says so. *token* names the delivery that failed; without
    it the attempt is ended from outside. Raises :class:`Superseded` if the attempt is stale.
    """
    failure = failure.model_copy(update={"at": ledger.now()})  # no host's clock decides
    failures = [*record.failures, failure]
    given_up, reason = _is_end(failures, settings)
    final = final or given_up
    lines = [f"{reason}\n", *(f"  {one.sentence()}\n" for one in failures)]
    crashed = ledger.last_word(record.task_uid, lines) if final else None
    delay = _delay(failures)
    told = failure.model_copy(update={"error": reason})
    following = ledger.fail(
        record.uid,
        record.attempt,
        told,
        task_uid=record.task_uid,
        final=final,
        crashed=crashed,
        delay=delay,
        token=token,
    )
    metrics.attempt_failed(failure.fault)
    tracing.attempt_failed(record, told, lambda: ledger.get(record.uid))
    about = {"uid": record.uid, "attempt": record.attempt, "stage": failure.stage, "error": reason}
    if final:
        log.error("analysis_failed", **about)
    else:
        log.info("next_attempt", **about, next=following, delay=round(delay, 1))
    return final


def _is_end(failures: Sequence[Failure], settings: Settings) -> tuple[bool, str]:
    """Whether the last of *failures* ends the analysis, and the reason to give.

    It does if ``max_attempts`` attempts that count have failed, if the sample is poison (:data:`POISON`), or
    if S3 stayed away for longer than ``storage_patience``.
    """
    last, ours = failures[-1], settings.drakcelery
    same = sum(one.fault is last.fault for one in failures)
    if last.fault in POISON and same >= POISON[last.fault]:
        return True, f"poison: {same} attempts lost their {POISON_LOSES[last.fault]}; last: {last.error}"
    away = [one.at for one in failures if one.fault is Fault.AWAY]
    given_up = last.fault is Fault.AWAY and away[-1] - away[0] > ours.storage_patience
    return given_up or counted(failures) >= ours.max_attempts, last.error


def _delay(failures: Sequence[Failure]) -> float:
    """Seconds until the attempt after *failures* begins."""
    fault = failures[-1].fault
    if fault is Fault.AWAY:
        return backoff(sum(one.fault is Fault.AWAY for one in failures) - 1)
    return backoff(sum(one.fault in COUNTED for one in failures) - 1) if fault in COUNTED else 0.0


def backoff(tries: int) -> float:
    """Seconds until the next try: 1, 2, 4, … up to :data:`MOST_DELAY`, half of it by chance."""
    delay = min(MOST_DELAY, 2.0**tries)
    return delay / 2 + random.uniform(0, delay / 2)  # noqa: S311 spreads load, guards nothing
