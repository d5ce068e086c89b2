"""The stages in this process: a real ledger, S3 and slot table, and the replay engine."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
from karton.core import Task
from minio.deleteobjects import DeleteObject

from drakcelery.embedded.services import Services
from drakcelery.engines import create
from drakcelery.host.slots import SlotTable
from drakcelery.host.workspace import Workspace
from drakcelery.karton import contract
from drakcelery.ledger import Ledger
from drakcelery.ledger.keys import INBOX
from drakcelery.model.analysis import Analysis, ObjectRef, Stage, Step
from drakcelery.model.records import Record
from drakcelery.settings import Settings
from drakcelery.settings.sections import DrakcelerySection, ReplaySection
from drakcelery.stages.context import HostContext
from drakcelery.stages.perform import perform
from drakcelery.storage import Storage
from drakcelery.storage.sending import put
from tests.builders import analysis
from tests.faults.fleet import record_run
from tests.ledgers import inbox_of

HOST = "rack-1"
SLOT = "vm-1"


@dataclass(frozen=True, kw_only=True)
class Bench:
    """One host with one slot, of which a test does stage by stage."""

    context: HostContext
    bucket: str
    """Where the artifacts go."""

    @property
    def ledger(self) -> Ledger:
        """The ledger."""
        return self.context.ledger

    @property
    def redis(self) -> redis.Redis:
        """What the ledger writes to."""
        return self.ledger._redis

    def open(self, uid: str = "a-1", **changes: object) -> Analysis:
        """Begin an analysis of a sample that is in S3, with *changes*, and its first attempt."""
        sample = ObjectRef(bucket=self.bucket, key=f"sample-{uid}", name="x.bat")
        put(self.context.storage._server, sample.bucket, sample.key, b"rem")
        task = Task({"type": "sample"}, uid=f"{{r}}:{uid}-{uuid.uuid4().hex[:8]}", root_uid="r")
        ours = analysis().model_copy(
            update={
                "uid": uid,
                "task_uid": task.uid,
                "sample": sample,
                "extension": "bat",
                "plugins": ("procmon",),
                **changes,
            }
        )
        self.ledger.declare(contract.started(task))
        self.ledger._redis.zadd(INBOX, {task.uid: self.ledger.now()})
        assert inbox_of(self.ledger).open(ours, task, limit=1000, read=task.serialize()) is not None
        return ours

    def record(self, uid: str = "a-1") -> Record:
        """What the ledger says."""
        record = self.ledger.get(uid)
        assert record is not None
        return record

    def step(self, uid: str = "a-1", *, attempt: int | None = None) -> Step:
        """The message of the current attempt."""
        number = attempt or self.record(uid).attempt
        return Step(uid=uid, attempt=number, profile="win10", host=HOST, slot=SLOT)

    def do(self, *stages: Stage, uid: str = "a-1") -> None:
        """Do stages of the current attempt, one after the other."""
        for stage in stages:
            step = self.step(uid)
            if stage is Stage.PREPARE:
                assert self.context.slots.claim("win10", uid, step.attempt) == SLOT
            perform(self.context, stage, step)

    def workspace(self, uid: str = "a-1") -> Workspace:
        """Of the current attempt."""
        return self.context.workspace(self.step(uid))

    def objects(self, uid: str = "a-1") -> dict[str, int]:
        """What is in S3 of an analysis, by name."""
        found = self.context.storage.list(self.bucket, f"{uid}/")
        return {key.removeprefix(f"{uid}/"): size for key, size in found.items()}

    def forget(self, *uids: str) -> None:
        """Let live analyses be over, since a test may leave none."""
        for uid in uids:
            record = self.ledger.get(uid)
            if record is not None and not record.state.is_over:
                self.ledger.cancel(record, reason="the test is over", crashed=None)


@contextlib.contextmanager
def bench_in(directory: Path, services: Services, client: redis.Redis) -> Iterator[Bench]:
    """A host in *directory* whose engine plays a log of one line and one dump."""
    record_run(directory / "run")
    bucket = "bench"
    settings = Settings(
        redis=services.redis,
        s3=services.s3,
        drakcelery=DrakcelerySection(
            host=HOST, state_dir=directory / "state", engine="replay", bucket=bucket
        ),
        replay=ReplaySection(run_dir=directory / "run"),
    )
    slots = SlotTable(settings.drakcelery.state_dir, quarantine_after=3)
    slots.define({SLOT: "win10"})
    slots.cleaned(SLOT)
    storage = Storage.connect(services.s3, threads=2)
    storage.ensure_bucket(bucket)
    ours = Bench(
        context=HostContext(
            settings=settings,
            ledger=Ledger(client, identity="karton.test-bench", record_ttl=600),
            slots=slots,
            storage=storage,
            engine=create("replay", settings),
        ),
        bucket=bucket,
    )
    yield ours
    ours.forget(*(record.uid for record in ours.ledger.live()))
    # The bucket stays: for the first object in a new one the server takes 0.2 s
    left = [DeleteObject(key) for key in storage.list(bucket, "")]
    assert not list(storage._server.client.remove_objects(bucket, left))  # one request, not one an object


@pytest.fixture
def bench(services: Services, redis_client: redis.Redis, tmp_path: Path) -> Iterator[Bench]:
    """As :func:`bench_in`."""
    with bench_in(tmp_path, services, redis_client) as ours:
        yield ours
