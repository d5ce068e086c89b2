"""A fleet in one process: its machines, what runs on them, and what that works with."""

from __future__ import annotations

import functools
import os
import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import redis
from kombu.exceptions import OperationalError
from pydantic import SecretStr

from drakcelery.ingress import Ingress
from drakcelery.ledger import Ledger
from drakcelery.ledger.inbox import Inbox
from drakcelery.ledger.watch import ServerId
from drakcelery.model.analysis import Analysis, Stage, Step
from drakcelery.model.timeouts import timeouts_of
from drakcelery.recovery.duty import Duty
from drakcelery.settings import Settings
from drakcelery.settings.sections import DrakcelerySection, DrakrunSection, ReuseSection
from drakcelery.settings.servers import S3Section
from drakcelery.settings.variants import VariantsSection
from drakcelery.stages.context import HostContext
from drakcelery.stages.dispatch import send
from drakcelery.stages.heartbeat import HeartbeatThread
from drakcelery.worker.commands import IO_PROCESSES
from drakcelery.worker.runtime import Runtime
from drakcelery.worker.wakeup import Wakeup
from tests.simulation import contents
from tests.simulation.broker import Broker
from tests.simulation.client import Client, Network
from tests.simulation.disk import Disk
from tests.simulation.engine import Guests, SimulatedEngine
from tests.simulation.machines import Cuts, Host, QuietSlots, Unit, Wire
from tests.simulation.objects import Objects, Stored, storage_on
from tests.simulation.schedule import Sample, Schedule
from tests.simulation.theatre import EPOCH, Process, Theatre
from tests.simulation.threads import Event, Pacer
from tests.simulation.valkey import Valkey
from tests.simulation.workers import Worker, letter_for

NO_APP: Any = None
"""Celery's, by which nothing is sent here: :meth:`Fleet.send_chain` stands for what would."""
LEASE = 30
"""Seconds; ``[drakcelery] lease_seconds``."""


