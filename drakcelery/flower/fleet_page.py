"""What the Fleet page shows: hosts with their slots, queues by profile, analyses. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from drakcelery.flower.rows import SENTENCE, Row, row, sample_name
from drakcelery.forecast.simulation import Range
from drakcelery.host.health import UNWELL
from drakcelery.ledger.quarantine import Entry
from drakcelery.model.analysis import Place, State, Value
from drakcelery.model.capacity import is_in_use
from drakcelery.model.halt import halted_words
from drakcelery.model.records import HostStatus, Line, Record, SlotStatus
from drakcelery.model.slot_state import ReportedState
from drakcelery.model.text import clean
from drakcelery.operators.overview import (
    HostOverview,
    ProfileOverview,
    drift,
    host_overviews,
    profile_overviews,
)

REASON = 200
"""Characters of one reason that are shown,"""
NAME = 40
"""and of the name of an operator."""


class Next(Value):
    """What a slot is likely to get next."""

    uid: str
    sample: str
    start: Range | None
    """When it is expected to get a slot, this one or another."""


class SlotView(Value):
    """One slot. Times are UNIX times."""

    name: str
    profile: str
    state: ReportedState
    since: float
    """By the host's own clock."""
    uid: str | None
    attempt: int | None
    """Which try of this analysis, from 1."""
    sample: str | None
    running_since: float | None
    """When its guest began to run, by Redis' clock."""
    timeout: int | None
    """Seconds that the guest may run at most."""
    score: float | None
    """How well it is, from 0 to 1."""
    is_unwell: bool
    """Whether it is so low that somebody should look."""
    reasons: tuple[str, ...]
    """Why that is not 1."""
    closed_by: str | None
    """The operator who keeps it out of use."""
    canary: str | None
    """``due``, ``good`` or what the last canary found amiss; None if there was none."""
    next: Next | None


class HostView(Value):
    """One host that the fleet has, or has had lately."""

    host: str
    online: bool
    draining: bool
    halted: str | None
    """Why it takes nothing now, in words."""
    engine: str | None
    profiles: tuple[str, ...]
    seen: float
    waiting: int
    """Samples that asked for this host and wait for it."""
    slots: tuple[SlotView, ...]


class QueueView(Value):
    """What waits for one VM profile."""

    profile: str
    online: bool
    hosts: tuple[str, ...]
    slots: int
    free: int
    busy: int
    """Analyses that have a slot, or are past it."""
    queued: int
    """Accepted, and on their way to the next slot."""
    in_line: int
    """Seen, and not accepted before there is room."""
    oldest: float | None
    """UNIX time since which the oldest of them waits."""
    newcomer: Range | None
    """When a sample of normal priority is expected to start that came now."""


class QuarantinedView(Value):
    """A task or analysis that could not be dealt with. Times are UNIX times."""

    uid: str
    where: str
    error: str
    count: int
    first: float
    next: float


class FleetView(Value):
    """The whole page."""

    now: float
    """UNIX time by Redis' clock."""
    unread: int
    """Tasks on Karton's own queue, which nobody has looked at yet."""
    twins: int = 0
    """Tasks that wait for the result of an analysis that is under way."""
    hosts: tuple[HostView, ...]
    queues: tuple[QueueView, ...]
    quarantined: tuple[QuarantinedView, ...] = ()
    """What could not be dealt with, the longest there first."""
    drift: tuple[str, ...] = ()
    """What is wrong with the snapshots of the hosts."""
    odd_keys: tuple[str, ...] = ()
    """What is wrong with our keys in Karton's Redis."""
    analyses: tuple[Row, ...]
    """All that are under way, the newest first, then the newest that are over."""


def fleet_view(
    *,
    now: float,
    unread: int,
    twins: int = 0,
    hosts: Sequence[HostStatus],
    places: Mapping[Place, float],
    lines: Sequence[Line],
    in_flight: Mapping[Place, int],
    live: Sequence[Record],
    done: Sequence[Record],
    starts: Mapping[str, Range],
    newcomers: Mapping[str, Range],
    quarantined: Iterable[Entry] = (),
    odd_keys: Iterable[str] = (),
) -> FleetView:
    """Put the page together. *live* is in the order of acceptance, *done* has the newest first.

    *starts*: when analyses are expected to start, by uid; *newcomers*: when a new one would, by profile.
    """
    records = {record.uid: record for record in (*done, *live)}
    following = likely_next(hosts, live, starts)
    alive = {status.host: status for status in hosts}
    return FleetView(
        now=now,
        unread=unread,
        twins=twins,
        quarantined=tuple(_quarantined(entry) for entry in quarantined),
        drift=tuple(clean(sentence, SENTENCE) for sentence in drift(hosts)),
        odd_keys=tuple(odd_keys),
        hosts=tuple(
            _host(one, alive.get(one.host), records, following)
            for one in host_overviews(hosts, places, lines)
        ),
        queues=tuple(
            _queue(one, live, newcomers.get(one.profile))
            for one in profile_overviews(hosts, places, lines, in_flight)
        ),
        analyses=tuple(row(record, starts.get(record.uid)) for record in (*reversed(live), *done)),
    )


