"""Collect, upload and publish, the stages that need files only, and the clean-up after them."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator

import structlog
from karton.core.task import Task

from drakcelery import artifacts
from drakcelery.artifacts.metadata import METADATA, RunFacts, write_metadata
from drakcelery.artifacts.output import Ready, nobody
from drakcelery.capabilities.job import Limits
from drakcelery.errors import BadTask, Superseded
from drakcelery.failpoints import reach
from drakcelery.host.state_dir import of_io_worker
from drakcelery.host.workspace import LOG_NAME, Prepared, Workspace
from drakcelery.karton import analysis_task, contract
from drakcelery.karton.destination import destination
from drakcelery.ledger.second_looks import Outgoing
from drakcelery.model.analysis import Analysis, Execution, Outcome, Step
from drakcelery.model.manifest import Manifest
from drakcelery.model.records import Record
from drakcelery.model.result import Result
from drakcelery.settings import Settings
from drakcelery.stages import kept, second_look
from drakcelery.stages.context import HostContext
from drakcelery.stages.early_upload import clear, early_upload, left
from drakcelery.stages.guest import check_evidence, slot_of
from drakcelery.stages.learning import learn
from drakcelery.telemetry import metrics

log = structlog.get_logger(__name__)


def collect(context: HostContext, step: Step, analysis: Analysis, workspace: Workspace) -> Step:
    """Make artifacts of what the run left; each is uploaded as soon as it is complete."""
    check_evidence(workspace)
    bucket, check = bucket_of(context, analysis), _still_wanted(context, step)
    with early_upload(context.storage, bucket, analysis.uid, workspace, check=check) as start:
        # Nothing of a test sample may be in the bucket before its task is declared
        ready = nobody if analysis.is_test else start.begin
        manifest = _make_artifacts(context, step, analysis, workspace, ready)
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
    context: HostContext,
    step: Step,
    analysis: Analysis,
    workspace: Workspace,
    ready: Ready,
) -> Manifest:
    ours = context.settings.drakcelery
    record = context.ledger.get(step.uid)
    prepared, outcome = workspace.load(Prepared), workspace.load(Outcome)
    manifest = artifacts.collect(
        raw=workspace.raw,
        out=workspace.out,
        analysis=analysis,
        outcome=outcome,
        facts=RunFacts(
            sample_sha256=prepared.sample_sha256,
            start_command=outcome.start_command or prepared.start_command,
            host=context.host,
            slot=slot_of(step),
            attempts=record.attempts if record else step.attempt,
            snapshot_id=prepared.snapshot_id,
        ),
        dumps_total_size=ours.dumps_total_size,
        dumps_single_size=ours.dumps_single_size,
        capa=_capa(context.settings),
        first=second_look.first_report(context, analysis),
        ready=ready,
    )
    metrics.dumps_dropped(manifest.metadata["dumps_dropped"]["count"])
    return manifest


def _capa(settings: Settings) -> Limits | None:
    """None where it is not set up."""
    ours = settings.report
    if ours.capa_rules is None:
        return None
    return Limits(
        rules=ours.capa_rules,
        cache=of_io_worker(settings.drakcelery.state_dir) / "capa",
        seconds=ours.capa_timeout,
        memory=ours.capa_memory_limit,
    )


def upload(context: HostContext, step: Step, analysis: Analysis, workspace: Workspace) -> Step:
    """Upload what is not in the bucket yet, ``metadata.json`` last."""
    manifest = workspace.load(Manifest)
    bucket = bucket_of(context, analysis)
    context.storage.ensure_bucket(bucket)
    sample_task, task = _analysis_task(context, step, analysis, manifest)
    if analysis.is_test:
        # Karton's collector removes from its own bucket what no task refers to: the task comes first
        context.ledger.declare(task)
    write_metadata(workspace.out, manifest.metadata)  # metadata.json is synced; the artifacts' files are not
    (workspace.out / analysis_task.STORED).write_text(task.serialize(), encoding="utf-8")
    log_files = {LOG_NAME: workspace.log} if kept.has_log(workspace) else {}
    task_files = kept.task_file(context, analysis, sample_task, workspace.out)
    ours = {analysis_task.STORED: workspace.out / analysis_task.STORED, **log_files, **task_files}
    keep = {artifact.name for artifact in manifest.artifacts} | set(ours) | kept.names(context, analysis)
    check = _still_wanted(context, step)
    there = clear(context.storage, bucket, analysis.uid, keep=keep, out=workspace.out, check=check)
    kept.copy_resources(context, analysis, bucket, check=check)
    missing = left(workspace, manifest, bucket, there)
    log.info("uploading", bucket=bucket, files=len(missing), bytes=sum(one.size for one in missing))
    files = {artifact.name: workspace.out / artifact.name for artifact in missing}
    context.storage.upload_all(
        bucket,
        analysis.uid,
        files | ours | {METADATA: workspace.out / METADATA},
        last=METADATA,
        sha256={artifact.name: artifact.sha256 for artifact in missing},
        check=check,
    )
    reach("upload.uploaded", step.uid)
    return step


def _still_wanted(context: HostContext, step: Step) -> Callable[[], None]:
    """Stop a process that was frozen before it overwrites what its successor has published."""

    def check() -> None:
        if not context.ledger.is_current(step.uid, step.attempt):
            raise Superseded(f"analysis {step.uid}: attempt {step.attempt} was ended during upload")

    return check


def publish(context: HostContext, step: Step, analysis: Analysis, workspace: Workspace) -> Step:
    """Give the analysis to Karton; :func:`clean_up` follows, once no heartbeat writes to its log."""
    manifest = workspace.load(Manifest)
    record = _published(context, step, analysis, manifest, workspace)
    log.info("published", task=record.analysis_task_uid)
    with _no_failure():
        reach("publish.published", step.uid)
        learn(context.ledger, record, workspace)
    return step


def _published(
    context: HostContext, step: Step, analysis: Analysis, manifest: Manifest, workspace: Workspace
) -> Record:
    """The record, when all that says "published" is said."""
    sample_task, task = _analysis_task(context, step, analysis, manifest)
    finished = contract.finished(copy.copy(sample_task), now=task.last_update).serialize()
    result = Result.of(manifest.metadata).model_copy(update={"news_to_first": manifest.news_to_first})
    is_whole = result.complete is True and result.execution is Execution.EXECUTED
    reusable_as = analysis.reuse.conditions if is_whole else None
    look = second_look.look_of(context, analysis, manifest, workspace, sample_task)
    if look is None:
        return context.ledger.publish(
            analysis.uid,
            step.attempt,
            task_uid=analysis.task_uid,
            finished=finished,
            analysis_task=task.serialize(),
            analysis_task_uid=task.uid,
            result=result,
            reusable_as=reusable_as,
        )
    out = Outgoing(
        finished=finished,
        task=task.serialize(),
        task_uid=task.uid,
        result=result.model_dump_json(exclude_defaults=True),
        reusable_as=reusable_as,
    )
    record, verdict = context.ledger.publish_look(
        analysis.uid, step.attempt, out, look, task_uid=analysis.task_uid
    )
    with _no_failure():
        second_look.told(look, verdict, manifest.clues)
    return record


def clean_up(step: Step, workspace: Workspace) -> None:
    """Remove the workspace of a published analysis; if that fails, the janitor does it."""
    with _no_failure():
        workspace.remove()
        reach("publish.removed", step.uid)


@contextlib.contextmanager
def _no_failure() -> Iterator[None]:
    """After publish nothing is a failure any more."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 whatever it is, the analysis is out
        log.warning("not_cleaned_up", error=f"{type(error).__name__}: {error}")


def _analysis_task(
    context: HostContext, step: Step, analysis: Analysis, manifest: Manifest
) -> tuple[Task, Task]:
    """(sample task, analysis task). Raises :class:`BadTask` if Karton dropped the sample task."""
    sample_task = context.ledger.karton_task(analysis.task_uid)
    if sample_task is None:
        raise BadTask(
            f"Karton has dropped the sample task {analysis.task_uid}: nobody waits for the analysis"
        )
    ours = destination(context.settings, analysis)
    task = analysis_task.build_analysis_task(
        sample_task,
        analysis,
        manifest,
        attempt=step.attempt,
        headers=ours.headers,
        bucket=ours.bucket,
        identity=ours.identity,
        now=context.ledger.about_now(),
    )
    return sample_task, task


def bucket_of(context: HostContext, analysis: Analysis) -> str:
    """Where the artifacts of the analysis go."""
    return destination(context.settings, analysis).bucket
