"""Tables of what was seen: each bounded, and all together; what they do not take is counted. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from drakcelery.behaviour.events import Event, seconds

MOST_CHARACTERS = 8 * 1024**2
"""Of all texts in the tables together."""
MOST_PROCESSES_OF_A_ROW = 16


@dataclass(slots=True)
class Row:
    """One thing that was seen, however often."""

    key: tuple[str, ...]
    first: str
    """When, as the log has it."""
    last: str
    count: int = 0
    who: dict[int, int] = field(default_factory=dict)
    """The processes that did it: by pid, the number of the first event."""
    details: dict[str, Any] = field(default_factory=dict)
    """What else is known of it."""

    def see(self, event: Event) -> None:
        """It was seen once more."""
        self.count += 1
        self.last = event.timestamp
        pid, who = event.pid, self.who
        if pid not in who and pid is not None and len(who) < MOST_PROCESSES_OF_A_ROW:
            who[pid] = event.uid

    def seen(self, processes: Who) -> dict[str, Any]:
        """The fields that every entry of the report has; *processes* finds their numbers."""
        return {
            "count": self.count,
            "first": seconds(self.first),
            "last": seconds(self.last),
            "processes": processes(self),
        }


Who = Callable[[Row], tuple[int, ...]]


class Budget:
    """How many characters all tables may still keep, and what was left out."""

    def __init__(self, characters: int = MOST_CHARACTERS) -> None:
        self.characters = characters
        self.left_out: Counter[str] = Counter()
        """By table: events that it could not take, since it was full."""

    def spend(self, table: str, *texts: str) -> bool:
        """Whether *texts* may be kept, too; if not, *table* misses one event."""
        characters = sum(map(len, texts))
        if characters > self.characters:
            self.left_out[table] += 1
            return False
        self.characters -= characters
        return True


class Table:
    """Rows by key."""

    def __init__(self, name: str, most: int, budget: Budget) -> None:
        self.name = name
        self._most = most
        self._budget = budget
        self._rows: dict[tuple[str, ...], Row] = {}

    def add(self, event: Event, *key: str, shown: tuple[str, ...] = ()) -> Row | None:
        """The row of *key*, in which *event* is counted; None if the table is full.

        Keys that differ in *shown* only are the same; the first is the one that is shown.
        """
        row = self._rows.get(key)
        if row is None:
            if len(self._rows) >= self._most:
                self._budget.left_out[self.name] += 1
                return None
            if not self._budget.spend(self.name, *key, *shown):
                return None
            row = self._rows[key] = Row(shown or key, event.timestamp, "")
        row.see(event)
        return row

    def find(self, *key: str) -> Row | None:
        """The row of *key*, if there is one."""
        return self._rows.get(key)

    def since(self, number: int) -> Iterator[Row]:
        """Its rows but the first *number* of them: none ever goes."""
        return islice(self._rows.values(), number, None)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows.values())

    def __len__(self) -> int:
        return len(self._rows)
