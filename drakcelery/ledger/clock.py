"""Redis' clock: what two machines compare goes by it, so that a host's wrong one changes nothing."""

from __future__ import annotations

import math
import time
from typing import Any


def now(client: Any) -> float:
    """UNIX time by the server of *client*, which is redis-py's, decoding or not."""
    seconds, microseconds = client.time()
    return float(seconds + microseconds / 1e6)


def number(text: str) -> float:
    """What Redis has as a text; 0 for what is none."""
    try:
        found = float(text)
    except ValueError:
        return 0.0
    return found if math.isfinite(found) else 0.0


class Clock:
    """Redis' clock for those who ask all the time: it is read now and then, and between counts on evenly."""

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
