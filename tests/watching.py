"""A run that is watched, with a clock that the test turns."""

from __future__ import annotations

import json
from pathlib import Path

from drakcelery.engines import Detonation
from drakcelery.engines.watching import Watcher
from drakcelery.model.news import EndedBy, WatchPlan
from tests.guest_log import Log

PLAN = WatchPlan(min_seconds=10, quiet_seconds=5, mode="active")
TIMEOUT = 60


class Run:
    """A run under a watcher. ``log`` is what the guest has written and the test has not yet let out."""

    def __init__(self, tmp_path: Path, plan: WatchPlan = PLAN) -> None:
        self.now = 1000.0
        self.log = Log()
        raw = tmp_path / "raw"
        raw.mkdir()
        self.job = Detonation(
            uid="uid-1",
            slot="vm-1",
            sample=tmp_path / "malwar.exe",
            extension="exe",
            magic="PE32",
            start_command="%f",
            plugins=(),
            timeout=TIMEOUT,
            raw=raw,
            hooks=None,
            watch=plan,
        )
        self.watcher = Watcher(self.job, plan, clock=lambda: self.now)
        self._written = 0

    def write(self) -> None:
        """Let out what is in the log."""
        lines = self.log.lines[self._written :]
        self._written += len(lines)
        with self.job.log.open("ab") as file:
            file.write("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines).encode())

    def look(self, second: float) -> EndedBy | None:
        """Look at that second of the run."""
        self.now = 1000.0 + second
        self.write()
        return self.watcher.check()

    def follow(self, until: int, since: int = 0) -> tuple[EndedBy, int] | None:
        """Look every second; returns what ended it and when, or None if nothing did."""
        for second in range(since, until + 1):
            if (why := self.look(second)) is not None:
                return why, second
        return None
