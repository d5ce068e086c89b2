"""The rules that pick a VM profile, and the room that each profile has."""

from __future__ import annotations

import re

import pytest

from drakcelery.model.analysis import Place
from drakcelery.model.capacity import Capacity
from drakcelery.model.profiles import parse_rule, pick
from drakcelery.model.records import HostStatus, Line, SlotStatus
from drakcelery.operators.overview import host_overviews, profile_overviews

FACTS = {"platform": "win32", "extension": "doc", "quality": "high", "magic": "Composite Document File V2"}


@pytest.mark.parametrize(
    ("rule", "matches"),
    [
        ("p if platform=win32", True),
        ("p if platform=win64", False),
        ("p if extension=doc|docx", True),
        ("p if magic=composite document*", True),
        ("p if magic=*V2 and quality=high", True),
        ("p if magic=*V2 and quality=low", False),
        ("p if extension=d?c", True),
    ],
)
def test_a_rule_matches(rule: str, *, matches: bool) -> None:
    """Every condition has to hold, one of its patterns has to match, and case does not matter."""
    assert parse_rule(rule).matches(FACTS) is matches


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("win7", "<profile> if <fact>=<pattern>"),
        ("a b if platform=x", "<profile> if <fact>=<pattern>"),
        ("win7 if ", "<profile> if <fact>=<pattern>"),
        ("win7 if size=3", "platform, extension, quality, magic"),
        ("win7 if platform", "a pattern after platform="),
        ("win7 if extension=doc|", "a pattern after extension="),
    ],
)
def test_a_broken_rule_is_refused(rule: str, expected: str) -> None:
    """The sentence says what was expected."""
    with pytest.raises(ValueError, match=re.escape(expected)):
        parse_rule(rule)


def test_the_first_rule_wins() -> None:
    """Rules count in their order; without one that matches nothing is picked."""
    rules = [parse_rule("first if platform=win32"), parse_rule("second if platform=*")]
    assert pick(rules, FACTS) == "first"
    assert pick(rules[1:], FACTS) == "second"
    assert pick(rules, {}) == "second"
    assert pick([], FACTS) is None


def test_places_can_be_written_and_read() -> None:
    """A place is a word that Redis keys and people can hold."""
    for place in (Place(profile="win10"), Place(profile="win10", host="rack-1")):
        assert Place.parse(str(place)) == place


def host(name: str, **slots: str) -> HostStatus:
    """A host; slots are ``vm_1="win7 free"``."""
    return HostStatus(
        host=name,
        engine="replay",
        slots=tuple(
            SlotStatus(name=slot, profile=text.split()[0], state=text.split()[1], since=0)
            for slot, text in slots.items()
        ),
    )


HOSTS = [
    host("rack-1", vm_1="win7 running", vm_2="win10 free"),
    host("rack-2", vm_1="win10 running", vm_2="win10 quarantined"),
]
WIN7, WIN10 = Place(profile="win7"), Place(profile="win10")
ON_RACK_2 = Place(profile="win10", host="rack-2")


def test_room_is_counted_by_profile() -> None:
    """Slots and the look-ahead of a profile, without those in flight; a quarantined slot does not count."""
    capacity = Capacity.of(HOSTS, {WIN7: 3, WIN10: 1}, look_ahead=2)
    assert (capacity.free(WIN7), capacity.free(WIN10), capacity.total()) == (0, 3, 3)


def test_room_of_a_host() -> None:
    """Those who ask for a host share its slots; they count against their profile's as well."""
    capacity = Capacity.of(HOSTS, {ON_RACK_2: 2}, look_ahead=2)
    assert (capacity.free(ON_RACK_2), capacity.free(WIN10)) == (1, 2)
    capacity = Capacity.of(HOSTS, {ON_RACK_2: 3}, look_ahead=2)
    assert (capacity.free(ON_RACK_2), capacity.free(WIN10)) == (0, 1)
    capacity = Capacity.of(HOSTS, {WIN10: 4}, look_ahead=2)
    assert capacity.free(ON_RACK_2) == 0


def test_what_is_offline_has_no_room() -> None:
    """Without a slot online there is no look-ahead either."""
    capacity = Capacity.of(HOSTS, {}, look_ahead=2)
    assert capacity.free(Place(profile="xp")) == 0
    assert capacity.free(Place(profile="win7", host="rack-2")) == 0
    assert Capacity.of([], {}, look_ahead=2).total() == 0


def test_overviews_show_what_is_offline_too() -> None:
    """A host or profile that went away is listed, with when it was last seen and what waits for it."""
    places = {
        Place(profile="win7", host="rack-1"): 90.0,
        Place(profile="win10", host="rack-1"): 90.0,
        ON_RACK_2: 90.0,
        Place(profile="xp", host="rack-9"): 50.0,
    }
    lines = [
        Line(place=Place(profile="xp"), length=2, since=40.0),
        Line(place=Place(profile="xp", host="rack-9"), length=1, since=30.0),
    ]
    hosts = {one.host: one for one in host_overviews(HOSTS, places, lines)}
    assert [hosts[name].online for name in ("rack-1", "rack-2", "rack-9")] == [True, True, False]
    assert hosts["rack-2"].slots == {"running": 1, "quarantined": 1}
    assert (hosts["rack-9"].waiting, hosts["rack-9"].seen, hosts["rack-9"].profiles) == (1, 50.0, ("xp",))
    profiles = {one.profile: one for one in profile_overviews(HOSTS, places, lines, {WIN7: 3})}
    assert (profiles["win10"].slots, profiles["win10"].free) == (3, 1)
    assert (profiles["win7"].in_flight, profiles["win7"].hosts) == (3, ("rack-1",))
    assert (profiles["xp"].online, profiles["xp"].waiting, profiles["xp"].waiting_since) == (False, 3, 30.0)
