"""The slots in one round of a simulation. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence

from drakcelery.model.analysis import Place


class SimulatedSlots:
    """When each slot is free in one round. They are kept in a heap, since there may be thousands."""

    def __init__(self, places: Sequence[Place], choices: Mapping[Place, Sequence[int]]) -> None:
        """*places*: of each slot; *choices*: the numbers of the slots of each place."""
        self.free = [0.0] * len(places)
        self._places = places
        self._choices = choices
        self._heaps: dict[Place, list[tuple[float, int]]] = {}

    def first(self, place: Place) -> int:
        """The slot of *place* that is free first."""
        heap = self._heaps.get(place)
        if heap is None:
            heap = self._heaps[place] = [(self.free[number], number) for number in self._choices[place]]
            heapq.heapify(heap)
        while heap[0][0] != self.free[heap[0][1]]:
            heapq.heappop(heap)  # it was taken since
        return heap[0][1]

    def occupy(self, number: int, until: float) -> None:
        """A slot is free at another time."""
        self.free[number] = until
        place = self._places[number]
        for within in (place, Place(profile=place.profile)):
            if within in self._heaps:
                heapq.heappush(self._heaps[within], (until, number))

    def occupy_all(self, until: Iterable[tuple[int, float]]) -> None:
        """As :meth:`occupy`, for many."""
        for number, at in until:
            self.free[number] = at
        self._heaps.clear()
