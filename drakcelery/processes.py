"""drakcelery's processes. A Celery process is a plain ``celery`` command that anyone could type."""

from __future__ import annotations

import functools
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
from drakcelery.pipeline import karton_config
from drakcelery.settings import Settings, environment_for, fault_plan

log = structlog.get_logger(__name__)

IO_PROCESSES = 2


def vm_command(settings: Settings) -> list[str]:
    """``celery worker`` for this host's slots: one pool process each, and one to spare."""
    host = settings.drakcelery.host
    return [
        "worker",
        f"--hostname=vm@{host}",
        f"--queues={chain.vm_queue(host)}",
        f"--concurrency={len(settings.slots) + 1}",
        "--without-gossip",  # nobody listens to it, and it stumbles over a lost connection (Celery 5.7)
    ]


def io_command(settings: Settings) -> list[str]:
    """``celery worker`` for the stages that need files only, and for reconcile."""
    host = settings.drakcelery.host
    return [
        "worker",
        f"--hostname=io@{host}",
        f"--queues={chain.io_queue(host)},{chain.RECONCILE_QUEUE}",
        f"--concurrency={IO_PROCESSES}",
        "--without-gossip",
    ]


def beat_command(settings: Settings) -> list[str]:  # noqa: ARG001 all commands are made alike
    """``celery beat``."""
    return ["beat", "--pidfile="]


def flower_command(settings: Settings) -> list[str]:
    """``celery flower``, where ``[flower]`` says."""
    return ["flower", f"--address={settings.flower.address}", f"--port={settings.flower.port}"]


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
    # Karton and its dashboard know who is online by the names of Redis connections
    ledger = make_ledger(settings, name=settings.drakrun.identity)
    Ingress(
        settings=settings,
        ledger=ledger,
        intake=make_intake(settings, ledger),
        storage=make_storage(settings),
        send=functools.partial(send, ledger),
    ).run(stop)
    log.info("ingress_stopped")


def run_system(settings: Settings) -> None:
    """karton-system on our settings, for a machine that has no Karton yet. Makes Karton's bucket."""
    if settings.drakmon.system_disable:
        raise SettingsError(
            "[drakmon] system_disable=1: a karton-system runs elsewhere, this one would be a second"
        )
    service = SystemService(karton_config(settings))
    service.ensure_bucket_exists(create=True)
    service.loop()


def _configure_logs(settings: Settings) -> None:
    logs.configure(level=settings.drakcelery.log_level, style=settings.drakcelery.log_format)
