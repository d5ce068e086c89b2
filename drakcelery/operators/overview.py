"""The fleet as operators see it: its hosts and profiles, including those that are offline. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from drakcelery.model.analysis import Place, Value
from drakcelery.model.records import HostStatus, Line
from drakcelery.model.slot_state import OUT_OF_USE, ReportedState


class HostOverview(Value):
    """One host that the fleet has, or has had lately."""

    host: str
    online: bool
    draining: bool
    """Whether an operator has drained it; it finishes its work in hand."""
    halted: str | None
    """Why it takes nothing now, though no operator has drained it; None if it does, or is offline."""
    engine: str | None
    """None while it is offline."""
    profiles: tuple[str, ...]
    slots: Mapping[ReportedState, int]
    """How many are in each state."""
    seen: float
    """UNIX time at which it was last heard of, by Redis' clock."""
    waiting: int
    """Samples that asked for this host and have to wait for it."""


class ProfileOverview(Value):
    """One VM profile that the fleet has, or has had lately."""

    profile: str
    online: bool
    hosts: tuple[str, ...]
    """Those that are online."""
    slots: int
    """Slots of the hosts that are online."""
    free: int
    out_of_use: int
    """Drained, quarantined or halted; or about to be, once their last guest has finished."""
    in_flight: int
    """Live analyses that asked for it, or were given it."""
    waiting: int
    """Samples in line for it, without those on Karton's queue, which nobody has looked at yet."""
    waiting_since: float | None
    """UNIX time at which Karton had the oldest of them."""
    seen: float
    """UNIX time at which a host with it was last heard of, by Redis' clock."""


def snapshots(hosts: Iterable[HostStatus]) -> dict[str, dict[str, list[str]]]:
    """For each profile: the snapshots of its VMs, each with its hosts. More than one snapshot is a drift."""
    found: dict[str, dict[str, list[str]]] = {}
    for status in hosts:
        for profile in sorted({slot.profile for slot in status.slots}):
            if status.snapshot is not None:
                found.setdefault(profile, {}).setdefault(status.snapshot, []).append(status.host)
    return found


def drift(hosts: Iterable[HostStatus]) -> list[str]:
    """What is wrong with the snapshots of the fleet, as sentences without their full stops."""
    hosts = list(hosts)
    said = [
        f"the snapshot of {status.host} has changed since its vm worker started"
        for status in hosts
        if status.snapshot_changed
    ]
    for profile, marks in sorted(snapshots(hosts).items()):
        if len(marks) > 1:
            groups = "; ".join(f"{mark} on {', '.join(names)}" for mark, names in sorted(marks.items()))
            said.append(f"{len(marks)} snapshots go by the name of the profile {profile}: {groups}")
    return said


def host_overviews(
    hosts: Iterable[HostStatus], places: Mapping[Place, float], lines: Iterable[Line]
) -> list[HostOverview]:
    """All hosts, by name. *places* are those of the fleet, and when each was last seen."""
    alive = {status.host: status for status in hosts}
    seen: dict[str, float] = {}
    profiles: dict[str, set[str]] = {}
    for place, at in places.items():
        name = str(place.host)
        seen[name] = max(at, seen.get(name, 0.0))
        profiles.setdefault(name, set()).add(place.profile)
    waiting = Counter(dict.fromkeys(seen, 0))
    for line in lines:
        if line.place.host is not None:
            waiting[line.place.host] += line.length
    return [
        HostOverview(
            host=name,
            online=name in alive,
            draining=name in alive and alive[name].draining,
            halted=alive[name].halted if name in alive else None,
            engine=alive[name].engine if name in alive else None,
            profiles=tuple(sorted({slot.profile for slot in alive[name].slots}))
            if name in alive
            else tuple(sorted(profiles[name])),
            slots=Counter(slot.state for slot in alive[name].slots) if name in alive else {},
            seen=seen.get(name, 0.0),
            waiting=waiting[name],
        )
        for name in sorted({*seen, *alive})
    ]


def profile_overviews(
    hosts: Iterable[HostStatus],
    places: Mapping[Place, float],
    lines: Iterable[Line],
    in_flight: Mapping[Place, int],
) -> list[ProfileOverview]:
    """All profiles, by name."""
    slots = [(status.host, slot) for status in hosts for slot in status.slots]
    lines = list(lines)
    names = {place.profile for place in (*places, *in_flight)} | {slot.profile for _, slot in slots}
    found = []
    for name in sorted(names | {line.place.profile for line in lines}):
        mine = [(host, slot) for host, slot in slots if slot.profile == name]
        queue = [line for line in lines if line.place.profile == name]
        found.append(
            ProfileOverview(
                profile=name,
                online=bool(mine),
                hosts=tuple(sorted({host for host, _ in mine})),
                slots=len(mine),
                free=sum(slot.state is ReportedState.FREE for _, slot in mine),
                out_of_use=sum(slot.state in OUT_OF_USE for _, slot in mine),
                in_flight=sum(count for place, count in in_flight.items() if place.profile == name),
                waiting=sum(line.length for line in queue),
                waiting_since=min((line.since for line in queue), default=None),
                seen=max((at for place, at in places.items() if place.profile == name), default=0.0),
            )
        )
    return found
