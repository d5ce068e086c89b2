"""The seams: what the product takes from the outside is taken from the simulation while one runs."""

from __future__ import annotations

import contextlib
import os
import random
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, MutableMapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import structlog
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from drakcelery import failpoints, ingress
from drakcelery.artifacts import deflate
from drakcelery.artifacts import log as split_log
from drakcelery.broker import routing
from drakcelery.engines import evidence
from drakcelery.host import alone, identity, presence
from drakcelery.ingress import triage
from drakcelery.storage import sending
from drakcelery.telemetry import logs
from drakcelery.worker import admission, bootstrap, gate, janitor
from tests.simulation.threads import FileLocks, Inline, Threading, Threads

if TYPE_CHECKING:
    from tests.simulation.world import World

UNEXPECTED = frozenset(
    {"reconcile_failed", "janitor_failed", "heartbeat_failed", "stage_crashed", "not_sent", "thread_crashed"}
)
"""What the product says about errors that it knows nothing of. Where it is no absence, something is wrong."""
POLL = 2.0
"""Seconds between two looks of whoever looks all the time: each is a step."""
PART_SIZE = 64
"""Bytes: most of what is uploaded is large, and goes in parts."""


def _product_modules() -> list[Any]:
    return [
        module
        for name, module in sorted(sys.modules.items())
        if name == "drakcelery" or name.startswith("drakcelery.")
    ]


def _log_to(world: World, stack: contextlib.ExitStack) -> None:
    """Lines go to the workspaces, as in production, and otherwise to the trace."""

    def last(_logger: Any, method: str, given: MutableMapping[str, Any]) -> Any:
        if not world.theatre.is_ours():
            raise structlog.DropEvent
        event = dict(logs._to_analysis_log(_logger, method, given))
        action, error = event.pop("action"), sys.exc_info()[1]
        if world.trace is not None:
            world.note(f"    log: {action} {dict(sorted(event.items()))} {error or ''}")
        if action in UNEXPECTED and not isinstance(error, RedisError | OperationalError):
            world.broken.append(f"{action}: {error!r}")
        raise structlog.DropEvent

    stack.callback(structlog.configure, **structlog.get_config())
    structlog.reset_defaults()  # whoever used this process before may have left another level
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.EventRenamer("action"),
            last,
        ]
    )


def _where(
    is_so: Callable[[], bool], ours: Callable[..., Any], theirs: Callable[..., Any]
) -> Callable[..., Any]:
    """*ours* for those of whom *is_so* holds, and *theirs* for whoever else lives in this process.

    Other threads are left to the real time and the real chance: they would change the schedule.
    """

    def call(*args: Any, **more: Any) -> Any:
        return (ours if is_so() else theirs)(*args, **more)

    return call


class _Chance(random.Random):
    """Stands for the module ``random`` in modules of the product: the schedule's own, from its seed."""

    Random = random.Random


class _State:
    """``celery.worker.state`` of the worker whose code runs."""

    def __init__(self, world: World) -> None:
        self._world = world

    @property
    def active_requests(self) -> list[Any]:
        """What its pool is at work on."""
        worker = self._world.theatre.process.context["worker"]
        return [job for job in worker.jobs if job.process is not None and job.process.alive]  # type: ignore[attr-defined]


def _nothing(*_: object, **__: object) -> None:
    """Does nothing."""


@contextlib.contextmanager
def _nobody_else(*_: object, **__: object) -> Iterator[None]:
    """The model starts one worker of a kind on a machine."""
    yield


@contextlib.contextmanager
def installed(world: World) -> Iterator[None]:
    """As long as the block lasts the product lives in *world*."""
    theatre, ids = world.theatre, random.Random(world.schedule.seed)  # noqa: S311 it guards nothing
    with contextlib.ExitStack() as stack:

        def put(owner: Any, name: str, value: Any) -> None:
            before = owner.__dict__[name] if isinstance(owner, type) else getattr(owner, name)
            stack.callback(setattr, owner, name, before)
            setattr(owner, name, value)

        _log_to(world, stack)

        def put_ours(owner: Any, name: str, value: Any, by: Callable[[], bool] = theatre.is_ours) -> None:
            put(owner, name, _where(by, value, getattr(owner, name)))

        put_ours(time, "time", theatre.wall_clock)
        put_ours(time, "monotonic", lambda: theatre.now)
        put_ours(time, "sleep", theatre.sleep, by=theatre.is_acting)
        put_ours(uuid, "uuid4", lambda: uuid.UUID(int=ids.getrandbits(128), version=4))
        put_ours(os, "fsync", world.disk.fsync)
        threads, chance = Threads(theatre), _Chance(world.schedule.seed)
        for name in ("start", "join", "is_alive"):
            put_ours(threading.Thread, name, getattr(threads, name), by=theatre.is_acting)
        for module in _product_modules():
            if getattr(module, "threading", None) is threading:
                put(module, "threading", Threading(theatre))
            if getattr(module, "random", None) is random:
                put(module, "random", chance)
            if getattr(module, "reach", None) is failpoints.reach and module is not failpoints:
                put(module, "reach", world.reach)
        for module in (sending, split_log, deflate, sys.modules["drakcelery.artifacts"]):
            put(module, "ThreadPoolExecutor", Inline)
        put(sending, "PART_SIZE", PART_SIZE)
        put(alone, "_locked", FileLocks(theatre).held)
        for module in (evidence, identity):
            put(module, "boot_id", world.boot_id)
        put(bootstrap, "_shut_down", world.end_here)
        put(admission, "default", lambda _task, _app, consumer, **_: consumer.handle)
        put(admission, "state", _State(world))
        put(bootstrap, "sole_worker", _nobody_else)
        put(bootstrap, "exposition", SimpleNamespace(serve_worker=_nothing))
        put(presence, "connect", world.connect)
        put(routing, "send", world.send_chain)
        put(triage, "describe", lambda head: "PE32 executable" if head.startswith(b"MZ") else "data")
        put(ingress, "POLL_SECONDS", POLL)
        put(ingress, "EAGER_SECONDS", POLL / 2)
        put(janitor, "SYNC_SECONDS", POLL)
        put(gate, "SYNC_SECONDS", POLL)
        yield
