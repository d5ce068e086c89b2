"""Counts the processes that died at a stage; if a stage costs too many, the sample is poison."""

from __future__ import annotations

import structlog

from drakcelery.ledger import Ledger
from drakcelery.model.analysis import Fault, Stage
from drakcelery.model.records import Record
from drakcelery.settings import Settings
from drakcelery.stages.failures import POISON, end_attempt, failure_of

log = structlog.get_logger(__name__)


def process_died(
    ledger: Ledger, record: Record, stage: Stage, fault: Fault, *, host: str, settings: Settings
) -> bool:
    """Count the death of a process that may have been at work on *stage*; its message may be taken up again.

    *fault* says whether it died alone (:attr:`Fault.LOST`) or with its worker (:attr:`Fault.GONE`). True if
    the stage has cost so many by now that the sample is poison: then the analysis is over.

    Raises:
        Superseded: it is over already.
    """
    deaths = ledger.abandon(record.uid, record.attempt, stage)
    last = "it died alone" if fault is Fault.LOST else "it died with its worker"
    return died(ledger, record, stage, fault, deaths=deaths, last=last, host=host, settings=settings)


def died(
    ledger: Ledger,
    record: Record,
    stage: Stage,
    fault: Fault,
    *,
    deaths: int,
    last: str,
    host: str | None,
    settings: Settings,
) -> bool:
    """Act on the number of processes that *stage* has cost by now, the last one as *last* says; 0 if none.

    True if that makes the sample poison: then the analysis is over.

    Raises:
        Superseded: it is over already.
    """
    if deaths:
        log.warning("process_died", died_at=stage, deaths=deaths, with_its_worker=fault is Fault.GONE)
    if deaths < POISON[fault]:
        return False
    reason = f"poison: {stage.value} of this sample killed its process {deaths} times; last: {last}"
    failure = failure_of(record, reason, fault, host=host, slot=record.slot, stage=stage)
    return end_attempt(ledger, record, failure, settings=settings, final=True)
