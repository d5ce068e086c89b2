"""Does a stage of an attempt, for the worker that was told to.

A stage that is delivered twice does no harm: it first asks the ledger, and whatever it writes may be written
twice.
"""

from __future__ import annotations

import functools
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack, suppress

import structlog

from drakcelery.errors import (
    DiskFull,
    DrakceleryError,
    InfrastructureError,
    NeedsSolitude,
    SlotsUnusable,
    Superseded,
    is_full,
    unexpected,
)
from drakcelery.failpoints import reach
from drakcelery.host import state_dir as directories
from drakcelery.host.alone import alone, together
from drakcelery.host.workspace import Workspace
from drakcelery.model.analysis import WITH_FILES, Analysis, Stage, Step
from drakcelery.model.records import Record
from drakcelery.stages import files, guest, suspicion
from drakcelery.stages.context import HostContext
from drakcelery.stages.failures import follow_up
from drakcelery.stages.heartbeat import Heartbeat
from drakcelery.telemetry import metrics, tracing
from drakcelery.telemetry.logs import analysis_log

log = structlog.get_logger(__name__)


def perform(context: HostContext, stage: Stage, step: Step) -> Step:
    """Do one stage; returns the message for the next.

    Raises:
        Superseded: the attempt is stale. Nothing was changed; the chain must stop.
        DrakceleryError: the stage failed, and what follows from that has been done.
    """
    workspace = context.workspace(step)
    fields = {"uid": step.uid, "attempt": step.attempt, "stage": stage.value, "host": context.host}
    with analysis_log(workspace.log, slot=step.slot, **fields), ExitStack() as company:
        token = uuid.uuid4().hex
        try:
            return _work(context, stage, step, workspace, token, company)
        except DrakceleryError as error:
            follow_up(context, stage, step, workspace, error, token, company)
            raise
        except Exception as error:
            log.exception("stage_crashed")
            kind = DiskFull if is_full(error) else InfrastructureError
            wrapped = kind(unexpected(stage.value, error))
            follow_up(context, stage, step, workspace, wrapped, token, company)
            raise wrapped from error


def _work(
    context: HostContext, stage: Stage, step: Step, workspace: Workspace, token: str, company: ExitStack
) -> Step:
    """Enter the stage, do it, leave it; each is fenced by the ledger.

    The claim is renewed until the guest is gone, so that a guest that dies slowly does not count as silence.
    If the stage fails, the claim is renewed until the failure is noted and *company* is closed.
    """
    with guest.slot_given_back(context, stage, step):
        record, now = _enter(context, stage, step, workspace, token, company)
        started = time.monotonic()
        metrics.stage_begun(stage, waited=now - record.updated)
        work = tracing.Work(record=record, stage=stage, step=step, host=context.host, token=token, begun=now)
        reach(f"{stage.value}.entered", step.uid)
        with tracing.stage(work):
            stop = guest.stopper(context, stage, step)
            heartbeat = company.enter_context(_heartbeat(context, step, token, stop))
            try:
                following = _BODIES[stage](context, step, _analysis(record), workspace)
            except Exception as error:
                heartbeat.send()  # perhaps its guest or its files are gone because it is stale
                if heartbeat.is_stale:
                    raise Superseded(
                        f"analysis {step.uid}: attempt {step.attempt} was ended meanwhile"
                    ) from None
                with suppress(SlotsUnusable):  # the error at hand says more
                    suspicion.charge(context, stage, step, record, error, seconds=time.monotonic() - started)
                raise
    heartbeat.end()
    if stage is Stage.PUBLISH:  # which closes the record itself
        tracing.published(work)
        files.clean_up(step, workspace)
    else:
        context.ledger.complete(step.uid, step.attempt, stage, token=token)
        reach(f"{stage.value}.completed", step.uid)
    seconds = time.monotonic() - started
    metrics.stage_done(stage, step.profile, seconds=seconds)
    log.info("stage_done", seconds=round(seconds, 3))
    return following


def _heartbeat(context: HostContext, step: Step, token: str, stop: Callable[[], None]) -> Heartbeat:
    return Heartbeat(
        context.ledger, step.uid, step.attempt, token=token, stop=stop, heartbeats=context.heartbeats
    )


def _enter(
    context: HostContext, stage: Stage, step: Step, workspace: Workspace, token: str, company: ExitStack
) -> tuple[Record, float]:
    """Enter the stage: the record as it was before, and when.

    A stage that works on files does so beside others, or alone if it has killed a process before, until
    *company* is closed.
    """
    enter = functools.partial(
        context.ledger.advance,
        step.uid,
        step.attempt,
        stage,
        host=context.host,
        slot=step.slot or "",
        token=token,
        machine=context.machine.key,
        has_files=workspace.root.is_dir(),  # also after the machine was restarted
    )
    if stage not in WITH_FILES:
        return enter()
    place = directories.own_io(context.settings.drakcelery.state_dir)
    waiting = _lingering(context, stage, step)
    company.enter_context(together(place, waiting))
    try:
        return enter(beside_others=True)
    except NeedsSolitude:
        company.close()
        log.warning("waits_to_be_alone")
        company.enter_context(alone(place, waiting))
        return enter()


def _lingering(context: HostContext, stage: Stage, step: Step) -> Callable[[], None]:
    """For a stage that waits to begin: shows life now and then, so that reconcile does not send the step
    again."""
    due = 0.0

    def linger() -> None:
        nonlocal due
        if time.monotonic() >= due:
            due = time.monotonic() + context.ledger.timeouts.heartbeat
            context.ledger.linger(step.uid, step.attempt, stage)

    return linger


def _analysis(record: Record) -> Analysis:
    if record.analysis is None:
        raise InfrastructureError(f"the ledger's record of {record.uid} says nothing of the analysis")
    return record.analysis


_BODIES: dict[Stage, Callable[[HostContext, Step, Analysis, Workspace], Step]] = {
    Stage.PREPARE: guest.prepare,
    Stage.RUN: guest.run,
    Stage.COLLECT: files.collect,
    Stage.UPLOAD: files.upload,
    Stage.PUBLISH: files.publish,
}
