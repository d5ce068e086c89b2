"""The command lines of Celery's processes; each could be typed by anyone as well.

Little is imported here, since the process is then replaced by ``celery``, which imports everything anew.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from drakcelery.broker import routing
from drakcelery.settings import Settings, environment_for

IO_PROCESSES = 4
"""Collect keeps a core busy; upload and publish wait for S3 and Redis."""
WORKER = ("-m", "drakcelery.worker")
"""As ``celery --quiet -A drakcelery worker``: :mod:`drakcelery.worker.__main__`."""
FLOWER = ("-m", "drakcelery.flower")
"""As ``celery --quiet -A drakcelery flower``: :mod:`drakcelery.flower.__main__`."""
CELERY_OPTIONS = (
    "--without-gossip",  # nobody listens to it, and it stumbles over a lost connection (Celery 5.7)
    "--without-mingle",  # it takes a second: broker.hello does it beside the work
    "--heartbeat-interval=5",  # for Flower, which takes a worker for gone after two of them
)


def vm_command(settings: Settings) -> list[str]:
    """A worker for this host's slots: one pool process each, and one to spare."""
    host = settings.drakcelery.host
    return [
        *WORKER,
        f"--hostname=vm@{host}",
        f"--queues={routing.vm_queue(host)}",
        f"--concurrency={len(settings.slots) + 1}",
        *CELERY_OPTIONS,
    ]


def io_command(settings: Settings) -> list[str]:
    """A worker for the stages that need files only."""
    host = settings.drakcelery.host
    return [
        *WORKER,
        f"--hostname=io@{host}",
        f"--queues={routing.io_queue(host)}",
        f"--concurrency={IO_PROCESSES}",
        *CELERY_OPTIONS,
    ]


def flower_command(settings: Settings) -> list[str]:  # noqa: ARG001 all commands are made alike
    """``celery flower``, which reads ``[flower]`` itself (:mod:`drakcelery.flower.command`)."""
    return [*FLOWER]


COMMANDS: dict[str, Callable[[Settings], list[str]]] = {
    "vm": vm_command,
    "io": io_command,
    "flower": flower_command,
}


def become_celery(role: str, settings: Settings, *options: str) -> None:
    """Replace this process by the Celery process of *role*, with further *options*. Does not return."""
    command = [sys.executable, *COMMANDS[role](settings), *options]
    os.execve(sys.executable, command, environment_for(settings.source))  # noqa: S606 no shell is wanted
