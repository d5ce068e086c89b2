"""A function for each event that metrics count. The metrics themselves are in :mod:`.instruments`.

An event costs a few microseconds, also in a pool process, which reports it to its worker's main process
(:mod:`.relay`).
"""

from __future__ import annotations

import time

from prometheus_client import Counter, Histogram

from drakcelery.model.analysis import Fault, Stage
from drakcelery.telemetry.instruments import (
    ATTEMPTS,
    ATTEMPTS_FAILED,
    CELERY_WAIT,
    DUMPS_DROPPED,
    DURATION,
    FAILED,
    INTERRUPTED,
    KARTON_WAIT,
    LEASE_AGE,
    PUBLISHED,
    QUARANTINES,
    QUIET_STOPS,
    RECEIVED,
    RECONCILE_ACTIONS,
    RECONCILE_RUNS,
    RECOVERED,
    REPORTS_LOST,
    REUSE,
    SAVED_SECONDS,
    SECOND_LOOKS,
    SLOT_SECONDS,
    SLOT_TURNAROUND,
    SPOOL,
    STAGE_DURATION,
    THROTTLED,
    UPLOADED,
    WATCH_FACTS,
    WATCH_FACTS_LOST,
    WATCH_MAX_LOSS,
    WATCH_MEASURED,
)
from drakcelery.telemetry.relay import Relay

# What happens in ingress


def analysis_received(profile: str, *, waited: float) -> None:
    """An analysis began; its sample had waited in Karton for so many seconds."""
    RECEIVED.labels(profile).inc()
    KARTON_WAIT.labels(profile).observe(max(0.0, waited))


def analysis_published(profile: str, *, attempts: int, seconds: float) -> None:
    """The ledger says that an analysis is over, and published."""
    PUBLISHED.labels(profile).inc()
    ATTEMPTS.observe(attempts)
    DURATION.labels(profile).observe(seconds)


def analysis_reused(profile: str) -> None:
    """The ledger says that an analysis was published from an earlier one: it took no attempt and no time."""
    PUBLISHED.labels(profile).inc()


def reuse(outcome: str) -> None:
    """A task agrees to reuse; *outcome* is one of :data:`REUSES`."""
    REUSE.labels(outcome).inc()


def analysis_failed(cause: str) -> None:
    """The ledger says that an analysis is over, without a result; *cause* is one of :data:`CAUSES`."""
    FAILED.labels(cause).inc()


# What happens in a worker, maybe in a pool process of it

_RELAYED = (
    *(STAGE_DURATION, CELERY_WAIT, INTERRUPTED, ATTEMPTS_FAILED, UPLOADED, DUMPS_DROPPED),
    *(WATCH_MEASURED, WATCH_FACTS, WATCH_FACTS_LOST, QUIET_STOPS, SAVED_SECONDS),
    *(RECOVERED, RECONCILE_RUNS, RECONCILE_ACTIONS, SECOND_LOOKS),
)


def relay() -> None:
    """Let the processes that this one forks from now on count here."""
    _RELAY.begin()


def _record(metric: Counter | Histogram, *labels: str, amount: float = 1) -> None:
    if not _RELAY.is_main:
        _RELAY.send(_RELAYED.index(metric), labels, amount)
        return
    one = metric.labels(*labels) if labels else metric
    if isinstance(one, Counter):
        one.inc(amount)
    else:
        one.observe(amount)


def _receive(lost: int, metric: int, labels: list[str], amount: float) -> None:
    REPORTS_LOST.inc(lost)
    _record(_RELAYED[metric], *labels, amount=amount)


_RELAY = Relay(_receive)


def stage_begun(stage: Stage, *, waited: float) -> None:
    """A stage was entered, so many seconds after what was before it."""
    _record(CELERY_WAIT, stage, amount=max(0.0, waited))


def stage_done(stage: Stage, profile: str, *, seconds: float) -> None:
    """A stage was done."""
    _record(STAGE_DURATION, stage, profile, amount=seconds)


def stage_interrupted(stage: Stage, outcome: str) -> None:
    """A stage ended without being done; *outcome* is one of :data:`INTERRUPTIONS`."""
    _record(INTERRUPTED, stage, outcome)


def attempt_failed(fault: Fault) -> None:
    """An attempt is over."""
    _record(ATTEMPTS_FAILED, fault)


def uploaded(size: int) -> None:
    """An object of *size* bytes is in S3."""
    _record(UPLOADED, amount=size)


def dumps_dropped(count: int) -> None:
    """So many dumps of an analysis were left out."""
    _record(DUMPS_DROPPED, amount=count)


def run_measured(profile: str, mode: str, *, facts: int, lost: int) -> None:
    """A run showed so many facts, *lost* of them after a quiet stop would have come."""
    _record(WATCH_MEASURED, profile, mode)
    _record(WATCH_FACTS, profile, mode, amount=facts)
    _record(WATCH_FACTS_LOST, profile, mode, amount=lost)
    run_stopped(profile, stops=0, saved=0.0)  # at 0 before the first, so that Prometheus sees it


def run_stopped(profile: str, *, stops: int = 1, saved: float) -> None:
    """Quiet stops ended runs, which might have lasted so many seconds longer."""
    _record(QUIET_STOPS, profile, amount=stops)
    _record(SAVED_SECONDS, profile, amount=saved)


def second_look(outcome: str) -> None:
    """A first look had clues; *outcome* says what became of its second look."""
    _record(SECOND_LOOKS, outcome)


def recovered(action: str) -> None:
    """An analysis goes on, or ends, after a process died; *action* is one of :data:`RECOVERIES`."""
    _record(RECOVERED, action)


def reconcile_done() -> None:
    """Reconcile has looked at everything."""
    _record(RECONCILE_RUNS)


def reconciled(action: str, count: int) -> None:
    """Reconcile fixed something; *action* is one of :data:`RECONCILED`."""
    _record(RECONCILE_ACTIONS, action, amount=count)


# What happens in the main process of a worker


def slot_known(profile: str) -> None:
    """There is a slot of *profile*: what may happen to it is 0 so far, so that Prometheus sees the first."""
    QUARANTINES.labels(profile)


def slot_spent(profile: str, state: str, seconds: float) -> None:
    """A slot was in *state* for so long."""
    SLOT_SECONDS.labels(profile, state).inc(max(0.0, seconds))


def slot_turned_around(profile: str, seconds: float) -> None:
    """A slot was claimed so long after its last guest was gone."""
    SLOT_TURNAROUND.labels(profile).observe(seconds)


def slot_quarantined(profile: str) -> None:
    """A slot was taken out of use."""
    QUARANTINES.labels(profile).inc()


def loss_limited(share: float) -> None:
    """Quiet stops may lose this share of the facts."""
    WATCH_MAX_LOSS.set(share)


def spool_measured(size: int) -> None:
    """The workspaces take so many bytes."""
    SPOOL.set(size)


def intake_throttled(reason: str, is_throttled: bool) -> None:
    """Whether the host takes no new sample; *reason* is one of :data:`THROTTLES`."""
    THROTTLED.labels(reason).set(is_throttled)


def lease_renewed() -> None:
    """The messages that this worker holds are fresh, or it holds none."""
    at = time.monotonic()
    LEASE_AGE.set_function(lambda: time.monotonic() - at)
