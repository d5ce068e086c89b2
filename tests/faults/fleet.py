"""A fleet of hosts on this machine: real servers, every drakcelery process on its own, the replay engine.

What systemd does on a host is :meth:`Fleet.respawn`; what goes wrong there is :meth:`Fleet.signal` and, at a
named point of an analysis, :meth:`Fleet.plan`.
"""

from __future__ import annotations

import configparser
import os
import signal
import subprocess
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
from karton.core import Producer
from karton.core.backend import KartonBackend, KartonBind, KartonMetrics

from drakcelery import settings
from drakcelery.embedded import supervision
from drakcelery.embedded.services import Services
from drakcelery.host.slot import Slot
from drakcelery.host.slots import SlotTable
from drakcelery.host.workspace import Workspace
from drakcelery.karton import submit
from drakcelery.karton.kept import Wishes
from drakcelery.ledger import Ledger
from drakcelery.model.records import Record
from drakcelery.settings import RedisSection, S3Section
from drakcelery.wiring import make_ledger, make_storage
from tests.faults import forks
from tests.waiting import PATIENCE, wait_until

KARTON = "karton"
"""Where karton-system runs: on no host of ours."""
RECEIVER = "karton.faults-receiver"
"""The Karton service that wants the analyses; nobody takes them from its queue."""
RECORDED_LOG = '{"Plugin": "procmon", "TimeStamp": "1.0", "PID": 4, "Method": "NtCreateUserProcess"}\n'


@dataclass(kw_only=True)
class Process:
    """A process of the fleet, which may have been started several times."""

    name: str
    host: str
    arguments: tuple[str, ...]
    running: subprocess.Popen[bytes] | forks.Fork
    starts: int = 1


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a fleet is made."""

    hosts: tuple[str, ...] = ("rack-1", "rack-2")
    slots: int = 3
    """On each host."""
    profiles: Mapping[str, str] = field(default_factory=dict)
    """VM profile of all slots of a host, where it is not ``default``."""
    run_seconds: float = 0.3
    restore_seconds: float = 0.1
    stop_seconds: int = 5
    lease_seconds: int = 7
    """Shorter than by default, since most tests wait for it; not the shortest, for a busy machine."""
    redis: RedisSection | None = None
    """Where our processes are told to find Redis, if not where it is: a proxy, say. karton-system is told
    where it is: it takes tasks off its queue before it has routed them, and so may lose them."""
    s3: S3Section | None = None
    more: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Further settings: section, key, value."""
    of_host: Mapping[str, Mapping[str, Mapping[str, str]]] = field(default_factory=dict)
    """Further settings of one host."""


