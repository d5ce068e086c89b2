"""Whether the processes of a stack have come so far that a sample which is pushed now is analysed."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterable

from redis.exceptions import RedisError

from drakcelery.embedded.problems import STARTING
from drakcelery.settings import Settings
from drakcelery.wiring import make_ledger

READY_SECONDS = 150.0
SYSTEM = "karton.system"


class Readiness:
    """Asks each process of the Procfile what it does; one that it does not know is ready once it runs."""

    def __init__(self, config: Settings, processes: Iterable[str]) -> None:
        self._config = config
        self._host = config.drakcelery.host
        self._ledger = make_ledger(config)
        checks: dict[str, Callable[[], bool]] = {
            "system": lambda: config.drakmon.system_disable or SYSTEM in self._ledger.online(),
            "ingress": self._takes_tasks,
            "vm": self._takes_samples,
            "io": lambda: self._host in self._ledger.fleet.io_hosts(),
            "flower": self._serves,
        }
        self._left = {name: checks[name] for name in processes if name in checks}

    def begin(self) -> None:
        """Forget what a stack that was killed has said of itself. Nothing of this stack runs yet."""
        self._ledger.fleet.retire(self._host)
        self._ledger.fleet.retire_io(self._host)

    def lacking(self) -> list[str]:
        """The processes that are not ready yet; one that was ready is not asked again."""
        with contextlib.suppress(RedisError):  # the stack sees by itself whether its server still runs
            self._left = {name: is_ready for name, is_ready in self._left.items() if not is_ready()}
        return list(self._left)

    def _takes_tasks(self) -> bool:
        """Whether ingress is there, and Karton routes to it."""
        return self._ledger.identity in self._ledger.online() and self._ledger.bound() is not None

    def _takes_samples(self) -> bool:
        """Whether the vm worker has its slots and the broker. The io worker is asked by itself."""
        return any(
            status.host == self._host and status.halted not in STARTING
            for status in self._ledger.fleet.hosts()
        )

    def _serves(self) -> bool:
        ours = self._config.flower
        try:
            socket.create_connection((ours.address, ours.port), timeout=1).close()
        except OSError:
            return False
        return True
