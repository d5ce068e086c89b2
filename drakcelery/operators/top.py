"""``drakcelery top``: the fleet at a glance, again every second. Eighty columns are enough for it."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import tty
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from redis.exceptions import RedisError
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from drakcelery.errors import Unreadable
from drakcelery.ledger import Ledger, away
from drakcelery.ledger.inbox import Inbox
from drakcelery.model.analysis import State
from drakcelery.model.records import HostStatus, Record, SlotStatus
from drakcelery.model.slot_state import ReportedState
from drakcelery.model.text import clean
from drakcelery.operators import fleet_views, overview, views
from drakcelery.operators.overview import ProfileOverview

REFRESH_SECONDS = 1.0
WINDOW = 300
"""Seconds over which rates are counted."""
MOST_ENDED = 2000
"""How many of the analyses that ended within the window are counted at most."""
RECENT = 8
"""Ended analyses that are shown."""
LEAST_SLOTS = 4
"""Lines that slots get at least, however small the terminal is."""
COLUMNS = 80


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What a frame shows."""

    now: float
    """By Redis' clock, like all times."""
    hosts: list[HostStatus]
    profiles: list[ProfileOverview]
    queued: int
    """Samples on Karton's queue that nobody has looked at."""
    queued_since: float | None
    """Since when the oldest of them waits."""
    twins: int = 0
    """Samples that wait for another analysis's result."""
    twins_since: float | None = None
    """Since when the oldest of them waits."""
    live: Mapping[str, Record]
    ended: list[Record]
    """The newest first; those of the window at least, and :data:`RECENT` of those before."""

    def per_minute(self, *states: State) -> float:
        """How many analyses ended so in a minute."""
        since = self.now - WINDOW
        return sum(one.state in states and (one.finished or 0) >= since for one in self.ended) * 60 / WINDOW

    @property
    def taken_per_minute(self) -> float:
        """How many analyses began in a minute."""
        since = self.now - WINDOW
        return sum(one.received >= since for one in (*self.live.values(), *self.ended)) * 60 / WINDOW


class Watch:
    """Reads snapshots; records that are over are read only once."""

    def __init__(self, ledger: Ledger, inbox: Inbox) -> None:
        """*inbox* is the one beside *ledger*."""
        self._ledger = ledger
        self._inbox = inbox
        self._ended: list[Record] = []

    def read(self) -> Snapshot:
        """The fleet as it is now."""
        ledger, inbox = self._ledger, self._inbox
        now = ledger.now()
        hosts = ledger.fleet.hosts()
        profiles = overview.profile_overviews(hosts, ledger.fleet.places(), inbox.lines(), inbox.in_flight())
        unread = [stretch for stretch in inbox.backlog(most=1) if stretch.place is None]
        first = [_since_when(ledger, uid) for stretch in unread for uid in stretch.named]
        twins = [one.since for one in inbox.twins.waiting() if one.waits_for is not None]
        self._ended = self._newest(since=now - WINDOW)
        return Snapshot(
            now=now,
            hosts=hosts,
            profiles=profiles,
            queued=sum(stretch.length for stretch in unread),
            queued_since=min(filter(None, first), default=None),
            twins=len(twins),
            twins_since=min(twins, default=None),
            live={record.uid: record for record in ledger.live()},
            ended=self._ended,
        )

    def _newest(self, *, since: float) -> list[Record]:
        known = {(record.uid, record.finished) for record in self._ended}
        new: list[Record] = []
        for record in self._ledger.done(newest=MOST_ENDED):
            enough = len(new) >= RECENT and (record.finished or 0) < since
            if enough or (record.uid, record.finished) in known:
                break
            new.append(record)
        ended = [*new, *self._ended][:MOST_ENDED]
        return [
            record for place, record in enumerate(ended) if place < RECENT or (record.finished or 0) >= since
        ]


def _since_when(ledger: Ledger, task_uid: str) -> float | None:
    """When Karton routed a task; None if it does not say so."""
    try:
        return ledger.karton_update(task_uid)
    except Unreadable:
        return None


def frame(snapshot: Snapshot, *, width: int, height: int | None) -> RenderableType:
    """What *snapshot* looks like in so many columns, and (None: any number of) lines."""
    profiles, rates, recent = _profiles(snapshot), _rates(snapshot), _recent(snapshot, width)
    taken = 2 + (1 + profiles.row_count) + 1 + 2 + (1 + recent.row_count) + 2  # with the blank lines between
    room = None if height is None else max(LEAST_SLOTS, height - taken - 1)
    slots = _slots(snapshot, room, width)
    return Group(_head(snapshot), "", slots, "", profiles, "", rates, "", recent)


def _head(snapshot: Snapshot) -> Text:
    slots = [slot for host in snapshot.hosts for slot in host.slots]
    busy = sum(slot.uid is not None for slot in slots)
    return Text.assemble(
        ("drakcelery top ", "bold"),
        f"{views.moment(snapshot.now)[11:]} UTC  {len(snapshot.hosts)} hosts, "
        f"{len(slots)} slots, {busy} busy  {len(snapshot.live)} analyses in flight",
    )


