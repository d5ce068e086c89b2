"""The stack that most acceptance tests share: the Procfile's own commands, the emulator, two slots."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest

from drakcelery.embedded.background import background
from tests.acceptance.deployment import Deployment, Receiver
from tests.conftest import require


@pytest.fixture(scope="session")
def deployment(
    server_programs: None,  # noqa: ARG001 - a check
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Deployment]:
    """A stack with the emulator on two slots, test samples accepted."""
    require(importlib.util.find_spec("speakeasy") is not None, "the emulator extra is not installed")
    slots = {"vm-1": "default", "vm-2": "default"}
    # No canary: which slot a sample gets is to be foreseen
    overrides = {
        "drakrun": {"sample_testing": "1"},
        "canary": {"enabled": "0"},
        "reuse": {"enabled": "1"},  # only for tasks that agree to it
    }
    directory = tmp_path_factory.mktemp("acceptance") / "stack"
    with (
        background(directory, slots=slots, overrides=overrides) as running,
        Deployment.of(running) as deployment,
    ):
        yield deployment


@pytest.fixture(scope="session")
def receiver(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """A Karton service that is bound before any sample is sent."""
    with deployment.receiver(tmp_path_factory.mktemp("received")) as receiver:
        yield receiver
