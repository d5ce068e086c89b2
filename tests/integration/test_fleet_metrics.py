"""The fleet in numbers, on a real Redis: hosts that come and go, and a Redis that does."""

from __future__ import annotations

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from drakcelery.embedded.ports import assign
from drakcelery.ingress.fleet_metrics import FleetMetrics
from drakcelery.ledger import Ledger
from drakcelery.model.records import HostStatus, SlotStatus
from drakcelery.settings import Settings
from drakcelery.telemetry import instruments
from tests.ledgers import inbox_of

IDENTITY = "karton.test-census"


def ledger_on(client: redis.Redis) -> Ledger:
    return Ledger(client, identity=IDENTITY, record_ttl=600)


def said(name: str, **labels: str) -> float | None:
    """What Prometheus would be told; None: nothing."""
    return instruments.INGRESS.get_sample_value(name, labels)


def report(ledger: Ledger, *states: str) -> None:
    """The host ``census-1`` with a slot in each of *states*."""
    slots = tuple(
        SlotStatus(name=f"vm-{number}", profile="census", state=state, since=0)
        for number, state in enumerate(states)
    )
    ledger.fleet.report(HostStatus(host="census-1", engine="replay", slots=slots))


def test_hosts_come_and_go(redis_client: redis.Redis) -> None:
    """Slots are counted by state, 0 where none is; a host that is gone is 0, and has no slots."""
    ledger = ledger_on(redis_client)
    fleet_metrics = FleetMetrics(Settings(), ledger, inbox_of(ledger))
    report(ledger, "running", "running", "drained")
    fleet_metrics.update()
    slots = {
        state: said("drakcelery_slots", host="census-1", profile="census", state=state)
        for state in instruments.SLOT_STATES
    }
    assert slots == dict.fromkeys(instruments.SLOT_STATES, 0) | {"running": 2, "drained": 1}
    assert said("drakcelery_host_up", host="census-1") == 1
    assert said("drakcelery_line_samples", profile="census") == 0

    ledger.fleet.retire("census-1")
    fleet_metrics.update()
    assert said("drakcelery_host_up", host="census-1") == 0
    assert said("drakcelery_slots", host="census-1", profile="census", state="running") is None


def test_redis_away(redis_client: redis.Redis) -> None:
    """While Redis does not answer, that is all that is said of the fleet; then everything is back."""
    ledger = ledger_on(redis_client)
    fleet_metrics = FleetMetrics(Settings(), ledger, inbox_of(ledger))
    report(ledger, "free")
    fleet_metrics.update()
    assert said("drakcelery_redis_up") == 1

    nobody = redis.Redis(port=assign(("nobody",), kept={})["nobody"], retry=Retry(NoBackoff(), 0))
    fleet_metrics._ledger = ledger_on(nobody)
    fleet_metrics.update()
    assert said("drakcelery_redis_up") == 0
    assert said("drakcelery_host_up", host="census-1") is None
    assert said("drakcelery_karton_queue_samples", priority="high") is None

    fleet_metrics._ledger = ledger
    fleet_metrics.update()
    assert said("drakcelery_redis_up") == 1
    assert said("drakcelery_host_up", host="census-1") == 1
    assert said("drakcelery_karton_queue_samples", priority="high") == 0
