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
from karton.core import Task
from redis.exceptions import RedisError

from drakcelery import artifacts, safe_files
from drakcelery.artifacts.metadata import METADATA, write_metadata
from drakcelery.artifacts.output import Ready, nobody
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
from drakcelery.forecast.durations import Durations
from drakcelery.host import charges
from drakcelery.host import state_dir as directories
from drakcelery.host.alone import alone, together
from drakcelery.host.workspace import LOG_NAME, Prepared, Workspace
from drakcelery.karton import contract
from drakcelery.karton.destination import destination
from drakcelery.model.analysis import WITH_FILES, Analysis, Fault, Manifest, Outcome, Stage, Step
from drakcelery.model.records import Record
from drakcelery.stages import guest, suspicion
from drakcelery.stages.context import Site
from drakcelery.stages.early_upload import clear, head_start, left
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


# collect, upload, publish: the stages that need files only


def _collect(site: Site, step: Step, analysis: Analysis, workspace: Workspace) -> Step:
    guest.check_evidence(workspace)
    bucket, check = _bucket(site, analysis), _still_wanted(site, step)
    with head_start(site.storage, bucket, analysis.uid, workspace, check=check) as start:
        # Of a test sample nothing may be in the bucket before its task is declared
        ready = nobody if analysis.is_test else start.begin
        manifest = _make_artifacts(site, step, analysis, workspace, ready)
        reach("collect.collected", step.uid)
        uploaded = start.finish()
    reach("collect.uploaded", step.uid)
    workspace.save(uploaded)
    reach("collect.noted", step.uid)
    workspace.save(manifest)
    reach("collect.saved", step.uid)
    log.info(
        "collected",
        artifacts=len(manifest.artifacts),
        dumps=len(manifest.dumps_metadata),
        uploaded=len(uploaded.objects),
    )
    return step


def _make_artifacts(
    site: Site,
    step: Step,
    analysis: Analysis,
    workspace: Workspace,
    ready: Ready,
) -> Manifest:
    ours = site.settings.drakcelery
    record = site.ledger.get(step.uid)
    prepared, outcome = workspace.load(Prepared), workspace.load(Outcome)
    manifest = artifacts.collect(
        raw=workspace.raw,
        out=workspace.out,
        analysis=analysis,
        outcome=outcome,
        sample_sha256=prepared.sample_sha256,
        start_command=outcome.start_command or prepared.start_command,
        host=site.host,
        slot=guest.slot_of(step),
        attempts=record.attempts if record else step.attempt,
        dumps_total_size=ours.dumps_total_size,
        dumps_single_size=ours.dumps_single_size,
        ready=ready,
    )
    metrics.dumps_dropped(manifest.metadata["dumps_dropped"]["count"])
    return manifest


def _upload(site: Site, step: Step, analysis: Analysis, workspace: Workspace) -> Step:
    manifest = workspace.load(Manifest)
    bucket = _bucket(site, analysis)
    site.storage.ensure_bucket(bucket)
    if analysis.is_test:
        # Karton's collector removes from its own bucket what no task refers to: the task comes first
        site.ledger.declare(_analysis_task(site, step, analysis, manifest)[1])
    write_metadata(workspace.out, manifest.metadata)  # which is synced, as no file of the artifacts is
    log_files = {LOG_NAME: workspace.log} if _has_log(workspace) else {}
    keep = {artifact.name for artifact in manifest.artifacts} | set(log_files)
    check = _still_wanted(site, step)
    there = clear(site.storage, bucket, analysis.uid, keep=keep, out=workspace.out, check=check)
    missing = left(workspace, manifest, bucket, there)
    log.info("uploading", bucket=bucket, files=len(missing), bytes=sum(one.size for one in missing))
    files = {artifact.name: workspace.out / artifact.name for artifact in missing}
    site.storage.upload_all(
        bucket,
        analysis.uid,
        files | log_files | {METADATA: workspace.out / METADATA},
        last=METADATA,
        sha256={artifact.name: artifact.sha256 for artifact in missing},
        check=check,
    )
    reach("upload.uploaded", step.uid)
    return step


def _has_log(workspace: Workspace) -> bool:
    """With a high log_level there may be nothing in it."""
    return safe_files.is_regular(workspace.log) and workspace.log.lstat().st_size > 0


def _still_wanted(site: Site, step: Step) -> Callable[[], None]:
    """A process that was frozen must not go on to write over what its successor published."""

    def check() -> None:
        if not site.ledger.is_current(step.uid, step.attempt):
            raise Superseded(f"analysis {step.uid}: attempt {step.attempt} was ended during upload")

    return check


def _publish(site: Site, step: Step, analysis: Analysis, workspace: Workspace) -> Step:
    sample_task, task = _analysis_task(site, step, analysis, workspace.load(Manifest))
    record = site.ledger.publish(
        analysis.uid,
        step.attempt,
        task_uid=analysis.task_uid,
        finished=contract.finished(sample_task, now=task.last_update).serialize(),
        analysis_task=task.serialize(),
        analysis_task_uid=task.uid,
    )
    log.info("published", task=task.uid)
    _clean_up(site, step, record, workspace)
    return step


def _clean_up(site: Site, step: Step, record: Record, workspace: Workspace) -> None:
    """After publish nothing is a failure any more: what is left undone here the janitor does."""
    try:
        reach("publish.published", step.uid)
        _learn(site, record)
        workspace.remove()
        reach("publish.removed", step.uid)
    except Exception as error:  # noqa: BLE001 whatever it is, the analysis is out
        log.warning("not_cleaned_up", error=f"{type(error).__name__}: {error}")


def _learn(site: Site, record: Record) -> None:
    """What is lost here costs the estimates a little of what they rest on, and the analysis nothing."""
    try:
        Durations(site.ledger.redis).learn(record)
    except RedisError as error:
        log.warning("not_learned", error=str(error))


def _analysis_task(site: Site, step: Step, analysis: Analysis, manifest: Manifest) -> tuple[Task, Task]:
    """(sample task, analysis task). Raises :class:`BadTask` where Karton dropped the sample task."""
    sample_task = site.ledger.karton_task(analysis.task_uid)
    if sample_task is None:
        raise BadTask(
            f"Karton has dropped the sample task {analysis.task_uid}: nobody waits for the analysis"
        )
    ours = destination(site.settings, analysis)
    task = contract.build_analysis_task(
        sample_task,
        analysis,
        manifest,
        attempt=step.attempt,
        headers=ours.headers,
        bucket=ours.bucket,
        identity=ours.identity,
        now=site.ledger.now(),
    )
    return sample_task, task


def _bucket(site: Site, analysis: Analysis) -> str:
    return destination(site.settings, analysis).bucket


_BODIES: dict[Stage, Callable[[Site, Step, Analysis, Workspace], Step]] = {
    Stage.PREPARE: guest.prepare,
    Stage.RUN: guest.run,
    Stage.COLLECT: _collect,
    Stage.UPLOAD: _upload,
    Stage.PUBLISH: _publish,
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
    if not _has_log(workspace):
        return
    bucket = _bucket(site, analysis)
    try:
        site.storage.ensure_bucket(bucket)
        if site.storage.holds(bucket, f"{analysis.uid}/{METADATA}"):
            log.warning("log_not_kept", error="there is a complete analysis of this uid, which is spared")
            return
        site.storage.upload_all(bucket, analysis.uid, {LOG_NAME: workspace.log}, last=LOG_NAME)
    except StorageError as error:
        log.warning("log_not_kept", error=str(error))
