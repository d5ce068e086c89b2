"""A sample that is sent again: whoever agrees to it gets the earlier analysis, as one of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.deployment import Deployment, Receiver
from tests.programs import launcher


def submit(deployment: Deployment, sample: Path, *options: str) -> dict[str, Any]:
    """Submit, and wait for the end; returns the analysis as ``status --json`` has it."""
    uid = deployment.drakcelery("submit", sample, "--timeout", "30", "--wait", *options).stdout.strip()
    analysis = json.loads(deployment.drakcelery("status", uid, "--json").stdout)
    assert isinstance(analysis, dict)
    return analysis


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that nobody has sent so far."""
    path = tmp_path_factory.mktemp("reuse") / "again.exe"
    path.write_bytes(launcher(64).read_bytes() + b"reuse")
    return path


def test_a_sample_that_is_sent_again(deployment: Deployment, receiver: Receiver, sample: Path) -> None:
    """The second one has no attempt, its own uid and root, the same artifacts, and says whose run it is."""
    first, second = submit(deployment, sample), submit(deployment, sample, "--reuse", "1d")
    assert first["result"]["complete"] is True
    uid = second["uid"]
    assert (first["attempts"], second["attempts"]) == (1, 0)
    assert second["root_uid"] != first["root_uid"]
    assert uid != first["uid"]
    assert second["analysis"]["reuse"]["origin"]["uid"] == first["uid"]
    one, two = receiver.receive(first["uid"]), receiver.receive(uid)
    assert two.task.root_uid == second["root_uid"]
    assert two.task.payload["metadata"]["reused_from"] == first["uid"]
    assert one.resources.keys() == two.resources.keys()
    shown = deployment.drakcelery("status", uid).stdout
    assert "reused from" in shown
    assert f"{first['uid']}, which ran on" in " ".join(shown.split())
    assert first["uid"] in deployment.drakcelery("report", uid).stdout
    assert "reused" in deployment.started("find", uid).stdout


def test_who_does_not_agree_has_a_run(deployment: Deployment, sample: Path) -> None:
    """The third one says nothing of reuse; with other plugins it is another analysis."""
    third = submit(deployment, sample)
    assert (third["attempts"], third["analysis"]["reuse"]["origin"]) == (1, None)
    fourth = submit(deployment, sample, "--plugin", "apimon", "--reuse", "1d")
    assert fourth["analysis"]["reuse"]["miss"] == "none"
    assert "not reused" in deployment.drakcelery("status", fourth["uid"]).stdout
