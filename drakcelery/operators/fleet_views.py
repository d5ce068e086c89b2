"""How hosts, slots and VM profiles look on a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from drakcelery.model.halt import halted_words
from drakcelery.model.records import SlotStatus
from drakcelery.model.slot_state import ReportedState
from drakcelery.model.text import clean
from drakcelery.operators.overview import HostOverview, ProfileOverview
from drakcelery.operators.views import duration, safe

_SLOT_STYLES = {
    ReportedState.FREE: "green",
    ReportedState.RUNNING: "yellow",
    ReportedState.DIRTY: "red",
    ReportedState.QUARANTINED: "red",
    ReportedState.HALTED: "red",
    ReportedState.CHECKING: "magenta",
    ReportedState.DRAINING: "magenta",
    ReportedState.DRAINED: "magenta",
}


def slot_text(slot: SlotStatus, halted: str | None = None) -> Text:
    """What a slot does, coloured, and what keeps it out of use: an operator, or why its host is *halted*."""
    by = f" by {clean(slot.closed_by, 40)}" if slot.closed_by else ""
    if halted and slot.state is ReportedState.HALTED:
        by = f": {clean(halted_words(halted), 60)}"
    return Text(f"{clean(slot.state, 40)}{by}", style=_SLOT_STYLES.get(slot.state, "cyan"))


def _presence(online: bool, seen: float, now: float) -> Text:
    return Text("online", style="green") if online else Text(f"offline {duration(now - seen)}", style="red")


def _host_state(host: HostOverview, now: float) -> Text:
    if host.draining:
        return _drained(host)
    if host.halted:
        return Text(f"halted: {clean(halted_words(host.halted), 60)}", style="red")
    return _presence(host.online, host.seen, now)


def _drained(host: HostOverview) -> Text:
    state = ReportedState.DRAINING if host.slots.get(ReportedState.DRAINING) else ReportedState.DRAINED
    return Text(state, style="magenta")


def host_overviews_table(hosts: Iterable[HostOverview], *, now: float) -> Table:
    """A line for each host."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("HOST", "STATE", "PROFILES", "SLOTS", "WAITING FOR IT", "ENGINE"):
        table.add_column(column)
    for host in hosts:
        states = ", ".join(f"{count} {state}" for state, count in sorted(host.slots.items()))
        table.add_row(
            safe(host.host),
            _host_state(host, now),
            safe(", ".join(host.profiles)),
            safe(states or "-"),
            str(host.waiting),
            safe(host.engine or "-"),
        )
    return table


def profiles_table(profiles: Iterable[ProfileOverview], *, now: float) -> Table:
    """A line for each VM profile."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in (
        "PROFILE",
        "STATE",
        "FREE",
        "SLOTS",
        "OUT OF USE",
        "HOSTS",
        "IN FLIGHT",
        "WAITING",
        "LONGEST",
    ):
        table.add_column(column)
    for one in profiles:
        table.add_row(
            safe(one.profile),
            _presence(one.online, one.seen, now),
            str(one.free),
            str(one.slots),
            str(one.out_of_use),
            safe(", ".join(one.hosts) or "-"),
            str(one.in_flight),
            str(one.waiting),
            "-" if one.waiting_since is None else duration(now - one.waiting_since),
        )
    return table
