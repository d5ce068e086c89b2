"""The heartbeat of a delivery, on a real Valkey."""

from __future__ import annotations

import dataclasses
import os
import threading

import pytest
import redis

from drakcelery.ledger import Ledger
from drakcelery.model.analysis import Stage
from drakcelery.model.timeouts import DEFAULT
from drakcelery.stages.heartbeat import Heartbeat, HeartbeatThread
from tests.ledgers import IDENTITY, TTL, enter, opened
from tests.waiting import wait_until

HEARTBEAT_SECONDS = 0.05


@pytest.fixture
def ledger(redis_client: redis.Redis) -> Ledger:
    """A ledger that has an analysis in its first stage, and heartbeats that are fast."""
    times = dataclasses.replace(DEFAULT, heartbeat=HEARTBEAT_SECONDS)
    ours = Ledger(redis_client, identity=IDENTITY, record_ttl=TTL, timeouts=times)
    opened(ours)
    enter(ours, 1, Stage.PREPARE)
    return ours


def heartbeat_threads() -> int:
    """How many threads beat in this process."""
    return sum(thread.name == "heartbeat" for thread in threading.enumerate())


def last_heartbeat(ledger: Ledger) -> float:
    record = ledger.get("a-1")
    assert record is not None
    assert record.beat is not None
    return record.beat


def test_it_beats_until_the_stage_is_done(ledger: Ledger) -> None:
    """A stage at work shows life again and again, from one thread for all; once it is done, no more."""
    heartbeats = HeartbeatThread()
    begun = last_heartbeat(ledger)
    stopped = threading.Event()
    with (
        Heartbeat(ledger, "a-1", 1, token="t", stop=stopped.set, heartbeats=heartbeats) as first,
        Heartbeat(ledger, "a-1", 1, token="t", stop=stopped.set, heartbeats=heartbeats),
    ):
        wait_until(lambda: last_heartbeat(ledger) > begun, "a beat")
        second = last_heartbeat(ledger)
        wait_until(lambda: last_heartbeat(ledger) > second, "another beat")
        assert heartbeat_threads() == 1
    final = last_heartbeat(ledger)
    wait_until(lambda: heartbeat_threads() == 0, "the thread is over")
    assert last_heartbeat(ledger) == final
    assert not first.is_stale
    assert not stopped.is_set()


def test_stale_work_is_stopped(ledger: Ledger) -> None:
    """Once another delivery, or nobody, has the claim, the work is stopped, once, and known to be stale."""
    heartbeats = HeartbeatThread()
    stopped: list[str] = []
    with Heartbeat(
        ledger, "a-1", 1, token="t", stop=lambda: stopped.append("guest"), heartbeats=heartbeats
    ) as ours:
        record = ledger.get("a-1")
        assert record is not None
        assert ledger.cancel(record, reason="nobody wants it", crashed=None)
        wait_until(lambda: ours.is_stale, "it is known to be stale")
    assert stopped == ["guest"]
    wait_until(lambda: heartbeat_threads() == 0, "the thread is over")


def test_what_goes_wrong_stops_no_other(ledger: Ledger) -> None:
    """A guest that cannot be stopped costs no other stage its heartbeat."""
    heartbeats = HeartbeatThread()

    def stop() -> None:
        raise OSError("no xl")

    begun = last_heartbeat(ledger)
    with Heartbeat(ledger, "a-1", 1, token="another's", stop=stop, heartbeats=heartbeats) as stale:
        wait_until(lambda: stale.is_stale, "it is known to be stale")
        with Heartbeat(ledger, "a-1", 1, token="t", stop=stop, heartbeats=heartbeats):
            wait_until(lambda: last_heartbeat(ledger) > begun, "a beat of the other")


# Python 3.12 and newer warn of a fork beside threads, which is what is tried here
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_has_a_heart_of_its_own(ledger: Ledger) -> None:
    """A process that is forked while its parent works beats for its own stages."""
    heartbeats = HeartbeatThread()
    with Heartbeat(ledger, "a-1", 1, token="t", stop=lambda: None, heartbeats=heartbeats):
        child = os.fork()
        if child == 0:  # only what must be seen, then gone, with nothing of pytest's
            with Heartbeat(ledger, "a-1", 1, token="t", stop=lambda: None, heartbeats=heartbeats):
                os._exit(0 if heartbeat_threads() == 1 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
