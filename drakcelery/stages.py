"""The five stages of an attempt, and what happens when one fails. No Celery here: plain functions.

A stage that is delivered twice does no harm: it starts by asking the ledger, and what it writes it can
write again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from karton.core import Task

from drakcelery import artifacts, contract
from drakcelery.analysis import Analysis, Failure, Manifest, Outcome, Stage, Step
from drakcelery.artifacts.metadata import METADATA
from drakcelery.engines import Engine
from drakcelery.errors import (
    BadTask,
    DrakceleryError,
    EngineError,
    InfrastructureError,
    StorageError,
    Superseded,
)
from drakcelery.ledger import Ledger
from drakcelery.logs import analysis_log
from drakcelery.settings import Settings
from drakcelery.slots import SlotState, SlotTable
from drakcelery.startup import start_command
from drakcelery.storage import Storage
from drakcelery.workspace import Prepared, Workspace

log = structlog.get_logger(__name__)

LOG_NAME = "drakrun.log"


@dataclass(frozen=True, kw_only=True)
class Site:
    """What the stages work with on a host."""

    settings: Settings
    ledger: Ledger
    slots: SlotTable
    storage: Storage
    engine: Engine
    dispatch: Callable[[Analysis, int, tuple[str, ...]], None]
    """Send an attempt on its way: analysis, attempt, hosts that failed before."""

    @property
    def host(self) -> str:
        """This host's name."""
        return self.settings.drakcelery.host

    def workspace(self, step: Step) -> Workspace:
        """Where the attempt's files are on this host."""
        return Workspace.of(self.settings.drakcelery.state_dir, step.uid, step.attempt)


def perform(site: Site, stage: Stage, step: Step) -> Step:
    """Do one stage; returns the message for the next.

    Raises:
        Superseded: the attempt is stale. Nothing was changed; the chain must stop.
        DrakceleryError: the stage failed, and what follows from that has been done.
    """
    workspace = site.workspace(step)
    context = {"uid": step.uid, "attempt": step.attempt, "stage": stage.value, "host": site.host}
    with analysis_log(workspace.log, slot=step.slot, **context):
        try:
            return _enter(site, stage, step, workspace)
        except Superseded as error:
            log.info("superseded", reason=str(error))
            raise
        except DrakceleryError as error:
            log.warning("stage_failed", error=str(error))
            _settle(site, stage, step, workspace, error)
            raise
        except Exception as error:
            log.exception("stage_crashed")
            wrapped = InfrastructureError(f"unexpected {type(error).__name__}: {error}")
            _settle(site, stage, step, workspace, wrapped)
            raise wrapped from error


def _enter(site: Site, stage: Stage, step: Step, workspace: Workspace) -> Step:
    record = site.ledger.get(step.uid)
    if record is None or record.analysis is None:
        raise Superseded(f"analysis {step.uid} is not in the ledger any more")
    body = _BODIES[stage]
    started = time.monotonic()
    following = body(site, step, record.analysis, workspace)
    log.info("stage_done", seconds=round(time.monotonic() - started, 3))
    return following


def _advance(site: Site, stage: Stage, step: Step) -> None:
    site.ledger.advance(step.uid, step.attempt, stage, host=site.host, slot=step.slot or "")


# prepare and run: the stages that hold a slot


def _prepare(site: Site, step: Step, analysis: Analysis, workspace: Workspace) -> Step:
    slot = _slot(step)
    try:
        _advance(site, Stage.PREPARE, step)
        workspace.create()
        _restore(site, step, analysis, workspace)
        held = site.slots.move(slot, step.uid, step.attempt, origin=SlotState.PREPARING, to=SlotState.READY)
        if not held:
            raise EngineError(f"slot {slot} was taken away while it was being restored")
    except BaseException:
        _vacate(site, step)
        raise
    return step.model_copy(update={"host": site.host, "slot": slot})


