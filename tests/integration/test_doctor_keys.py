"""The doctor names a key of ours that is of another type, whichever it is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from redis import exceptions

from drakcelery.doctor import CHECKS
from drakcelery.doctor.finding import Finding, Status
from drakcelery.doctor.runner import chosen, examine
from drakcelery.doctor.subject import Subject
from drakcelery.embedded.services import Services
from drakcelery.ledger.away import trouble
from drakcelery.ledger.keys import FLEET
from drakcelery.ledger.keytable import LEDGER
from drakcelery.ledger.keytypes import OF_NAMES, TYPES
from drakcelery.settings import Settings

KINDS = {**TYPES, **{f"{prefix}odd-name": kind for prefix, kind in OF_NAMES.items()}}


@pytest.fixture
def client(redis_client: redis.Redis) -> Iterator[redis.Redis]:
    """A client on a Redis where a place is known; what is odd goes afterwards."""
    redis_client.zadd(FLEET, {"odd-name": 1.0})
    yield redis_client
    redis_client.zrem(FLEET, "odd-name")


def look(services: Services) -> Finding:
    """What the check finds."""
    settings = Settings(redis=services.redis, s3=services.s3)
    found = examine(chosen(CHECKS, ["redis.keys"]), Subject(lambda: settings))
    return {one.check: one for one in found}["redis.keys"]


@pytest.mark.parametrize("key", KINDS)
def test_a_key_of_another_type_is_named(services: Services, client: redis.Redis, key: str) -> None:
    """With both types, and what to do."""
    assert look(services).status is Status.OK
    client.delete(key)
    client.xadd(key, {"odd": "1"})
    try:
        found = look(services)
    finally:
        client.delete(key)
    assert found.status is Status.FAILED
    assert f"{key} is a stream, not a {KINDS[key]}" in found.said


def test_every_key_is_looked_at() -> None:
    """Each of ours, with its type, but for those of one analysis or sample, or of a window of the index."""
    looked_at = {**TYPES, **OF_NAMES}
    left_out = {key.name for key in LEDGER if key.pattern.partition("<")[0] not in looked_at}
    assert left_out == {
        *("record", "entry", "variants", "reusable", "making"),
        *("index_of", "index_uids", "index_text"),
    }


def test_only_a_redis_that_is_away_is_said_to_be() -> None:
    """An answer, though it is an error, is one."""
    assert "does not answer" in trouble(exceptions.ConnectionError("refused"))
    said = trouble(exceptions.ResponseError("WRONGTYPE Operation against a key"))
    assert "does not answer" not in said
    assert "WRONGTYPE" in said
    assert "doctor --only redis" in said
