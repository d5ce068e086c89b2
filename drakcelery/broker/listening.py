"""Since when this process has heard the broker without a gap."""

from __future__ import annotations

import functools
import time
from typing import Any

from drakcelery.ledger.watch import ServerId


class Listening:
    """Since when this process has heard the broker without a gap, even over several connections."""

    def __init__(self) -> None:
        self._server = ServerId()
        self._heard = -float("inf")
        self._told = 0.0
        self._since = 0.0

    def note(self, client: Any, *, told: float, pause: float) -> float:
        """Note that the broker, whose clock says *told*, is heard; returns for how many seconds it has been.

        A gap is a longer *pause*, another server (or another role of it), or a clock that was changed.
        """
        server, now = ServerId.of(client), time.monotonic()
        passed = now - self._heard
        if passed > pause or abs(told - self._told - passed) > pause or server != self._server:
            self._since = now
        self._server, self._heard, self._told = server, now, told
        return now - self._since


@functools.cache
def listening_to(address: str) -> Listening:  # noqa: ARG001 there is one for each
    """How this process hears the broker at *address*."""
    return Listening()
