"""The five stages of an attempt, and what happens when one fails. No Celery here: plain functions.

A stage that is delivered twice does no harm: it starts by asking the ledger, and what it writes it can
write again.
"""

from __future__ import annotations

import contextlib
import functools
import time
import uuid
from collections.abc import Callable

import structlog

from drakcelery.artifacts.metadata import METADATA
from drakcelery.errors import (
    Astray,
    BadTask,
    DrakceleryError,
    GuestLost,
    InDoubt,
    InfrastructureError,
    NeedsSolitude,
    StorageAway,
    StorageError,
    Superseded,
    unexpected,
)
from drakcelery.failpoints import reach
from drakcelery.host import charges
from drakcelery.host import state_dir as directories
from drakcelery.host.alone import alone, together
from drakcelery.host.workspace import LOG_NAME, Workspace
from drakcelery.model.analysis import WITH_FILES, Analysis, Fault, Stage, Step
from drakcelery.model.records import Record
from drakcelery.stages import files, guest, suspicion
from drakcelery.stages.context import Site
from drakcelery.stages.failures import backoff, end_attempt, failure_of
from drakcelery.stages.heartbeat import Pulse
from drakcelery.telemetry import metrics, tracing
from drakcelery.telemetry.logs import analysis_log

log = structlog.get_logger(__name__)


def perform(site: Site, stage: Stage, step: Step) -> Step:
    """Do one stage; returns the message for the next.

    Raises:
        Superseded: the attempt is stale. Nothing was changed; the chain must stop.
        DrakceleryError: the stage failed, and what follows from that has been done.
    """
    workspace = site.workspace(step)
    context = {"uid": step.uid, "attempt": step.attempt, "stage": stage.value, "host": site.host}
    with analysis_log(workspace.log, slot=step.slot, **context), contextlib.ExitStack() as company:
        token = uuid.uuid4().hex
        try:
            return _work(site, stage, step, workspace, token, company)
        except Superseded as error:
            log.info("superseded", reason=str(error))
            metrics.stage_interrupted(stage, "superseded")
            if isinstance(error, Astray):
                _end_astray(site, step)
            raise
        except StorageError as error:
            if stage in WITH_FILES:
                company.close()  # it gives the claim back, and is not to take that for a loss
            if stage not in WITH_FILES or not _postponed(site, stage, step, token, error):
                _settle(site, stage, step, workspace, error, token, company)
            raise
        except DrakceleryError as error:
            _settle(site, stage, step, workspace, error, token, company)
            raise
        except Exception as error:
            log.exception("stage_crashed")
            wrapped = InfrastructureError(unexpected(stage.value, error))
            _settle(site, stage, step, workspace, wrapped, token, company)
            raise wrapped from error


def _end_astray(site: Site, step: Step) -> None:
    """End an attempt whose machine has lost its name to this one: nobody else would ever take it up."""
    record = site.ledger.get(step.uid)
    if record is None or record.attempt != step.attempt:
        return
    reason = f"the machine that was at work on it has lost its name, {site.host}, to another"
    failure = failure_of(record, reason, Fault.GONE, host=site.host, slot=step.slot)
    with contextlib.suppress(Superseded):  # somebody else was first
        end_attempt(site.ledger, record, failure, settings=site.settings)


def _work(
    site: Site, stage: Stage, step: Step, workspace: Workspace, token: str, company: contextlib.ExitStack
) -> Step:
    """Enter the stage, do it, leave it; each is fenced by the ledger.

    The claim is renewed until the guest is gone, and where the stage fails until *company* is dismissed, with
    the reason noted: a guest that dies slowly is no silence.
    """
    with guest.slot_given_back(site, stage, step):
        record, now = _enter(site, stage, step, workspace, token, company)
        started = time.monotonic()
        metrics.stage_begun(stage, waited=now - record.updated)
        work = tracing.Work(record=record, stage=stage, step=step, host=site.host, token=token, begun=now)
        reach(f"{stage.value}.entered", step.uid)
        with tracing.stage(work):
            stop = guest.stopper(site, stage, step)
            pulse = company.enter_context(Pulse(site.ledger, step.uid, step.attempt, token=token, stop=stop))
            try:
                following = _BODIES[stage](site, step, _analysis(record), workspace)
            except Exception as error:
                pulse.beat()  # its guest or its files may have gone because it is stale
                if pulse.is_stale:
                    raise Superseded(
                        f"analysis {step.uid}: attempt {step.attempt} was ended meanwhile"
                    ) from None
                suspicion.charge(site, stage, step, record, error, seconds=time.monotonic() - started)
                raise
    pulse.end()
    if stage is Stage.PUBLISH:  # which closes the record itself
        tracing.published(work)
    else:
        site.ledger.complete(step.uid, step.attempt, stage, token=token)
        reach(f"{stage.value}.completed", step.uid)
    seconds = time.monotonic() - started
    metrics.stage_done(stage, step.profile, seconds=seconds)
    log.info("stage_done", seconds=round(seconds, 3))
    return following