class Fleet:
    """Starts its processes when entered, and leaves none behind when left; the servers are the caller's.

    To be used from the main thread: its processes die with the thread that started them.

    Names of processes: ``system``, ``ingress``, ``vm@<host>``, ``io@<host>``.
    """

    def __init__(self, directory: Path, services: Services, options: Options | None = None) -> None:
        """*directory* (new, its own) holds configurations, state directories, logs and the plan."""
        self.options = options or Options()
        self.directory = directory.absolute()
        self.processes: dict[str, Process] = {}
        self._held: set[str] = set()
        self._plan = self.directory / "plan"
        self._log = self.directory / "log"
        for path in (self._plan, self._log):
            path.mkdir(parents=True)
        record_run(self.directory / "run")
        redis, s3 = self.options.redis or services.redis, self.options.s3 or services.s3
        self._config = {host: self._configure(host, redis, s3) for host in self.options.hosts}
        self._config[KARTON] = self._configure(KARTON, services.redis, services.s3)
        self.config = self._config[self.options.hosts[0]]
        """The configuration of its first host."""
        self.settings = settings.load(self.config, environment={}).model_copy(
            update={"redis": services.redis, "s3": services.s3}
        )
        self.ledger: Ledger = make_ledger(self.settings)
        self.inbox = self.ledger.inbox()
        self.storage = make_storage(self.settings)
        config = submit.karton_config(self.settings)
        self.backend = KartonBackend(config, identity="karton.faults")
        """Karton's own client."""
        self._producer = Producer(config=config, identity="karton.faults", backend=self.backend)

    def _configure(self, host: str, server: RedisSection, storage: S3Section) -> Path:
        wanted = self.options
        slots = [f"vm-{number}" for number in range(1, wanted.slots + 1)]
        sections: dict[str, dict[str, object]] = {
            "redis": {
                "host": server.host,
                "port": server.port,
                "password": server.password.get_secret_value() if server.password else "",
            },
            "s3": {
                "address": storage.address,
                "access_key": storage.access_key,
                "secret_key": storage.secret_key.get_secret_value() if storage.secret_key else "",
                "bucket": storage.bucket,
            },
            "drakcelery": {
                "host": host,
                "state_dir": self.state_dir(host),
                "engine": "replay",
                "min_free_space": 0,
                "stop_seconds": wanted.stop_seconds,
                "lease_seconds": wanted.lease_seconds,
            },
            "replay": {
                "run_dir": self.directory / "run",
                "run_seconds": wanted.run_seconds,
                "restore_seconds": wanted.restore_seconds,
            },
            "slots": dict.fromkeys(slots, wanted.profiles.get(host, "default")),
        }
        for more in (wanted.more, wanted.of_host.get(host, {})):
            for name, section in more.items():
                sections.setdefault(name, {}).update(section)
        parser = configparser.ConfigParser(interpolation=None)
        parser.read_dict(sections)
        path = self.directory / f"{host}.ini"
        with path.open("w") as file:
            parser.write(file)
        return path

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if error is not None:
            error.add_note(self.logs())

    # Processes

    def start(self) -> None:
        """Start every process; returns when samples are taken and each host has reported its slots."""
        first = self.options.hosts[0]
        self._spawn("system", KARTON, ("system",))
        self._spawn("ingress", first, ("ingress",))
        for host in self.options.hosts:
            self._spawn(f"vm@{host}", host, ("worker", "vm"))
            self._spawn(f"io@{host}", host, ("worker", "io"))
        bind = KartonBind(RECEIVER, "", "", True, [{"type": "analysis", "kind": "drakrun"}], "", False)
        self.backend.register_bind(bind)
        self.wait_ready()

    def wait_ready(self) -> None:
        """Return when an ingress has bound itself, and every host has reported."""
        wait_until(
            lambda: self.ledger.bound() and len(self.ledger.fleet.hosts()) == len(self.options.hosts),
            "ingress and vm workers are there",
        )

    def _spawn(self, name: str, host: str, arguments: tuple[str, ...]) -> None:
        environment = {
            **os.environ,
            "DRAKCELERY_CONFIG": str(self._config[host]),
            "DRAKCELERY_FAULTS": str(self._plan),
            supervision.MARK: str(self.directory),
            **self.environment(name),
        }
        log = self._log / f"{name}.log"
        running: subprocess.Popen[bytes] | forks.Fork
        if self.is_fork(name):
            running = forks.stem().start(
                arguments, environment=environment, directory=self.directory, log=log
            )
        else:
            running = self._start(host, arguments, environment, log)
        starts = self.processes[name].starts + 1 if name in self.processes else 1
        self.processes[name] = Process(
            name=name, host=host, arguments=arguments, running=running, starts=starts
        )

    def _start(
        self, host: str, arguments: tuple[str, ...], environment: dict[str, str], log: Path
    ) -> subprocess.Popen[bytes]:
        """Start a process on *host* by its command; it appends to *log*."""
        with log.open("ab") as output:
            return subprocess.Popen(
                [*self._launcher(host), sys.executable, "-m", "drakcelery", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=self.directory,
                start_new_session=True,
                preexec_fn=supervision._die_with(os.getpid()),
            )

    def intruder(self, name: str, *, stranger: bool = False) -> tuple[subprocess.Popen[bytes], Path]:
        """Start another process like *name*, as if from elsewhere; the caller ends it. Also where it logs.

        It is another machine's that has the same host name, or (a *stranger*) of another deployment.
        """
        process = self.processes[name]
        parser = configparser.ConfigParser(interpolation=None)
        parser.read(self._config[process.host])
        path = self.directory / f"intruder-{len(list(self.directory.glob('intruder-*.ini')))}.ini"
        parser["drakcelery"]["state_dir"] = str(path.with_suffix(""))
        if stranger:
            parser["drakcelery"]["host"] = path.stem
            parser["drakrun"] = {"identity": f"karton.{path.stem}"}
        with path.open("w") as file:
            parser.write(file)
        log = path.with_suffix(".log")
        with log.open("ab") as output:
            started = subprocess.Popen(
                [sys.executable, "-m", "drakcelery", *process.arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={
                    **os.environ,
                    "DRAKCELERY_CONFIG": str(path),
                    supervision.MARK: str(self.directory),
                },
                cwd=self.directory,
                start_new_session=True,
                preexec_fn=supervision._die_with(os.getpid()),
            )
        return started, log

    def environment(self, name: str) -> dict[str, str]:  # noqa: ARG002 one process is like the other here
        """Further variables of a process."""
        return {}

    def is_fork(self, name: str) -> bool:  # noqa: ARG002 as above
        """Whether a process is started as a fork (:mod:`tests.faults.forks`), or by its command."""
        return True

    def _launcher(self, host: str) -> tuple[str, ...]:  # noqa: ARG002 one machine is like the other here
        """A command that runs another one where the processes of *host* belong."""
        return ()

    def respawn(self) -> list[str]:
        """Start again what has ended; returns the names."""
        ended = [process for process in self.processes.values() if process.running.poll() is not None]
        for process in ended:
            self._spawn(process.name, process.host, process.arguments)
        return [process.name for process in ended]

    def signal(self, name: str, number: signal.Signals, *, group: bool = False) -> None:
        """Send a signal to a process (SIGKILL: kill -9); with *group* to its pool processes as well."""
        process = self.processes[name].running
        if process.poll() is None:  # not yet reaped, so that the pid is still its own
            (os.killpg if group else os.kill)(process.pid, number)

    def pool(self, name: str) -> list[psutil.Process]:
        """The pool processes of a worker."""
        try:
            return psutil.Process(self.processes[name].running.pid).children()
        except psutil.NoSuchProcess:
            return []

    def at_work(self, name: str) -> psutil.Process:
        """The one pool process of a worker that is at work: it has a heartbeat.

        That is a thread, which one that was at work before loses within two seconds.
        """

        def with_heartbeat() -> list[psutil.Process]:
            return [one for one in self.pool(name) if one.num_threads() > 1]

        wait_until(lambda: len(with_heartbeat()) == 1, f"one process of {name} is at work")
        return with_heartbeat()[0]

    def stop(self) -> None:
        """End every process at once, whatever state it is in."""
        for name, process in self.processes.items():
            if isinstance(process.running, forks.Fork):  # it shows the environment of what it was forked from
                self.signal(name, signal.SIGKILL, group=True)
        supervision.end_marked(str(self.directory), grace=0)
        for process in self.processes.values():
            process.running.wait()
        # SeaweedFS gives the clients that are still connected ten seconds before it stops
        self.backend.s3.close()
        self.ledger._redis.close()

    def logs(self) -> str:
        """What went wrong, in the words of the processes: their last warnings and errors."""
        lines = [f"logs and state: {self.directory}"]
        for path in sorted(self._log.glob("*.log")):
            text = path.read_text(errors="replace").splitlines()
            telling = [line for line in text if "warning" in line or "error" in line or "Traceback" in line]
            lines += [f"--- {path.name} ({len(text)} lines)", *telling[-15:]]
        return "\n".join(lines)

    # Analyses

    def push(
        self,
        uid: str,
        *,
        host: str | None = None,
        profile: str | None = None,
        timeout: int | None = None,
        content: str | None = None,
        reuse: int | None = None,
        owner: str | None = None,
    ) -> None:
        """Have a sample analysed as *uid*, on *host* or in a VM of *profile* if given.

        *content*: of the sample, if others are to have the same; *owner*: a persistent header.
        """
        sample = self.directory / f"{uid}.bat"
        sample.write_text(f"rem {content or uid}")
        task = submit.sample_task(sample, Wishes(timeout=timeout, reuse=reuse), name=f"{content or uid}.bat")
        task.payload["override_uid"] = uid
        if owner is not None:
            task.headers["owner"] = owner
            task._headers_persistent_keys.add("owner")
        if host is not None:
            task.payload["target_host"] = host
        if profile is not None:
            task.payload["vm_profile"] = profile
        assert self._producer.send_task(task)
        sample.unlink()

    def record(self, uid: str) -> Record | None:
        """What the ledger says about an analysis."""
        return self.ledger.get(uid)

    def wait_over(self, uids: Collection[str], *, timeout: float = 2 * PATIENCE) -> dict[str, Record]:
        """Respawn what ends until all of *uids* are over; their records."""
        records: dict[str, Record] = {}

        def left() -> list[str]:
            self.respawn()
            for uid in set(uids) - set(records):
                record = self.record(uid)
                if record is not None and record.state.is_over:
                    records[uid] = record
            return [_described(uid, self.record(uid)) for uid in sorted(set(uids) - set(records))]

        wait_until(lambda: not (rest := left()) or _Not(rest), "the analyses are over", timeout=timeout)
        return records

    def counted(self, metric: KartonMetrics) -> int:
        """What Karton's metrics say about the ingress' identity; a script counts with what it does."""
        return int(self.ledger._redis.hget(metric.value, self.ledger.identity) or 0)

    # Faults

    def plan(self, uid: str, point: str, action: str, *, always: bool = False) -> None:
        """Have *action* happen when the analysis *uid* comes to *point*; see :mod:`drakcelery.failpoints`."""
        (self._plan / uid).write_text(f"{point} {action} always" if always else f"{point} {action}")

    def hold(self, uid: str) -> None:
        """Let a guest of *uid* run on until :meth:`let_go`, and then for as long as it does elsewhere."""
        self.plan(uid, "run.running", "hold")
        self._held.add(uid)

    def let_go(self, *uids: str) -> None:
        """Undo :meth:`hold`; of all that is held where none is named."""
        for uid in uids or tuple(self._held):
            (self._plan / f"{uid}.go").touch()
            self._held.discard(uid)

    def times_fired(self, uid: str) -> int:
        """How often the fault of *uid* has happened that was planned to happen always."""
        try:
            return (self._plan / f"{uid}.done").stat().st_size
        except FileNotFoundError:
            return 0

    def fired(self, uid: str) -> float | None:
        """When the fault of *uid* happened (UNIX time), None if it has not."""
        try:
            return (self._plan / f"{uid}.done").stat().st_ctime  # of its renaming
        except FileNotFoundError:
            return None

    # What is left behind

    def state_dir(self, host: str) -> Path:
        """The state directory of a host."""
        return self.directory / host

    def slots(self) -> dict[str, list[Slot]]:
        """The slot table of every host."""
        after = self.settings.drakcelery.quarantine_after
        return {
            host: SlotTable(self.state_dir(host), quarantine_after=after).all() for host in self.options.hosts
        }

    def traces(self, uid: str) -> list[str]:
        """What an analysis has on the hosts now: slots, guests, workspaces."""
        found = [
            f"{host}: slot {slot.name} {slot.state.value}"
            for host, slots in self.slots().items()
            for slot in slots
            if slot.uid == uid
        ]
        for host in self.options.hosts:
            state_dir = self.state_dir(host)
            found += [
                f"{host}: guest {path.name}"
                for path in (state_dir / "engine").glob("*.guest")
                if _holder(path) == uid
            ]
            found += [f"{host}: workspace {name}" for _, name, _ in Workspace.all(state_dir) if name == uid]
        return found


class _Not(list[str]):
    """A list that counts as false, for a message of :func:`tests.waiting.wait_until`."""

    def __bool__(self) -> bool:
        return False


def _described(uid: str, record: Record | None) -> str:
    if record is None:
        return f"{uid}: not in the ledger"
    return f"{uid}: {record.state.value}, attempt {record.attempts}, on {record.host}, error {record.error}"


def _holder(guest: Path) -> str:
    try:
        return guest.read_text()
    except FileNotFoundError:  # destroyed just now
        return ""


def record_run(directory: Path) -> None:
    """Write what a run left behind, for the replay engine: a log of one line, and one dump."""
    (directory / "dumps").mkdir(parents=True)
    (directory / "drakmon.log").write_text(RECORDED_LOG)
    (directory / "dumps" / "400000_0123456789abcdef").write_bytes(b"MZ" * 100)
