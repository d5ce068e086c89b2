"""Prepare and run, the stages that hold a slot: restore its VM, detonate the sample, give the slot back."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import structlog

from drakcelery.engines import end_guest, evidence
from drakcelery.errors import (
    Blame,
    DrakceleryError,
    EngineError,
    EvidenceLost,
    GuestLost,
    InfrastructureError,
    SlotsUnusable,
    UnderWay,
    is_full,
    unexpected,
)
from drakcelery.failpoints import reach
from drakcelery.host.history import facts_of
from drakcelery.host.slot import SlotState
from drakcelery.host.workspace import Prefetched, Prepared, Workspace
from drakcelery.model.analysis import WITH_FILES, Analysis, Outcome, Stage, Step
from drakcelery.model.start_command import start_command
from drakcelery.stages import suspicion
from drakcelery.stages.context import HostContext

log = structlog.get_logger(__name__)


def prepare(context: HostContext, step: Step, analysis: Analysis, workspace: Workspace) -> Step:
    """Fetch the sample and restore the slot's VM; the next stages are bound to this host and slot."""
    slot = slot_of(step)
    workspace.create()
    reach("prepare.workspace_made", step.uid)
    _restore(context, step, analysis, workspace)
    if not context.slots.move(slot, step.uid, step.attempt, origin=SlotState.PREPARING, to=SlotState.READY):
        raise GuestLost(f"slot {slot} was taken away while it was being restored")
    reach("prepare.ready", step.uid)
    return step.model_copy(update={"host": context.host, "slot": slot})


def _restore(context: HostContext, step: Step, analysis: Analysis, workspace: Workspace) -> None:
    """Fetch the sample, restore the VM."""
    slot = slot_of(step)
    sample = workspace.sample(analysis)
    limit = context.settings.drakcelery.max_sample_size
    ahead = Prefetched.of(context.settings.drakcelery.state_dir).move(step.uid, step.attempt, sample)
    sha256 = ahead or context.storage.download(analysis.sample, sample, max_size=limit)
    if analysis.custom_hooks is not None:
        context.storage.download(analysis.custom_hooks, workspace.hooks, max_size=limit)
    command = analysis.start_command or start_command(sample, analysis.extension)
    if "%f" not in command:
        log.warning("start_command_without_file", start_command=command)
    job = workspace.detonation(analysis, slot, start_command=command)
    context.engine.accept(job)
    log.info(
        "sample_fetched",
        sha256=sha256,
        ahead=ahead is not None,
        magic=analysis.magic,
        start_command=command,
    )
    reach("prepare.sample_fetched", step.uid)
    # A process that was frozen must not end another's guest
    if not context.slots.holds(slot, step.uid, step.attempt):
        raise GuestLost(f"slot {slot} was taken away before it was restored")
    started = time.monotonic()
    with _of_the_engine(Stage.PREPARE):
        snapshot = context.engine.prepare(job)
    seconds = time.monotonic() - started
    reach("prepare.restored", step.uid)
    prepared = Prepared(
        start_command=command,
        sample_sha256=sha256,
        restore_seconds=seconds,
        snapshot_id=_snapshot_id(context),
    )
    workspace.save(prepared, durable=False)
    reach("prepare.saved", step.uid)
    log.info("slot_restored", engine=context.engine.version(), snapshot=snapshot.sha256)


def _snapshot_id(context: HostContext) -> str | None:
    """What this host reports of the snapshot that was just restored."""
    try:
        return context.engine.snapshot_id()
    except (DrakceleryError, OSError) as error:  # nobody reuses the result then
        log.warning("snapshot_not_read", error=str(error))
        return None


