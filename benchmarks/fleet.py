"""What the ledger costs as the fleet and the backlog grow: hundreds of hosts, a million samples waiting.

:mod:`benchmarks.simulation` says what of it is real. Commands are counted by Redis, those inside scripts
included; round trips are counted where they are made.
"""

from __future__ import annotations

import multiprocessing
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import redis

from benchmarks.measuring import Result, seconds
from benchmarks.simulation import (
    BALANCED,
    SETTINGS,
    SLOTS,
    Counted,
    Fleet,
    connected,
    drain,
    fill,
    ingress_on,
    push,
    quiet,
    valkey,
    waiting,
)
from drakcelery.forecast.forecast import make_forecast
from drakcelery.ingress import POLL_SECONDS, Round, orphans
from drakcelery.ledger import Ledger
from drakcelery.ledger.inbox import Inbox
from drakcelery.ledger.keys import DONE, record_key
from drakcelery.model.records import Record

IDLE_SECONDS = 4.0


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How large it all is."""

    waiting: tuple[int, int, int]
    hosts: tuple[int, int, int]
    at_once: int
    """Analyses of one measurement."""
    runs: int


FULL = Scale(waiting=(100, 10_000, 1_000_000), hosts=(1, 50, 500), at_once=200, runs=5)
QUICK = Scale(waiting=(100, 1_000, 10_000), hosts=(1, 10, 50), at_once=50, runs=1)


def measure(*, quick: bool) -> list[Result]:
    """All of it; the full size takes some four minutes, and Redis two gigabytes."""
    scale = QUICK if quick else FULL
    scratch = tempfile.TemporaryDirectory()
    with scratch, quiet(), valkey(Path(scratch.name)) as port, connected(port) as client:
        found = [_idle(client, "Redis commands a second of an idle ingress")]
        found += _growth(client, scale)
        found += _throughput(client, port, scale)
        found += _at_full_size(client, scale)
    return found


# Costs


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What something cost Redis."""

    commands: float
    kilobytes: float
    """Both ways."""
    processor: float
    """Milliseconds."""
    round_trips: float


def _counted(client: redis.Redis, work: Callable[[], object]) -> Cost:
    before, trips = _usage(client), Counted.round_trips
    work()
    trips, after = Counted.round_trips - trips, _usage(client)
    spent = {name: after[name] - before[name] for name in before}
    return Cost(
        commands=spent["total_commands_processed"] - 1,  # the second INFO
        kilobytes=(spent["total_net_input_bytes"] + spent["total_net_output_bytes"]) / 1000,
        processor=(spent["used_cpu_user"] + spent["used_cpu_sys"]) * 1000,
        round_trips=trips,
    )


def _usage(client: redis.Redis) -> dict[str, float]:
    found = client.info("everything")
    names = ("total_commands_processed", "total_net_input_bytes", "total_net_output_bytes")
    return {name: float(found[name]) for name in (*names, "used_cpu_user", "used_cpu_sys")}


def _idle(client: redis.Redis, name: str) -> Result:
    """A real ingress at its real pace, with nothing that it could do."""
    ours = SETTINGS.drakcelery.model_copy(update={"stranded": "leave"})
    ingress = replace(ingress_on(client), settings=SETTINGS.model_copy(update={"drakcelery": ours}))
    stop = threading.Event()
    thread = threading.Thread(target=ingress.run, args=(stop,))
    thread.start()
    time.sleep(5 * POLL_SECONDS)  # its start is over
    cost = _counted(client, lambda: time.sleep(IDLE_SECONDS))
    stop.set()
    thread.join()
    return Result(name=name, unit="1/s", ours=cost.commands / IDLE_SECONDS, runs=1, less_is_better=True)


def _rounds(client: redis.Redis, hosts: int, backlog: int, scale: Scale) -> dict[str, float]:
    """Median costs of an analysis, and analyses a second, with so many hosts and samples waiting."""
    fleet, ingress = Fleet(client, hosts), ingress_on(client)
    most = min(scale.at_once, hosts * SLOTS, backlog)
    found: list[dict[str, float]] = []
    for _ in range(scale.runs):
        push(client, backlog - waiting(client), BALANCED)
        fleet.report()
        begin = time.perf_counter()
        taking = _counted(client, lambda: fill(fleet, ingress, most))
        many = fill(fleet, ingress, 0)
        working = _counted(client, lambda: drain(fleet))
        took = time.perf_counter() - begin
        both = {what: (getattr(taking, what) + getattr(working, what)) / many for what in _WORDS}
        of_ingress = {f"{what} of ingress": getattr(taking, what) / many for what in _WORDS}
        found.append({**both, **of_ingress, "rate": many / took})
    fleet.lose(list(fleet.hosts))
    return {what: statistics.median(one[what] for one in found) for what in found[0]}


_WORDS = {
    "commands": ("Redis commands per analysis", ""),
    "round_trips": ("Redis round trips per analysis", ""),
    "kilobytes": ("Redis traffic per analysis", "kB"),
    "processor": ("Redis processor time per analysis", "ms"),
}


