"""What a run says about its slot: whether it is charged, put aside, or tried by a canary first."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence

import structlog

from drakcelery.errors import Blame, InDoubt, InfrastructureError
from drakcelery.host import charges
from drakcelery.host.avoidance import is_another
from drakcelery.host.canaries import is_rested
from drakcelery.host.checkup import checkup
from drakcelery.host.history import Facts, Run
from drakcelery.host.judgement import is_doubtful, judge, known_hosts
from drakcelery.host.silence import Lack, doubted, lacking
from drakcelery.host.workspace import Prepared
from drakcelery.model.analysis import WITH_GUEST, Execution, Outcome, Stage, Step
from drakcelery.model.records import Record
from drakcelery.stages.context import HostContext

log = structlog.get_logger(__name__)


def is_excused(context: HostContext, step: Step, outcome: Outcome, facts: Facts) -> bool:
    """Whether the sample is known to be to blame for what is missing in its run.

    Raises :class:`InDoubt` if the slot may be to blame and another slot can tell.
    """
    slot, is_unstarted = step.slot, outcome.execution is Execution.NOT_EXECUTED
    if slot is None or context.settings.engine != "drakvuf":
        # What an emulator's runs leave says nothing about slots: most samples make no traffic in an emulator
        return is_unstarted or context.settings.engine == "emulator"
    mine, runs = context.slots.all(), context.slots.history()
    lacks = lacking({one.name: one.profile for one in mine}, runs, slot, facts)
    if is_unstarted:
        lacks &= {Lack.SNAPSHOT}  # another Windows may be able to start it
    record = context.ledger.get(step.uid) if lacks else None
    if record is None:
        return is_unstarted
    words = "; ".join(lack.words for lack in sorted(lacks))
    if lacks <= doubted(record.failures, besides=(context.host, slot)):
        log.info("run_is_alike", lacks=words)
        context.ledger.note_alike(step.uid, step.attempt)
        return True
    failed = {slot, *context.slots.failed_in(step.uid, since=record.first_attempt)}
    tries = charges.counted(record.failures) + 1
    is_last = tries >= context.settings.drakcelery.max_attempts  # the last try must not end in doubt
    may_ask = not is_last and is_another(
        record, mine, known_hosts(context.ledger.fleet), host=context.host, failed=failed
    )
    if may_ask and not lacks <= doubted(record.failures):
        raise InDoubt(f"{words}: another slot has to show that, too", lacks=",".join(sorted(lacks)))
    log.warning("run_not_doubted", lacks=words)  # no other slot can tell; a canary may
    _doubt(context, slot, runs, step)
    return False


def charge(
    context: HostContext, stage: Stage, step: Step, record: Record, error: Exception, *, seconds: float
) -> None:
    """Note a run that failed, before its slot is given back: after too many it is put aside.

    Not in the later stages: they have no slot, and their process may not look into the slot table.
    """
    blame = charges.blame_of(stage, error)
    if stage not in WITH_GUEST or blame is None or step.slot is None:
        return
    put_down_to = charges.charge(record.failures, blame, where=(context.host, step.slot), stage=stage)
    may_move = charges.may_move(stage, blame)
    # One sample is one charge, however often it fails here: without another slot to try it in, the sample
    # itself may be at fault
    again = may_move and step.slot in context.slots.failed_in(step.uid, since=record.first_attempt)
    runs = context.slots.failed(
        step.slot,
        step.uid,
        step.attempt,
        blame=blame,
        charged=put_down_to in (Blame.SLOT, Blame.SNAPSHOT) and not again,
        settled=not may_move or again,
        facts=Facts(seconds=seconds, restore_seconds=_restore_seconds(context, step)),
        error=str(error),
    )
    judge_slot(context, step, runs)


def _restore_seconds(context: HostContext, step: Step) -> float | None:
    """How long the restore of its VM took; None if its VM was not restored."""
    workspace = context.workspace(step)
    with contextlib.suppress(InfrastructureError):
        return workspace.load(Prepared).restore_seconds
    return None


def judge_slot(context: HostContext, step: Step, runs: Sequence[Run]) -> None:
    """Put the slot aside if the last *runs* of this host call for it, or let a canary have it before the next
    sample."""
    slot = step.slot
    if slot is None:
        return
    profiles, holder = {one.name: one.profile for one in context.slots.all()}, (slot, step.uid, step.attempt)
    health = checkup(profiles, runs, slot)
    is_aside = judge(context.slots, holder, health, context.ledger.fleet, host=context.host)
    if not is_aside and is_doubtful(health, profiles, runs, slot):
        _doubt(context, slot, runs, step)


def charge_moved(context: HostContext, slot: str) -> None:
    """A failed run is charged to *slot* after all: if that makes the slot unwell, a canary is next."""
    runs = context.slots.history()
    if checkup({one.name: one.profile for one in context.slots.all()}, runs, slot).is_unwell:
        _doubt(context, slot, runs)


def _doubt(context: HostContext, slot: str, runs: Sequence[Run], step: Step | None = None) -> None:
    """Let a canary have the slot next, once *step* or whatever has it is done, unless one had it lately."""
    is_possible = context.settings.canary.enabled and context.settings.engine != "replay"
    if is_possible and is_rested(runs, slot, now=time.time()):
        context.slots.doubt(slot, *((step.uid, step.attempt) if step else ()))
        log.warning("slot_doubted", slot=slot)