def _restore(site: Site, step: Step, analysis: Analysis, workspace: Workspace) -> None:
    """Fetch the sample, restore the VM."""
    slot = _slot(step)
    sample = workspace.sample(analysis)
    limit = site.settings.drakcelery.max_sample_size
    sha256 = site.storage.download(analysis.sample, sample, max_size=limit)
    if analysis.custom_hooks is not None:
        site.storage.download(analysis.custom_hooks, workspace.hooks, max_size=limit)
    command = analysis.start_command or start_command(sample, analysis.extension)
    if "%f" not in command:
        log.warning("start_command_without_file", start_command=command)
    job = workspace.detonation(analysis, slot, start_command=command)
    site.engine.accept(job)
    log.info("sample_fetched", sha256=sha256, magic=analysis.magic, start_command=command)
    snapshot = site.engine.prepare(job)
    workspace.save(Prepared(start_command=command, sample_sha256=sha256))
    log.info("slot_restored", engine=site.engine.version(), snapshot=snapshot.sha256)


def _run(site: Site, step: Step, analysis: Analysis, workspace: Workspace) -> Step:
    slot = _slot(step)
    if any(
        row.holder == (step.uid, step.attempt) and row.state is SlotState.RUNNING for row in site.slots.all()
    ):
        raise Superseded(f"analysis {step.uid}: this run is under way already; delivered twice")
    if not site.slots.move(slot, step.uid, step.attempt, origin=SlotState.READY, to=SlotState.RUNNING):
        raise EngineError(f"the guest that was restored in slot {slot} is gone (its worker died)")
    try:
        _advance(site, Stage.RUN, step)
        command = workspace.load(Prepared).start_command
        outcome = site.engine.run(workspace.detonation(analysis, slot, start_command=command))
    finally:
        _vacate(site, step)
    workspace.save(outcome)
    log.info("run_done", execution=outcome.execution.value, reason=outcome.reason)
    return step


def _vacate(site: Site, step: Step) -> None:
    """Destroy the guest and give the slot back; a guest that will not die keeps it (the janitor tries on)."""
    slot = _slot(step)
    try:
        site.engine.destroy(slot)
    except EngineError as error:
        log.error("guest_survives", slot=slot, error=str(error))
        site.slots.soil(step.uid, step.attempt)
    else:
        log.info("guest_destroyed", slot=slot)
        site.slots.release(slot, step.uid, step.attempt)


def _slot(step: Step) -> str:
    if step.slot is None:
        raise InfrastructureError(f"the message of analysis {step.uid} names no slot")
    return step.slot


# collect, upload, publish: the stages that need files only


def _collect(site: Site, step: Step, analysis: Analysis, workspace: Workspace) -> Step:
    _advance(site, Stage.COLLECT, step)
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
        slot=_slot(step),
        attempts=record.attempts if record else step.attempt,
        dumps_total_size=ours.dumps_total_size,
        dumps_single_size=ours.dumps_single_size,
    )
    workspace.save(manifest)
    log.info("collected", artifacts=len(manifest.artifacts), dumps=len(manifest.dumps_metadata))
    return step


def _upload(site: Site, step: Step, analysis: Analysis, workspace: Workspace) -> Step:
    _advance(site, Stage.UPLOAD, step)
    manifest = workspace.load(Manifest)
    bucket = _bucket(site, analysis)
    site.storage.ensure_bucket(bucket)
    if analysis.is_test:
        # Karton's collector removes from its own bucket what no task refers to: the task comes first
        site.ledger.declare(_analysis_task(site, step, analysis, manifest)[1])
    files = {artifact.name: workspace.out / artifact.name for artifact in manifest.artifacts}
    size = sum(artifact.size for artifact in manifest.artifacts)
    log.info("uploading", bucket=bucket, files=len(files), bytes=size)
    files |= {METADATA: workspace.out / METADATA, LOG_NAME: workspace.log}
    site.storage.upload_all(bucket, analysis.uid, files, last=METADATA)
    return step