class Fleet:
    """What there is, before anything happens to it."""

    def __init__(self, schedule: Schedule, valkey: Valkey, *, trace: bool = False) -> None:
        self.schedule = schedule
        self.valkey = valkey
        self.identity = contents.IDENTITY
        self.theatre = Theatre()
        self.network = Network(self.theatre, valkey)
        self.broker = Broker(lambda: self.theatre.now)
        self.objects = Objects()
        self.objects.buckets = {"karton": {"sample": Stored(contents.SAMPLE, {})}, "drakrun": {}}
        self.objects.forbidden = {contents.FORBIDDEN_BUCKET}
        self.disk = Disk()
        self.guests = Guests()
        self.cuts = Cuts(self.theatre)
        self.broken: list[str] = []
        """What was found that may not be."""
        self.uids: list[str] = []
        self.samples: dict[str, Sample] = {}
        self.looks: dict[str, str] = {}
        """Second looks that were granted -> the first ones."""
        self.chance = random.Random(schedule.seed)  # noqa: S311 it guards nothing
        self.trace: list[str] | None = [] if trace else None
        self.times = timeouts_of(LEASE)
        base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 a directory in memory
        self.directory = Path(tempfile.mkdtemp(prefix="drak-sim-", dir=base))
        self.pool = redis.ConnectionPool(
            connection_class=redis.UnixDomainSocketConnection,
            path=valkey.socket,
            decode_responses=True,
            encoding_errors="surrogateescape",  # as drakcelery.ledger.connect
        )
        self.hosts = {name: self._host(name) for name in (f"rack-{n + 1}" for n in range(schedule.hosts))}
        if schedule.twin:
            self.hosts["twin"] = self._host("twin", called="rack-1")
        self.units = list(self._units())

    def _host(self, name: str, *, called: str | None = None) -> Host:
        state_dir = self.directory / name
        state_dir.mkdir()
        return Host(name=name, state_dir=state_dir, settings=self._settings(called or name, state_dir))

    def _settings(self, name: str, state_dir: Path) -> Settings:
        options = {"min_free_space": 0, "lease_seconds": LEASE, **self.schedule.options}
        return Settings(
            s3=S3Section(address="http://s3.simulated", access_key="key", secret_key=SecretStr("secret")),
            drakrun=DrakrunSection(identity=self.identity),
            reuse=ReuseSection(enabled=True),
            variants=VariantsSection(mode="on", max_per_root=self.schedule.looks, max_share=1)
            if self.schedule.looks
            else VariantsSection(),
            drakcelery=DrakcelerySection(host=name, state_dir=state_dir, engine="replay", **options),
            slots={f"vm-{number + 1}": "default" for number in range(self.schedule.slots)},
        )

    def _units(self) -> Iterator[Unit]:
        for number in range(self.schedule.ingresses):
            yield Unit(name=f"ingress-{number + 1}", host=None, role="ingress", start=self._ingress)
        for host in self.hosts.values():
            slots = self.schedule.slots
            yield Unit(f"vm@{host.name}", host, "vm", functools.partial(self._worker, host, "vm", slots + 1))
            yield Unit(
                f"io@{host.name}", host, "io", functools.partial(self._worker, host, "io", IO_PROCESSES)
            )

    # What the units do

    def _ingress(self, process: Process) -> Callable[[], None]:
        settings = self._settings(process.name, self.directory / process.name)
        ledger = self._ledger(process.name, settings, patient=False)
        inbox = Inbox(ledger._redis, identity=self.identity, record_ttl=settings.drakcelery.record_ttl)
        ingress = Ingress(
            settings=settings,
            ledger=ledger,
            inbox=inbox,
            storage=storage_on(self.theatre, self.objects, self.wire(process.name, "s3")),
            send=functools.partial(send, NO_APP, ledger),
        )
        mender = self._ledger(process.name, settings, patient=False)
        duty = Duty(
            mender, settings, send=functools.partial(send, NO_APP, mender), ask_broker=self.ask_broker
        )
        stop: Any = Event(self.theatre)

        def run() -> None:
            duty.start()
            ingress.run(stop)

        return run

    def _worker(self, host: Host, role: str, concurrency: int, process: Process) -> Callable[[], None]:
        worker = Worker(self, process, host.name, role=role, concurrency=concurrency)
        process.context = {"worker": worker}
        return worker.main

    # What they work with

    def wire(self, machine: str, service: str) -> Wire:
        """The way from *machine* to *service*."""
        return Wire(self.cuts, machine, service)

    def _ledger(self, machine: str, settings: Settings, *, patient: bool) -> Ledger:
        return Ledger(
            self._client(machine, patient=patient),
            identity=self.identity,
            record_ttl=settings.drakcelery.record_ttl,
            timeouts=settings.drakcelery.timeouts,
        )

    def _client(self, machine: str, *, patient: bool) -> Client:
        return Client.on(self.network, self.wire(machine, "redis"), self.pool, patient=patient)

    def connect(self, *_: object, **__: object) -> Client:
        """Stands for :func:`drakcelery.ledger.connect`, for the process whose code runs."""
        process = self.theatre.process
        return self._client(process.host or process.root.name, patient=False)

    def context(self, host: str, *, patient: bool, worker: Worker) -> HostContext:
        """What the stages work with on *host*."""
        machine = self.hosts[host]

        slots = QuietSlots(
            machine.state_dir,
            quarantine_after=machine.settings.drakcelery.quarantine_after,
            freed=worker.wakeup.signal,
        )
        slots.theatre = self.theatre
        return HostContext(
            settings=machine.settings,
            ledger=self._ledger(host, machine.settings, patient=patient),
            slots=slots,
            storage=storage_on(self.theatre, self.objects, self.wire(host, "s3")),
            engine=SimulatedEngine(
                self.theatre,
                self.guests,
                host,
                self.chance,
                self._seconds,
                evaded=self.schedule.looks > 0,
            ),
            heartbeats=cast("HeartbeatThread", Pacer(self.theatre)),
        )

    def runtime(self, worker: Worker) -> Runtime:
        """What the main process of *worker* works with."""
        context = self.context(worker.host, patient=False, worker=worker)
        return Runtime(
            context=context,
            wakeup=cast("Wakeup", worker.wakeup),
            send=functools.partial(send, NO_APP, context.ledger),
            ask_broker=self.ask_broker,
        )

    def _seconds(self, uid: str) -> float:
        return self.samples[uid].seconds

    def ask_broker(self) -> ServerId:
        """Stands for :func:`drakcelery.broker.life.ask`."""
        process = self.theatre.process
        self.theatre.cut("broker.info")
        if self.wire(process.host or process.root.name, "broker").is_cut():
            raise OperationalError("the broker is away")
        return ServerId.of(self.broker)

    def send_chain(
        self,
        _app: object,
        _analysis: Analysis,
        step: Step,
        *,
        attempts: int,  # noqa: ARG002 for people
        first: Stage = Stage.PREPARE,
    ) -> None:
        """Stands for :func:`drakcelery.broker.routing.send`."""
        self.send_step(first, step)

    def send_step(self, stage: Stage, step: Step) -> None:
        """Give the message of a stage to the broker, from the current actor's machine."""
        process = self.theatre.process
        machine = process.host or process.root.name
        wire = self.wire(machine, "broker")
        for _ in range(3):
            self.theatre.cut("broker.publish")
            if not wire.is_cut():
                self.broker.publish(*letter_for(stage, step))
                return
            self.theatre.sleep(0.3)
        raise OperationalError("the broker is away")

    def boot_id(self) -> str:
        """Stands for :func:`drakcelery.engines.evidence.boot_id`."""
        host = self.theatre.process.host or ""
        return f"{host}-{self.hosts[host].boots}" if host in self.hosts else "elsewhere"

    def end_here(self) -> None:
        """Stands for the SIGTERM that a worker gives itself: it ends, without finishing anything."""
        self.theatre.kill(self.theatre.process.root)
        self.theatre.cut("ended")

    def note(self, line: str) -> None:
        """For who reads the trace."""
        if self.trace is not None:
            # The directory has another name each time, and the trace is the seed's alone
            line = line.replace(f"{self.directory}/", "")
            self.trace.append(f"{self.theatre.now - EPOCH:9.3f} {line}")

    def root_of(self, uid: str) -> str:
        """The root of a sample's task: its own, but for second looks."""
        return self.looks.get(uid, uid)

    def task_uid(self, uid: str) -> str:
        """The Karton uid of a sample's task."""
        return f"{{{self.root_of(uid)}}}:{uid}"
