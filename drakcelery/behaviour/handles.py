"""What the handles of processes stand for, at which event: a program uses a number again and again. Pure."""

from __future__ import annotations

from bisect import bisect_right

Handle = tuple[int, int]
"""A pid and its handle's number."""


class Handles:
    """By pid and handle, what it stands for since which event."""

    def __init__(self, most: int) -> None:
        """Of *most* handles; the oldest go first."""
        self._most = most
        self._known: dict[Handle, list[tuple[int, int]]] = {}
        self._used_again: set[Handle] = set()

    def add(self, handle: Handle, number: int, meaning: int) -> None:
        """Since the event with this *number*, *handle* stands for *meaning*."""
        known = self._known.get(handle)
        if known is not None:
            known.append((number, meaning))
            self._used_again.add(handle)
            return
        if len(self._known) >= self._most:
            oldest = next(iter(self._known))
            del self._known[oldest]
            self._used_again.discard(oldest)
        self._known[handle] = [(number, meaning)]

    def at(self, handle: Handle, number: int) -> int | None:
        """What it stood for at the event with this *number*, or 0 for now; None if it is not known."""
        known = self._known.get(handle)
        if not known:
            return None
        place = bisect_right(known, number, key=lambda one: one[0]) if number else len(known)
        return known[place - 1][1] if place else None

    def forget(self) -> None:
        """Keep of each handle what it stands for now."""
        for handle in self._used_again:
            del self._known[handle][:-1]
        self._used_again.clear()

    def __len__(self) -> int:
        return len(self._known)
