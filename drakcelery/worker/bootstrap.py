"""What a worker stands on: before its pool starts, the host is its own, and what was left undone is done."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from typing import Any, Literal

import structlog
from celery import bootsteps
from redis.exceptions import RedisError, ResponseError

from drakcelery.embedded.layout import home
from drakcelery.errors import DrakceleryError
from drakcelery.host.lock import sole_worker
from drakcelery.host.presence import Presence
from drakcelery.host.workspace import Ahead
from drakcelery.ledger.away import trouble
from drakcelery.ledger.keytypes import explained
from drakcelery.model.records import Record
from drakcelery.recovery.duty import Duty
from drakcelery.recovery.reconcile import AskBroker
from drakcelery.recovery.takeover import io_worker_begins, vm_worker_begins
from drakcelery.stages.context import Site
from drakcelery.telemetry import exposition, tracing
from drakcelery.worker.canary import SAMPLE, CanaryRunner
from drakcelery.worker.janitor import Janitor, clear_host
from drakcelery.worker.wakeup import Bell

log = structlog.get_logger(__name__)


def is_vm_worker(hostname: str) -> bool:
    """Whether a Celery node name, ``vm@host``, is a vm worker's."""
    return hostname.startswith("vm@")


def is_io_worker(hostname: str) -> bool:
    """Whether a Celery node name, ``io@host``, is an io worker's."""
    return hostname.startswith("io@")


def _shut_down() -> None:
    """End this worker as an operator would: what it has in hand may finish."""
    os.kill(os.getpid(), signal.SIGTERM)


class Ground(bootsteps.Step):
    """Before the pool starts: the host's lock, its slot table, and what an earlier worker left undone."""

    site: Callable[[], Site]
    send: Callable[[Record], None]
    """Send the current attempt of a record on its way."""
    bell: Bell | None = None
    """Rung when a slot comes free. Made before the pool's processes are, which ring it."""

    presence: Presence | None = None
    """Tells of this worker, and looks for the other one of its host."""

    @classmethod
    def slot_freed(cls) -> None:
        """For the slot table of this process, or of one that it forked."""
        if cls.bell is not None:
            cls.bell.ring()

    def __init__(self, parent: Any, **_: Any) -> None:
        """*parent* is the worker."""
        super().__init__(parent)
        self.enabled = is_vm_worker(parent.hostname) or is_io_worker(parent.hostname)
        if not self.enabled:
            return
        self._lock = contextlib.ExitStack()
        try:
            self._begin(parent.hostname)
        except DrakceleryError as error:
            raise SystemExit(f"drakcelery: {error}") from None
        except RedisError as error:
            redis = type(self).site().ledger.redis
            told = explained(redis, error) if isinstance(error, ResponseError) else error
            raise SystemExit(f"drakcelery: {trouble(told)}") from None
        except OSError as error:
            state_dir = type(self).site().settings.drakcelery.state_dir
            raise SystemExit(f"drakcelery: [drakcelery] state_dir = {state_dir}: {error}") from None

    def _begin(self, hostname: str) -> None:
        site = type(self).site()
        role: Literal["vm", "io"] = "vm" if is_vm_worker(hostname) else "io"
        self._lock.enter_context(sole_worker(site.settings.drakcelery.state_dir, site.host, role=role))
        presence = Ground.presence = Presence(
            site.settings, site.readiness, role, machine=site.machine, give_up=_shut_down
        )
        presence.arrive()
        presence.start()  # what follows may take longer than the name lasts
        exposition.serve_worker(site.settings, role)
        tracing.start(site.settings)
        if role == "io":
            io_worker_begins(site, type(self).send)
            return
        Ground.bell = Bell()
        Ahead.of(site.settings.drakcelery.state_dir).clear()
        held = clear_host(site.slots, site.engine, dict(site.settings.slots))
        vm_worker_begins(site, type(self).send, held)
        for notice in site.settings.notices():
            log.warning("setting_without_effect", notice=notice)
        for lack in site.engine.lacks():
            log.warning("engine_lacks", lack=lack)
        log.info("vm_worker_ready", engine=site.engine.version(), slots=dict(site.settings.slots))
        for closure in site.slots.closed():
            log.warning("still_closed", slot=closure.slot, closed=closure.kind.value, by=closure.by)


class Household(bootsteps.StartStopStep):
    """The threads of a vm worker that live as long as it does, whatever becomes of its broker.

    A host whose broker is away still runs its guests and finishes their files: it says so all the time, or
    others would take its work for lost.
    """

    requires = ("celery.worker.components:Pool",)  # its processes are forked before there are threads
    ask_broker: AskBroker
    _janitor: Janitor | None = None
    _duty: Duty | None = None

    def __init__(self, parent: Any, **_: Any) -> None:
        """*parent* is the worker."""
        super().__init__(parent)
        self.enabled = is_vm_worker(parent.hostname)

    @classmethod
    def wake(cls) -> None:
        """An operator has changed something: report it now."""
        if cls._janitor is not None:
            cls._janitor.wake()

    def start(self, parent: Any) -> None:  # noqa: ARG002 Celery's signature
        """Called once, before the worker asks its broker for the first time."""
        site = Ground.site()
        canaries = CanaryRunner(site, home() / "samples" / SAMPLE)
        Household._janitor = Janitor(site, Ground.send, canaries=canaries)
        Household._janitor.start()
        Household._duty = Duty(site.ledger, site.settings, send=Ground.send, ask_broker=type(self).ask_broker)
        Household._duty.start()
        site.engine.attend()

    def stop(self, parent: Any) -> None:  # noqa: ARG002 Celery's signature
        """Called when the worker ends: its guests may finish, but nobody is to count on its slots."""
        if self._duty is not None:
            self._duty.stop()
            Household._duty = None
        if self._janitor is not None:
            self._janitor.stop()
            Household._janitor = None

    terminate = stop
