"""Waiting for a condition, instead of sleeping and hoping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

INTERVAL = 0.05
PATIENCE = 180.0
"""Seconds: generous on purpose. They end a test that hangs, and say nothing about speed: one machine may be
ten times slower than another."""


def wait_until(predicate: Callable[[], T | None], description: str, *, timeout: float = PATIENCE) -> T:
    """Call *predicate* until what it returns is true, and return that.

    *timeout* (seconds) is for what takes minutes by itself.

    Raises:
        AssertionError: it did not become true in time; names *description* and the last value.
    """
    deadline = time.monotonic() + timeout
    while not (value := predicate()):
        assert time.monotonic() < deadline, (
            f"waited {timeout:.0f} s for: {description}; last value: {value!r}"
        )
        time.sleep(INTERVAL)
    return value
