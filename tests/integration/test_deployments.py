"""Two deployments on one Redis would mix: the second refuses to start, on a real Redis."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from drakcelery.errors import SettingsError
from drakcelery.karton.destination import destination, fixed
from drakcelery.ledger.deployment import SILENCE, Deployment
from drakcelery.ledger.keys import DEPLOYMENT, LIVE
from drakcelery.settings import Settings
from drakcelery.settings.sections import DrakcelerySection, DrakrunSection
from tests.builders import analysis

OURS, THEIRS = "karton.drakrun-test", "karton.drakrun-prod"


@pytest.fixture
def empty(redis_client: redis.Redis) -> Iterator[redis.Redis]:
    """A Redis on which nothing is at work."""
    redis_client.delete(DEPLOYMENT)
    yield redis_client
    redis_client.delete(DEPLOYMENT)
    redis_client.zrem(LIVE, "theirs")


def fall_silent(client: redis.Redis) -> None:
    """Let every process of the deployment have been dead for long enough."""
    client.hset(DEPLOYMENT, "renewed", float(client.hget(DEPLOYMENT, "renewed") or 0) - SILENCE - 1)


def test_a_second_deployment_does_not_start(empty: redis.Redis) -> None:
    """Both are named, and the reason; the first one's processes come and go (R10)."""
    Deployment(empty, THEIRS).claim()
    Deployment(empty, THEIRS).claim()
    with pytest.raises(SettingsError) as refused:
        Deployment(empty, OURS).claim()
    said = str(refused.value)
    assert f"identity = {THEIRS}, which showed life 0 s ago; this one is {OURS}." in said


def test_an_identity_can_be_changed(empty: redis.Redis) -> None:
    """Once nothing of the earlier one is alive, and none of its samples is left (R10)."""
    Deployment(empty, THEIRS).claim()
    fall_silent(empty)
    empty.zadd(LIVE, {"theirs": 1})
    with pytest.raises(SettingsError, match="which has samples that are not over"):
        Deployment(empty, OURS).claim()
    empty.zrem(LIVE, "theirs")
    Deployment(empty, OURS).claim()
    with pytest.raises(SettingsError):
        Deployment(empty, THEIRS).claim()


@pytest.mark.parametrize("is_test", [False, True])
def test_where_an_analysis_goes_is_fixed_as_it_begins(is_test: bool) -> None:
    """The settings of the host that publishes it change nothing; an older record goes by them (R10)."""
    taken = analysis().model_copy(update={"is_test": is_test})
    ours = Settings(drakrun=DrakrunSection(identity=OURS), drakcelery=DrakcelerySection(bucket="ours"))
    theirs = Settings(
        drakrun=DrakrunSection(
            identity=THEIRS,
            headers={"type": "analysis", "kind": "theirs"},
            test_headers={"type": "analysis-test", "kind": "theirs"},
        ),
        drakcelery=DrakcelerySection(bucket="theirs"),
    )
    assert destination(theirs, fixed(ours, taken)) == destination(ours, taken)
    assert destination(theirs, taken).identity == THEIRS
    read = type(taken).model_validate_json(fixed(ours, taken).model_dump_json())
    assert destination(theirs, read) == destination(ours, taken)
