"""An embedded stack whose analyses do nothing, and Karton's side of it: what several benchmarks run on."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil
from karton.core import Config, Producer, Resource, Task
from karton.core.__version__ import __version__ as karton_version
from karton.core.backend import KartonBackend, KartonBind
from karton.core.resource import RemoteResource
from karton.core.task import TaskState

from drakcelery import settings
from drakcelery.embedded.background import background
from drakcelery.embedded.layout import home
from drakcelery.karton import submit
from drakcelery.ledger import Ledger
from drakcelery.operators import analyses
from drakcelery.settings import Settings
from drakcelery.wiring import make_ledger

KB = 1000
PATIENCE = 60.0
"""Seconds after which what was sent is lost."""
_END = "benchmark-over"
_SENDER = "karton.bench-sender"


@dataclass(frozen=True, kw_only=True)
class NoOpStack:
    """A running stack whose guests live for no time and leave one artifact of 1 KB."""

    settings: Settings
    ledger: Ledger
    pid: int
    directory: Path
    """For whatever a benchmark has to keep while the stack runs."""

    @property
    def karton(self) -> Config:
        """Karton's own configuration of it."""
        return submit.karton_config(self.settings)

    @property
    def sent(self) -> dict[str, str]:
        """The headers of what goes out."""
        return dict(self.settings.drakrun.headers)

    def processes(self) -> dict[str, list[psutil.Process]]:
        """The stack's processes, by their name in the Procfile: a worker with its pool."""
        found: dict[str, list[psutil.Process]] = {}
        for process in psutil.Process(self.pid).children(recursive=True):
            name = process.environ().get("HONCHO_PROCESS_NAME", process.name())
            found.setdefault(name, []).append(process)
        return found

    def owners(self) -> dict[int, str]:
        """The local port of each connection that the stack's processes have, and whose it is."""
        return {
            connection.laddr.port: name
            for name, processes in self.processes().items()
            for process in processes
            for connection in process.net_connections("tcp")
            if connection.status == psutil.CONN_ESTABLISHED
        }

    def commands_of(self, work: Callable[[], object]) -> Counter[tuple[str, str]]:
        """What Redis carries out during *work*: how often, by who asked (or ``script``) and by command."""
        client, seen, owners = self.ledger._redis, Counter[tuple[int, str]](), self.owners()  # noqa: SLF001 what a benchmark counts
        monitoring = client.monitor()  # type: ignore[no-untyped-call] # redis-py leaves this one untyped
        with monitoring as monitor, ThreadPoolExecutor(1) as pool:
            done = pool.submit(work)
            done.add_done_callback(lambda _: client.echo(_END))
            for line in monitor.listen():
                name, _, argument = line["command"].partition(" ")
                if argument == _END:
                    break
                seen[0 if line["client_type"] == "lua" else int(line["client_port"]), name.upper()] += 1
            done.result()
        owners |= self.owners() | {0: "script"}
        found: Counter[tuple[str, str]] = Counter()
        for (port, name), number in seen.items():
            found[owners.get(port, "others"), name] += number
        return found

    def wait_bound(self, identity: str) -> None:
        """Karton drops without a word what nobody has bound."""
        while not self.ledger.bound(identity):
            time.sleep(analyses.POLL_SECONDS)


@contextlib.contextmanager
def no_op_stack(*, slots: int) -> Iterator[NoOpStack]:
    """Run one for the block; it takes samples when this returns."""
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        recorded = directory / "recorded"
        recorded.mkdir()
        _write_log(recorded / "drakmon.log", KB)
        procfile = directory / "Procfile"
        # Without Flower, which nobody needs for an analysis
        lines = (home() / "Procfile").read_text().splitlines(keepends=True)
        procfile.write_text("".join(line for line in lines if not line.startswith("flower:")))
        overrides = {
            "drakcelery": {"engine": "replay"},
            "replay": {"run_dir": str(recorded), "restore_seconds": "0", "run_seconds": "0"},
        }
        named = {f"vm-{number}": "default" for number in range(1, slots + 1)}
        with background(
            directory / "stack", slots=named, overrides=overrides, procfile=procfile, grace=5
        ) as running:
            ours = settings.load(running.config)
            ledger = make_ledger(ours)
            stack = NoOpStack(settings=ours, ledger=ledger, pid=running.pid, directory=directory)
            stack.wait_bound(ledger.identity)
            while not ledger.fleet.hosts():
                time.sleep(analyses.POLL_SECONDS)
            yield stack


def _write_log(path: Path, size: int) -> None:
    line = json.dumps({"Plugin": "procmon", "TimeStamp": "1.0", "ProcessName": "explorer.exe"}) + "\n"
    path.write_text(line * (size // len(line)))


class Sender:
    """A producer of tasks that all have one sample of 1 KB, which is stored once."""

    def __init__(self, stack: NoOpStack) -> None:
        """Stores the sample."""
        self._backend = KartonBackend(stack.karton, identity=_SENDER)
        self._producer = Producer(config=stack.karton, identity=_SENDER, backend=self._backend)
        local = Resource("sample.bat", b"rem\n" * (KB // 4), bucket=stack.settings.s3.bucket)
        local.upload(self._backend)
        self._resource = local.to_dict()

    def send(self, headers: Mapping[str, str]) -> None:
        """Send one."""
        task = Task(dict(headers))
        task.add_payload("sample", RemoteResource.from_dict(self._resource, backend=self._backend))
        self._producer.send_task(task)


class Receiver:
    """Consumes what is sent with some headers, as a Karton consumer that does nothing."""

    def __init__(self, stack: NoOpStack, *, identity: str, headers: Mapping[str, str]) -> None:
        """From now on nothing of it is lost."""
        self._identity = identity
        self._backend = KartonBackend(stack.karton, identity=identity)
        self._backend.register_bind(
            KartonBind(
                identity=identity,
                info="benchmark",
                version=karton_version,
                persistent=True,
                filters=[dict(headers)],
                service_version=None,
                is_async=False,
            )
        )

    def take(self, number: int) -> None:
        """Wait for so many."""
        deadline = time.monotonic() + PATIENCE
        while number:
            task = self._backend.consume_routed_task(self._identity, timeout=5)
            if task is not None:
                self._backend.set_task_status(task, TaskState.FINISHED)
                number -= 1
            elif time.monotonic() > deadline:
                raise TimeoutError(f"{number} tasks did not come to {self._identity}")
