"""The fleet in numbers, for Prometheus: ingress reads them from Karton's Redis at each scrape.

How analyses ended is read from the ledger too, and not counted where it happens. So a cancel from the command
line counts as well, and nothing is counted twice.
"""

from __future__ import annotations

import contextlib
from collections import Counter

import structlog
from redis.exceptions import NoPermissionError, RedisError

from drakcelery.errors import Unreadable
from drakcelery.forecast.forecast import make_forecast
from drakcelery.forecast.simulation import Estimate
from drakcelery.ledger import Ledger
from drakcelery.ledger.away import is_away, unless_odd
from drakcelery.ledger.inbox import Inbox
from drakcelery.model.analysis import State
from drakcelery.model.records import HostStatus, Record
from drakcelery.model.text import clean
from drakcelery.operators.overview import ProfileOverview, host_overviews, profile_overviews, snapshots
from drakcelery.settings import Settings
from drakcelery.telemetry import exposition, instruments, metrics
from drakcelery.wiring import make_ledger

log = structlog.get_logger(__name__)

MOST_ENDS = 2000
"""Ended analyses that one scrape looks at; the rest is left to the next."""
REDIS_SECONDS = 1
"""Seconds that one answer of Redis may take; normally all of them together take milliseconds."""
_GAUGES = (
    *(instruments.KARTON_QUEUE, instruments.KARTON_OLDEST, instruments.LINE, instruments.LINE_OLDEST),
    *(
        instruments.QUARANTINED,
        instruments.IN_FLIGHT,
        instruments.SLOTS,
        instruments.HOST_UP,
        instruments.EXPECTED_WAIT,
    ),
    *(instruments.SLOT_SCORE, instruments.SNAPSHOTS, instruments.SNAPSHOT_CHANGED),
)


def serve(settings: Settings) -> None:
    """Serve the metrics of this ingress and of the fleet, if ``[metrics]`` says so.

    Raises:
        SettingsError: the port cannot be had.
    """
    if not settings.metrics.serve:
        return
    # A separate connection, without Karton's name and with timeouts shorter than Prometheus'
    brief = settings.redis.model_copy(update={"socket_timeout": REDIS_SECONDS})
    ledger = make_ledger(settings.model_copy(update={"redis": brief}))
    fleet_metrics = FleetMetrics(settings, ledger, ledger.inbox())
    exposition.serve(settings, "ingress", instruments.INGRESS, before=fleet_metrics.update)


