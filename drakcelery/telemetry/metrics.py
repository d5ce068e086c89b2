"""Every metric of drakcelery: its name, unit, labels and meaning, and a function for each event.

docs/metrics.md says the same for people. No label has a value that comes from a sample: hosts, profiles and
slots are the fleet's own names, everything else is one of a few words. Labels with few words begin at 0, so
that Prometheus sees the first event as well.

Two kinds of process are asked: ingress (:data:`INGRESS`) and the workers (:data:`WORKER`). An event costs a
few microseconds, in a pool process too, which tells its worker's main process (:mod:`.relay`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from itertools import product

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from drakcelery.model.analysis import Fault, Stage
from drakcelery.telemetry.relay import Relay

INGRESS = CollectorRegistry()
"""What ingress serves: what it does itself, and the fleet as Redis has it, which each ingress says alike."""
WORKER = CollectorRegistry()
"""What a vm or io worker serves: what it and its pool processes do."""

CAUSES = (*(fault.value for fault in Fault), "refused", "cancelled")
INTERRUPTIONS = ("failed", "refused", "postponed", "superseded")
RECOVERIES = ("process_died", "taken_up", "ended")
RECONCILED = ("cancelled", "renewed", "sent", "resent", "ended", "forgotten", "recounted")
PRIORITIES = ("none", "high", "normal", "low")
"""Of Karton's queues, in Karton's order; *none* is the queue of producers that know no priorities."""
THROTTLES = ("disk", "spool", "io", "name", "broker", "network")
SLOT_STATES = (
    "free",
    "preparing",
    "ready",
    "running",
    "dirty",
    "quarantined",
    "draining",
    "drained",
    "halted",
    "checking",
)

MINUTE, HOUR = 60.0, 3600.0
WORK = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, MINUTE, 120, 300, 600, 900, 1200, 1800, HOUR)
"""Seconds that a stage takes: publish 10 ms, a run up to 20 min."""
WAIT = (0.03, 0.1, 0.3, 1, 3, 10, 30, MINUTE, 300, 900, HOUR, 4 * HOUR, 24 * HOUR)
"""Seconds that a sample waits."""
TURNAROUND = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, MINUTE, 300)
"""Seconds between two guests of a slot."""

# Analyses: what ingress does, and what it reads in the ledger

RECEIVED = Counter(
    "drakcelery_analyses_received",
    "Sample tasks that this ingress made analyses of",
    ["profile"],
    registry=INGRESS,
)
PUBLISHED = Counter(
    "drakcelery_analyses_published",
    "Analyses of the fleet that were published",
    ["profile"],
    registry=INGRESS,
)
FAILED = Counter(
    "drakcelery_analyses_failed",
    "Analyses of the fleet that ended without a result",
    ["cause"],
    registry=INGRESS,
)
ATTEMPTS = Histogram(
    "drakcelery_analysis_attempts",
    "Attempts that a published analysis took",
    buckets=(1, 2, 3, 5, 10),
    registry=INGRESS,
)
DURATION = Histogram(
    "drakcelery_analysis_duration_seconds",
    "Seconds from the receipt of a sample to the publication of its analysis",
    ["profile"],
    buckets=(*WORK, 2 * HOUR, 4 * HOUR, 24 * HOUR),
    registry=INGRESS,
)
KARTON_WAIT = Histogram(
    "drakcelery_karton_wait_seconds",
    "Seconds that a sample waited in Karton, lines included, before this ingress received it",
    ["profile"],
    buckets=WAIT,
    registry=INGRESS,
)

# The fleet, as ingress reads it in Redis when it is asked

KARTON_QUEUE = Gauge(
    "drakcelery_karton_queue_samples",
    "Samples on Karton's queue of our identity",
    ["priority"],
    registry=INGRESS,
)
KARTON_OLDEST = Gauge(
    "drakcelery_karton_queue_oldest_seconds",
    "Seconds that the oldest sample on Karton's queue has waited; 0 where none waits",
    ["priority"],
    registry=INGRESS,
)
LINE = Gauge(
    "drakcelery_line_samples",
    "Samples that wait in line for a slot of a profile",
    ["profile"],
    registry=INGRESS,
)
LINE_OLDEST = Gauge(
    "drakcelery_line_oldest_seconds",
    "Seconds that the oldest sample in line has waited, since Karton had it; 0 where none waits",
    ["profile"],
    registry=INGRESS,
)
EXPECTED_WAIT = Gauge(
    "drakcelery_expected_wait_seconds",
    "Seconds that a sample of normal priority would wait for its slot that came now, as estimated",
    ["profile", "quantile"],
    registry=INGRESS,
)
NOTICES_WAITING = Gauge(
    "drakcelery_notices_waiting", "Notifications of the fleet that wait to be sent", registry=INGRESS
)
NOTICES_LOST = Gauge(
    "drakcelery_notices_lost",
    "Notifications of the fleet that were given up, or never queued because too many waited",
    registry=INGRESS,
)
QUARANTINED = Gauge(
    "drakcelery_quarantined",
    "Tasks and analyses that could not be dealt with, and are tried again or wait for somebody",
    ["where"],
    registry=INGRESS,
)
ODD_KEYS = Gauge(
    "drakcelery_odd_keys",
    "Keys of drakcelery's in Karton's Redis that are of another type than it gave them: 1 for each",
    ["key"],
    registry=INGRESS,
)
IN_FLIGHT = Gauge(
    "drakcelery_in_flight_analyses",
    "Analyses that are neither waiting in Karton nor over",
    ["profile"],
    registry=INGRESS,
)
SLOTS = Gauge(
    "drakcelery_slots", "Slots of the hosts that are alive", ["host", "profile", "state"], registry=INGRESS
)
SLOT_SCORE = Gauge(
    "drakcelery_slot_score",
    "How well a slot is, from 0 (broken) to 1, by its last runs and those of its peers",
    ["host", "slot", "profile"],
    registry=INGRESS,
)
SNAPSHOTS = Gauge(
    "drakcelery_snapshots",
    "Different snapshots that hosts restore VMs of the profile from",
    ["profile"],
    registry=INGRESS,
)
SNAPSHOT_CHANGED = Gauge(
    "drakcelery_snapshot_changed",
    "1 where a host's snapshot is another one than when its vm worker started, else 0",
    ["host"],
    registry=INGRESS,
)
HOST_UP = Gauge(
    "drakcelery_host_up",
    "1 for a host that is alive, 0 for one that was seen in the last 7 days",
    ["host"],
    registry=INGRESS,
)
REDIS_UP = Gauge(
    "drakcelery_redis_up", "1 where Karton's Redis answered when the fleet was read, else 0", registry=INGRESS
)

# What workers do

STAGE_DURATION = Histogram(
    "drakcelery_stage_duration_seconds",
    "Seconds that a stage took which was done",
    ["stage", "profile"],
    buckets=WORK,
    registry=WORKER,
)
CELERY_WAIT = Histogram(
    "drakcelery_celery_wait_seconds",
    "Seconds between the end of what was before a stage, back-off included, and its begin",
    ["stage"],
    buckets=WAIT,
    registry=WORKER,
)
INTERRUPTED = Counter(
    "drakcelery_stage_interruptions",
    "Stages that ended without being done",
    ["stage", "outcome"],
    registry=WORKER,
)
ATTEMPTS_FAILED = Counter(
    "drakcelery_attempts_failed", "Attempts that ended without a result", ["cause"], registry=WORKER
)
UPLOADED = Counter("drakcelery_uploaded_bytes", "Bytes of the objects put into S3", registry=WORKER)
DUMPS_DROPPED = Counter("drakcelery_dumps_dropped", "Memory dumps left out of dumps.zip", registry=WORKER)
SLOT_SECONDS = Counter(
    "drakcelery_slot_state_seconds",
    "Seconds that the host's slots spent in a state",
    ["profile", "state"],
    registry=WORKER,
)
SLOT_TURNAROUND = Histogram(
    "drakcelery_slot_turnaround_seconds",
    "Seconds from the end of a guest until its slot was claimed again, waiting for samples included",
    ["profile"],
    buckets=TURNAROUND,
    registry=WORKER,
)
QUARANTINES = Counter(
    "drakcelery_slot_quarantines",
    "Slots that were taken out of use after failed restores",
    ["profile"],
    registry=WORKER,
)
SPOOL = Gauge(
    "drakcelery_spool_bytes", "Bytes of the disk that the workspaces of this host take", registry=WORKER
)
THROTTLED = Gauge(
    "drakcelery_intake_throttled",
    "1 while the host takes no sample: no disk, uploads behind, no io worker, name, broker, firewall; else 0",
    ["reason"],
    registry=WORKER,
)
RECOVERED = Counter(
    "drakcelery_recoveries",
    "Analyses taken up or ended after a process or worker died",
    ["action"],
    registry=WORKER,
)
RECONCILE_RUNS = Counter(
    "drakcelery_reconcile_runs", "Comparisons of the ledger with Karton that were finished", registry=WORKER
)
RECONCILE_ACTIONS = Counter(
    "drakcelery_reconcile_actions", "What reconcile mended", ["action"], registry=WORKER
)
for _counted in (ATTEMPTS_FAILED, RECONCILE_RUNS, RECONCILE_ACTIONS):
    INGRESS.register(_counted)  # which reconciles as well, when it is its turn
LEASE_AGE = Gauge(
    "drakcelery_lease_age_seconds",
    "Seconds since this worker's messages were renewed with the broker; 0 where that is not needed",
    registry=WORKER,
)
REPORTS_LOST = Counter(
    "drakcelery_reports_lost", "Events that pool processes could not tell their worker", registry=WORKER
)

_WORDS: dict[Counter | Gauge | Histogram, Iterable[tuple[str, ...]]] = {
    FAILED: product(CAUSES),
    KARTON_QUEUE: product(PRIORITIES),
    KARTON_OLDEST: product(PRIORITIES),
    CELERY_WAIT: product(Stage),
    INTERRUPTED: product(Stage, INTERRUPTIONS),
    ATTEMPTS_FAILED: product(Fault),
    THROTTLED: product(THROTTLES),
    RECOVERED: product(RECOVERIES),
    RECONCILE_ACTIONS: product(RECONCILED),
}
"""The metrics whose labels have few words, all of which are there from the start."""
for _metric, _all in _WORDS.items():
    for _labels in _all:
        _metric.labels(*_labels)


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


def analysis_failed(cause: str) -> None:
    """The ledger says that an analysis is over, without a result; *cause* is one of :data:`CAUSES`."""
    FAILED.labels(cause).inc()


# What happens in a worker, maybe in a pool process of it

_RELAYED = (
    *(STAGE_DURATION, CELERY_WAIT, INTERRUPTED, ATTEMPTS_FAILED, UPLOADED, DUMPS_DROPPED),
    *(RECOVERED, RECONCILE_RUNS, RECONCILE_ACTIONS),
)
_relay: Relay | None = None
_renewed: float | None = None


def relay() -> None:
    """Let the processes that this one forks from now on count here."""
    global _relay
    _relay = Relay(_receive)


def _record(metric: Counter | Histogram, *labels: str, amount: float = 1) -> None:
    if _relay is not None and not _relay.is_main:
        _relay.send(_RELAYED.index(metric), labels, amount)
        return
    one = metric.labels(*labels) if labels else metric
    if isinstance(one, Counter):
        one.inc(amount)
    else:
        one.observe(amount)


def _receive(lost: int, metric: int, labels: list[str], amount: float) -> None:
    REPORTS_LOST.inc(lost)
    _record(_RELAYED[metric], *labels, amount=amount)


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


def recovered(action: str) -> None:
    """An analysis goes on, or ends, after a process died; *action* is one of :data:`RECOVERIES`."""
    _record(RECOVERED, action)


def reconcile_done() -> None:
    """Reconcile has looked at everything."""
    _record(RECONCILE_RUNS)


def reconciled(action: str, count: int) -> None:
    """Reconcile mended something; *action* is one of :data:`RECONCILED`."""
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


def spool_measured(size: int) -> None:
    """The workspaces take so many bytes."""
    SPOOL.set(size)


def intake_throttled(reason: str, is_throttled: bool) -> None:
    """Whether the host takes no new sample; *reason* is one of :data:`THROTTLES`."""
    THROTTLED.labels(reason).set(is_throttled)


def lease_renewed() -> None:
    """The messages that this worker holds are fresh, or it holds none."""
    global _renewed
    _renewed = time.monotonic()


LEASE_AGE.set_function(lambda: 0.0 if _renewed is None else time.monotonic() - _renewed)