def _growth(client: redis.Redis, scale: Scale) -> list[Result]:
    """Costs with more and more samples waiting, and with more and more hosts; memory of those that wait."""
    by_waiting, by_hosts, memory = {}, {}, 0.0
    for many in scale.waiting:
        missing = many - waiting(client)
        before = client.info("memory")["used_memory"]
        push(client, missing, BALANCED)
        memory = (client.info("memory")["used_memory"] - before) / missing
        by_waiting[many] = _rounds(client, scale.hosts[1], many, scale)
        if many == scale.waiting[1]:
            by_hosts = {hosts: _rounds(client, hosts, many, scale) for hosts in scale.hosts}
    found = [
        Result(name="memory of Redis per waiting sample", unit="B", ours=memory, runs=1, less_is_better=True)
    ]
    for what, (words, unit) in _WORDS.items():
        for part in ("", " of ingress"):
            backlogs = {f"{many} samples waiting": one[what + part] for many, one in by_waiting.items()}
            hosts = {f"{many} hosts": one[what + part] for many, one in by_hosts.items()}
            found += _compared(words + part, unit, backlogs, scale)
            found += _compared(words + part, unit, hosts, scale)
    rates = {many: one["rate"] for many, one in by_waiting.items()}
    found += [
        Result(name=f"ingress and ledger, {many} samples waiting", unit="1/s", ours=rate, runs=scale.runs)
        for many, rate in rates.items()
    ]
    return found


def _compared(words: str, unit: str, values: Mapping[str, float], scale: Scale) -> Iterator[Result]:
    """Each against the first: 1 where growth costs nothing."""
    first = next(iter(values))
    for many, value in values.items():
        yield Result(
            name=f"{words}, {many}",
            unit=unit,
            ours=value,
            peer=values[first],
            peer_name=f"with {first}",
            runs=scale.runs,
            less_is_better=True,
        )


# One ingress and two


def _take(port: int, most: int) -> tuple[float, float, int]:
    """In a process of its own: an ingress takes so many; (when it began, when it ended, how many)."""
    with quiet(), connected(port) as client:
        ingress = ingress_on(client)
        taken = 0

        def send(record: Record) -> None:
            nonlocal taken
            taken += 1
            ingress.send(record)

        counting = replace(ingress, send=send)
        begin = time.monotonic()
        while taken < most and counting.work() is Round.WORKED:
            pass
        return begin, time.monotonic(), taken


def _throughput(client: redis.Redis, port: int, scale: Scale) -> list[Result]:
    """Samples that one ingress accepts in a second, and two."""
    fleet, most = Fleet(client, scale.hosts[2]), 300
    rates: dict[int, list[float]] = {1: [], 2: []}
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(abs, range(2)))  # both have started
        for number in range(scale.runs + 1):
            for ingresses, found in rates.items():
                fleet.report()
                jobs = [pool.submit(_take, port, most // ingresses) for _ in range(ingresses)]
                begins, ends, taken = zip(*(job.result() for job in jobs), strict=True)
                if number:  # the first one imports
                    found.append(sum(taken) / (max(ends) - min(begins)))
                drain(fleet)
    one, two = (statistics.median(found) for found in rates.values())
    fleet.lose(list(fleet.hosts))
    return [
        Result(name="samples accepted, one ingress", unit="1/s", ours=one, runs=scale.runs),
        Result(
            name="samples accepted, two ingresses",
            unit="1/s",
            ours=two,
            peer=one,
            peer_name="one ingress",
            runs=scale.runs,
        ),
    ]


# At full size


def _at_full_size(client: redis.Redis, scale: Scale) -> list[Result]:
    """A fleet whose every slot is at work, before the whole backlog."""
    fleet, ingress = Fleet(client, scale.hosts[2]), ingress_on(client)
    fleet.report()
    fill(fleet, ingress, len(fleet.hosts) * SLOTS)
    live = fleet.claim()
    fleet.report()
    fill(fleet, ingress, 2 * len(fleet.hosts) * SLOTS)
    costs = [
        *_each("a host's report", _counted(client, fleet.report), len(fleet.hosts)),
        *_each("a sign of life", _counted(client, fleet.renew), live),
    ]
    reconciles = [seconds(fleet.reconcile) for _ in range(scale.runs)]
    forecasts = [
        seconds(lambda: make_forecast(SETTINGS, fleet.ledger, ingress.inbox)) for _ in range(scale.runs)
    ]
    fleet.report()
    full = _idle(client, "Redis commands a second of an ingress before a full fleet")
    steps = list(_steps(fleet.ledger, ingress.inbox))
    return [
        *costs,
        _record_memory(client),
        full,
        _time("reconcile, per 1000 live analyses", statistics.median(reconciles) * 1e6 / live, scale.runs),
        _time(f"outlook, {scale.waiting[2]} waiting", statistics.median(forecasts) * 1000, scale.runs),
        _time("search for stranded tasks, per 1000", sum(steps) * 1e6 / scale.waiting[2], 1),
        _time("search for stranded tasks, longest step but the first", max(steps[1:]) * 1000, 1),
    ]


def _record_memory(client: redis.Redis) -> Result:
    """What a finished analysis takes until its record expires."""
    uids = cast("list[str]", client.zrange(DONE, 0, 99))
    used = statistics.median(int(client.memory_usage(record_key(uid), samples=0) or 0) for uid in uids)
    name = "memory of Redis per finished record"
    return Result(name=name, unit="B", ours=used, runs=len(uids), less_is_better=True)


def _each(what: str, cost: Cost, count: int) -> Iterator[Result]:
    """What goes by time, not by analysis."""
    commands, processor = cost.commands / count, cost.processor / count
    yield Result(name=f"Redis commands of {what}", unit="", ours=commands, runs=count, less_is_better=True)
    yield _time(f"Redis processor time of {what}", processor, count)


def _time(name: str, value: float, runs: int) -> Result:
    return Result(name=name, unit="ms", ours=value, runs=runs, less_is_better=True)


def _steps(ledger: Ledger, inbox: Inbox) -> Iterator[float]:
    """How long each step of the search for orphaned tasks takes; it must find none."""
    limit = SETTINGS.drakcelery.hard_time_limit
    search = orphans.find(ledger, inbox, hard_time_limit=limit)
    begin = time.perf_counter()
    for found in search:
        yield time.perf_counter() - begin
        if found:
            raise AssertionError(f"taken for stranded: {found[:3]}")
        begin = time.perf_counter()
