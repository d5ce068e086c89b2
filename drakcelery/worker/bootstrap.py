"""Bootstrap of a worker: before its pool starts, it owns its host and has resumed what was left undone."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import Any, Literal

import structlog
from celery import bootsteps
from redis.exceptions import RedisError, ResponseError

from drakcelery.embedded.layout import home
from drakcelery.errors import DrakceleryError
from drakcelery.host.lock import sole_worker
from drakcelery.host.presence import Presence
from drakcelery.host.workspace import Prefetched
from drakcelery.ledger.away import trouble
from drakcelery.recovery.duty import Duty
from drakcelery.recovery.takeover import io_worker_begins, vm_worker_begins
from drakcelery.telemetry import exposition, tracing
from drakcelery.worker.canary import SAMPLE, CanaryRunner
from drakcelery.worker.janitor import Janitor, clear_host
from drakcelery.worker.runtime import Runtime

log = structlog.get_logger(__name__)


def is_vm_worker(hostname: str) -> bool:
    """Whether a Celery node name, ``vm@host``, is a vm worker's."""
    return hostname.startswith("vm@")


def is_io_worker(hostname: str) -> bool:
    """Whether a Celery node name, ``io@host``, is an io worker's."""
    return hostname.startswith("io@")


def is_ours(hostname: str) -> bool:
    """Whether a Celery node name is a vm or an io worker's."""
    return is_vm_worker(hostname) or is_io_worker(hostname)


def _shut_down() -> None:
    """End this worker as an operator would: what it has in hand may finish."""
    os.kill(os.getpid(), signal.SIGTERM)


class Bootstrap(bootsteps.Step):
    """Before the pool starts: the host's lock, its slot table, and what an earlier worker left undone."""

    def __init__(self, parent: Any, **_: Any) -> None:
        """*parent* is the worker."""
        super().__init__(parent)
        self.enabled = is_ours(parent.hostname)
        if not self.enabled:
            return
        self._lock = contextlib.ExitStack()
        try:
            runtime: Runtime = parent.app.runtime
        except DrakceleryError as error:
            raise SystemExit(f"drakcelery: {error}") from None
        try:
            self._begin(runtime, parent.hostname)
        except DrakceleryError as error:
            raise SystemExit(f"drakcelery: {error}") from None
        except RedisError as error:
            told = runtime.context.ledger.explained(error) if isinstance(error, ResponseError) else error
            raise SystemExit(f"drakcelery: {trouble(told)}") from None
        except OSError as error:
            state_dir = runtime.context.settings.drakcelery.state_dir
            raise SystemExit(f"drakcelery: [drakcelery] state_dir = {state_dir}: {error}") from None

    def _begin(self, runtime: Runtime, hostname: str) -> None:
        context = runtime.context
        role: Literal["vm", "io"] = "vm" if is_vm_worker(hostname) else "io"
        self._lock.enter_context(sole_worker(context.settings.drakcelery.state_dir, context.host, role=role))
        presence = runtime.presence = Presence(
            context.settings, context.readiness, role, machine=context.machine, give_up=_shut_down
        )
        presence.arrive()
        presence.start()  # what follows may take longer than the name lasts
        exposition.serve_worker(context.settings, role)
        tracing.start(context.settings)
        if role == "io":
            io_worker_begins(context, runtime.send)
            return
        Prefetched.of(context.settings.drakcelery.state_dir).clear()
        held = clear_host(context.slots, context.engine, dict(context.settings.slots))
        vm_worker_begins(context, runtime.send, held)
        for notice in context.settings.without_effect():
            log.warning("setting_without_effect", notice=notice)
        for lack in context.engine.lacks():
            log.warning("engine_lacks", lack=lack)
        log.info("vm_worker_ready", engine=context.engine.version(), slots=dict(context.settings.slots))
        for drain in context.slots.closed():
            log.warning("still_closed", slot=drain.slot, closed=drain.kind.value, by=drain.by)


class HostThreads(bootsteps.StartStopStep):
    """The threads of a vm worker that live as long as it does, whatever becomes of its broker.

    A host whose broker is away still runs its guests and finishes their files. It must keep reporting that,
    or others would take its work for lost.
    """

    requires = ("celery.worker.components:Pool",)  # its processes are forked before there are threads
    _duty: Duty | None = None

    def __init__(self, parent: Any, **_: Any) -> None:
        """*parent* is the worker."""
        super().__init__(parent)
        self.enabled = is_vm_worker(parent.hostname)

    def start(self, parent: Any) -> None:
        """Called once, before the worker asks its broker for the first time."""
        runtime: Runtime = parent.app.runtime
        context = runtime.context
        canaries = CanaryRunner(context, home() / "samples" / SAMPLE)
        runtime.janitor = Janitor(context, runtime.send, canaries=canaries)
        runtime.janitor.start()
        self._duty = Duty(context.ledger, context.settings, send=runtime.send, ask_broker=runtime.ask_broker)
        self._duty.start()
        context.engine.attend()

    def stop(self, parent: Any) -> None:
        """Called when the worker ends: its guests may finish, but nobody may count on its slots any more."""
        if self._duty is not None:
            self._duty.stop()
            self._duty = None
            runtime: Runtime = parent.app.runtime
            if runtime.janitor is not None:
                runtime.janitor.stop()
                runtime.janitor = None

    terminate = stop
