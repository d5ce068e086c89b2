"""Redis' clock: what two machines compare goes by it, so that a host's wrong one changes nothing."""

from __future__ import annotations

from typing import Any


def now(client: Any) -> float:
    """UNIX time by the server of *client*, which is redis-py's, decoding or not."""
    seconds, microseconds = client.time()
    return float(seconds + microseconds / 1e6)
