"""Where one ingress and one Valkey end: analyses an hour until the first of them can do no more.

Real: Valkey with its append-only file, SeaweedFS, the ingress in a process of its own, with S3, libmagic and
log lines, Celery's messages and how its transport takes and acknowledges them. The hosts are those of
:mod:`benchmarks.simulation`. On one machine they would take the processor from what is to be measured; so
nothing is driven to its end here: what an analysis costs each of the two is measured while they work in turn,
and how many such costs go into an hour is calculated. A guest takes no time; what the slots of a fleet cost
Valkey because time passes (heartbeats, reports) is measured by itself, and taken off. karton-system's and the
producers' own commands are not in it.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import redis
from karton.core import Resource
from karton.core.backend import KartonBackend

from benchmarks.measuring import Result
from benchmarks.simulation import BALANCED, IDENTITY, PROGRAM, SLOTS, Fleet, drain, push, quiet, waiting
from drakcelery.broker import routing
from drakcelery.embedded.services import Services
from drakcelery.ingress import Ingress, Round
from drakcelery.karton import submit
from drakcelery.model.analysis import STAGES, Stage, Step
from drakcelery.model.records import Record
from drakcelery.model.timeouts import DEFAULT
from drakcelery.settings import DrakrunSection, Settings
from drakcelery.stages.dispatch import send
from drakcelery.telemetry import logs
from drakcelery.wiring import make_client, make_ledger, make_storage

HOSTS = {True: (1, 10), False: (1, 10, 50, 200)}
"""By ``quick``."""
AT_ONCE = {True: 50, False: 200}
ROUNDS = {True: 1, False: 3}
HOUR = 3600


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one analysis costs, in seconds."""

    waited: float
    """Of an ingress that does nothing else."""
    ingress: float
    """Processor time of its process."""
    libmagic: float
    """Of the process in which libmagic looks at samples."""
    valkey: float
    """Of Valkey's main thread, from ingress to publish."""


def measure(*, quick: bool) -> list[Result]:
    """Each size of fleet in turn, on the same servers."""
    with tempfile.TemporaryDirectory() as scratch, quiet(), Services(Path(scratch)) as services:
        settings = Settings(redis=services.redis, s3=services.s3, drakrun=DrakrunSection(identity=IDENTITY))
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context, initializer=_begin, initargs=(settings,)) as ingress:
            bench = Bench(settings, ingress)
            return [row for hosts in HOSTS[quick] for row in bench.rows(hosts, quick=quick)]


# The ingress' process


_given: dict[str, Settings] = {}


def _begin(settings: Settings) -> None:
    """Log lines are made and written, to nowhere."""
    _given["settings"] = settings
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


@cache
def _ingress() -> Ingress:
    settings = _given["settings"]
    logs.configure(level="info", style="json", host="bench")
    ledger = make_ledger(settings, name=IDENTITY)
    return Ingress(
        settings=settings,
        ledger=ledger,
        inbox=ledger.inbox(),
        storage=make_storage(settings),
        send=functools.partial(send, make_client(settings), ledger),
    )


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What an ingress took, and its seconds for that."""

    samples: int
    waited: float
    ingress: float
    libmagic: float


def _take(most: int) -> Taken:
    """Take samples until so many are taken, or there is no room for another."""
    ingress, samples = _ingress(), 0
    ingress._sight.forget()  # noqa: SLF001 what a fleet looks like is read once a second at least

    def sending(record: Record) -> None:
        nonlocal samples
        samples += 1
        ingress.send(record)

    counting = replace(ingress, send=sending)
    before, begun = _spent(), time.perf_counter()
    while samples < most and counting.work() is Round.WORKED:
        pass
    waited, after = time.perf_counter() - begun, _spent()
    own, libmagic = (later - earlier for earlier, later in zip(before, after, strict=True))
    return Taken(samples=samples, waited=waited, ingress=own, libmagic=libmagic)


def _spent() -> tuple[float, float]:
    """Processor time of this process, and of libmagic's."""
    children = (child.cpu_times() for child in psutil.Process().children())
    return time.process_time(), sum(times.user + times.system for times in children)


# The fleet


class CeleryFleet(Fleet):
    """Its messages are Celery's, taken and acknowledged by Celery's transport; each change of a slot is
    reported."""

    def __init__(self, settings: Settings, client: redis.Redis, hosts: int) -> None:
        super().__init__(client, hosts)
        self._app = make_client(settings)
        self._connection = self._app.connection_for_read()
        self._channel: Any = self._connection.channel()
        self._held: dict[str, Any] = {}
        """The message that is at work, by analysis."""

    def _pop(self, profile: str) -> tuple[str, int] | None:
        message = self._channel.basic_get(routing.prepare_queue(profile))
        if message is None:
            return None
        uid, attempt, _ = message.headers["id"].split("/")
        self._held[uid] = message
        return uid, int(attempt)

    def _enter(self, uid: str, attempt: int, stage: Stage, host: str, slot: str) -> bool:
        if stage is not Stage.PREPARE:
            step = Step(uid=uid, attempt=attempt, profile="any", host=host, slot=slot)
            self._held[uid] = self._channel.basic_get(routing.queue_of(stage, step))
        return super()._enter(uid, attempt, stage, host, slot)

    def _leave(self, uid: str, attempt: int, stage: Stage, host: str, slot: str) -> None:
        super()._leave(uid, attempt, stage, host, slot)
        record = self.records[uid]
        if record.analysis is None:
            raise AssertionError(f"{uid} is no analysis")
        step = Step(uid=uid, attempt=attempt, profile=record.analysis.profile, host=host, slot=slot)
        following = STAGES[STAGES.index(stage) + 1]
        routing.send(self._app, record.analysis, step, attempts=record.attempts, first=following)
        self._acknowledge(uid)
        if stage in (Stage.PREPARE, Stage.RUN):  # its beginning and its end
            for _ in range(2):
                self.ledger.fleet.report(self.hosts[host].status())

    def _finish(self, uid: str, attempt: int, host: str, slot: str) -> bool:
        is_published = super()._finish(uid, attempt, host, slot)
        self._acknowledge(uid)
        return is_published

    def _acknowledge(self, uid: str) -> None:
        self._channel.basic_ack(self._held.pop(uid).delivery_tag)

    def close(self) -> None:
        """The fleet is gone."""
        self.lose(list(self.hosts))
        self._connection.close()


