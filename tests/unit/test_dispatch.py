"""Where an attempt goes: to whoever is free, and after a failure elsewhere."""

from __future__ import annotations

from collections import Counter

from drakcelery.model.records import HostStatus, SlotStatus
from drakcelery.stages.dispatch import placement
from tests.builders import analysis


def host(name: str, *slots: tuple[str, str]) -> HostStatus:
    return HostStatus(
        host=name,
        engine="replay 1",
        slots=tuple(
            SlotStatus(name=f"vm-{number}", profile=profile, state=state, since=0)
            for number, (profile, state) in enumerate(slots, 1)
        ),
    )


def test_first_attempt_goes_to_anyone() -> None:
    """A first attempt waits for whichever host has a slot first, unless it asked for one."""
    assert str(placement(analysis())) == "win10"
    assert str(placement(analysis(profile="win7"))) == "win7"
    asked = analysis(target_host="rack-3")
    assert str(placement(asked, failed=("rack-3",))) == "win10@rack-3"


def test_next_attempt_goes_elsewhere_if_it_can() -> None:
    """After a failure, another host with a free slot of the profile is preferred."""
    hosts = [host("rack-1", ("win10", "free")), host("rack-2", ("win7", "free"), ("win10", "running"))]
    spare = host("rack-3", ("win10", "free"))
    assert str(placement(analysis(), hosts=hosts, failed=("rack-1",))) == "win10"
    assert str(placement(analysis(), hosts=[*hosts, spare], failed=("rack-1",))) == "win10@rack-3"


def test_a_burst_of_failures_is_spread() -> None:
    """By free slots, and always alike for one analysis; whatever the hosts are called (R20)."""
    hosts = [
        host("rack-1", ("win10", "free")),
        host("rack-2", ("win10", "free")),
        host("rack-3", *[("win10", "free")] * 3),
        host("rack-4", ("win10", "halted")),
        host("rack-5", ("win10", "free")),
    ]

    def chosen(number: int, among: list[HostStatus]) -> str | None:
        ours = analysis().model_copy(update={"uid": f"burst-{number}"})
        return placement(ours, hosts=among, failed=("rack-1",)).host

    counts = Counter(chosen(number, hosts) for number in range(1000))
    assert set(counts) == {"rack-2", "rack-3", "rack-5"}
    assert 500 < counts["rack-3"] < 700
    assert 130 < counts["rack-2"] < 270
    assert all(chosen(number, hosts) == chosen(number, hosts[::-1]) for number in range(20))
