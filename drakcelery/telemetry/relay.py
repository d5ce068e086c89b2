"""From the pool processes of a worker to its main process, which alone answers Prometheus.

It is a pipe that is made before the pool; each report is one line, written in one piece.
``prometheus_client``'s multiprocess mode would need a file for each process that ever was, and an environment
variable before the first import. Also, here the counts of a process that died are with its worker already.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from typing import Any


class Relay:
    """Shared by the main process, in which it is made, and the processes that it forks afterwards."""

    def __init__(self, receive: Callable[..., None]) -> None:
        """*receive* is called in the main process: how many reports were lost, and what :meth:`send` got."""
        self._receive = receive
        self._main: int | None = None
        self._writer = -1
        self._lost = 0

    def begin(self) -> None:
        """Make this process the main process."""
        self._main = os.getpid()
        reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        threading.Thread(target=self._listen, args=(reader,), name="metrics-relay", daemon=True).start()

    @property
    def is_main(self) -> bool:
        """Whether this is the main process, or one that has nothing to do with any other."""
        return self._main is None or os.getpid() == self._main

    def send(self, *report: Any) -> None:
        """Tell the main process; *report* is JSON of less than 4 KiB, so that lines do not mix (pipe(7)).

        Never waits: if the main process has not read some 600 reports, it is frozen, and this report is lost.
        The next report that arrives says so.
        """
        line = json.dumps([self._lost, *report], separators=(",", ":")).encode()
        try:
            os.write(self._writer, line + b"\n")
        except BlockingIOError:
            self._lost += 1
        else:
            self._lost = 0

    def _listen(self, reader: int) -> None:
        with open(reader, "rb") as lines:
            for line in lines:
                self._receive(*json.loads(line))
