"""How soon a killed worker's analysis is taken up again: kill -9 of a vm worker and its pool, in mid-run.

Two hosts on this machine, every process on its own, the replay engine. The host's other worker lives on, and
nobody starts again what was killed. What counts is the time until the analysis runs on the other host, by
Redis' clock: by the shortest lease that there is, and by default.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from benchmarks.measuring import Result
from drakcelery.embedded import configuration
from drakcelery.embedded.services import Services
from drakcelery.embedded.supervision import Server
from drakcelery.karton import submit
from drakcelery.model.analysis import State
from drakcelery.model.records import Record
from drakcelery.model.timeouts import LONGEST, SHORTEST
from drakcelery.settings import Settings
from drakcelery.stages import cancellation
from drakcelery.wiring import make_ledger

HOSTS = ("rack-1", "rack-2")
LEASES = {
    "shortest lease": (SHORTEST, 5, 1),
    "default": (LONGEST, 4, 0),
}
"""By what it is called: the lease, how many runs (by default as many as fit into four
minutes), and how many quick ones."""
PATIENCE = 120.0
T = TypeVar("T")


def measure(*, quick: bool) -> list[Result]:
    """Seconds from the kill to the analysis' next run, by lease."""
    found = []
    for name, (lease, runs, few) in LEASES.items():
        if number := few if quick else runs:
            with tempfile.TemporaryDirectory() as scratch, Rack(Path(scratch), lease) as rack:
                times = [rack.kill_one() for _ in range(number)]
            found.append(
                Result(
                    name=f"killed worker's analysis runs again, {name}",
                    unit="s",
                    ours=round(statistics.median(times), 1),
                    runs=number,
                    less_is_better=True,
                )
            )
    return found


class Rack:
    """Two hosts and what they need, for a block of code."""

    def __init__(self, directory: Path, lease: int) -> None:
        """*directory* is new, and its own."""
        self._directory = directory
        self._lease = lease
        self._servers: dict[str, Server] = {}

    def __enter__(self) -> Rack:
        """Return when both hosts have reported."""
        with contextlib.ExitStack() as opened:
            services = opened.enter_context(Services(self._directory / "services"))
            self._settings = self._configure(services)
            self._ledger = make_ledger(self._settings)
            opened.callback(self._stop)
            for role in ("system", "ingress"):
                self._start(role, HOSTS[0])
            for host in HOSTS:
                self._start("vm", host)
                self._start("io", host)
            self._wait_for_hosts()
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop everything."""
        self._opened.close()

    def kill_one(self) -> float:
        """Have a sample run, kill its worker with its pool; seconds until it runs on the other host."""
        uid = submit.push(self._settings, submit.sample_task(self._sample))
        victim = str(self._runs(uid, elsewhere_than=None).host)
        # Whenever reconcile, and the last sign of life, happen to be
        time.sleep(random.uniform(0, self._settings.drakcelery.timeouts.reconcile))  # noqa: S311 no secret
        killed = self._ledger.now()
        os.killpg(self._servers[f"vm@{victim}"].pid, signal.SIGKILL)
        again = self._runs(uid, elsewhere_than=victim)
        cancellation.cancel(self._ledger, again, by="the benchmark")
        self._start("vm", victim)
        self._wait_for_hosts()
        return again.entered[State.RUNNING] - killed

    def _configure(self, services: Services) -> Settings:
        recorded = self._directory / "recorded"
        recorded.mkdir()
        self._sample = self._directory / "sample.bat"
        self._sample.write_text("exit")
        overrides = {
            "drakcelery": {"engine": "replay", "lease_seconds": str(self._lease)},
            "replay": {"run_dir": str(recorded), "run_seconds": "600"},
        }
        return configuration.write(services, slots={"vm-1": "default"}, overrides=overrides)

    def _start(self, role: str, host: str) -> None:
        (state_dir := self._directory / host).mkdir(exist_ok=True)
        ours = {
            "DRAKCELERY_CONFIG": str(self._settings.source),
            "DRAKCELERY_DRAKCELERY_HOST": host,
            "DRAKCELERY_DRAKCELERY_STATE_DIR": str(state_dir),
        }
        words = ("worker", role) if role in ("vm", "io") else (role,)
        self._servers[f"{role}@{host}"] = Server.start(
            f"{role} of {host}",
            (sys.executable, "-m", "drakcelery", *words),
            log=self._directory / f"{role}-{host}.log",
            environment={**os.environ, **ours},
        )

    def _stop(self) -> None:
        for server in self._servers.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            server.stop(grace=0)

    def _runs(self, uid: str, *, elsewhere_than: str | None) -> Record:
        """The record, once the analysis runs."""

        def running() -> Record | None:
            record = self._ledger.get(uid)
            if record is None or record.state is not State.RUNNING or record.host == elsewhere_than:
                return None
            return record

        return wait_for(running, f"{uid} runs")

    def _wait_for_hosts(self) -> None:
        def all_there() -> bool:
            there = len(self._ledger.fleet.hosts()) == len(HOSTS)
            return there and self._ledger.bound() is not None

        wait_for(all_there, "both hosts report")


def wait_for(look: Callable[[], T | None], what: str) -> T:
    """What *look* finds, once it finds something."""
    deadline = time.monotonic() + PATIENCE
    while not (found := look()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {PATIENCE:.0f} s: {what}")
        time.sleep(0.02)
    return found
