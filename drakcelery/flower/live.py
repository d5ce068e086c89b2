"""The log of an analysis while it runs, on its page: its host is asked once for all who look, and not often.

The host's workers answer as they do for ``drakcelery logs --follow``: at most 64 KiB of the log at a time,
read beside their work.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Executor

from drakcelery.model.analysis import Value
from drakcelery.model.text import clean
from drakcelery.operators.tail import Event

PAUSE = 2.0
"""Seconds after an answer of the host for which it is not asked again."""
KEPT = 500
"""Lines that are kept of an analysis, the newest."""
MOST = 32
"""Analyses that are followed at the same time."""
FORGOTTEN = 60.0
"""Seconds after which one that nobody looks at is followed no more."""
_SAID = frozenset({"created", "timestamp", "levelname", "level", "action", "message", "uid", "stage"})


class Line(Value):
    """A line of the log, or a change in the ledger."""

    number: int
    """From 0, over all attempts."""
    at: float | None
    """UNIX time."""
    level: str
    stage: str
    action: str
    more: str
    """Its other fields."""


class Lines(Value):
    """What came after a line."""

    lines: tuple[Line, ...]
    next: int
    """The number of the line that will come next."""


class _Followed:
    """One analysis. *read* blocks, and says what is new."""

    def __init__(self, read: Callable[[], Iterable[Event]]) -> None:
        self._read = read
        self._numbers = itertools.count()
        self.lines: deque[Line] = deque(maxlen=KEPT)
        self.asked = 0.0
        self.used = time.monotonic()
        self.reading: asyncio.Future[None] | None = None

    def read(self) -> None:
        """Ask for what is new."""
        for event in self._read():
            self.lines.append(line(next(self._numbers), event))
        self.asked = time.monotonic()


class LiveLogs:
    """The logs of analyses that somebody looks at; for Tornado's loop."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._followed: dict[str, _Followed] = {}

    async def get(self, uid: str, after: int, make: Callable[[], Callable[[], Iterable[Event]]]) -> Lines:
        """The lines from the number *after* on, as far as they are kept.

        *make*: what makes the reader of an analysis that nobody has followed. Raises what that reader raises.
        """
        one = self._followed.pop(uid, None) or _Followed(make())
        self._followed[uid] = one  # what was asked for last stands last
        one.used = now = time.monotonic()
        for name, other in list(self._followed.items()):
            if len(self._followed) > MOST or now - other.used > FORGOTTEN:
                del self._followed[name]
        if one.reading is None or (one.reading.done() and now - one.asked >= PAUSE):
            one.reading = asyncio.get_running_loop().run_in_executor(self._executor, one.read)
        await asyncio.shield(one.reading)
        lines = tuple(found for found in one.lines if found.number >= after)
        return Lines(lines=lines, next=one.lines[-1].number + 1 if one.lines else 0)


def line(number: int, event: Event) -> Line:
    """*event* as it is shown: what it says comes from a host, and through it from a sample."""
    created = event.get("created")
    is_time = isinstance(created, int | float) and 0 < created < 1e11
    more = " ".join(f"{name}={value}" for name, value in event.items() if name not in _SAID)
    return Line(
        number=number,
        at=created if is_time else None,
        level=clean(event.get("levelname") or "INFO", 12),
        stage=clean(event.get("stage") or "", 12),
        action=clean(event.get("action") or ""),
        more=clean(more, 2000),
    )
