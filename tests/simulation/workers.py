"""A model of Celery's workers: what they take, acknowledge and give back. Gate and stages are real."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from kombu.exceptions import OperationalError

from drakcelery.broker import routing
from drakcelery.broker.listening import Listening
from drakcelery.errors import Superseded
from drakcelery.model.analysis import STAGES, Stage, Step
from drakcelery.stages.context import HostContext
from drakcelery.stages.perform import perform
from drakcelery.worker import admission, bootstrap, gate
from tests.simulation.broker import Letter
from tests.simulation.deliveries import Job, Message, NoChannels, Timer
from tests.simulation.theatre import Process

if TYPE_CHECKING:
    from tests.simulation.fleet import Fleet

TASKS = {routing.task_name(stage): stage for stage in Stage}


class Wakeup:
    """Signalled when a slot comes free, by the worker's main process or one of its pool."""

    def __init__(self) -> None:
        self.is_signalled = False

    def signal(self) -> None:
        """A slot came free."""
        self.is_signalled = True

    def clear(self) -> bool:
        """Whether it was signalled; the simulated broker shows nobody what waits, so that nothing follows."""
        was, self.is_signalled = self.is_signalled, False
        return was


class Worker:
    """The main process of a vm or io worker, and its pool."""

    def __init__(self, world: Fleet, process: Process, host: str, *, role: str, concurrency: int) -> None:
        self.world = world
        self.process = process
        self.host = host
        self.called = world.hosts[host].called
        self.hostname = f"{role}@{self.called}"
        self.role = role
        self.concurrency = concurrency
        self.queues: list[str] = []
        self.timers: list[list[Any]] = []
        self.jobs: list[Job] = []
        self.ended: deque[Job] = deque()
        self.wire = world.wire(host, "broker")
        self.wakeup = Wakeup()
        self._listening = Listening()
        # What the gate takes for Celery's consumer
        self.timer = Timer(self)
        self.task_consumer = self
        self.channel = object()
        self.connection = NoChannels()
        self.drak_gate: Any = None
        self.app = SimpleNamespace(runtime=world.runtime(self))

    # What the gate asks of a consumer

    def consuming_from(self, queue: str) -> bool:
        """Whether it takes messages from *queue*."""
        return queue in self.queues

    def add_task_queue(self, queue: str) -> None:
        """Take messages from it."""
        self.queues.append(queue)

    def cancel_task_queue(self, queue: str) -> None:
        """Take no more messages from it."""
        self.queues.remove(queue)

    def reaches_broker(self, label: str) -> bool:
        """Whether a command just got through to the broker; it is a step."""
        self.world.theatre.cut(label)
        return not self.wire.is_cut()

    # Its life

    def main(self) -> None:
        """Until it is killed, or its start fails."""
        bootstrap.Bootstrap(self)
        if self.role == "vm":
            bootstrap.HostThreads(self).start(self)
        self.drak_gate = gate.Gate(self)
        strategies = {
            name: admission.strategy(SimpleNamespace(name=name), None, self)  # type: ignore[arg-type] # of its task only the name counts
            for name in TASKS
        }
        while True:
            self.world.theatre.wait(lambda: not self.wire.is_cut(), None)
            self._connect()
            while self._round(strategies):
                pass
            self._lose_connection()

    def _connect(self) -> None:
        always = routing.vm_queue if self.role == "vm" else routing.io_queue
        self.queues = [always(self.called)]
        renew = self.world.times.renew
        self.timer.call_repeatedly(renew, self._renew)
        if self.drak_gate.enabled:
            self.drak_gate.start(self)

    def _lose_connection(self) -> None:
        if self.drak_gate.enabled:
            self.drak_gate.stop(self)
        self.timers.clear()
        for job in [job for job in self.jobs if job.process is None]:
            self.jobs.remove(job)  # Celery drops what no pool process has begun with
            self._disown(job)

    def _disown(self, job: Job) -> None:
        held = self.world.broker.held.get(job.message.tag)
        if held is not None:
            held.owner = None

    def _round(self, strategies: dict[str, Callable[..., Any]]) -> bool:
        """One round of the event loop; False if the connection is lost."""
        world = self.world
        first = min((entry[0] for entry in self.timers), default=None)
        world.theatre.wait(self._has_news, None if first is None else first - world.theatre.now)
        if self.wire.is_cut():
            return False
        try:
            if self.ended:
                self._settle(self.ended.popleft())
            elif self.wakeup.is_signalled and self.drak_gate.enabled:
                self.drak_gate.fill_slots()
            elif any(entry[0] <= world.theatre.now for entry in self.timers):
                self._run_timers()
            elif self._may_take():
                self._take(strategies)
        except OperationalError:
            return False
        return True

    def _has_news(self) -> bool:
        now = self.world.theatre.now
        return bool(
            self.ended
            or self.wakeup.is_signalled
            or self.wire.is_cut()
            or any(entry[0] <= now for entry in self.timers)
            or self._may_take()
        )

    def _may_take(self) -> bool:
        return len(self.jobs) < self.concurrency and self.world.broker.has(self.queues)

    def _run_timers(self) -> None:
        now = self.world.theatre.now
        for entry in [entry for entry in self.timers if entry[0] <= now]:
            if entry[1] is None:
                self.timers.remove(entry)
            else:
                entry[0] = now + entry[1]
            entry[2]()

    def _renew(self) -> None:
        if not self.reaches_broker("broker.renew"):
            return
        patience = self.world.times.visibility
        self.world.broker.renew(self, patience)
        heard = self._listening.note(self.world.broker, told=self.world.theatre.now, pause=patience / 3)
        if heard < patience:
            return  # as drakcelery.broker.redis_transport.QoS
        for tag in self.world.broker.overdue():
            if self.reaches_broker("broker.restore"):
                self.world.broker.give_back(tag)

    def _take(self, strategies: dict[str, Callable[..., Any]]) -> None:
        if not self.reaches_broker("broker.take"):
            return
        held = self.world.broker.take(self.queues, self, self.world.times.visibility)
        if held is None:
            return
        message = Message(self, held)
        strategies[held.letter.name](message, None, message.ack, message.reject, ())

    def handle(
        self,
        message: Message,
        _body: object,
        acknowledged: Callable[..., object],
        rejected: Callable[..., object],
        _callbacks: object,
        **_: object,
    ) -> None:
        """What Celery's own strategy does: the pool is given the task, now or when a process is free."""
        self.jobs.append(Job(message=message, acknowledged=acknowledged, rejected=rejected))
        self._fill_pool()

    def _fill_pool(self) -> None:
        for job in self.jobs:
            if job.process is None and sum(one.process is not None for one in self.jobs) < self.concurrency:
                self._begin(job)

    def _begin(self, job: Job) -> None:
        name = f"{self.process.name}/{job.id}"
        child = Process(name=name, host=self.host, role="child", parent=self.process)
        child.context = {
            **self.process.context,
            "host_context": self.world.context(self.host, patient=True, worker=self),
        }
        child.on_death = lambda: self.ended.append(job)
        self.process.children.append(child)
        job.process = child
        self.world.theatre.spawn(name, child, functools.partial(self._work, job, child))

    def _work(self, job: Job, child: Process) -> None:
        """In a process of the pool."""
        letter = job.message.letter
        context = child.context["host_context"]
        assert isinstance(context, HostContext)
        self._perform(context, TASKS[letter.name], job.message)
        job.is_done = True
        child.on_death = None
        self.world.theatre.kill(child)  # with its other threads, of which nobody is to be asked any more
        self.ended.append(job)

    def _perform(self, context: HostContext, stage: Stage, message: Message) -> None:
        step = Step.parse(message.letter.step or {})
        if stage is Stage.PREPARE:
            step = step.model_copy(update={"slot": message.headers.get(admission.SLOT_HEADER)})
        try:
            following = perform(context, stage, step)
        except Superseded:
            return
        except Exception:  # noqa: BLE001 as in Celery, the chain ends here
            return
        if stage is not Stage.PUBLISH:
            after = STAGES[STAGES.index(stage) + 1]
            try:
                self.world.send_step(after, following)
            except OperationalError:
                return

    def _settle(self, job: Job) -> None:
        if job not in self.jobs:
            return
        self.jobs.remove(job)
        if job.is_done:
            job.acknowledged()
        else:
            job.rejected(None, (), requeue=True)
        self._fill_pool()


def letter_for(stage: Stage, step: Step) -> tuple[str, Letter]:
    """(queue, message) of a stage."""
    made = Letter(
        id=routing.task_id(step.uid, step.attempt, stage), name=routing.task_name(stage), step=step.message()
    )
    return routing.queue_of(stage, step), made