def _publish(site: Site, step: Step, analysis: Analysis, workspace: Workspace) -> Step:
    _advance(site, Stage.PUBLISH, step)
    sample_task, task = _analysis_task(site, step, analysis, workspace.load(Manifest))
    site.ledger.publish(
        analysis.uid,
        step.attempt,
        task_uid=analysis.task_uid,
        finished=contract.finished(sample_task).serialize(),
        analysis_task=task.serialize(),
        analysis_task_uid=task.uid,
    )
    log.info("published", task=task.uid)
    workspace.remove()
    return step


def _analysis_task(site: Site, step: Step, analysis: Analysis, manifest: Manifest) -> tuple[Task, Task]:
    """(sample task, analysis task). Raises :class:`BadTask` where Karton dropped the sample task."""
    sample_task = site.ledger.karton_task(analysis.task_uid)
    if sample_task is None:
        raise BadTask(
            f"Karton has dropped the sample task {analysis.task_uid}: nobody waits for the analysis"
        )
    drakrun = site.settings.drakrun
    task = contract.build_analysis_task(
        sample_task,
        analysis,
        manifest,
        attempt=step.attempt,
        headers=drakrun.test_headers if analysis.is_test else drakrun.headers,
        bucket=_bucket(site, analysis),
        identity=drakrun.identity,
    )
    return sample_task, task


def _bucket(site: Site, analysis: Analysis) -> str:
    """Test samples go to Karton's own bucket, so that they go when their tasks go."""
    return site.settings.s3.bucket if analysis.is_test else site.settings.drakcelery.bucket


_BODIES: dict[Stage, Callable[[Site, Step, Analysis, Workspace], Step]] = {
    Stage.PREPARE: _prepare,
    Stage.RUN: _run,
    Stage.COLLECT: _collect,
    Stage.UPLOAD: _upload,
    Stage.PUBLISH: _publish,
}


# After a failure


def _settle(site: Site, stage: Stage, step: Step, workspace: Workspace, error: DrakceleryError) -> None:
    """Begin the next attempt, or end the analysis as CRASHED."""
    record = site.ledger.get(step.uid)
    if record is None or record.analysis is None or record.attempt != step.attempt:
        return
    analysis = record.analysis
    failure = Failure(
        attempt=record.attempts, stage=stage, error=str(error), host=site.host, slot=step.slot, at=time.time()
    )
    final = isinstance(error, BadTask) or len(record.failures) + 1 >= site.settings.drakcelery.max_attempts
    crashed = None
    if final:
        crashed = _crashed(site, analysis, [*record.failures, failure])
        _keep_log(site, analysis, workspace)
    following = site.ledger.fail(
        step.uid, step.attempt, failure, task_uid=analysis.task_uid, final=final, crashed=crashed
    )
    if following:
        hosts = tuple({one.host for one in [*record.failures, failure] if one.host})
        log.info("next_attempt", next=following)
        site.dispatch(analysis, following, hosts)
    else:
        log.error("analysis_failed", error=str(error))
    workspace.remove()


def _crashed(site: Site, analysis: Analysis, failures: list[Failure]) -> str | None:
    task = site.ledger.karton_task(analysis.task_uid)
    if task is None:
        return None
    lines = [f"{failures[-1].error}\n", *(f"  {failure.sentence()}\n" for failure in failures)]
    return contract.crashed(task, lines).serialize()


def _keep_log(site: Site, analysis: Analysis, workspace: Workspace) -> None:
    """Store what we logged, so that a failed analysis can be understood as well."""
    if not workspace.log.is_file() or workspace.log.stat().st_size == 0:
        return
    bucket = _bucket(site, analysis)
    try:
        site.storage.ensure_bucket(bucket)
        site.storage.upload_all(bucket, analysis.uid, {LOG_NAME: workspace.log}, last=LOG_NAME)
    except StorageError as error:
        log.warning("log_not_kept", error=str(error))
