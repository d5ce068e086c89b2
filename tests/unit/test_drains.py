"""Slots that operators take out of use, and what that means for the room that the fleet has."""

from __future__ import annotations

from pathlib import Path

import pytest

from drakcelery.host.drains import Closed
from drakcelery.host.slot import SlotState
from drakcelery.host.slots import SlotTable
from drakcelery.model.analysis import Place
from drakcelery.model.capacity import Capacity
from drakcelery.model.records import HostStatus, SlotStatus
from drakcelery.operators.overview import host_overviews, profile_overviews

SLOTS = {"vm-1": "win10", "vm-2": "win10"}
WIN10 = Place(profile="win10")


@pytest.fixture
def table(tmp_path: Path) -> SlotTable:
    """Two clean slots."""
    return start(tmp_path)


def start(state_dir: Path, slots: dict[str, str] = SLOTS) -> SlotTable:
    """What a vm worker does that starts."""
    table = SlotTable(state_dir, quarantine_after=2)
    table.define(slots)
    for name in slots:
        table.cleaned(name)
    return table


def shown(table: SlotTable) -> list[str]:
    return [slot.status for slot in table.all()]


def test_a_drained_slot_is_not_given_out(table: SlotTable) -> None:
    """Neither is one whose host is drained, nor one in quarantine; each until its own word is taken back."""
    table.close("vm-1", Closed.DRAINED, by="alice")
    assert (shown(table), table.claim("win10", "a", 1)) == (["drained", "free"], "vm-2")
    table.close(None, Closed.DRAINED, by="bob")
    table.close("vm-2", Closed.QUARANTINED, by="carol")
    assert table.release("vm-2", "a", 1)
    assert shown(table) == ["drained", "quarantined"]
    assert table.claim("win10", "b", 1) is None
    assert table.reopen(None, Closed.DRAINED)
    assert table.claim("win10", "b", 1) is None
    assert not table.reopen("vm-1", Closed.QUARANTINED)
    assert table.reopen("vm-1", Closed.DRAINED)
    assert table.claim("win10", "b", 1) == "vm-1"
    assert table.reopen("vm-2", Closed.QUARANTINED)
    assert table.claim("win10", "c", 1) == "vm-2"


def test_what_runs_in_a_drained_slot_finishes(table: SlotTable) -> None:
    """The slot goes through its states as usual, is shown as draining, and then as drained."""
    table.claim("win10", "a", 1)
    table.close("vm-1", Closed.DRAINED, by="alice")
    assert table.move("vm-1", "a", 1, origin=SlotState.PREPARING, to=SlotState.READY)
    assert table.move("vm-1", "a", 1, origin=SlotState.READY, to=SlotState.RUNNING)
    (slot, _) = table.all()
    assert (slot.state, slot.status, slot.status_since) == (SlotState.RUNNING, "draining", slot.since)
    assert table.release("vm-1", "a", 1)
    (slot, _) = table.all()
    assert (slot.state, slot.status) == (SlotState.FREE, "drained")
    assert slot.drain is not None
    assert slot.drain.by == "alice"


def test_a_dirty_slot_says_so(table: SlotTable) -> None:
    """A guest that was left behind is seen, drained or not; it is destroyed as usual."""
    table.claim("win10", "a", 1)
    table.close(None, Closed.DRAINED, by="alice")
    assert table.soil("a", 1)
    assert shown(table) == ["dirty", "drained"]
    assert table.cleaned("vm-1")
    assert shown(table) == ["drained", "drained"]


def test_it_outlives_the_worker(tmp_path: Path) -> None:
    """The next worker finds the slots closed as they were, and a drained host's new slots as well."""
    table = start(tmp_path)
    table.close("vm-1", Closed.QUARANTINED, by="alice")
    table.close(None, Closed.DRAINED, by="bob")
    table = start(tmp_path, {**SLOTS, "vm-3": "win10"})
    assert shown(table) == ["quarantined", "drained", "drained"]
    assert table.reopen(None, Closed.DRAINED)
    assert shown(table) == ["quarantined", "free", "free"]


def test_a_slot_that_is_gone_is_forgotten(tmp_path: Path) -> None:
    """One that comes back under its name is another one."""
    start(tmp_path).close("vm-2", Closed.DRAINED, by="alice")
    start(tmp_path, {"vm-1": "win10"})
    assert shown(start(tmp_path)) == ["free", "free"]


def test_who_was_first_is_kept(table: SlotTable) -> None:
    """A second drain changes nothing: the first reason still stands."""
    table.close("vm-1", Closed.DRAINED, by="alice")
    table.close("vm-1", Closed.DRAINED, by="bob")
    (drain,) = table.closed()
    assert drain.by == "alice"


def test_an_operator_forgives(table: SlotTable) -> None:
    """A slot that failed too often is tried again at once, with all its tries; any other is left alone."""
    for _ in range(2):
        table.claim("win10", "a", 1)
        table.failed("vm-1", "a", 1)
        table.release("vm-1", "a", 1)
    assert shown(table) == ["quarantined", "free"]
    assert not table.forgive("vm-2")
    assert table.forgive("vm-1")
    assert shown(table) == ["dirty", "free"]
    assert table.cleaned("vm-1")
    table.claim("win10", "a", 2)
    table.failed("vm-1", "a", 2)
    table.release("vm-1", "a", 2)
    assert shown(table) == ["free", "free"]


def host(name: str, *states: str, draining: bool = False) -> HostStatus:
    """A host of win10 slots; a slot that is ``running`` or ``draining`` is held."""
    slots = tuple(
        SlotStatus(
            name=f"vm-{number}",
            profile="win10",
            state=state,
            uid=f"{name}-{number}" if state in ("running", "draining") else None,
            since=0,
        )
        for number, state in enumerate(states, 1)
    )
    return HostStatus(host=name, engine="replay", slots=slots, draining=draining)


def test_a_drained_host_has_no_room() -> None:
    """Nobody counts on its slots, those still in use included; what asks for it waits in line."""
    hosts = [host("rack-1", "draining", "drained", draining=True), host("rack-2", "running", "free")]
    capacity = Capacity.of(hosts, {WIN10: 2}, look_ahead=0)
    assert capacity.free(Place(profile="win10", host="rack-1")) == 0
    assert capacity.free(WIN10) == 1
    alone = Capacity.of(hosts[:1], {WIN10: 1}, look_ahead=5)
    assert (alone.free(WIN10), alone.total()) == (0, 0)


def test_what_is_leaving_takes_no_room() -> None:
    """While a large host finishes its guests, the slots of the small one go on being filled."""
    large, small = host("rack-1", *["draining"] * 8, draining=True), host("rack-2", "running", "free")
    assert Capacity.of([large, small], {WIN10: 9}, look_ahead=0).free(WIN10) == 1
    # A guest that is being destroyed, of an analysis that is over
    assert Capacity.of([large, small], {WIN10: 3}, look_ahead=0).free(WIN10) == 2


def test_overviews_tell_what_is_out_of_use() -> None:
    """A host that an operator drained is told from one that is busy, and so are a profile's slots."""
    hosts = [host("rack-1", "draining", "drained", draining=True), host("rack-2", "quarantined", "free")]
    assert [one.draining for one in host_overviews(hosts, {}, [])] == [True, False]
    (profile,) = profile_overviews(hosts, {}, [], {})
    assert (profile.slots, profile.free, profile.out_of_use) == (4, 1, 3)
