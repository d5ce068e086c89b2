"""What failed in a slot is not tried there again, and what a slot's history says of it (R19)."""

from __future__ import annotations

from typing import Any

import pytest

from drakcelery.errors import Blame
from drakcelery.host.avoidance import is_elsewhere, may_have
from drakcelery.host.checkup import checkup, checkups
from drakcelery.host.history import Facts, Kind, Run
from drakcelery.host.judgement import is_allowed
from drakcelery.host.slot import Slot, SlotState
from drakcelery.model.analysis import Failure, Place, Stage, State
from drakcelery.model.records import HostStatus, Record, SlotStatus

ALL = frozenset({"vm-1", "vm-2", "vm-3"})


def slot(number: int, state: SlotState = SlotState.FREE, *, profile: str = "win10") -> Slot:
    """A slot that nobody has."""
    return Slot(
        name=f"vm-{number}", profile=profile, state=state, uid=None, attempt=None, since=0, failures=0
    )


def host(name: str, *states: str, halted: str | None = None) -> HostStatus:
    """A host with a slot in each of *states*."""
    slots = tuple(
        SlotStatus(name=f"vm-{number}", profile="win10", state=state, since=0)
        for number, state in enumerate(states, 1)
    )
    return HostStatus(host=name, engine="e", slots=slots, halted=halted)


def record(*failed_on: str, asked: str | None = None) -> Record:
    """An analysis that failed on these hosts, one after the other."""
    return Record(
        uid="a",
        task_uid="t",
        root_uid="r",
        received=0,
        updated=0,
        updated_text="0",
        state=State.QUEUED,
        attempt=3,
        first_attempt=1,
        place=Place(profile="win10", host=asked),
        failures=tuple(
            Failure(attempt=number, stage=Stage.RUN, error="no", host=name, slot="vm-1", at=0)
            for number, name in enumerate(failed_on, 1)
        ),
    )


SLOTS = [slot(1), slot(2, SlotState.RUNNING), slot(3, SlotState.QUARANTINED), slot(4, profile="win7")]


@pytest.mark.parametrize(
    ("failed", "elsewhere", "expected"),
    [
        (set(), False, {"vm-1", "vm-2"}),
        ({"vm-1"}, False, {"vm-2"}),
        ({"vm-1"}, True, set()),
        ({"vm-1", "vm-2"}, False, ALL),
        ({"gone"}, False, {"vm-1", "vm-2"}),
    ],
)
def test_another_slot_is_waited_for(failed: set[str], elsewhere: bool, expected: set[str]) -> None:
    """One in which it has not failed, though that one is busy; where all in use have, any."""
    assert may_have("win10", SLOTS, failed, elsewhere=elsewhere) == expected


def test_another_host_comes_first() -> None:
    """One that takes samples, has the profile, and in which the analysis has not failed."""
    here, there = host("rack-1", "free"), host("rack-2", "running")
    assert is_elsewhere(record("rack-1"), [here, there], host="rack-1")
    for hosts in (
        [here],
        [here, host("rack-2", "quarantined", "drained")],
        [here, host("rack-2", "free", halted="no_space")],
    ):
        assert not is_elsewhere(record("rack-1"), hosts, host="rack-1")
    assert not is_elsewhere(record("rack-2", "rack-1"), [here, there], host="rack-1")
    assert not is_elsewhere(record("rack-1", asked="rack-1"), [here, there], host="rack-1")
    assert not is_elsewhere(None, [here, there], host="rack-1")


def run(name: str, kind: Kind = Kind.WORKED, *, charged: bool = True, **facts: Any) -> Run:
    """A run that is over."""
    left: dict[str, Any] = {
        "restore_seconds": 3.0,
        "log_size": 900,
        "pcap_size": 400,
        "snapshot": "s",
        **facts,
    }
    return Run(
        number=1,
        slot=name,
        uid="a",
        attempt=1,
        at=0.0,
        kind=kind,
        open=False,
        blame=Blame.SLOT,
        charged=charged and kind is Kind.FAILED,
        facts=Facts(**left),
        error=None,
    )


PROFILES = {"vm-1": "win10", "vm-2": "win10", "vm-3": "win10", "vm-9": "win7"}
GOOD = [run("vm-2"), run("vm-3")] * 3


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        (run("vm-1", Kind.FAILED), "failed"),
        (run("vm-1", log_size=0), "empty log"),
        (run("vm-1", pcap_size=24), "no traffic"),
        (run("vm-1", pcap_size=None), "no traffic"),
        (run("vm-1", restore_seconds=15.0), "slower"),
        (run("vm-1", snapshot="other"), "another snapshot"),
    ],
)
def test_a_slot_is_known_by_what_its_runs_left(bad: Run, word: str) -> None:
    """Three in a row, and it is sick; its neighbour is well, and so is a slot of another profile."""
    found = checkups(PROFILES, [*GOOD, bad, bad, bad])
    assert found == {name: checkup(PROFILES, [*GOOD, bad, bad, bad], name) for name in PROFILES}
    assert found["vm-1"].is_sick
    assert [word in reason for reason in found["vm-1"].reasons] == [True]
    assert (found["vm-2"].score, found["vm-9"].score) == (1, 1)


def test_of_two_slots_nobody_knows_whose_snapshot_is_right() -> None:
    """Neither is put aside for it, however often each has run: two snapshots by one name are an alert."""
    runs = [run("vm-1", snapshot="other")] * 9 + [run("vm-2")] * 3
    found = checkups({"vm-1": "win10", "vm-2": "win10"}, runs)
    assert {name: one.score for name, one in found.items()} == {"vm-1": 1, "vm-2": 1}


def test_what_says_nothing_of_a_slot() -> None:
    """A failure that is the sample's; what no run of the profile leaves."""
    assert checkups(PROFILES, [run("vm-1", Kind.FAILED, charged=False)] * 5)["vm-1"].score == 1
    bare = [run(name, pcap_size=None, log_size=0) for name in ("vm-1", "vm-2") for _ in range(5)]
    assert checkups(PROFILES, bare)["vm-1"].score == 1
    apart = run("vm-1", pcap_size=None, traffic_due=False)
    assert checkups(PROFILES, [*GOOD, *[apart] * 5])["vm-1"].score == 1
    assert checkups(PROFILES, [*GOOD, run("vm-1", Kind.CANARY_FAILED)])["vm-1"].is_sick


def test_a_quarter_of_the_fleet_at_most() -> None:
    """What is aside on other hosts counts, and what this host says about itself is taken from itself."""
    mine = [slot(1), slot(2), slot(3)]
    other = host("rack-2", "free", "running", "quarantined", "free")
    assert is_allowed(mine, [], host="rack-1", name="vm-1")
    assert not is_allowed(mine, [other], host="rack-1", name="vm-1")
    assert is_allowed(mine, [other, host("rack-3", "free")], host="rack-1", name="vm-1")
    stale = host("rack-1", "quarantined", "quarantined")
    assert is_allowed(mine, [stale], host="rack-1", name="vm-1")