def _host(
    one: HostOverview,
    status: HostStatus | None,
    records: Mapping[str, Record],
    following: Mapping[tuple[str, str], Next],
) -> HostView:
    """*status* is what the host says about itself; None while it is offline."""
    return HostView(
        host=one.host,
        online=one.online,
        draining=one.draining,
        halted=halted_words(one.halted) if one.halted else None,
        engine=one.engine,
        profiles=one.profiles,
        seen=one.seen,
        waiting=one.waiting,
        slots=tuple(
            _slot(slot, records.get(slot.uid or ""), following.get((one.host, slot.name)))
            for slot in (status.slots if status is not None else ())
        ),
    )


def _slot(slot: SlotStatus, record: Record | None, following: Next | None) -> SlotView:
    # The slot may be a moment ahead of the ledger, or behind it
    held = record if record is not None and record.attempt == slot.attempt else None
    return SlotView(
        name=slot.name,
        profile=slot.profile,
        state=slot.state,
        since=slot.since,
        uid=slot.uid,
        attempt=held.attempts if held else None,
        sample=sample_name(held) if held else None,
        running_since=held.entered.get(State.RUNNING) if held else None,
        timeout=held.analysis.longest if held and held.analysis else None,
        score=slot.score,
        is_unwell=slot.score is not None and slot.score <= UNWELL,
        reasons=tuple(clean(reason, REASON) for reason in slot.reasons),
        closed_by=clean(slot.closed_by, NAME) if slot.closed_by else None,
        canary=clean(slot.canary.words, REASON) if slot.canary.words else None,
        next=following,
    )


def _quarantined(entry: Entry) -> QuarantinedView:
    return QuarantinedView(
        uid=clean(entry.uid),
        where=clean(entry.where),
        error=clean(entry.error),
        count=entry.count,
        first=entry.first,
        next=entry.next,
    )


def likely_next(
    hosts: Iterable[HostStatus], live: Sequence[Record], starts: Mapping[str, Range]
) -> dict[tuple[str, str], Next]:
    """For (host, slot): which accepted analysis is likely to come there.

    A slot that is busy gets the next one of its profile in the order in which they were accepted; the slot
    whose guest has to stop first is served first. Slots that are out of use get none.
    """
    ends = {record.uid: _latest_end(record) for record in live}
    busy = [
        (ends.get(slot.uid, float("inf")), host.host, slot)
        for host in hosts
        for slot in host.slots
        if slot.uid is not None and is_in_use(host, slot)
    ]
    found: dict[tuple[str, str], Next] = {}
    queued = [record for record in live if record.state is State.QUEUED]
    for _, host, slot in sorted(busy, key=lambda one: (one[0], one[1], one[2].name)):
        place = Place(profile=slot.profile, host=host)
        record = next((one for one in queued if _fits(one, place)), None)
        if record is not None:
            queued.remove(record)
            found[host, slot.name] = Next(
                uid=record.uid, sample=sample_name(record), start=starts.get(record.uid)
            )
    return found


def _latest_end(record: Record) -> float:
    """When the guest has to stop; infinite where it does not run yet."""
    running = record.entered.get(State.RUNNING)
    return running + record.analysis.longest if running and record.analysis else float("inf")


def _fits(record: Record, place: Place) -> bool:
    wanted = record.analysis.place if record.analysis else None
    return wanted is not None and wanted.profile == place.profile and wanted.host in (None, place.host)


def _queue(one: ProfileOverview, live: Iterable[Record], newcomer: Range | None) -> QueueView:
    queued = [
        record.received
        for record in live
        if record.state is State.QUEUED and record.analysis and record.analysis.profile == one.profile
    ]
    in_line = [] if one.waiting_since is None else [one.waiting_since]
    return QueueView(
        profile=one.profile,
        online=one.online,
        hosts=one.hosts,
        slots=one.slots,
        free=one.free,
        busy=max(0, one.in_flight - len(queued)),  # the two were read one after the other
        queued=len(queued),
        in_line=one.waiting,
        oldest=min([*queued, *in_line], default=None),
        newcomer=newcomer,
    )
