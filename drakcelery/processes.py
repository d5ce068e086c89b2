"""drakcelery's processes. A Celery process is a plain ``celery`` command that anyone could type."""

from __future__ import annotations

import functools
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable

import structlog
from karton.system import SystemService

from drakcelery import chain, faults, logs
from drakcelery.celery import make_intake, make_ledger, make_storage, send, use
from drakcelery.errors import SettingsError
from drakcelery.ingress import Ingress
from drakcelery.monitoring import census, tracing
from drakcelery.notices import Notices
from drakcelery.notifications import ANSWER_SECONDS, CONNECT_SECONDS, Notifier, Webhook
from drakcelery.pipeline import karton_config
from drakcelery.settings import Settings, environment_for, fault_plan

log = structlog.get_logger(__name__)

IO_PROCESSES = 4
"""Collect and pack keep a core busy; upload and publish wait for S3 and Redis."""
CELERY_OPTIONS = (
    "--without-gossip",  # nobody listens to it, and it stumbles over a lost connection (Celery 5.7)
    "--heartbeat-interval=5",  # for Flower, which takes a worker for gone after two of them
)


def vm_command(settings: Settings) -> list[str]:
    """``celery worker`` for this host's slots: one pool process each, and one to spare."""
    host = settings.drakcelery.host
    return [
        "worker",
        f"--hostname=vm@{host}",
        f"--queues={chain.vm_queue(host)}",
        f"--concurrency={len(settings.slots) + 1}",
        *CELERY_OPTIONS,
    ]


def io_command(settings: Settings) -> list[str]:
    """``celery worker`` for the stages that need files only, and for reconcile."""
    host = settings.drakcelery.host
    return [
        "worker",
        f"--hostname=io@{host}",
        f"--queues={chain.io_queue(host)},{chain.RECONCILE_QUEUE}",
        f"--concurrency={IO_PROCESSES}",
        *CELERY_OPTIONS,
    ]


def beat_command(settings: Settings) -> list[str]:  # noqa: ARG001 all commands are made alike
    """``celery beat``."""
    return ["beat", "--pidfile="]


def flower_command(settings: Settings) -> list[str]:  # noqa: ARG001 all commands are made alike
    """``celery flower``, which reads ``[flower]`` itself (:mod:`drakcelery.monitoring.flower.command`)."""
    return ["flower"]


COMMANDS: dict[str, Callable[[Settings], list[str]]] = {
    "vm": vm_command,
    "io": io_command,
    "beat": beat_command,
    "flower": flower_command,
}


def become_celery(role: str, settings: Settings) -> None:
    """Replace this process by the ``celery`` command of *role*. Does not return.

    Raises:
        SettingsError: the state directory cannot be made.
    """
    state_dir = settings.drakcelery.state_dir
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"[drakcelery] state_dir = {state_dir}: cannot be made: {error.strerror}"
        ) from None
    command = [sys.executable, "-m", "celery", "--quiet", "-A", "drakcelery", *COMMANDS[role](settings)]
    os.execve(sys.executable, command, environment_for(settings.source))  # noqa: S606 no shell is wanted


def run_ingress(settings: Settings) -> None:
    """Take samples from Karton until SIGTERM or SIGINT."""
    _configure_logs(settings)
    use(settings)
    faults.arm(fault_plan())
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    census.serve(settings)
    tracing.start(settings)
    # Karton and its dashboard know who is online by the names of Redis connections
    ledger = make_ledger(settings, name=settings.drakrun.identity)
    notifier = _notifier(settings, Notices(ledger.redis), stop)
    Ingress(
        settings=settings,
        ledger=ledger,
        intake=make_intake(settings, ledger),
        storage=make_storage(settings),
        send=functools.partial(send, ledger),
    ).run(stop)
    tracing.stop()
    if notifier is not None:
        stop.set()
        notifier.join(timeout=CONNECT_SECONDS + ANSWER_SECONDS)
    log.info("ingress_stopped")


def _notifier(settings: Settings, notices: Notices, stop: threading.Event) -> Notifier | None:
    """The thread that sends notices, started; None where nobody is to be told."""
    ours = settings.notifications
    if ours.url is None:
        return None
    notifier = Notifier(notices, Webhook(ours), events=ours.events, stop=stop)
    notifier.start()
    return notifier


def run_system(settings: Settings) -> None:
    """karton-system on our settings, for a machine that has no Karton yet. Makes Karton's bucket."""
    if settings.drakmon.system_disable:
        raise SettingsError(
            "[drakmon] system_disable=1: a karton-system runs elsewhere, this one would be a second"
        )
    _configure_logs(settings)
    service = _System(karton_config(settings))
    service.ensure_bucket_exists(create=True)
    service.loop()


class _System(SystemService):  # type: ignore[misc] # karton.system ships no types
    """karton-system, with lines like everyone's; Karton's own log (``karton.log``) gets them as before."""

    def setup_logger(self, level: str | int | None = None) -> None:
        """Called by ``loop``: what Karton sends to standard error by a handler of its own goes our way."""
        super().setup_logger(level)
        self.log.handlers[:] = [self.log_handler] if self.log_handler in self.log.handlers else []
        self.log.setLevel(logging.NOTSET)  # [drakcelery] log_level counts
        self.log.propagate = True


def _configure_logs(settings: Settings) -> None:
    ours = settings.drakcelery
    logs.configure(level=ours.log_level, style=ours.log_format, host=ours.host)
    logs.report_crashes()
