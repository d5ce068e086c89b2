"""A Redis that is demoted for a while: who waits for Redis waits for its promotion, too."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.exceptions import ReadOnlyError

from drakcelery.embedded.services import Services
from drakcelery.ledger import Patience, connect
from tests.waiting import wait_until


@pytest.fixture
def own(server_programs: None, tmp_path: Path) -> Iterator[Services]:  # noqa: ARG001 - a check
    """Servers of this test's own: it takes their Redis away from whoever uses it."""
    with Services(tmp_path) as servers:
        yield servers


def test_a_patient_client_waits_for_a_promotion(own: Services) -> None:
    """What a stage writes while Redis is a replica is written once it is none: nobody counts as silent."""
    operator: Any = redis.Redis.from_url(own.redis.address(), decode_responses=True)
    operator.execute_command("REPLICAOF", "127.0.0.1", "1")

    def promote() -> None:
        wait_until(lambda: "errorstat_READONLY" in operator.info("errorstats"), "a write was refused")
        operator.execute_command("REPLICAOF", "NO", "ONE")

    promotion = threading.Thread(target=promote)
    promotion.start()
    assert connect(own.redis, patience=Patience.LONG, pause=0.1).set("test-failover", 1, px=1000)
    promotion.join()
    operator.execute_command("REPLICAOF", "127.0.0.1", "1")
    # Who is not patient learns of it
    with pytest.raises(ReadOnlyError):
        connect(own.redis, pause=0.1).set("test-failover", 1, px=1000)
    operator.execute_command("REPLICAOF", "NO", "ONE")
    operator.close()