class FleetMetrics:
    """What :data:`drakcelery.telemetry.instruments.INGRESS` says of the fleet. For one thread."""

    def __init__(self, settings: Settings, ledger: Ledger, inbox: Inbox) -> None:
        """Ends are counted from now on."""
        self._settings = settings
        self._ledger = ledger
        self._inbox = inbox
        self._since = ledger.now()

    def update(self) -> None:
        """Read all numbers again. If they cannot be read, only that is reported, and nothing about the
        fleet."""
        try:
            self._check_keys()
            self._count_ends()
            self._read()
        except RedisError as error:
            log.warning("fleet_not_read", error=self._ledger.describe(error))
            for gauge in _GAUGES:
                gauge.clear()
            instruments.REDIS_UP.set(not is_away(error))
        else:
            instruments.REDIS_UP.set(1)

    def _check_keys(self) -> None:
        instruments.ODD_KEYS.clear()
        with contextlib.suppress(NoPermissionError):  # ingress may lack the right to TYPE
            for odd in self._ledger.odd_keys():
                instruments.ODD_KEYS.labels(clean(odd.key)).set(1)

    def _count_ends(self) -> None:
        none: list[tuple[str, float]] = []
        found = unless_odd(self._ended, none)
        for record in self._ledger.records([uid for uid, _ in found]):
            if record.state.is_over:
                _count_end(record)
        self._since = found[-1][1] if found else self._since

    def _ended(self) -> list[tuple[str, float]]:
        return self._ledger.ended_since(self._since, most=MOST_ENDS)

    def _read(self) -> None:
        hosts = self._ledger.fleet.hosts()
        places = self._ledger.fleet.places()
        lines = self._inbox.lines()
        profiles = profile_overviews(hosts, places, lines, self._inbox.in_flight())
        queues = self._queues()
        forecast = make_forecast(self._settings, self._ledger, self._inbox)
        notices = self._ledger.outbox.counts()
        now = forecast.now
        for gauge in _GAUGES:  # hosts and profiles that are gone must leave no values behind
            gauge.clear()
        for host in host_overviews(hosts, places, lines):
            instruments.HOST_UP.labels(host.host).set(host.online)
        for status in hosts:
            _set_slots(status)
            instruments.SNAPSHOT_CHANGED.labels(status.host).set(status.snapshot_changed)
        drawn_from = snapshots(hosts)
        for profile in profiles:
            _set_profile(profile, now)
            instruments.SNAPSHOTS.labels(profile.profile).set(len(drawn_from.get(profile.profile, {})))
        for priority, (length, since) in queues.items():
            instruments.KARTON_QUEUE.labels(priority).set(length)
            instruments.KARTON_OLDEST.labels(priority).set(max(0.0, now - since) if since else 0)
        for name, newcomer in forecast.newcomers.items():
            _set_expected(name, newcomer, now)
        for where, count in self._ledger.quarantine.counts().items():
            instruments.QUARANTINED.labels(where).set(count)
        instruments.TWINS_WAITING.set(self._inbox.twins.count())
        instruments.NOTICES_WAITING.set(notices.waiting)
        instruments.NOTICES_LOST.set(notices.given_up + notices.dropped)

    def _queues(self) -> dict[str, tuple[int, float | None]]:
        """How many samples wait on each of Karton's queues, and when Karton routed the first of them."""
        heads = zip(instruments.PRIORITIES, self._inbox.queue_heads(), strict=True)
        return {
            priority: (length, self._routed(first) if first else None) for priority, (first, length) in heads
        }

    def _routed(self, task_uid: str) -> float | None:
        """When Karton routed a task; None if it does not say so."""
        try:
            task = self._ledger.karton_task(task_uid)
        except Unreadable:
            return None
        return task.last_update if task else None


def _count_end(record: Record) -> None:
    if record.reused_from is not None and record.place is not None:
        metrics.analysis_reused(record.place.profile)
    elif record.state is State.PUBLISHED and record.place is not None and record.finished is not None:
        metrics.analysis_published(
            record.place.profile, attempts=record.attempts, seconds=record.finished - record.received
        )
    elif record.state is State.CANCELLED:
        metrics.analysis_failed("cancelled")
    else:
        last = record.failures[-1].fault if record.failures else None
        metrics.analysis_failed("refused" if last is None else last.value if last.is_known else "failed")


def _set_slots(status: HostStatus) -> None:
    """States without slots are set to 0, so that Prometheus sees when the last slot leaves a state."""
    for profile in {slot.profile for slot in status.slots}:
        states = Counter(slot.state.value for slot in status.slots if slot.profile == profile)
        for state in instruments.SLOT_STATES:
            instruments.SLOTS.labels(status.host, profile, state).set(states[state])
    for slot in status.slots:
        if slot.score is not None:
            instruments.SLOT_SCORE.labels(status.host, slot.name, slot.profile).set(slot.score)


def _set_expected(profile: str, newcomer: Estimate, now: float) -> None:
    if newcomer.start is None:  # no durations are known yet, or no host has the profile
        return
    quantiles = {"0.1": newcomer.start.low, "0.5": newcomer.start.middle, "0.9": newcomer.start.high}
    for quantile, at in quantiles.items():
        instruments.EXPECTED_WAIT.labels(profile, quantile).set(max(0.0, at - now))


def _set_profile(profile: ProfileOverview, now: float) -> None:
    instruments.LINE.labels(profile.profile).set(profile.waiting)
    oldest = max(0.0, now - profile.waiting_since) if profile.waiting_since is not None else 0
    instruments.LINE_OLDEST.labels(profile.profile).set(oldest)
    instruments.IN_FLIGHT.labels(profile.profile).set(profile.in_flight)
    instruments.PUBLISHED.labels(profile.profile)  # at 0 before the first, so that Prometheus sees it
    instruments.RECEIVED.labels(profile.profile)
