"""What a failed attempt is charged to, and whether it counts. Pure.

A failed run is charged to its slot at once, since a slot in which every run fails must not get many. If the
same sample fails in a second slot, the charge moves to the sample, and the first slot's charge is taken back.
If the analysis is published in the end, the sample was sound, and each slot in which it failed keeps its
charge. The exception is a slot that was doubted for something that is missing in the published run as well
(:mod:`drakcelery.host.silence`). All this is in the record, so hosts need not tell each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from drakcelery.errors import Blame, EngineError, GuestLost, SlotsUnusable, is_full
from drakcelery.model.analysis import WITH_GUEST, Failure, Fault, Stage, State
from drakcelery.model.records import Record

SlotOfHost = tuple[str | None, str | None]
"""A host, and a slot of it."""
COUNTED = (Fault.FAILED, Fault.LOST)
"""What counts against ``max_attempts``."""
MOST_SPARED = 10
"""So many attempts for which only the host is to blame do not count; the host takes nothing until it is
fixed."""


@dataclass(frozen=True, kw_only=True)
class ChargeState:
    """What becomes of a slot's charge."""

    charged: bool
    settled: bool
    """Whether it is final."""


def counted(failures: Sequence[Failure]) -> int:
    """How many of *failures* count against ``max_attempts``."""
    tries = [one for one in failures if one.fault in COUNTED]
    return len(tries) - min(MOST_SPARED, sum(one.charged == Blame.HOST for one in tries))


def blame_of(stage: Stage, error: BaseException) -> Blame | None:
    """What *error* itself blames; None if it has nothing to do with a slot or the host's disk.

    Also None if a process died: the sample may have killed it, and is poison the second time.
    """
    if is_full(error) or (stage in WITH_GUEST and isinstance(error, SlotsUnusable)):
        return Blame.HOST
    if stage not in WITH_GUEST or not isinstance(error, EngineError) or isinstance(error, GuestLost):
        return None
    return error.blames


def charge(
    failures: Iterable[Failure], blame: Blame | None, *, where: SlotOfHost, stage: Stage = Stage.RUN
) -> Blame | None:
    """What a failure at *where* is charged to, by what it blames and the *failures* before it."""
    if may_move(stage, blame) and failed_in(failures) - {where}:
        return Blame.SAMPLE
    return blame


def may_move(stage: Stage, blame: Blame | None) -> bool:
    """Whether the sample may turn out to be to blame. Not for a restore, which has nothing to do with the
    sample."""
    return stage is Stage.RUN and blame is Blame.SLOT


def failed_in(failures: Iterable[Failure]) -> frozenset[SlotOfHost]:
    """The slots in which an analysis ran and failed so that either they or the sample are to blame."""
    either = (Blame.SLOT, Blame.SAMPLE)
    return frozenset(
        (one.host, one.slot)
        for one in failures
        if one.slot and one.charged in either and one.stage is Stage.RUN
    )


def state_of(
    record: Record | None, attempt: int, *, blame: Blame, charged: bool, where: SlotOfHost
) -> ChargeState:
    """What becomes of the charge of the slot at *where*, in which *attempt* of *record* failed.

    Args:
        record: as it is now; None if the ledger has forgotten it.
        blame: what the error itself blamed.
        charged: whether the failure is charged to the slot so far.
    """
    if record is None or blame is not Blame.SLOT:
        return ChargeState(charged=charged, settled=True)
    if record.attempt == attempt and not record.state.is_over:
        return ChargeState(charged=charged, settled=False)  # the failure is not yet on record
    found = failed_in(record.failures)
    if where not in found:  # it was cancelled, stopped or given up meanwhile: nothing is to blame
        return ChargeState(charged=False, settled=True)
    if record.alike and any(one.number == attempt and one.fault is Fault.DOUBTED for one in record.failures):
        return ChargeState(charged=False, settled=record.state.is_over)
    if record.state is State.PUBLISHED:
        return ChargeState(charged=True, settled=True)
    return ChargeState(charged=len(found) < 2, settled=record.state.is_over)
