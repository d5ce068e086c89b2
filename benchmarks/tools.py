"""How long a person waits for a command: help, Tab, ``status`` and ``top``, with 10⁵ finished analyses.

Each command is a process. What counts is its processor time: on a machine with other work the time until it
ends says more of that work. A Valkey of this benchmark has the records, a simulated fleet whose slots are all
in use, and samples that wait; the commands read their settings from a file, as anyone's do.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import redis

from benchmarks import finding
from benchmarks.measuring import Result, in_turn
from benchmarks.simulation import (
    BALANCED,
    IDENTITY,
    SLOTS,
    Fleet,
    connected,
    fill,
    ingress_on,
    push,
    quiet,
    valkey,
)
from drakcelery.cli import PLACES
from drakcelery.embedded.ports import LOOPBACK
from drakcelery.ledger import Ledger
from drakcelery.model.timeouts import DEFAULT

RECORDS = {True: 10_000, False: 100_000}
"""Analyses that are over, by ``quick``."""
HOSTS = 10
WAITING = 400
RUNS, QUICK_RUNS = 9, 3
TTL = 7 * 24 * 3600
BIN = Path(sys.executable).parent
PROGRAM = str(BIN / "drakcelery")
COMPLETIONS: Mapping[str, str] = {
    "a command": "drakcelery st",
    "an option": "drakcelery status --",
    "a uid": "drakcelery status 0",
    "a host": "drakcelery drain r",
}
"""What somebody has typed who presses Tab, by what is completed."""
COMMANDS: Mapping[str, Sequence[str]] = {
    "status": ("status",),
    "top, first screen": ("top", "--once"),
    "find": ("find",),
    "slots": ("slots",),
    "hosts": ("hosts",),
    "profiles": ("profiles",),
    "watch-report": ("watch-report",),
}
PEERS: Mapping[str, tuple[str, Sequence[str]]] = {
    "help of drakcelery": ("celery --help", (str(BIN / "celery"), "--help")),
    "help of submit": ("karton --help", (str(BIN / "karton"), "--help")),
}
"""What people have beside ours, by the name of ours."""


def measure(*, quick: bool) -> list[Result]:
    """Seconds of processor time for each."""
    runs = QUICK_RUNS if quick else RUNS
    with scene(RECORDS[quick]) as config:
        environment = {**os.environ, "DRAKCELERY_CONFIG": str(config)}
        helps = {name: spent((PROGRAM, name, "--help"), environment) for name in PLACES}
        measures = {"help of drakcelery": spent((PROGRAM, "--help"), environment)}
        measures["help of submit"] = helps.pop("submit")
        measures |= {f"Tab for {what}": tab(text, environment) for what, text in COMPLETIONS.items()}
        measures |= {
            f"{name}, many records": spent((PROGRAM, *words), environment) for name, words in COMMANDS.items()
        }
        measures |= {peer: spent(command, environment) for peer, command in PEERS.values()}
        found = {name: statistics.median(times) for name, times in in_turn(measures, runs=runs).items()}
        slowest = max(statistics.median(times) for times in in_turn(helps, runs=3).values())
    found["help of the slowest other command"] = slowest
    return [_result(name, value, found, runs) for name, value in found.items() if name not in _PEER_NAMES]


_PEER_NAMES = frozenset(name for name, _ in PEERS.values())


def _result(name: str, value: float, found: Mapping[str, float], runs: int) -> Result:
    peer = PEERS[name][0] if name in PEERS else None
    return Result(
        name=name,
        unit="s",
        ours=value,
        peer=found[peer] if peer else None,
        peer_name=peer,
        runs=runs,
        less_is_better=True,
    )


def spent(command: Sequence[str], environment: Mapping[str, str]) -> Callable[[], float]:
    """Measures the processor time of a process, in seconds. Raises where it fails."""

    def run() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    return run


def tab(typed: str, environment: Mapping[str, str]) -> Callable[[], float]:
    """The same of what bash starts when Tab is pressed."""
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
    return spent((PROGRAM,), {**environment, "_DRAKCELERY_COMPLETE": "bash_complete", **words})


@contextmanager
def scene(records: int) -> Iterator[Path]:
    """A configuration file of a fleet in full use, with so many *records* of analyses that are over."""
    scratch = tempfile.TemporaryDirectory()
    with scratch as name, quiet(), valkey(Path(name)) as port, connected(port) as client:
        past(client, records)
        fleet = busy_fleet(client)
        config = Path(name, "drakcelery.ini")
        config.write_text(
            f"[redis]\nhost = {LOOPBACK}\nport = {port}\n"
            f"[s3]\naddress = http://{LOOPBACK}:1\naccess_key = a\nsecret_key = b\n"
            f"[drakrun]\nidentity = {IDENTITY}\n",
            encoding="utf-8",
        )
        with kept_alive(fleet):
            yield config


def past(client: redis.Redis, records: int) -> Ledger:
    """A ledger with so many *records* of analyses that are over, all of which can be found."""
    ledger = Ledger(client, identity=IDENTITY, record_ttl=TTL)
    finding.fill(ledger, records)
    while ledger.index.enter_older():
        pass
    return ledger


def busy_fleet(client: redis.Redis) -> Fleet:
    """Hosts whose slots are all in use, and samples that wait."""
    fleet = Fleet(client, HOSTS)
    fleet.report()
    push(client, WAITING + HOSTS * SLOTS, BALANCED)
    fill(fleet, ingress_on(client), HOSTS * SLOTS)
    fleet.claim()
    return fleet


@contextmanager
def kept_alive(fleet: Fleet) -> Iterator[None]:
    """Within this block the hosts say that they are there."""
    over = threading.Event()

    def report() -> None:
        while True:
            fleet.report()
            if over.wait(DEFAULT.report):
                return

    thread = threading.Thread(target=report)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
