"""What a worker has in hand: deliveries, the jobs that they become, and its timer."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from kombu.exceptions import OperationalError

from tests.simulation.broker import Held
from tests.simulation.theatre import Process

if TYPE_CHECKING:
    from tests.simulation.workers import Worker


class Message:
    """A delivery, as far as the product's strategy looks at it."""

    def __init__(self, worker: Worker, held: Held) -> None:
        self._worker = worker
        self.tag = held.tag
        self.letter = held.letter
        self.headers = {**held.letter.headers, "id": held.letter.id}
        self.payload: list[Any] = [[held.letter.step], {}, {}]

    def ack(self, *_: object, **__: object) -> None:
        """It is done with."""
        if self._worker.reaches_broker("broker.ack"):
            self._worker.world.broker.acknowledge(self.tag)

    def requeue(self) -> None:
        """Somebody else should have it."""
        if self._worker.reaches_broker("broker.requeue"):
            self._worker.world.broker.give_back(self.tag)

    def reject(self, _log: object = None, _errors: object = None, requeue: bool = False) -> None:
        """It failed."""
        if requeue:
            self.requeue()
        else:
            self.ack()


@dataclass(eq=False)
class Job:
    """A task that was received."""

    message: Message
    acknowledged: Callable[[], object]
    rejected: Callable[..., object]
    process: Process | None = None
    is_done: bool = False

    @property
    def id(self) -> str:
        """Celery's task id."""
        return self.message.letter.id


class NoChannels:
    """A connection on which nobody can look at queues of earlier versions."""

    connection_errors = (OperationalError,)
    channel_errors = ()

    def channel(self) -> Any:
        """There is none."""
        raise OperationalError("the model has none")


class Timer:
    """Celery's timer, as far as it is used."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def call_repeatedly(self, seconds: float, call: Callable[..., Any], args: tuple[Any, ...] = ()) -> Any:
        """As the original's."""
        entry = [self._worker.world.theatre.now + seconds, seconds, functools.partial(call, *args)]
        self._worker.timers.append(entry)

        def cancel() -> None:
            if entry in self._worker.timers:
                self._worker.timers.remove(entry)

        return SimpleNamespace(cancel=cancel)

    def call_after(self, seconds: float, call: Callable[..., Any], args: tuple[Any, ...] = ()) -> None:
        """As the original's."""
        entry = [self._worker.world.theatre.now + seconds, None, functools.partial(call, *args)]
        self._worker.timers.append(entry)
