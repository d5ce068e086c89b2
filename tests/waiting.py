"""Waiting for a condition, instead of sleeping and hoping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

INTERVAL = 0.05


def wait_until(predicate: Callable[[], T | None], description: str, *, timeout: float = 30) -> T:
    """Call *predicate* until what it returns is true, and return that.

    *timeout* (seconds) is generous on purpose: it ends a test that hangs, and says nothing about speed.

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
