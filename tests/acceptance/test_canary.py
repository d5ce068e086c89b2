"""The emulator's canary: the real sample, through a stack's own slots, by the commands an operator types."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from typing import Any

import pytest

from drakcelery.embedded.background import background
from drakcelery.ledger.keys import canary_key
from drakcelery.wiring import make_client
from drakcelery.worker import behaviour
from tests.acceptance.deployment import Deployment
from tests.conftest import require
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def deployment(
    server_programs: None,  # noqa: ARG001 - a check
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Deployment]:
    """A stack of its own: in the others no canary takes a slot."""
    require(importlib.util.find_spec("speakeasy") is not None, "the emulator extra is not installed")
    directory = tmp_path_factory.mktemp("canary") / "stack"
    with (
        background(directory, slots={"vm-1": "default", "vm-2": "default"}) as running,
        Deployment.of(running) as deployment,
    ):
        # A worker reports its slots a moment before it hears what it is asked
        node = f"vm@{deployment.settings.drakcelery.host}"
        with make_client(deployment.settings) as client:
            wait_until(
                lambda: client.control.ping(destination=[node], timeout=1),
                f"{node} answers",
            )
        yield deployment


def slots(deployment: Deployment) -> dict[str, dict[str, Any]]:
    """What ``slots --json`` says of each slot of the one host."""
    output = deployment.typed("slots", "--json")
    return {slot["name"]: slot for host in json.loads(output) for slot in host["slots"]}


def verdicts(output: str) -> dict[str, str | None]:
    """What ``canary --json`` says of each slot."""
    return {slot["name"]: slot["verdict"] for slot in json.loads(output)}


def test_canaries_on_demand_and_after_undrain(deployment: Deployment) -> None:
    """They do the same each time, whatever the slot; what they found is seen by all who look at slots."""
    host = deployment.settings.drakcelery.host
    first = deployment.drakcelery("canary", f"{host}/vm-1", "--wait", "--json")
    assert first.returncode == 0, first.stderr
    assert verdicts(first.stdout) == {"vm-1": "good"}
    seen = slots(deployment)
    assert [(slot["canary"]["at"] is None, slot["canary"]["trouble"]) for slot in seen.values()] == [
        (False, None),
        (True, None),
    ]
    assert "good" in deployment.typed("canary")

    deployment.typed("drain", f"{host}/vm-2")
    assert "vm-2 is drained" in deployment.drakcelery("canary", f"{host}/vm-2").stderr
    deployment.typed("undrain", f"{host}/vm-2")
    wait_until(lambda: slots(deployment)["vm-2"]["canary"]["at"], "a canary was in what was undrained")

    # By now two have shown what they do; the third is the last that is learned from
    for _ in range(2):
        found = verdicts(deployment.typed("canary", host, "--wait", "--json"))
        assert found == {"vm-1": "good", "vm-2": "good"}
    (known,) = deployment.ledger._redis.hvals(canary_key("default"))
    runs = json.loads(known)["runs"]
    assert len(runs) == behaviour.LEARNED
    assert all(len(run) > 5 for run in runs)
    assert [(slot["state"], slot["score"]) for slot in slots(deployment).values()] == [("free", 1.0)] * 2
