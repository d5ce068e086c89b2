"""How many more analyses the fleet takes, place by place. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from drakcelery.analysis import Place
from drakcelery.records import HostStatus

OUT_OF_USE = frozenset({"quarantined", "draining", "drained"})
"""States of slots that nobody should count on."""


@dataclass(frozen=True, kw_only=True)
class Rooms:
    """The slots of the hosts that are alive, against the analyses in flight."""

    slots: Mapping[Place, int]
    """Slots in use or free, for each profile and for each profile of each host."""
    in_flight: Mapping[Place, int]
    leaving: Mapping[str, int]
    """Analyses of each profile that hold a slot which is out of use: they take no room from those to come."""
    look_ahead: int
    """Analyses beyond the slots that each place may have, so that a free slot need not wait for the next."""

    @classmethod
    def of(cls, hosts: Iterable[HostStatus], in_flight: Mapping[Place, int], *, look_ahead: int) -> Rooms:
        """Count the slots of *hosts*."""
        slots: Counter[Place] = Counter()
        leaving: Counter[str] = Counter()
        for host in hosts:
            for slot in host.slots:
                if slot.state not in OUT_OF_USE:
                    slots[Place(profile=slot.profile)] += 1
                    slots[Place(profile=slot.profile, host=host.host)] += 1
                elif slot.uid is not None:
                    leaving[slot.profile] += 1
        return cls(slots=slots, in_flight=in_flight, leaving=leaving, look_ahead=look_ahead)

    def free(self, place: Place) -> int:
        """How many more analyses may begin that ask for *place*; none where nothing of it is online.

        Those that ask for a host count against its slots, and against those of their profile as well.
        """
        mine = sum(count for other, count in self.in_flight.items() if other.profile == place.profile)
        mine = max(0, mine - self.leaving.get(place.profile, 0))
        room = self._left(Place(profile=place.profile), mine)
        if place.host is not None:
            room = min(room, self._left(place, self.in_flight.get(place, 0)))
        return room

    def total(self) -> int:
        """How many more may begin in all, whatever they ask for."""
        return sum(self.free(place) for place in self.slots if place.host is None)

    def _left(self, place: Place, taken: int) -> int:
        slots = self.slots.get(place, 0)
        return max(0, slots + self.look_ahead - taken) if slots else 0
