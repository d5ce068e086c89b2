"""Actors that take one side effect a step: threads, of which one runs at a time, by strict hand-over.

An actor runs until its next *cut*, which stands before each side effect, and then waits to be stepped again.
So whoever steps decides the order of all side effects of all actors, and may end an actor between any two.
"""

from __future__ import annotations

import _thread
import contextvars
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

EPOCH = 4102444800.0
"""Virtual time begins in 2100: a time to live that is written for it never ends by the server's own clock."""


class Killed(BaseException):
    """Ends an actor's thread once the simulation is over. A killed actor is not unwound before that."""


@dataclass(eq=False)
class Process:
    """What dies together: a main process or one of its pool."""

    name: str
    host: str | None
    role: str
    """``vm``, ``io``, ``ingress``; ``child`` in a worker's pool."""
    parent: Process | None = None
    alive: bool = True
    frozen_until: float = 0.0
    children: list[Process] = field(default_factory=list)
    context: dict[str, object] = field(default_factory=dict)
    """What the model keeps for its actors: its site, its worker."""
    on_death: Callable[[], None] | None = None

    @property
    def root(self) -> Process:
        """The main process."""
        return self.parent.root if self.parent is not None else self

    def is_frozen(self, now: float) -> bool:
        """Whether it, or the whole of its tree, gets no processor time."""
        return self.frozen_until > now or (self.parent is not None and self.parent.is_frozen(now))


class _Here(threading.local):
    """What the thread that asks is; an identity is soon another thread's."""

    actor: Actor | None = None
    directs: bool = False


class Actor:
    """A thread of control of a process."""

    def __init__(self, theatre: Theatre, name: str, process: Process, body: Callable[[], None]) -> None:
        self.theatre = theatre
        self.name = name
        self.process = process
        self.label = "begin"
        self.wake_at = 0.0
        self.condition: Callable[[], bool] | None = None
        self.done = False
        self.lose_answer = False
        """Whether the answer to its next command is to get lost."""
        self.error: BaseException | None = None
        self.turn = _thread.allocate_lock()
        self.turn.acquire()
        self._body = body
        _thread.start_new_thread(self._run, ())  # below threading.Thread, which stands for actors

    def _run(self) -> None:
        self.theatre.here.actor = self
        self.turn.acquire()
        try:
            if not self.theatre.closing:
                contextvars.Context().run(self._body)
        except Killed:
            pass
        except BaseException as error:  # noqa: BLE001 the scheduler judges it
            self.error = error
        finally:
            self.done = True
            self.theatre.baton.release()

    def is_ready(self, now: float) -> bool:
        """Whether it could be stepped now."""
        if self.done or not self.process.alive:
            return False
        if now < self.wake_at and (self.condition is None or not self.condition()):
            return False
        return not self.process.is_frozen(now)


class Theatre:
    """All actors, and the virtual time."""

    def __init__(self) -> None:
        self.now = EPOCH
        self.here = _Here()
        self.here.directs = True
        self.offsets: dict[str | None, float] = {}
        """How far the clock of a host is wrong."""
        self.actors: list[Actor] = []
        self._dead: list[Actor] = []
        self.current: Actor | None = None
        self.closing = False
        self.baton = _thread.allocate_lock()
        self.baton.acquire()
        self.ended: Callable[[Actor], None] = lambda _: None

    def spawn(self, name: str, process: Process, body: Callable[[], None]) -> Actor:
        """A new actor, which waits for its first step."""
        actor = Actor(self, name, process, body)
        self.actors.append(actor)
        return actor

    @property
    def process(self) -> Process:
        """Whose code runs."""
        if self.current is None:
            raise RuntimeError("no actor is at work")
        return self.current.process

    def is_acting(self) -> bool:
        """Whether who asks is the actor whose step it is, and no thread that is there besides."""
        actor = self.current
        return actor is not None and self.here.actor is actor

    def is_ours(self) -> bool:
        """Whether who asks is an actor, or steps them."""
        return self.is_acting() or (self.current is None and self.here.directs)

    def wall_clock(self) -> float:
        """What the current actor's host takes for the time."""
        host = self.current.process.host if self.current is not None else None
        return self.now + self.offsets.get(host, 0.0)

    # Called by actors

    def cut(self, label: str) -> None:
        """The current actor is about to have a side effect."""
        self._pause(label, 0.0, None)

    def sleep(self, seconds: float) -> None:
        """The current actor does nothing for a while."""
        self._pause("sleep", self.now + max(seconds, 0.001), None)

    def wait(self, condition: Callable[[], bool], timeout: float | None) -> bool:
        """Until *condition* holds, or for *timeout* seconds; whether it holds."""
        if condition():
            return True
        self._pause("wait", float("inf") if timeout is None else self.now + max(timeout, 0.001), condition)
        return condition()

    def _pause(self, label: str, wake_at: float, condition: Callable[[], bool] | None) -> None:
        actor = self.current
        if self.closing:
            raise Killed
        if actor is None:
            return  # the simulation itself looks at something
        actor.label, actor.wake_at, actor.condition = label, wake_at, condition
        self.baton.release()
        actor.turn.acquire()
        if self.closing:
            raise Killed
        actor.condition = None

    # Called by the scheduler

    def ready(self) -> list[Actor]:
        """Those that can be stepped now."""
        now = self.now
        return [
            actor
            for actor in self.actors
            if (actor.wake_at <= now or actor.condition is not None)  # most sleep: no call for those
            and actor.is_ready(now)
        ]

    def step(self, actor: Actor) -> None:
        """Let *actor* have one side effect, and go on to the next."""
        self.current = actor
        actor.turn.release()
        self.baton.acquire()
        self.current = None
        if actor.done:
            if actor in self.actors:
                self.actors.remove(actor)
            self.ended(actor)

    def next_wake(self) -> float | None:
        """When the first of those that sleep wakes by itself."""
        times = [
            max(actor.wake_at, actor.process.frozen_until, actor.process.root.frozen_until)
            for actor in self.actors
            if actor.process.alive
        ]
        return min((at for at in times if at != float("inf")), default=None)

    def kill(self, process: Process) -> None:
        """kill -9: of the process, and of those of its pool. Nothing of it is unwound."""
        if not process.alive:
            return
        process.alive = False
        self._dead += [actor for actor in self.actors if actor.process is process]
        self.actors = [actor for actor in self.actors if actor.process is not process]
        for child in process.children:
            self.kill(child)
        if process.on_death is not None:
            process.on_death()

    def close(self) -> None:
        """End every thread. What they do on their way out no longer reaches anything."""
        self.closing = True
        for actor in (*self.actors, *self._dead):
            if not actor.done:
                self.current = actor
                actor.turn.release()
                self.baton.acquire()
        self.current = None
        self.actors.clear()
        self._dead.clear()
