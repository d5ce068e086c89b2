"""How an attempt ends that did not publish: another one follows after a while, or the analysis is over."""

from __future__ import annotations

import random

import structlog

from drakcelery.errors import Blame, EngineError, InDoubt
from drakcelery.host.charges import COUNTED, counted
from drakcelery.ledger import Ledger
from drakcelery.model.analysis import Failure, Fault, Stage
from drakcelery.model.records import Record
from drakcelery.settings import Settings
from drakcelery.telemetry import metrics, tracing

log = structlog.get_logger(__name__)

MOST_DELAY = 300.0
"""Longest wait before another attempt, seconds."""
POISON = {Fault.LOST: 2, Fault.GONE: 3}
"""So many attempts that ended like that make a sample poison."""


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

    *cause* is the error, where there was one; *charged* is what it is put down to, by default nobody.

    When, :func:`end_attempt` notes by Redis' clock.
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


def backoff(tries: int) -> float:
    """Seconds until the next try: 1, 2, 4, … up to :data:`MOST_DELAY`, half of it by chance."""
    delay = min(MOST_DELAY, 2.0**tries)
    return delay / 2 + random.uniform(0, delay / 2)  # noqa: S311 spreads load, guards nothing


def end_attempt(
    ledger: Ledger,
    record: Record,
    failure: Failure,
    *,
    settings: Settings,
    final: bool = False,
    token: str = "",
) -> bool:
    """Note a failure: the next attempt is due after a while, or the analysis is over. True where it is over.

    Over it is where *final* is set, where ``max_attempts`` have failed that count, where the sample is poison
    (:data:`POISON`), or where S3 stayed away for longer than ``storage_patience``. *token* names the delivery
    that failed; without it somebody ends the attempt from outside.

    Raises:
        Superseded: the attempt is not the current one any more.
    """
    failure = failure.model_copy(update={"at": ledger.now()})  # no host's clock decides
    failures = [*record.failures, failure]
    same = sum(one.fault is failure.fault for one in failures)
    tries = sum(one.fault in COUNTED for one in failures)
    away = [one.at for one in failures if one.fault is Fault.AWAY]
    given_up = failure.fault is Fault.AWAY and away[-1] - away[0] > settings.drakcelery.storage_patience
    poison = failure.fault in POISON and same >= POISON[failure.fault]
    reason = failure.error
    if poison:
        reason = f"poison: this sample took down its worker {same} times; last: {failure.error}"
    final = final or poison or given_up or counted(failures) >= settings.drakcelery.max_attempts
    lines = [f"{reason}\n", *(f"  {one.sentence()}\n" for one in failures)]
    crashed = ledger.last_word(record.task_uid, lines) if final else None
    delays = {Fault.AWAY: len(away), Fault.FAILED: tries, Fault.LOST: tries}
    delay = backoff(delays[failure.fault] - 1) if failure.fault in delays else 0.0
    following = ledger.fail(
        record.uid,
        record.attempt,
        failure.model_copy(update={"error": reason}),
        task_uid=record.task_uid,
        final=final,
        crashed=crashed,
        delay=delay,
        token=token,
    )
    metrics.attempt_failed(failure.fault)
    told = failure.model_copy(update={"error": reason})
    tracing.attempt_failed(record, told, lambda: ledger.get(record.uid))
    about = {"uid": record.uid, "attempt": record.attempt, "stage": failure.stage}
    if final:
        log.error("analysis_failed", **about, error=reason)
    else:
        log.info("next_attempt", **about, error=reason, next=following, delay=round(delay, 1))
    return final
