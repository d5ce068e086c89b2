"""The slots in one round of a simulation. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from drakcelery.model.analysis import Place


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Which slots are in which place. Places and slots have numbers: to look one up compares no names."""

    numbers: Mapping[Place, int]
    """Of each place."""
    places: Sequence[tuple[int, int]]
    """The two places of each slot: its own, and its profile on any host."""
    slots: Sequence[Sequence[int]]
    """The slots of each place."""

    @classmethod
    def of(cls, slots: Iterable[Place]) -> Layout:
        """*slots*: profile and host of each."""
        numbers: dict[Place, int] = {}
        pairs = ((own, Place(profile=own.profile)) for own in slots)
        places = [
            (numbers.setdefault(own, len(numbers)), numbers.setdefault(on_any, len(numbers)))
            for own, on_any in pairs
        ]
        within: list[list[int]] = [[] for _ in numbers]
        for slot, pair in enumerate(places):
            for place in pair:
                within[place].append(slot)
        return cls(numbers=numbers, places=places, slots=within)


class SimulatedSlots:
    """When each slot is free in one round. They are kept in a heap, since there may be thousands."""

    def __init__(self, layout: Layout) -> None:
        self.free = [0.0] * len(layout.places)
        self._layout = layout
        self._heaps: list[list[tuple[float, int]] | None] = [None] * len(layout.slots)

    def first(self, place: int) -> int:
        """The slot of *place* that is free first."""
        heap = self._heaps[place]
        if heap is None:
            heap = self._heaps[place] = [(self.free[number], number) for number in self._layout.slots[place]]
            heapq.heapify(heap)
        while heap[0][0] != self.free[heap[0][1]]:
            heapq.heappop(heap)  # it was taken since
        return heap[0][1]

    def occupy(self, number: int, until: float) -> None:
        """A slot is free at another time."""
        self.free[number] = until
        for place in self._layout.places[number]:
            heap = self._heaps[place]
            if heap is not None:
                heapq.heappush(heap, (until, number))

    def occupy_all(self, until: Iterable[tuple[int, float]]) -> None:
        """As :meth:`occupy`, for many."""
        for number, at in until:
            self.free[number] = at
        self._heaps = [None] * len(self._heaps)
