"""Real Celery workers in this process: a host's own app, its steps and threads, and a pool without processes.

One at a time: they would share kombu's event loop.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import redis
from celery import Task
from celery.contrib.testing.worker import start_worker
from celery.signals import setup_logging
from kombu.asynchronous import set_event_loop

from drakcelery.broker import routing
from drakcelery.broker.hello import Hello
from drakcelery.broker.lease import Lease
from drakcelery.errors import DrakceleryError, Superseded
from drakcelery.host.readiness import Readiness
from drakcelery.model.analysis import Stage, State, Step
from drakcelery.model.records import Record
from drakcelery.settings import Settings
from drakcelery.stages.perform import perform
from drakcelery.wiring import AMQP, celery_configuration
from drakcelery.worker import admission, bootstrap
from drakcelery.worker import remote_control as _commands  # noqa: F401 registers them with Celery
from drakcelery.worker.gate import Gate
from drakcelery.worker.runtime import App
from tests.bench import HOST, Bench
from tests.waiting import wait_until


@dataclass(frozen=True, kw_only=True)
class Rack:
    """A host of which workers may run here."""

    bench: Bench
    app: App
    broker: redis.Redis

    def send(self, uid: str = "a-1") -> None:
        """Send the current attempt of an analysis on its way."""
        self.app.runtime.send(self.bench.record(uid))

    def wait_over(self, uid: str = "a-1", state: State = State.PUBLISHED) -> Record:
        """Wait until an analysis is over."""
        wait_until(lambda: self.bench.record(uid).state.is_over, f"{uid} is over")
        record = self.bench.record(uid)
        assert record.state is state, record
        return record

    def ask(self, command: str, *, role: str = "vm", **arguments: Any) -> Any:
        """What a worker replies to a remote-control command."""
        replies = self._replies(command, role=role, arguments=arguments)
        assert replies, f"{role}@{HOST} does not answer {command}"
        return replies[0][f"{role}@{HOST}"]

    def _replies(self, command: str, *, role: str = "vm", timeout: float = 30, **options: Any) -> Any:
        return self.app.control.broadcast(
            command, destination=[f"{role}@{HOST}"], reply=True, timeout=timeout, limit=1, **options
        )

    @property
    def readiness(self) -> Readiness:
        """Whether the host takes samples."""
        return self.app.runtime.context.readiness

    @contextlib.contextmanager
    def vm_worker(self) -> Iterator[Any]:
        """Its vm worker, which takes samples once the block begins; its io worker shows life all the time."""
        self.bench.ledger.fleet.show_io(HOST, lasts=600)
        with worker(self.app, "vm", routing.vm_queue(HOST)) as ours:
            wait_until(lambda: self.readiness.halted() is None, "the host takes samples")
            wait_until(lambda: self._replies("ping", timeout=1), "it hears what it is asked")
            yield ours

    @contextlib.contextmanager
    def io_worker(self) -> Iterator[Any]:
        """Its io worker."""
        with worker(self.app, "io", routing.io_queue(HOST)) as ours:
            yield ours


@contextlib.contextmanager
def worker(app: App, role: str, queue: str) -> Iterator[Any]:
    """A worker of *app*."""
    receivers, setup_logging.receivers = setup_logging.receivers, []
    setup_logging.connect(_as_it_is)
    try:
        with start_worker(
            app,
            pool="solo",
            concurrency=1,
            hostname=f"{role}@{HOST}",
            queues=[queue],
            perform_ping_check=False,
            shutdown_timeout=60,
        ) as ours:
            yield ours
    finally:
        setup_logging.receivers = receivers
        set_event_loop(None)
        presence = app.runtime.presence
        if presence is not None:
            presence.leave()
            presence.join()


def _as_it_is(**_: object) -> None:
    """Keep Celery, and drakcelery.celery, from setting up logging: that is pytest's here."""


def app_of(settings: Settings) -> App:
    """As drakcelery.celery makes it, of *settings*."""
    app = App("drakcelery", amqp=AMQP, control="drakcelery.worker.mailbox:Control", set_as_current=False)
    app.settings = settings
    app.add_defaults(lambda: celery_configuration(settings))
    app.steps["worker"].update((bootstrap.Bootstrap, bootstrap.HostThreads))
    app.steps["consumer"].update((Gate, Hello, Lease))
    app.finalize()  # and with it the tasks of drakcelery.celery, which belong to its own app
    for stage in Stage:
        _add_task(app, stage)
    return app


def _add_task(app: App, stage: Stage) -> None:
    def work(self: Task[Any, Any], message: dict[str, Any]) -> dict[str, Any] | None:
        step = Step.parse(message)
        if stage is Stage.PREPARE:
            step = step.model_copy(update={"slot": self.request.get(admission.SLOT_HEADER)})
        try:
            return perform(app.runtime.context, stage, step).message()
        except Superseded:
            self.request.chain = None
            return None

    name = routing.task_name(stage)
    app.tasks.pop(name, None)
    app.task(
        bind=True,
        name=name,
        shared=False,
        throws=(DrakceleryError,),
        Strategy="drakcelery.worker.admission:strategy",
        Request="drakcelery.worker.admission:Request",
    )(work)


@contextlib.contextmanager
def rack(bench: Bench, *, slots: int = 1, **sections: Any) -> Iterator[Rack]:
    """The bench's host, with so many slots, other *sections* of its settings, and a broker of its own."""
    ours = bench.context.settings.drakcelery.model_copy(update={"min_free_space": 0, "lease_seconds": 5})
    names = {f"vm-{number}": "win10" for number in range(1, slots + 1)}
    changes = {"drakcelery": ours, "slots": names, **sections}
    settings = bench.context.settings.model_copy(update=changes)
    app = app_of(settings)
    with redis.Redis.from_url(settings.broker_url, decode_responses=True) as broker:
        broker.flushdb()
        context = app.runtime.context
        yield Rack(bench=dataclasses.replace(bench, context=context), app=app, broker=broker)
        app.close()
        broker.flushdb()