def _enter(
    site: Site, stage: Stage, step: Step, workspace: Workspace, token: str, company: contextlib.ExitStack
) -> tuple[Record, float]:
    """Enter the stage: the record as it was before, and when.

    As long as *company* lasts, work on files is under way beside other such, or alone where it has killed.
    """
    enter = functools.partial(
        site.ledger.advance,
        step.uid,
        step.attempt,
        stage,
        host=site.host,
        slot=step.slot or "",
        token=token,
        machine=site.machine.key,
        has_files=workspace.root.is_dir(),  # also after the machine was started anew
    )
    if stage not in WITH_FILES:
        return enter()
    place = directories.own_io(site.settings.drakcelery.state_dir)
    waiting = _lingering(site, stage, step)
    company.enter_context(together(place, waiting))
    try:
        return enter(beside_others=True)
    except NeedsSolitude:
        company.close()
        log.warning("waits_to_be_alone")
        company.enter_context(alone(place, waiting))
        return enter()


def _lingering(site: Site, stage: Stage, step: Step) -> Callable[[], None]:
    """For who waits to begin: show life now and then, so that reconcile does not send the step again."""
    due = 0.0

    def linger() -> None:
        nonlocal due
        if time.monotonic() >= due:
            due = time.monotonic() + site.ledger.times.beat
            site.ledger.linger(step.uid, step.attempt, stage)

    return linger


def _analysis(record: Record) -> Analysis:
    if record.analysis is None:
        raise InfrastructureError(f"the ledger's record of {record.uid} says nothing of the analysis")
    return record.analysis


_BODIES: dict[Stage, Callable[[Site, Step, Analysis, Workspace], Step]] = {
    Stage.PREPARE: guest.prepare,
    Stage.RUN: guest.run,
    Stage.COLLECT: files.collect,
    Stage.UPLOAD: files.upload,
    Stage.PUBLISH: files.publish,
}


# After a failure


def _postponed(site: Site, stage: Stage, step: Step, token: str, error: StorageError) -> bool:
    """Wait the storage out, with the workspace kept; False once patience is at its end."""
    record = site.ledger.get(step.uid)
    tries = record.postponed if record else 0
    patience = site.settings.drakcelery.storage_patience
    waited = site.ledger.postpone(
        step.uid, step.attempt, token=token, delay=backoff(tries), patience=patience
    )
    if waited >= patience:
        return False
    log.warning("stage_postponed", waited=round(waited), error=str(error))
    metrics.stage_interrupted(stage, "postponed")
    return True


def _settle(
    site: Site,
    stage: Stage,
    step: Step,
    workspace: Workspace,
    error: DrakceleryError,
    token: str,
    company: contextlib.ExitStack,
) -> None:
    """Begin the next attempt, or end the analysis as CRASHED; *company* is dismissed once that is noted.

    Raises :class:`Superseded` where another delivery has the stage by now: its work and its files stay.
    """
    log.warning("stage_failed", error=str(error))
    metrics.stage_interrupted(stage, "refused" if isinstance(error, BadTask) else "failed")
    if stage in (Stage.PREPARE, Stage.RUN):
        guest.vacate(site, step)  # a prepare that was done, and failed to say so, has its slot still
    record = site.ledger.get(step.uid)
    if record is None or record.attempt != step.attempt:
        return
    fault = _fault(stage, error)
    blame = charges.charge(
        record.failures, charges.blame_of(stage, error), site=(site.host, step.slot), stage=stage
    )
    failure = failure_of(
        record, str(error), fault, host=site.host, slot=step.slot, stage=stage, cause=error, charged=blame
    )
    final = isinstance(error, BadTask)
    over = end_attempt(site.ledger, record, failure, final=final, settings=site.settings, token=token)
    company.close()
    if over and record.analysis is not None:
        _keep_log(site, record.analysis, workspace)
    workspace.remove()


def _fault(stage: Stage, error: DrakceleryError) -> Fault:
    if isinstance(error, GuestLost):
        return Fault.LOST
    if isinstance(error, InDoubt):
        return Fault.DOUBTED
    # The later stages have waited for S3 already, with their files
    return Fault.AWAY if stage is Stage.PREPARE and isinstance(error, StorageAway) else Fault.FAILED


def _keep_log(site: Site, analysis: Analysis, workspace: Workspace) -> None:
    """Store what we logged, so that a failed analysis can be understood as well."""
    if not files.has_log(workspace):
        return
    bucket = files.bucket_of(site, analysis)
    try:
        site.storage.ensure_bucket(bucket)
        if site.storage.holds(bucket, f"{analysis.uid}/{METADATA}"):
            log.warning("log_not_kept", error="there is a complete analysis of this uid, which is spared")
            return
        site.storage.upload_all(bucket, analysis.uid, {LOG_NAME: workspace.log}, last=LOG_NAME)
    except StorageError as error:
        log.warning("log_not_kept", error=str(error))