# The figures


class Bench:
    """Fleets of several sizes, one after the other, on the same servers."""

    def __init__(self, settings: Settings, ingress: ProcessPoolExecutor) -> None:
        """*ingress* is a pool of one process."""
        self._settings = settings
        self._ledger = make_ledger(settings)
        self._client = self._ledger._redis  # noqa: SLF001 what a benchmark counts
        self._ingress = ingress
        self._sample = _stored(settings)

    def rows(self, hosts: int, *, quick: bool) -> list[Result]:
        """What there is to say of a fleet of so many hosts."""
        fleet = CeleryFleet(self._settings, self._client, hosts)
        costs = [self._cost(fleet, AT_ONCE[quick]) for _ in range(ROUNDS[quick] + 1)][1:]  # one for imports
        each = {name: statistics.median(getattr(cost, name) for cost in costs) for name in _COSTS}
        standing = self._standing(fleet)
        fleet.close()
        return list(_rows(hosts, Cost(**each), standing, len(costs)))

    def _cost(self, fleet: CeleryFleet, many: int) -> Cost:
        """Of *many* analyses; as often as it takes to get them through the fleet."""
        taken: list[Taken] = []
        valkey = 0.0
        while sum(one.samples for one in taken) < many:
            push(self._client, many - waiting(self._client), BALANCED, sample=self._sample)
            fleet.report()
            before = self._valkey()
            taken.append(self._ingress.submit(_take, many).result())
            drain(fleet)
            valkey += self._valkey() - before
        samples = sum(one.samples for one in taken)
        waited, ingress, libmagic = (
            sum(getattr(one, name) for one in taken) / samples for name in ("waited", "ingress", "libmagic")
        )
        return Cost(waited=waited, ingress=ingress, libmagic=libmagic, valkey=valkey / samples)

    def _standing(self, fleet: CeleryFleet) -> float:
        """What a fleet whose every slot is at work costs Valkey in a second, because time passes."""
        push(self._client, 2 * SLOTS, BALANCED, sample=self._sample)
        fleet.report()
        self._ingress.submit(_take, SLOTS).result()
        live = fleet.claim()
        report = self._each(fleet.report, len(fleet.hosts)) / DEFAULT.report
        heartbeat = self._each(fleet.renew, live) / DEFAULT.heartbeat
        fleet.finish()
        drain(fleet)
        return len(fleet.hosts) * (report + SLOTS * heartbeat)

    def _each(self, work: Callable[[], object], count: int) -> float:
        times = max(1, 2000 // count)
        before = self._valkey()
        for _ in range(times):
            work()
        return (self._valkey() - before) / times / count

    def _valkey(self) -> float:
        """Seconds of its main thread, which runs all commands."""
        found = self._client.info("cpu")
        return float(found["used_cpu_user_main_thread"]) + float(found["used_cpu_sys_main_thread"])


_COSTS = ("waited", "ingress", "libmagic", "valkey")


def _stored(settings: Settings) -> str:
    """The uid of a sample in Karton's bucket."""
    backend = KartonBackend(submit.karton_config(settings), identity=IDENTITY)
    sample = Resource("sample.exe", PROGRAM, bucket=settings.s3.bucket)
    sample.upload(backend)
    return str(sample.uid)


def _rows(hosts: int, cost: Cost, standing: float, runs: int) -> Iterator[Result]:
    def row(name: str, unit: str, ours: float, limit: float | None = None, *, less: bool = False) -> Result:
        name = f"{name}, {hosts} hosts" if hosts > 1 else f"{name}, 1 host"
        return Result(name=name, unit=unit, ours=ours, limit=limit, runs=runs, less_is_better=less)

    ingress, valkey = HOUR / cost.waited, HOUR * (1 - standing) / cost.valkey
    yield row("one ingress alone", "analyses/h", ingress, HOUR / cost.ingress)
    yield row("one Valkey alone", "analyses/h", valkey)
    yield row("one ingress and one Valkey, simulated fleet", "analyses/h", min(ingress, valkey))
    yield row("waiting of ingress for a sample", "ms", cost.waited * 1000, less=True)
    yield row("processor time of ingress for a sample", "ms", cost.ingress * 1000, less=True)
    yield row("processor time of libmagic for a program", "ms", cost.libmagic * 1000, less=True)
    yield row(
        "processor time of Valkey for an analysis with its messages", "ms", cost.valkey * 1000, less=True
    )
    yield row("Valkey for hosts at work, whatever they analyse", "% of a core", standing * 100, less=True)
