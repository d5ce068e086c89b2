"""The times that follow from a lease, and which leases there are."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from drakcelery.model.timeouts import LONGEST, SHORTEST, timeouts_of
from tests.unit.settings.reading import complaint, read

MINUTE = 60.0
LEASES = range(SHORTEST, LONGEST + 1)


@pytest.mark.parametrize("lease", LEASES)
def test_signs_come_often_enough(lease: int) -> None:
    """Who lives has several chances to say so before anybody holds him for dead."""
    times = timeouts_of(lease)
    assert times.heartbeat * 10 <= times.silence + 1e-9
    assert times.report * 3 <= times.host
    assert times.renew * 9 <= times.visibility + 1e-9
    assert times.retry <= times.silence / 2


@pytest.mark.parametrize("lease", LEASES)
def test_a_message_comes_back_to_be_taken(lease: int) -> None:
    """A message that comes back finds its claim silent; a connection that hangs is replaced before."""
    times = timeouts_of(lease)
    assert times.silence < times.visibility
    assert times.renew + times.connection + times.renew < times.visibility


@pytest.mark.parametrize("lease", LEASES)
def test_a_host_is_gone_when_its_analyses_are_ended(lease: int) -> None:
    """Reconcile finds a dead host off the list, and its claims silent, when it is time to end them."""
    times = timeouts_of(lease)
    assert times.host + times.report < times.lost
    assert times.silence < times.lost


@pytest.mark.parametrize("lease", LEASES)
def test_a_link_that_hangs_costs_no_attempt(lease: int) -> None:
    """A new link is there, and its messages renewed, before a free slot's message counts as lost."""
    times = timeouts_of(lease)
    assert times.connection + times.renew < times.lost < times.visibility


@pytest.mark.parametrize("lease", LEASES)
def test_an_outage_that_goes_unnoticed_is_survived(lease: int) -> None:
    """Who could not be heard for as long as a watch may pause is back before he counts as lost."""
    times = timeouts_of(lease)
    assert times.pause + times.retry + times.heartbeat < times.lost
    assert times.check * 2 < times.pause
    assert times.reconcile < times.pause


def longest_way(lease: int) -> float:
    """Seconds until the work of a dead host is sent, or its message is back, at worst."""
    times = timeouts_of(lease)
    return max(times.lost + times.reconcile, times.visibility + times.renew, times.orphan + times.check)


def test_within_a_minute() -> None:
    """By default within a minute (I5), the restore of a VM included; by the shortest lease within 10 s."""
    assert longest_way(LONGEST) <= MINUTE - 10
    assert longest_way(SHORTEST) < 9


def test_todays_times() -> None:
    """The default's times, as docs and operators know them."""
    assert {name: round(seconds, 1) for name, seconds in asdict(timeouts_of(LONGEST)).items()} == {
        "heartbeat": 2,
        "silence": 20,
        "lost": 30,
        "unsent": 15,
        "reconcile": 10,
        "report": 5,
        "host": 15,
        "check": 5,
        "orphan": 20,
        "renew": 5,
        "visibility": 45,
        "connection": 20,
        "retry": 10,
        "pause": 15,
    }


def test_the_setting(tmp_path: Path) -> None:
    """It is the longest by default; what is too short, too long or no number is refused with a sentence."""
    assert read(tmp_path, "").drakcelery.timeouts == timeouts_of(LONGEST)
    assert read(tmp_path, "[drakcelery]\nlease_seconds=5\n").drakcelery.timeouts == timeouts_of(5)
    for value, expected in (("4", "at least 5"), ("31", "at most 30"), ("2.5", "a whole number")):
        said = complaint(tmp_path, f"[drakcelery]\nlease_seconds={value}\n")
        assert said == f"settings.ini: [drakcelery] lease_seconds = '{value}': expected {expected}"
