"""What is written by one version is read by another."""

from __future__ import annotations

import json

from drakcelery.model.analysis import Analysis, Step
from drakcelery.model.records import HostStatus, parse
from tests.builders import analysis


def test_what_a_newer_version_wrote_is_read() -> None:
    """Fields that this version does not know are skipped: a fleet is upgraded in steps."""
    written = analysis().model_dump(mode="json")
    assert Analysis.model_validate({**written, "invented_later": {"a": 1}}) == analysis()
    status = HostStatus(host="rack-1", engine="replay", slots=())
    assert HostStatus.model_validate({**status.model_dump(), "invented_later": 1}) == status
    step = Step(uid="a", attempt=1, profile="win10")
    assert Step.parse({**step.message(), "invented_later": 1}) == step


def test_the_failures_of_an_older_version_are_counted_as_ours() -> None:
    """It counted attempts that nobody had taken up: five for two failures and the one at work (R20)."""
    failure = {"stage": "run", "error": "gone", "at": 1.0}
    fields = {
        "uid": "a",
        "task_uid": "t",
        "root_uid": "r",
        "state": "QUEUED",
        "received": "1",
        "updated": "1",
        "attempt": "15",
        "first_attempt": "11",
        "invented_later": "1",
        "failures": json.dumps([{**failure, "attempt": 2}, {**failure, "attempt": 4, "invented_later": 1}]),
    }
    record = parse(fields)
    assert record.attempts == 3
    assert [(one.attempt, one.number) for one in record.failures] == [(1, 12), (2, 14)]
