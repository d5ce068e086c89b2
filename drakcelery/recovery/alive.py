"""The hosts that are alive, as reconcile asks for them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from drakcelery.model.analysis import Place
from drakcelery.model.records import HostStatus
from drakcelery.model.slot_state import OUT_OF_USE, ReportedState


@dataclass(frozen=True, kw_only=True)
class Alive:
    """The hosts that are alive, for questions about thousands of analyses."""

    hosts: frozenset[str]
    """Hosts whose vm worker is alive."""
    io_hosts: frozenset[str]
    """Hosts whose io worker is alive, with or without their vm worker."""
    places: frozenset[str]
    """Places that take samples, at once or when their guests are done."""
    free: frozenset[str]
    """Places that have a free slot."""
    held: frozenset[tuple[str, str | None]]
    """(place, uid of the analysis that holds a slot there)."""

    @classmethod
    def of(cls, hosts: Iterable[HostStatus], *, io_hosts: frozenset[str]) -> Self:
        """Index *hosts*; *io_hosts* are those whose io worker is alive."""
        slots = [
            (place, slot)
            for status in hosts
            for slot in status.slots
            for place in (slot.profile, f"{slot.profile}@{status.host}")
        ]
        return cls(
            hosts=frozenset(status.host for status in hosts),
            io_hosts=io_hosts,
            places=frozenset(place for place, slot in slots if slot.state not in OUT_OF_USE),
            free=frozenset(place for place, slot in slots if slot.state is ReportedState.FREE),
            held=frozenset((place, slot.uid) for place, slot in slots),
        )

    def takes(self, place: Place, uid: str) -> bool:
        """Whether a slot of *place* is free, or was claimed for the analysis *uid*."""
        return str(place) in self.free or (str(place), uid) in self.held
