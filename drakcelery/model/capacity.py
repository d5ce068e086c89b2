"""Capacity: how many more analyses the fleet accepts, for each place. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from drakcelery.model.analysis import Place
from drakcelery.model.records import HostStatus, SlotStatus
from drakcelery.model.slot_state import OUT_OF_USE


def is_in_use(host: HostStatus, slot: SlotStatus) -> bool:
    """Whether a slot of *host* takes samples, at once or when its guest is done."""
    return host.halted is None and slot.state not in OUT_OF_USE


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """The slots of the hosts that are alive, against the analyses in flight."""

    slots: Mapping[Place, int]
    """Slots in use or free, for each profile and for each profile of each host."""
    in_flight: Mapping[Place, int]
    leaving: Mapping[str, int]
    """Analyses of each profile that hold a slot which is out of use: they do not use up capacity."""
    look_ahead: int
    """How many more analyses than slots each place may have, so that a free slot need not wait for the
    next."""

    @classmethod
    def of(cls, hosts: Iterable[HostStatus], in_flight: Mapping[Place, int], *, look_ahead: int) -> Capacity:
        """Count the slots of *hosts*."""
        in_use: Counter[tuple[str, str]] = Counter()
        leaving: Counter[str] = Counter()
        for host in hosts:
            for slot in host.slots:
                if is_in_use(host, slot):
                    in_use[slot.profile, host.host] += 1
                elif slot.uid is not None:
                    leaving[slot.profile] += 1
        slots: Counter[Place] = Counter()
        for (profile, name), count in in_use.items():
            slots[Place(profile=profile)] += count
            slots[Place(profile=profile, host=name)] += count
        return cls(slots=slots, in_flight=in_flight, leaving=leaving, look_ahead=look_ahead)

    def beside(self, in_flight: Mapping[Place, int]) -> Capacity:
        """The same slots, with other analyses in flight."""
        return replace(self, in_flight=in_flight)

    def after(self, place: Place) -> Capacity:
        """What is left once one more has begun that asked for *place*."""
        return self.beside({**self.in_flight, place: self.in_flight.get(place, 0) + 1})

    def free(self, place: Place) -> int:
        """How many more analyses may begin that ask for *place*; none if no slot of it is online.

        Those that ask for a host count against its slots, and against those of their profile as well.
        """
        mine = max(0, self._of_profile[place.profile] - self.leaving.get(place.profile, 0))
        room = self._left(Place(profile=place.profile), mine)
        if place.host is not None:
            room = min(room, self._left(place, self.in_flight.get(place, 0)))
        return room

    def limit(self, place: Place) -> int:
        """How many may be in flight that asked for just this place."""
        return self.in_flight.get(place, 0) + self.free(place)

    def total(self) -> int:
        """How many more may begin in all, whatever they ask for."""
        return sum(self.free(place) for place in self.slots if place.host is None)

    def most(self) -> int:
        """How many may be in flight in all, including those that are."""
        return self._of_profile.total() + self.total()

    @cached_property
    def _of_profile(self) -> Counter[str]:
        """Analyses in flight of each profile."""
        found: Counter[str] = Counter()
        for place, count in self.in_flight.items():
            found[place.profile] += count
        return found

    def _left(self, place: Place, taken: int) -> int:
        slots = self.slots.get(place, 0)
        return max(0, slots + self.look_ahead - taken) if slots else 0
