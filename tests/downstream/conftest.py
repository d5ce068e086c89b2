"""Public Karton services from PyPI, in an environment of their own (``make downstream``), on a real stack."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from karton.core import Config, Karton, Task
from karton.core.task import TaskState

from drakcelery.embedded.plan import write_private
from drakcelery.embedded.services import Services
from drakcelery.embedded.supervision import Server, tail
from tests import reference
from tests.acceptance.deployment import Deployment, karton_config
from tests.conftest import require
from tests.faults.fleet import RECEIVER, Fleet, Options
from tests.servers import lent
from tests.waiting import wait_until

HERE = Path(__file__).parent
OVER = (TaskState.FINISHED, TaskState.CRASHED)
ENVIRONMENT = reference.ROOT / "build" / "downstream"


@pytest.fixture(scope="session")
def programs() -> Path:
    """Where the services' programs are, or a skip that says how to get them."""
    installed = ENVIRONMENT / "requirements.txt"
    wanted = (HERE / "requirements.txt").read_text(encoding="utf-8")
    is_there = installed.is_file() and installed.read_text(encoding="utf-8") == wanted
    require(is_there, "build/downstream lacks the consumers that tests/downstream pins: make downstream")
    return ENVIRONMENT / "bin"


class Results(Karton):
    """A Karton service for what the consumers produce: tags and configurations."""

    identity = "karton.downstream-results"
    filters = [  # noqa: RUF012 - Karton's own type
        {"type": "sample", "stage": "analyzed"},
        {"type": "config"},
    ]

    def __init__(self, config: Config) -> None:
        super().__init__(config=config)
        self.received: list[Task] = []
        self.backend.register_bind(self._bind)

    def process(self, task: Task) -> None:
        """Keep it."""
        self.received.append(task)

    def take(self) -> None:
        """Process one task, if there is one."""
        task = self.backend.consume_routed_task(self.identity, timeout=1)
        if task is not None:
            self.internal_process(task)


@pytest.fixture(scope="module")
def stack(
    programs: Path,  # noqa: ARG001 - a check
    services: Services,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Deployment]:
    """A fleet of one host, with the emulator."""
    require(importlib.util.find_spec("speakeasy") is not None, "the emulator extra is not installed")
    more = {"canary": {"enabled": "0"}, "drakcelery": {"engine": "emulator"}}
    directory = tmp_path_factory.mktemp("downstream") / "fleet"
    with (
        lent(services) as servers,
        Fleet(directory, servers, Options(hosts=("rack-1",), slots=2, more=more)) as fleet,
        Deployment.of_fleet(fleet) as deployment,
    ):
        fleet.backend.unregister_bind(RECEIVER)  # nobody would take its tasks, and all are waited for
        yield deployment


@pytest.fixture(scope="module")
def results(stack: Deployment) -> Iterator[Results]:
    """Bound before a consumer can produce anything."""
    service = Results(karton_config(stack.running))
    yield service
    service.backend.s3.close()


@pytest.fixture(scope="module")
def consumers(
    programs: Path,
    stack: Deployment,
    results: Results,  # noqa: ARG001 - bound first
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, Server]]:
    """The consumers of analyses by identity, as people start them."""
    directory = tmp_path_factory.mktemp("consumers")
    write_private(directory / "karton.ini", _karton_ini(stack))
    commands = {
        "karton.config-extractor": ("karton-config-extractor", "--modules", str(HERE / "modules")),
        "karton.yaramatcher": ("karton-yaramatcher", "--rules", str(HERE / "rules")),
    }
    with contextlib.ExitStack() as running:
        yield {
            identity: running.enter_context(
                _service(stack, identity, (str(programs / command[0]), *command[1:]), directory)
            )
            for identity, command in commands.items()
        }


@contextmanager
def _service(stack: Deployment, identity: str, command: tuple[str, ...], directory: Path) -> Iterator[Server]:
    """A running service, listening."""
    own = {key: value for key, value in os.environ.items() if not key.startswith(("KARTON_", "PYTHON"))}
    server = Server.start(
        identity,
        (*command, "--config-file", str(directory / "karton.ini")),
        log=directory / f"{identity}.log",
        environment=own,
    )
    try:
        server.wait_ready(lambda: identity in stack.backend.get_online_consumers(), timeout=60)
        yield server
        assert server.is_running, f"{identity} ended by itself{tail(server.log)}"
    finally:
        server.stop(grace=1)  # idle, it would first wait out its five seconds at the queue


def _karton_ini(stack: Deployment) -> str:
    """What any Karton service is told, and nothing of drakcelery."""
    s3, redis = stack.settings.s3, stack.settings.redis
    assert s3.secret_key is not None
    assert redis.password is not None
    return (
        f"[s3]\naddress = {s3.address}\naccess_key = {s3.access_key}\n"
        f"secret_key = {s3.secret_key.get_secret_value()}\nbucket = {s3.bucket}\n"
        f"[redis]\nhost = {redis.host}\nport = {redis.port}\n"
        f"password = {redis.password.get_secret_value()}\n"
    )


def wait_processed(
    stack: Deployment, sent: Task, consumers: dict[str, Server], results: Results
) -> dict[str, Task]:
    """The analysis as each consumer got it, once all that came of *sent* is over; a crash fails the test."""
    seen: list[set[str]] = [set()]

    def over() -> dict[str, Task]:
        tasks = {task.uid: task for task in stack.backend.iter_task_tree(sent.root_uid)}
        routed = {str(task.headers.get("receiver")): task for task in tasks.values()}
        if any(is_waiting(task, results.identity) for task in tasks.values()):
            results.take()
        seen.append(set(tasks))
        # A service sends what it has before it is finished: a second look sees what the first one missed.
        is_over = seen[-1] == seen[-2] and all(task.status in OVER for task in tasks.values())
        return routed if is_over and consumers.keys() <= routed.keys() else {}

    processed = wait_until(over, "each consumer has processed the analysis")
    for identity, server in consumers.items():
        task = processed[identity]
        assert task.status is TaskState.FINISHED, (
            f"{identity}: {task.status}\n{''.join(task.error or [])}{tail(server.log)}"
        )
    return {identity: processed[identity] for identity in consumers}


def is_waiting(task: Task, identity: str) -> bool:
    """Whether *task* lies in the queue of a service."""
    return task.headers.get("receiver") == identity and task.status is TaskState.SPAWNED
