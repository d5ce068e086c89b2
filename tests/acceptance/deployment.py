"""A running stack as those outside see it: a Karton producer, a Karton consumer, and two command lines."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import click
from click.testing import CliRunner
from karton.core import Config, Karton, Producer, Resource, Task
from karton.core.backend import KartonBackend
from karton.core.resource import RemoteResource, ResourceBase
from karton.core.task import TaskPriority, TaskState
from minio import Minio

from drakcelery import settings
from drakcelery.cli import cli
from drakcelery.embedded.state import Running
from drakcelery.ledger import Ledger, connect
from drakcelery.model.analysis import State
from drakcelery.model.records import Record
from drakcelery.operators import finding
from drakcelery.settings import Settings
from tests.faults import forks
from tests.faults.fleet import Fleet
from tests.waiting import PATIENCE, wait_until

PROGRAMS = Path(sys.executable).parent
TIMEOUT = 120
"""Seconds, of a command."""


class Receiver(Karton):
    """A Karton service that wants analyses; it knows Karton and the contract, and nothing of drakcelery."""

    identity = "karton.acceptance-receiver"
    filters = [  # noqa: RUF012 - Karton's own type
        {"type": "analysis", "kind": "drakrun"},
        {"type": "analysis-test", "kind": "drakrun"},
    ]

    def __init__(self, config: Config, to: Path) -> None:
        super().__init__(config=config)
        self._to = to
        self.received: dict[str, Received] = {}
        self.sent_again: set[str] = set()
        """Analyses that may come more than once."""
        self._kept: dict[str, Task] = {}
        self.backend.register_bind(self._bind)

    def process(self, task: Task) -> None:
        """Download every resource, as services do; what goes wrong here makes the analysis task CRASHED."""
        directory = self._to / task.uid.translate({ord(char): None for char in "{}:"})
        directory.mkdir()
        for name, resource in task.payload.items():
            if isinstance(resource, RemoteResource):
                resource.download_to_file(str(directory / name))
        self.received[task.payload["analysis_uid"]] = Received(task=task, directory=directory)

    def receive(self, uid: str, *, timeout: float = PATIENCE) -> Received:
        """The analysis *uid*; others that come first are kept as they are, as tests remove what is theirs."""

        def arrived() -> Received | None:
            task = None if uid in self.received else self._kept.pop(uid, None) or self._next(uid)
            if task is not None:
                self.internal_process(task)
                assert task.error is None, "".join(task.error)
            return self.received.get(uid)

        return wait_until(arrived, f"the analysis {uid} arrives at a Karton service", timeout=timeout)

    def _next(self, wanted: str) -> Task | None:
        """The next task, if it is of the analysis *wanted*."""
        task = self.backend.consume_routed_task(self.identity, timeout=1)
        if task is None:
            return None
        uid: str = task.payload["analysis_uid"]
        came = uid in self.received or uid in self._kept
        assert not came or uid in self.sent_again, f"analysis {uid} came twice"
        if uid == wanted:
            return task
        self._kept[uid] = task
        return None


@dataclass(frozen=True, kw_only=True)
class Received:
    """An analysis task, and the files that a consumer downloaded from it."""

    task: Task
    directory: Path

    @property
    def resources(self) -> dict[str, RemoteResource]:
        """The payload's resources, by name."""
        return {name: value for name, value in self.task.payload.items() if isinstance(value, RemoteResource)}

    def path(self, name: str) -> Path:
        """The downloaded file of a resource."""
        return self.directory / name


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """A stack that takes samples."""

    running: Running
    settings: Settings
    backend: KartonBackend
    """Karton's own client."""
    ledger: Ledger
    s3: Minio

    @classmethod
    @contextmanager
    def of(cls, running: Running) -> Iterator[Deployment]:
        """The stack *running*, once an ingress and a vm worker are there."""
        ours = settings.load(running.config, environment={})
        ledger = Ledger(connect(ours.redis), identity=ours.drakrun.identity, record_ttl=3600)
        wait_until(
            lambda: ledger.fleet.hosts() and ledger.bound(),
            "ingress and vm worker are there",
        )
        assert ours.s3.secret_key is not None
        s3 = Minio(
            ours.s3.address.removeprefix("http://"),
            access_key=ours.s3.access_key,
            secret_key=ours.s3.secret_key.get_secret_value(),
            secure=False,
        )
        backend = KartonBackend(karton_config(running), identity="karton.acceptance")
        try:
            yield cls(running=running, settings=ours, backend=backend, ledger=ledger, s3=s3)
        finally:
            # SeaweedFS gives the clients that are still connected ten seconds before it stops
            backend.s3.close()
            s3._http.clear()
            ledger._redis.close()

    @classmethod
    @contextmanager
    def of_fleet(cls, fleet: Fleet) -> Iterator[Deployment]:
        """A fleet, by the settings of its first host: most of it is forked, and nothing but it is started."""
        with cls.of(Running(pid=os.getpid(), config=fleet.config, addresses={})) as deployment:
            yield deployment

    @contextmanager
    def receiver(self, to: Path) -> Iterator[Receiver]:
        """A consumer of its analyses, bound from now on."""
        receiver = Receiver(karton_config(self.running), to)
        try:
            yield receiver
        finally:
            receiver.backend.s3.close()

    # Karton

    def send(
        self,
        sample: Path | ResourceBase | None,
        *,
        headers: Mapping[str, Any] | None = None,
        payload: Mapping[str, Any] | None = None,
        payload_persistent: Mapping[str, Any] | None = None,
        headers_persistent: Mapping[str, Any] | None = None,
        priority: TaskPriority = TaskPriority.NORMAL,
    ) -> Task:
        """Send a recognized sample, as a classifier would; its analysis is called as ``sent_as`` says."""
        task = Task(
            {"type": "sample", "stage": "recognized", "platform": "win64", **(headers or {})},
            payload={"override_uid": f"acceptance-{uuid4()}", **(payload or {})},
            payload_persistent=dict(payload_persistent or {}),
            headers_persistent=dict(headers_persistent or {}),
            priority=priority,
        )
        if isinstance(sample, Path):
            sample = Resource(sample.name, path=str(sample))
        if sample is not None:
            task.add_payload("sample", sample)
        Producer(config=self.backend.config, identity="karton.acceptance", backend=self.backend).send_task(
            task
        )
        return task

    def record(self, task: Task) -> Record | None:
        """What the ledger says about the sample that was sent as *task*."""
        return finding.record_of(self.ledger, task.root_uid)

    def wait_over(self, task: Task, *, timeout: float = PATIENCE) -> Record:
        """The record, once the analysis is over."""

        def over() -> Record | None:
            record = self.record(task)
            return record if record is not None and record.state.is_over else None

        return wait_until(over, f"the analysis of {task.root_uid} is over", timeout=timeout)

    def wait_state(self, task: Task, state: State, *, attempt: int | None = None) -> Record:
        """The record, once the analysis is in *state* (of its attempt *attempt*)."""
        seen: list[Record] = []

        def reached() -> bool:
            seen[:] = [record for record in (self.record(task),) if record is not None]
            if not seen or (attempt is not None and seen[0].attempts != attempt):
                return False
            assert seen[0].state is state or not seen[0].state.is_over, seen[0]
            return seen[0].state is state

        wait_until(reached, f"the analysis of {task.root_uid} is {state}")
        return seen[0]

    def sample_task(self, record: Record) -> Task:
        """The routed sample task, as Karton has it."""
        task = self.backend.get_task(record.task_uid)
        assert task is not None, f"Karton has dropped {record.task_uid}"
        return task

    def is_finished(self, record: Record) -> bool:
        """Whether the sample task is FINISHED.

        What is, karton-system collects every 180 s; anything else it leaves for hours.
        """
        task = self.backend.get_task(record.task_uid)
        return task is None or (task.status, task.error) == (TaskState.FINISHED, None)

    def children(self, record: Record) -> list[Task]:
        """The tasks in Karton that came of the sample task."""
        tasks: Iterable[Task] = self.backend.iter_task_tree(record.root_uid)
        return [task for task in tasks if task.parent_uid == record.task_uid]

    # S3

    def objects(self, bucket: str, uid: str) -> dict[str, int]:
        """Sizes of what is stored for an analysis, by full key; none while there is no bucket yet."""
        if not self.s3.bucket_exists(bucket):
            return {}
        found = self.s3.list_objects(bucket, prefix=f"{uid}/", recursive=True)
        return {str(one.object_name): one.size or 0 for one in found}

    def content(self, bucket: str, key: str) -> bytes:
        """An object."""
        response = self.s3.get_object(bucket, key)
        try:
            return response.read()
        finally:
            response.close()
            response.release_conn()

    # The command lines

    def drakcelery(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """``drakcelery …`` on this stack's configuration, as typed on a terminal without colours."""
        return run("drakcelery", *arguments, config=self.running.config)

    def started(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """As :meth:`drakcelery`, by its own file: what it needs is imported by itself."""
        return execute(PROGRAMS / "drakcelery", *arguments, config=self.running.config)

    def typed(self, *words: str | Path) -> str:
        """What ``drakcelery …`` says, done by this process; fails where the command does."""
        status, output = run_here(cli, *map(str, words), **typist(self.running.config))
        assert status == 0, output
        return output

    def celery(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``celery -A drakcelery …``."""
        return run("celery", "-A", "drakcelery", *arguments, config=self.running.config)


def typist(config: Path) -> dict[str, str]:
    """Variables of who types a command on a wide terminal without colours."""
    return {"DRAKCELERY_CONFIG": str(config), "COLUMNS": "1000", "NO_COLOR": "1"}


def karton_config(running: Running) -> Config:
    """Karton reads the stack's file itself. Nobody listens to the log that Karton would publish."""
    config = Config(str(running.config))
    config.load_from_dict({"logging": {"enable_publish": "0"}})
    return config


def run(
    program: str, *arguments: str | Path, config: Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a command with ``DRAKCELERY_CONFIG`` and *variables*, as a fork; lines are not wrapped."""
    words = [str(word) for word in arguments]
    with tempfile.TemporaryDirectory(prefix="typed-") as directory:
        out, errors = (Path(directory) / name for name in ("out", "errors"))
        process = forks.stem("typed").start(
            words,
            program=program,
            environment={**os.environ, **typist(config), **variables},
            directory=Path.cwd(),
            log=out,
            errors=errors,
        )
        try:
            status = process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        return subprocess.CompletedProcess(
            [program, *words], status, out.read_text("utf-8"), errors.read_text("utf-8")
        )


def execute(*command: str | Path, config: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """As :func:`run`, a program that is started from its file."""
    return subprocess.run(  # its exit status is looked at by those who call
        [str(part) for part in command],
        capture_output=True,
        text=True,
        env={**os.environ, **typist(config), **variables},
        timeout=TIMEOUT,
        check=False,
    )


def run_here(command: click.Command, *words: str, obj: object = None, **variables: str) -> tuple[int, str]:
    """Exit status and output of a command that this process does: one of its own takes a second to start."""
    done = CliRunner(env=variables).invoke(command, words, obj=obj, prog_name="drakcelery")
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output
