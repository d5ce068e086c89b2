"""Who waits while the fleet is short of slots, and that hosts which come and go cost no sample.

The fleet of :mod:`benchmarks.simulation`, with more samples of one profile than slots, of three priorities;
they all wait from the start. In each round a share of the hosts vanishes with what it has in hand.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import redis
from karton.core.backend import KARTON_TASKS_QUEUE, KartonMetrics

from benchmarks.measuring import Result
from benchmarks.simulation import (
    IDENTITY,
    PROFILES,
    SKEWED,
    Fleet,
    connected,
    fill,
    ingress_on,
    push,
    quiet,
    valkey,
    waiting,
)
from drakcelery.ingress import Ingress
from drakcelery.ledger.keys import LIVE
from drakcelery.model.analysis import Priority
from drakcelery.model.records import Record

URGENCY = {Priority.HIGH: 0, Priority.NORMAL: 1, Priority.LOW: 2}
LOST_SHARE = 0.02
"""Of the hosts, in each round: they vanish with what they have, and are back in the next."""


def measure(*, quick: bool) -> list[Result]:
    """One run of so many samples on so many hosts."""
    samples, hosts = (600, 10) if quick else (4_000, 50)
    scratch = tempfile.TemporaryDirectory()
    with scratch, quiet(), valkey(Path(scratch.name)) as port, connected(port) as client:
        return _fairness(client, samples, hosts)


@dataclass
class Observed:
    """What was seen in the run on fairness."""

    begun: list[tuple[str, int, float]]
    """(profile, urgency, when) of each analysis, in the order in which they began."""
    use: list[float]
    """The share of a profile's slots in use while samples of it waited, by profile and round."""


def _fairness(client: redis.Redis, samples: int, hosts: int) -> list[Result]:
    """More samples of a profile than slots, hosts that come and go; everything is published once."""
    wanted = push(client, samples, SKEWED)
    fleet, chance = Fleet(client, hosts), random.Random(7)  # noqa: S311 a load, no secret
    seen = Observed(begun=[], use=[])
    begin = time.perf_counter()
    ingress = _watching(ingress_on(client), seen, begin)
    while waiting(client) or client.exists(LIVE):
        fleet.report()
        fill(fleet, ingress, samples)
        fleet.claim()
        use, begun = fleet.in_use(), Counter(profile for profile, _, _ in seen.begun)
        for profile in wanted - begun:
            seen.use.append(use[profile] / (PROFILES.count(profile) * len(fleet.hosts)))
        lost = fleet.lose(chance.sample(sorted(fleet.hosts), max(1, int(LOST_SHARE * len(fleet.hosts)))))
        fleet.finish()
        fleet.reconcile()
        for host in lost:
            host.slots = dict.fromkeys(host.slots, None)
            fleet.hosts[host.name] = host
    return _results(client, samples, seen, time.perf_counter() - begin)


def _watching(ingress: Ingress, seen: Observed, begin: float) -> Ingress:
    def send(record: Record) -> None:
        if record.attempt == 1 and record.analysis is not None:
            urgency = URGENCY[record.analysis.priority]
            seen.begun.append((record.analysis.profile, urgency, time.perf_counter() - begin))
        plain(record)

    plain = ingress.send
    return replace(ingress, send=send)


def _results(client: redis.Redis, samples: int, seen: Observed, took: float) -> list[Result]:
    tasks = cast("list[str]", client.lrange(KARTON_TASKS_QUEUE, 0, -1))
    uids = {task.rpartition(":")[0] for task in tasks}
    # A sample that has lost its host for the third time is poison
    crashed = int(client.hget(KartonMetrics.TASK_CRASHED.value, IDENTITY) or 0)
    ended = len(uids) + crashed
    waits = {
        urgency: statistics.median(at for _, other, at in seen.begun if other == urgency)
        for urgency in URGENCY.values()
    }
    high, normal = (waits[URGENCY[one]] for one in (Priority.HIGH, Priority.NORMAL))
    return [
        Result(name="samples lost", unit="", ours=samples - ended, runs=1, less_is_better=True),
        Result(name="samples doubled", unit="", ours=len(tasks) - len(uids), runs=1, less_is_better=True),
        Result(
            name="slots in use while samples of their profile wait, worst profile and round",
            unit="%",
            ours=min(seen.use) * 100,
            limit=100,
            runs=len(seen.use),
        ),
        Result(
            name="began before a more urgent sample of their profile",
            unit="%",
            ours=_overtakers(seen.begun) / len(seen.begun) * 100,
            runs=1,
            less_is_better=True,
        ),
        Result(
            name="median wait of high priority, share of the run",
            unit="%",
            ours=high / took * 100,
            peer=normal / took * 100,
            peer_name="of normal priority",
            runs=1,
            less_is_better=True,
        ),
        Result(
            name="longest wait, share of the run",
            unit="%",
            ours=max(at for _, _, at in seen.begun) / took * 100,
            runs=1,
            less_is_better=True,
        ),
    ]


def _overtakers(begun: Sequence[tuple[str, int, float]]) -> int:
    """How many began while a more urgent one of the same profile waited; all waited from the start."""
    count = 0
    most_urgent_behind: dict[str, int] = {}
    for profile, urgency, _ in reversed(begun):
        behind = most_urgent_behind.get(profile, urgency)
        count += urgency > behind
        most_urgent_behind[profile] = min(behind, urgency)
    return count
