"""A model of the broker: queues, deliveries that are not acknowledged, and all that happens to messages."""

from __future__ import annotations

import copy
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(eq=False)
class Letter:
    """A message."""

    id: str
    """Celery's task id."""
    name: str
    """Of the Celery task."""
    step: dict[str, Any] | None
    headers: dict[str, Any] = field(default_factory=dict)


@dataclass(eq=False)
class Held:
    """A delivery that was not acknowledged yet."""

    tag: int
    letter: Letter
    queue: str
    owner: object
    until: float


class Broker:
    """All queues. Who may reach it, and when, is for its callers to see to."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._tags = itertools.count(1)
        self.starts = 1
        """How often it was started."""
        self.queues: dict[str, deque[Letter]] = {}
        self.held: dict[int, Held] = {}

    def info(self, _section: str) -> dict[str, str]:
        """As redis-py's clients tell it: which server it is."""
        return {"run_id": f"broker-{self.starts}", "role": "master"}

    def publish(self, queue: str, letter: Letter) -> None:
        """Put a message at the end."""
        self.queues.setdefault(queue, deque()).append(letter)

    def has(self, queues: Sequence[str]) -> bool:
        """Whether anything waits in one of *queues*."""
        return any(self.queues.get(queue) for queue in queues)

    def take(self, queues: Sequence[str], owner: object, visibility: float) -> Held | None:
        """Deliver the first message of the first of *queues* that has one."""
        for queue in queues:
            if waiting := self.queues.get(queue):
                letter = waiting.popleft()
                held = Held(next(self._tags), copy.deepcopy(letter), queue, owner, self._now() + visibility)
                self.held[held.tag] = held
                return held
        return None

    def acknowledge(self, tag: int) -> None:
        """It is done with; that it is somebody else's by now changes nothing."""
        self.held.pop(tag, None)

    def give_back(self, tag: int) -> None:
        """Put it back where it came from, first of all; its headers are as they were."""
        held = self.held.pop(tag, None)
        if held is not None:
            held.letter.headers.pop("drak_slot", None)
            self.queues.setdefault(held.queue, deque()).appendleft(held.letter)

    def renew(self, owner: object, visibility: float) -> None:
        """Keep what *owner* holds."""
        for held in self.held.values():
            if held.owner is owner:
                held.until = self._now() + visibility

    def overdue(self) -> list[int]:
        """Deliveries that nobody has renewed in time."""
        return [held.tag for held in self.held.values() if held.until < self._now()]

    # What befalls messages

    def flush(self) -> None:
        """Everything is gone."""
        self.starts += 1
        self.queues.clear()
        self.held.clear()

    def lose(self, number: int) -> bool:
        """One of the messages that wait is gone."""
        waiting = self._waiting()
        if not waiting:
            return False
        queue, letter = waiting[number % len(waiting)]
        self.queues[queue].remove(letter)
        return True

    def duplicate(self, number: int) -> bool:
        """One of the messages, waiting or delivered, is there once more."""
        all_of_them = [*self._waiting(), *((held.queue, held.letter) for held in self.held.values())]
        if not all_of_them:
            return False
        queue, letter = all_of_them[number % len(all_of_them)]
        again = copy.deepcopy(letter)
        again.headers.pop("drak_slot", None)
        self.publish(queue, again)
        return True

    def _waiting(self) -> list[tuple[str, Letter]]:
        return [(queue, letter) for queue in sorted(self.queues) for letter in self.queues[queue]]