def run(context: HostContext, step: Step, analysis: Analysis, workspace: Workspace) -> Step:
    """Detonate the sample and note the result, unless a process that has died since did that already."""
    if workspace.has(Outcome):
        check_evidence(workspace)
        workspace.open_to_io()
        log.info("run_was_done")  # by a process that died before it could say so
        return step
    slot = slot_of(step)
    if not context.slots.move(slot, step.uid, step.attempt, origin=SlotState.READY, to=SlotState.RUNNING):
        raise GuestLost(f"the guest in slot {slot} was lost with the process that watched it")
    reach("run.running", step.uid)
    prepared = workspace.load(Prepared)
    job = workspace.detonation(analysis, slot, start_command=prepared.start_command)
    started = time.monotonic()
    with _of_the_engine(Stage.RUN):
        outcome = context.engine.run(job)
    seconds = time.monotonic() - started
    reach("run.detonated", step.uid)
    facts = facts_of(job, outcome, seconds=seconds, restore_seconds=prepared.restore_seconds)
    excused = suspicion.is_excused(context, step, outcome, facts)
    # Only their sizes: to sync them takes seconds, and the slot is held meanwhile
    noted = {"boot_id": evidence.boot_id(), "raw": evidence.survey(workspace.raw)}
    workspace.save(outcome.model_copy(update=noted))
    reach("run.saved", step.uid)
    with contextlib.suppress(SlotsUnusable):  # which was told; the run is done for all that
        runs = context.slots.worked(slot, step.uid, step.attempt, facts=facts, excused=excused)
        suspicion.judge_slot(context, step, runs)
    workspace.open_to_io()
    log.info("run_done", execution=outcome.execution.value, reason=outcome.reason)
    return step


@contextlib.contextmanager
def _of_the_engine(stage: Stage) -> Iterator[None]:
    """Raise whatever goes wrong in the engine as an EngineError that blames the slot, or the host if its disk
    is full."""
    try:
        yield
    except (DrakceleryError, MemoryError):
        raise
    except Exception as error:
        log.exception("stage_crashed")
        blames = Blame.HOST if is_full(error) else Blame.SLOT
        raise EngineError(unexpected(stage.value, error), blames=blames) from error


def check_evidence(workspace: Workspace) -> None:
    """Raise :class:`EvidenceLost` where a file that an earlier stage made is not as it left it."""
    if (lost := workspace.lost()) is not None:
        raise EvidenceLost(lost)


def vacate(context: HostContext, step: Step) -> None:
    """Destroy the guest and give the slot back.

    A guest that will not die keeps it, and the janitor tries again. So it does where the slots' file is of no
    use: nobody knows whose guest that is.
    """
    with contextlib.suppress(SlotsUnusable):
        if step.slot is None or not context.slots.holds(step.slot, step.uid, step.attempt):
            return
        if end_guest(context.engine, step.slot):
            log.info("guest_destroyed", slot=step.slot)
            context.slots.release(step.slot, step.uid, step.attempt)
        else:
            context.slots.soil(step.uid, step.attempt)


def slot_of(step: Step) -> str:
    """The slot that the message names. Raises :class:`InfrastructureError` if it names none."""
    if step.slot is None:
        raise InfrastructureError(f"the message of analysis {step.uid} names no slot")
    return step.slot


def stopper(context: HostContext, stage: Stage, step: Step) -> Callable[[], None]:
    """What ends the work of a stale delivery: its guest is destroyed, which ends prepare and run.

    The other stages have none, and may not look into the slot table.
    """

    def stop() -> None:
        if (
            stage not in WITH_FILES
            and step.slot is not None
            and context.slots.holds(step.slot, step.uid, step.attempt)
        ):
            end_guest(context.engine, step.slot)

    return stop


@contextlib.contextmanager
def slot_given_back(context: HostContext, stage: Stage, step: Step) -> Iterator[None]:
    """Prepare gives its slot back if it fails, run in any case; the other stages have none.

    A run that is under way already keeps it: the slot is the other delivery's.
    """
    try:
        yield
    except UnderWay:
        if stage is Stage.PREPARE:
            vacate(context, step)
        raise
    except BaseException:
        if stage in (Stage.PREPARE, Stage.RUN):
            vacate(context, step)
        raise
    if stage is Stage.RUN:
        vacate(context, step)
        reach("run.vacated", step.uid)
