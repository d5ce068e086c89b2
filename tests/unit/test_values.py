"""What is written by one version is read by another."""

from __future__ import annotations

from drakcelery.analysis import Analysis, Step
from drakcelery.records import HostStatus
from tests.unit.test_chain import analysis


def test_what_a_newer_version_wrote_is_read() -> None:
    """Fields that this version does not know are passed over: a fleet is upgraded in steps."""
    written = analysis().model_dump(mode="json")
    assert Analysis.model_validate({**written, "invented_later": {"a": 1}}) == analysis()
    status = HostStatus(host="rack-1", engine="replay", slots=())
    assert HostStatus.model_validate({**status.model_dump(), "invented_later": 1}) == status
    step = Step(uid="a", attempt=1, profile="win10")
    assert Step.parse({**step.message(), "invented_later": 1}) == step
