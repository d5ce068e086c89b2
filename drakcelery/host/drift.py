"""Whether the snapshot of this host's VMs is still the one with which its vm worker started."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog

from drakcelery.errors import DrakceleryError

log = structlog.get_logger(__name__)

LOOK_SECONDS = 60.0
"""How often it is looked at."""


class SnapshotWatch:
    """Looks now and then, in a thread of its own, so that a disk that hangs does not stop the host's
    reports."""

    def __init__(self, identify: Callable[[], str | None]) -> None:
        """*identify* is :meth:`drakcelery.engines.Engine.snapshot_id`."""
        self._identify = identify
        self._checked = -LOOK_SECONDS
        self._looker: threading.Thread | None = None
        self._first: str | None = None
        self.current: str | None = None
        """The snapshot that was seen last; None if none was, or the engine has none to compare."""

    @property
    def has_changed(self) -> bool:
        """Whether it is another one than at the start."""
        return self.current != self._first

    def check_soon(self) -> None:
        """Look, unless that was done just now or is under way; returns at once."""
        now = time.monotonic()
        if now - self._checked < LOOK_SECONDS or (self._looker is not None and self._looker.is_alive()):
            return
        self._checked = now
        looker = threading.Thread(target=self.check, name="snapshot", daemon=True)
        try:
            looker.start()
        except RuntimeError as error:  # no room for another thread: next time
            log.warning("snapshot_not_read", error=str(error))
        else:
            self._looker = looker

    def check(self) -> None:
        """Look at once. A snapshot that cannot be read now counts as unchanged."""
        try:
            found = self._identify()
        except (DrakceleryError, OSError) as error:
            log.warning("snapshot_not_read", error=str(error))
            return
        if self._first is None:
            self._first = found
        if found not in (self.current, self._first):
            log.error("snapshot_changed", was=self._first, now=found)
        self.current = found
