"""Slots that cannot restore a guest, and samples that take down whatever runs them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest
import redis
from karton.core.task import TaskState

from drakcelery.broker.routing import prepare_queue
from drakcelery.embedded.services import Services
from drakcelery.host.slot import SlotState
from drakcelery.model.analysis import Fault, State
from tests.faults.fleet import Fleet, Options
from tests.faults.watch import (
    said_of,
    sample_task,
    type_in,
    wait_free,
    wait_gone,
    wait_published,
    wait_state,
)
from tests.servers import lent
from tests.waiting import wait_until

HOST = "rack-1"
SLOTS = ("vm-1", "vm-2")
RESTORE_SECONDS = 0.5
QUARANTINE_SECONDS = 12
"""Long enough to look at it, short enough to wait for its end."""


@pytest.fixture(scope="module")
def fleet(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One host with two slots that are soon tried again; samples are tried often."""
    directory = tmp_path_factory.mktemp("quarantine")
    limits = {"drakcelery": {"quarantine_seconds": str(QUARANTINE_SECONDS), "max_attempts": "30"}}
    options = Options(hosts=(HOST,), slots=len(SLOTS), restore_seconds=RESTORE_SECONDS, more=limits)
    with (
        lent(services) as servers,
        Fleet(directory / "fleet", servers, options) as ours,
    ):
        yield ours


class Broken(threading.Thread):
    """Slots in which somebody else's guest appears again and again: no restore succeeds there."""

    def __init__(self, fleet: Fleet, *slots: str) -> None:
        super().__init__(name="intruder", daemon=True)
        self._guests = [fleet.state_dir(HOST) / "engine" / f"{slot}.guest" for slot in slots]
        self._over = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()
        for guest in self._guests:
            guest.unlink(missing_ok=True)

    def run(self) -> None:
        """Much more often than the engine looks."""
        while not self._over.wait(RESTORE_SECONDS / 100):
            for guest in self._guests:
                self._intrude(guest)

    def _intrude(self, guest: Path) -> None:
        guest.parent.mkdir(exist_ok=True)
        guest.write_text("somebody-else")


def states(fleet: Fleet) -> list[SlotState]:
    """What the slots do."""
    return [slot.state for slot in fleet.slots()[HOST]]


def shown(fleet: Fleet) -> list[str]:
    """What ``drakcelery slots`` says of them."""
    status, text = type_in(fleet, "drakcelery", "slots", "--json")
    assert status == 0, text
    return [slot["state"] for slot in json.loads(text)[0]["slots"]]


def said(fleet: Fleet) -> list[str]:
    """What the host reports of them."""
    return [slot.state for slot in said_of(fleet, HOST).slots]


def test_a_broken_slot(fleet: Fleet) -> None:
    """Three failures in a row take a slot out of use; samples go to the other; a canary ends it."""
    unlucky = [f"unlucky-{number}" for number in range(6)]
    with Broken(fleet, "vm-1"):
        for uid in unlucky:
            fleet.push(uid)
        wait_until(lambda: states(fleet)[0] is SlotState.QUARANTINED, "vm-1 is quarantined")
        wait_until(lambda: said(fleet)[0] == "quarantined", "the host says so")
        wait_until(lambda: shown(fleet)[0] == "quarantined", "operators see it")
        assert "quarantined" in type_in(fleet, "drakcelery", "slots")[1]
        wait_published(fleet, *unlucky)
        records = [record for uid in unlucky if (record := fleet.record(uid)) is not None]
        assert {record.slot for record in records} == {"vm-2"}
        failures = [one for record in records for one in record.failures]
        assert {(one.slot, one.fault, one.charged) for one in failures} == {("vm-1", Fault.FAILED, "slot")}
        assert len(failures) == 3
        assert all(len(record.failures) <= 1 for record in records)
    wait_free(fleet, HOST)
    fleet.push("probe")
    wait_published(fleet, "probe")
    record = fleet.record("probe")
    assert record is not None
    assert (record.slot, record.failures) == ("vm-1", ())


def test_all_slots_are_broken(fleet: Fleet) -> None:
    """The host takes nothing any more: samples wait in the queue until its slots work again."""
    uids = [f"patient-{number}" for number in range(4)]
    with (
        Broken(fleet, *SLOTS),
        redis.Redis.from_url(fleet.settings.broker_url, decode_responses=True) as broker,
    ):
        for uid in uids:
            fleet.push(uid)
        wait_until(lambda: set(states(fleet)) == {SlotState.QUARANTINED}, "both are quarantined")
        wait_until(lambda: set(said(fleet)) == {"quarantined"}, "the host says so")
        wait_until(lambda: set(shown(fleet)) == {"quarantined"}, "operators see it")
        wait_until(lambda: broker.llen(prepare_queue("default")), "samples wait for a slot")
    wait_published(fleet, *uids)
    wait_free(fleet, HOST)


def test_poison(fleet: Fleet) -> None:
    """A sample that takes down its process twice is CRASHED as poison, and the slot is free for others."""
    fleet.plan("poison", "run.running", "child")
    fleet.push("poison")
    wait_until(lambda: fleet.fired("poison"), "the process is killed")
    fleet.plan("poison", "run.running", "child")
    record = wait_state(fleet, "poison", State.FAILED)
    assert [one.fault for one in record.failures] == [Fault.LOST, Fault.LOST]
    task = sample_task(fleet, record)
    assert task.status is TaskState.CRASHED
    assert task.error is not None
    assert task.error[0].startswith("poison: 2 attempts lost their process or their slot")
    wait_gone(fleet, "poison")
    fleet.push("after-poison")
    wait_published(fleet, "after-poison")
    wait_free(fleet, HOST)
