"""The slots in one round of a simulation. Pure."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from drakcelery.model.analysis import Place


def places_of(slots: Iterable[Place]) -> list[tuple[Place, Place]]:
    """The two places of each slot: its own, and its profile on any host.

    Each place is one object, since to look it up then takes no comparison, of which there would be a million.
    """
    known: dict[Place, Place] = {}
    pairs = ((own, Place(profile=own.profile)) for own in slots)
    return [(known.setdefault(own, own), known.setdefault(on_any, on_any)) for own, on_any in pairs]


def choices_of(places: Iterable[tuple[Place, Place]]) -> dict[Place, list[int]]:
    """The numbers of each place's slots."""
    choices: dict[Place, list[int]] = defaultdict(list)
    for number, pair in enumerate(places):
        for place in pair:
            choices[place].append(number)
    return choices


class SimulatedSlots:
    """When each slot is free in one round. They are kept in a heap, since there may be thousands."""

    def __init__(self, places: Sequence[tuple[Place, Place]], choices: Mapping[Place, Sequence[int]]) -> None:
        """*places*: the two of each slot, on its host and on any; *choices*: the slots of each place."""
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
        for within in self._places[number]:
            heap = self._heaps.get(within)
            if heap is not None:
                heapq.heappush(heap, (until, number))

    def occupy_all(self, until: Iterable[tuple[int, float]]) -> None:
        """As :meth:`occupy`, for many."""
        for number, at in until:
            self.free[number] = at
        self._heaps.clear()