def _table(*columns: str, **options: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", **options)  # type: ignore[arg-type] # width
    for column in columns:
        table.add_column(column, no_wrap=True, overflow="ellipsis")
    return table


def _slots(snapshot: Snapshot, room: int | None, width: int) -> Table:
    """A line for each slot; if there is no room for all, first for those that are not free."""
    slots = [(host.host, slot) for host in snapshot.hosts for slot in host.slots]
    left_out = 0
    if room is not None and len(slots) > room:
        slots.sort(key=lambda one: one[1].state is ReportedState.FREE)
        slots, left_out = slots[: room - 1], len(slots) - (room - 1)
    table = _table("SLOT", "PROFILE", "STATE", "FOR", "OF", "SAMPLE", width=width)
    table.columns[0].max_width = 20
    table.columns[1].max_width = 12
    table.columns[5].ratio = 1
    for host, slot in slots:
        record = snapshot.live.get(slot.uid or "")
        table.add_row(
            views.safe(f"{host}/{slot.name}"),
            views.safe(slot.profile),
            fleet_views.slot_text(slot.model_copy(update={"closed_by": None})),
            views.duration(snapshot.now - slot.since),
            views.duration(record.analysis.longest) if record and record.analysis else "-",
            _sample(slot, record),
        )
    if left_out:
        table.add_row(f"and {left_out} more", style="dim")
    return table


def _sample(slot: SlotStatus, record: Record | None) -> str:
    if record is None or record.analysis is None:
        return escape(f"({clean(slot.closed_by, 40)})") if slot.closed_by else "-"
    again = f" (attempt {record.attempts})" if record.attempts > 1 else ""
    return escape(clean(record.analysis.sample.name, 60) + again)


def _profiles(snapshot: Snapshot) -> Table:
    table = _table("PROFILE", "FREE", "SLOTS", "OUT OF USE", "IN FLIGHT", "WAITING", "LONGEST")
    table.columns[0].max_width = 16
    for one in snapshot.profiles:
        table.add_row(
            views.safe(one.profile),
            str(one.free),
            str(one.slots),
            str(one.out_of_use),
            str(one.in_flight),
            str(one.waiting),
            _since(snapshot, one.waiting_since),
        )
    if snapshot.queued:
        queued = ("(any)", "", "", "", "", str(snapshot.queued), _since(snapshot, snapshot.queued_since))
        table.add_row(*queued)
    if snapshot.twins:
        twins = ("(twins)", "", "", "", "", str(snapshot.twins), _since(snapshot, snapshot.twins_since))
        table.add_row(*twins)
    return table


def _since(snapshot: Snapshot, since: float | None) -> str:
    return "-" if since is None else views.duration(snapshot.now - since)


def _rates(snapshot: Snapshot) -> Text:
    rates = {
        "taken": snapshot.taken_per_minute,
        "published": snapshot.per_minute(State.PUBLISHED),
        "failed": snapshot.per_minute(State.FAILED),
        "cancelled": snapshot.per_minute(State.CANCELLED),
    }
    shown = "  ".join(f"{name} {rate:.1f}" for name, rate in rates.items())
    return Text.assemble((f"PER MINUTE, of {WINDOW // 60}  ", "bold"), shown)


def _recent(snapshot: Snapshot, width: int) -> Table:
    table = _table("ENDED", "STATE", "TOOK", "UID", "SAMPLE OR ERROR", width=width)
    table.columns[4].ratio = 1
    for record in snapshot.ended[:RECENT]:
        ended = record.finished or snapshot.now
        sample = record.sample.name if record.sample else ""
        table.add_row(
            views.duration(snapshot.now - ended),
            views.state_text(record.state),
            views.duration(ended - record.received),
            views.safe(record.uid),
            escape(clean(record.error or sample, 200 if record.error else 60)),
        )
    return table


def show_once(watch: Watch, console: Console) -> None:
    """One frame, whole."""
    console.print(frame(watch.read(), width=min(console.width, COLUMNS * 2), height=None))


def show(watch: Watch, console: Console) -> None:
    """Show frame after frame, until q or Ctrl-C. If Redis is away, say so and wait for it."""
    snapshot = watch.read()
    with _unbuffered(), Live(console=console, screen=True, auto_refresh=False) as live:
        trouble = ""
        while True:
            shown = frame(snapshot, width=console.width, height=console.height - bool(trouble))
            live.update(Group(Text(trouble, style="red"), shown) if trouble else shown, refresh=True)
            if b"q" in _keys(REFRESH_SECONDS).lower():
                return
            try:
                snapshot, trouble = watch.read(), ""
            except RedisError as error:
                trouble = clean(away.trouble(error), 120)


def _keys(seconds: float) -> bytes:
    """The keys that are typed within so many seconds."""
    ready, _, _ = select.select([sys.stdin], [], [], seconds)
    return os.read(sys.stdin.fileno(), 64) if ready else b""


@contextlib.contextmanager
def _unbuffered() -> Iterator[None]:
    """Within this block keys are read one by one and not echoed."""
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
