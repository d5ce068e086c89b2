"""A slot that restores well and fails each run takes no samples with it (R19)."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Self

import pytest

from drakcelery.embedded.services import Services
from drakcelery.host.history import Kind, Run
from drakcelery.host.slot import Slot
from drakcelery.host.slots import SlotTable
from drakcelery.model.analysis import State
from tests.faults.fleet import Fleet, Options
from tests.servers import lent
from tests.waiting import wait_until

HOST = "rack-1"
SAMPLES = 24
QUARANTINE_AFTER = 3
RUN_SECONDS = 1.0
FAILS_AFTER = 0.3


@pytest.fixture
def fleet(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One host with three slots, whose quarantine a canary may end soon."""
    directory = tmp_path_factory.mktemp("broken-runs")
    limits = {"drakcelery": {"quarantine_seconds": "5", "quarantine_after": str(QUARANTINE_AFTER)}}
    options = Options(hosts=(HOST,), slots=3, run_seconds=RUN_SECONDS, more=limits)
    with (
        lent(services) as servers,
        Fleet(directory / "fleet", servers, options) as ours,
    ):
        yield ours


class BrokenRuns(threading.Thread):
    """A slot in which each guest is another's a while after its run began."""

    def __init__(self, fleet: Fleet, slot: str) -> None:
        super().__init__(name="intruder", daemon=True)
        self._guest = fleet.state_dir(HOST) / "engine" / f"{slot}.guest"
        self._over = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        """Until it is fixed. It looks at the guest only: the slot table may be locked for too long."""
        while not self._over.wait(0.05):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - self._guest.stat().st_mtime >= FAILS_AFTER:
                    with self._guest.open("r+") as guest:  # one that is gone meanwhile stays gone
                        guest.truncate()
                        guest.write("somebody-else")


def slot_of(fleet: Fleet, name: str) -> Slot:
    return next(slot for slot in fleet.slots()[HOST] if slot.name == name)


def history(fleet: Fleet, name: str) -> list[Run]:
    table = SlotTable(fleet.state_dir(HOST), quarantine_after=QUARANTINE_AFTER)
    return [run for run in table.history() if run.slot == name]


def test_a_slot_whose_runs_fail(fleet: Fleet) -> None:
    """All samples are published, it is out of use after three runs, and back after the fix by a canary."""
    uids = [f"sound-{number}" for number in range(SAMPLES)]
    with BrokenRuns(fleet, "vm-1"):
        for uid in uids:
            fleet.push(uid)
        ended = fleet.wait_over(uids)
        assert {ended[uid].state for uid in uids} == {State.PUBLISHED}
        wait_until(
            lambda: any(run.kind is Kind.CANARY_FAILED for run in history(fleet, "vm-1")),
            "a canary finds it broken",
        )
        assert slot_of(fleet, "vm-1").status in ("quarantined", "checking")
        samples = [run for run in history(fleet, "vm-1") if not run.kind.is_canary]
        assert len(samples) <= QUARANTINE_AFTER
        assert {run.kind for run in samples} == {Kind.FAILED}
    before = len(history(fleet, "vm-1"))
    wait_until(lambda: slot_of(fleet, "vm-1").status == "free", "it is back")
    since = history(fleet, "vm-1")[before:]
    assert [run.kind for run in since if run.kind is Kind.CANARY_WORKED] == [Kind.CANARY_WORKED]
    for sound in ("vm-2", "vm-3"):
        assert [run for run in history(fleet, sound) if run.kind is Kind.FAILED] == []
    fleet.push("after")
    assert fleet.wait_over(["after"])["after"].state is State.PUBLISHED
