"""Every metric of drakcelery: its name, unit, labels and meaning.

docs/metrics.md says the same for people. No label has a value that comes from a sample: hosts, profiles and
slots are the fleet's own names, everything else is one of a few words. Labels with few words begin at 0, so
that Prometheus sees the first event as well.

Two kinds of process are asked: ingress (:data:`INGRESS`) and the workers (:data:`WORKER`).
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from drakcelery.model.analysis import Fault, Stage
from drakcelery.model.reuse import Miss
from drakcelery.model.slot_state import ReportedState

INGRESS = CollectorRegistry()
"""What ingress serves: its own work, and the fleet as it is in Redis, which is the same in each ingress."""
WORKER = CollectorRegistry()
"""What a vm or io worker serves: what it and its pool processes do."""
CAUSES = (*(fault.value for fault in Fault), "refused", "cancelled")
INTERRUPTIONS = ("failed", "refused", "postponed", "superseded")
REUSES = ("reused", "waited", *Miss)
OFFERS = ("granted", "root", "share", "nothing_to_change")
RECOVERIES = ("process_died", "taken_up", "ended")
RECONCILED = ("cancelled", "renewed", "sent", "resent", "ended", "forgotten", "indexed", "recounted")
PRIORITIES = ("none", "high", "normal", "low")
"""Of Karton's queues, in Karton's order; *none* is the queue of producers that know no priorities."""
THROTTLES = ("disk", "spool", "io", "name", "broker", "slots", "network")
SLOT_STATES = tuple(state.value for state in ReportedState)
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
REUSE = Counter("drakcelery_reuse", "Tasks that agree to reuse, by outcome", ["outcome"], registry=INGRESS)

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
TWINS_WAITING = Gauge("drakcelery_twins_waiting", "Samples that wait for a twin", registry=INGRESS)
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
SECOND_LOOKS = Counter("drakcelery_second_looks", "Second looks, or why not", ["outcome"], registry=WORKER)
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
    "1 while the host takes no sample: disk, uploads behind, no io worker, name, broker, slots or firewall",
    ["reason"],
    registry=WORKER,
)
WATCH_MEASURED = Counter(
    "drakcelery_watch_measured_runs",
    "Runs watched for news that showed what a quiet stop would have lost, since none came",
    ["profile", "mode"],
    registry=WORKER,
)
WATCH_FACTS = Counter(
    "drakcelery_watch_facts", "Facts that measured runs showed", ["profile", "mode"], registry=WORKER
)
WATCH_FACTS_LOST = Counter(
    "drakcelery_watch_facts_lost",
    "Facts that measured runs showed after a quiet stop would have come",
    ["profile", "mode"],
    registry=WORKER,
)
WATCH_MAX_LOSS = Gauge(
    "drakcelery_watch_max_loss", "Share of the facts that quiet stops may lose, as set here", registry=WORKER
)
QUIET_STOPS = Counter(
    "drakcelery_quiet_stops",
    "Runs that were stopped before their time was over, since nothing new came",
    ["profile"],
    registry=WORKER,
)
SAVED_SECONDS = Counter(
    "drakcelery_quiet_stops_saved_seconds",
    "Seconds that these runs might have lasted longer",
    ["profile"],
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
    "drakcelery_reconcile_actions", "What reconcile fixed", ["action"], registry=WORKER
)
for _counted in (ATTEMPTS_FAILED, RECONCILE_RUNS, RECONCILE_ACTIONS):
    INGRESS.register(_counted)  # ingress reconciles as well, when it is its turn
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
    REUSE: product(REUSES),
    KARTON_QUEUE: product(PRIORITIES),
    KARTON_OLDEST: product(PRIORITIES),
    CELERY_WAIT: product(Stage),
    INTERRUPTED: product(Stage, INTERRUPTIONS),
    ATTEMPTS_FAILED: product(Fault),
    THROTTLED: product(THROTTLES),
    RECOVERED: product(RECOVERIES),
    SECOND_LOOKS: product(OFFERS),
    RECONCILE_ACTIONS: product(RECONCILED),
}
"""The metrics whose labels have few words, all of which exist from the start."""
for _metric, _all in _WORDS.items():
    for _labels in _all:
        _metric.labels(*_labels)
