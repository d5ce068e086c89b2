"""Redis' clock: times that two machines compare are by it, so that a host's wrong clock does no harm."""

from __future__ import annotations

import math
import time
from typing import Any


def now(client: Any) -> float:
    """UNIX time by the server of *client*, a client of redis-py that may or may not decode its answers."""
    seconds, microseconds = client.time()
    return float(seconds + microseconds / 1e6)


def number(text: str) -> float:
    """The number that Redis has as text; 0 if it is none."""
    try:
        found = float(text)
    except ValueError:
        return 0.0
    return found if math.isfinite(found) else 0.0


class Clock:
    """Redis' clock for frequent use: it is read now and then, and in between this machine's clock counts
    on."""

    def __init__(self, *, good_for: float) -> None:
        """*good_for*: seconds until it is read again, so that another server's clock is noticed."""
        self._good_for = good_for
        self._ahead = 0.0
        self._read_at: float | None = None

    def now(self, client: Any) -> float:
        """As :func:`now`."""
        steady = time.monotonic()
        if self._read_at is None or steady - self._read_at > self._good_for:
            self._ahead = now(client) - time.monotonic()
            self._read_at = steady
        return time.monotonic() + self._ahead
