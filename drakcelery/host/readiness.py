"""Whether this host may take another sample at all, whatever its slots say, and why not."""

from __future__ import annotations

import threading
import time
from typing import Protocol

from drakcelery.host import tables
from drakcelery.host.disk_space import Spool
from drakcelery.model.halt import Halt
from drakcelery.settings.sections import DrakcelerySection
from drakcelery.telemetry import metrics


class Obstacle(Protocol):
    """:meth:`drakcelery.engines.Engine.obstacle`."""

    def __call__(self, *, fresh: bool = False) -> str | None:
        """Why no guest may run on this host."""


def _no_obstacle(*, fresh: bool = False) -> None:
    """What is asked if there is no engine."""


class Readiness:
    """What the vm worker knows of its host apart from the slots. Safe in any thread of its main process."""

    def __init__(self, settings: DrakcelerySection, *, obstacle: Obstacle = _no_obstacle) -> None:
        """*obstacle* tells what keeps the engine from running guests."""
        self._spool = Spool(settings)
        self._obstacle = obstacle
        self._lock = threading.Lock()
        self._io_alive: bool | None = None
        self._io_tells = True
        self._has_name = True
        self._has_broker = False
        self._went_round = 0.0
        self._patience = settings.timeouts.retry

    @property
    def io_alive(self) -> bool | None:
        """Whether the host's io worker shows life in Redis.

        None if nobody has looked yet, or if its version is too old to show life.
        """
        return self._io_alive if self._io_tells else None

    def note_io(self, *, alive: bool, tells: bool = True) -> None:
        """Note whether the io worker is alive; *tells*: whether that is known from Redis."""
        self._io_alive, self._io_tells = alive, tells
        metrics.intake_throttled("io", not alive)

    def note_name(self, *, ours: bool) -> None:
        """Note whether this machine has the host's name, as far as that is known."""
        self._has_name = ours
        metrics.intake_throttled("name", not ours)

    def note_broker(self, *, connected: bool) -> None:
        """Note whether this worker is connected to its broker, which brings the samples. At first it is
        not."""
        self._has_broker = connected
        self.note_loop()
        self._takes_messages()

    def note_loop(self) -> None:
        """Note that the worker's event loop, which takes the samples, is not stuck in connecting to the
        broker.

        If Celery cannot send a heartbeat for Flower, it waits for the broker there, and calls no step.
        """
        self._went_round = time.monotonic()

    def check(self) -> None:
        """Find out whether guests may run. Called every few seconds."""
        metrics.intake_throttled("network", self._obstacle(fresh=True) is not None)

    def halted(self) -> Halt | None:
        """Why the host takes no sample now; None if it takes them. Work in hand goes on in any case."""
        with self._lock:  # the disk is measured by one thread at a time
            has_room = self._spool.has_room()
        if not self._has_name:
            return Halt.NO_NAME
        if self._waits_for_slots():
            return Halt.NO_SLOTS
        if not self._takes_messages():
            return Halt.NO_BROKER
        if not self._io_alive:
            return Halt.NO_IO_WORKER
        if self._obstacle() is not None:
            return Halt.NOT_CONFINED
        return None if has_room else Halt.NO_SPACE

    def _waits_for_slots(self) -> bool:
        """Whether the event loop may be stuck in the file of the slots. That says nothing of its broker."""
        waits = self._has_broker and tables.is_waited_for()
        metrics.intake_throttled("slots", waits)
        if waits:
            self.note_loop()
        return waits

    def _takes_messages(self) -> bool:
        """Whether a message would come to this worker now."""
        takes = self._has_broker and time.monotonic() - self._went_round <= self._patience
        metrics.intake_throttled("broker", not takes)
        return takes
