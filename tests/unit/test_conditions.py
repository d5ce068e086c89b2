"""When two analyses have one result: whatever matters changes the digest, and nothing else does."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from karton.core import Task
from karton.core.resource import RemoteResource

from drakcelery.errors import BadTask
from drakcelery.ingress.origins import check_fleet
from drakcelery.karton import conditions
from drakcelery.karton.conditions import agreed, conditions_of, visibility
from drakcelery.model.analysis import Analysis, ObjectRef, Place, Priority
from drakcelery.model.metadata import Metadata
from drakcelery.model.news import WatchPlan
from drakcelery.model.records import HostStatus, SlotStatus
from drakcelery.model.reuse import LONGEST, Miss, NotReused, Origin, Reuse, parse_age, parse_rule, pick
from tests.builders import analysis

PLAN = WatchPlan(mode="active", min_seconds=60, quiet_seconds=30)


def ours(**changes: Any) -> Analysis:
    """An analysis with *changes*."""
    return analysis().model_copy(update={"watch": PLAN, **changes})


def task(**more: Any) -> Task:
    """A sample task."""
    return Task({"type": "sample"}, uid="{r}:t", root_uid="r", **more)


CONDITIONS: dict[str, Any] = {
    "extension": "dll",
    "file_name": "other",
    "timeout": 61,
    "start_command": "cmd /c %f",
    "start_method": "runas",
    "guest_working_directory": "C:\\",
    "net_enable": True,
    "plugins": ("procmon",),
    "custom_hooks": ObjectRef(bucket="b", key="k", name="h", sha256="cd" * 32),
    "profile": "win7",
    "target_host": "rack-1",
    "identity": "another",
    "headers": {"type": "other"},
    "bucket": "other",
    "watch": PLAN.model_copy(update={"quiet_seconds": 31}),
}
IRRELEVANT: dict[str, Any] = {
    "uid": "a-2",
    "task_uid": "{r}:t2",
    "root_uid": "r2",
    "priority": Priority.HIGH,
    "magic": "PE32+",
    "quality": "low",
    "reuse": Reuse(seconds=1),
}
SHARED = {"sample", "is_test", "retry_of"}
"""Fields with tests of their own."""


def test_each_field_of_an_analysis_is_considered() -> None:
    """A new field is a condition; whoever adds it says here whether that is right."""
    known = {*CONDITIONS, *IRRELEVANT, *SHARED}
    later = set(Analysis.model_fields) - known
    assert not known - set(Analysis.model_fields)
    assert not later & conditions.IRRELEVANT


@pytest.mark.parametrize("field", CONDITIONS)
def test_each_condition_changes_the_digest(field: str) -> None:
    """Two analyses that differ in it share no result."""
    assert conditions_of(task(), ours(**{field: CONDITIONS[field]})) != conditions_of(task(), ours())


@pytest.mark.parametrize("field", IRRELEVANT)
def test_what_does_not_matter_does_not_change_it(field: str) -> None:
    """Of the same sample, the uid or the priority say nothing about the result."""
    assert conditions_of(task(), ours(**{field: IRRELEVANT[field]})) == conditions_of(task(), ours())


def test_who_measures_is_no_condition() -> None:
    """Which runs go on to the end is drawn by uid: what they saw holds for the others."""
    measured = ours(watch=PLAN.model_copy(update={"measures": True}))
    assert conditions_of(task(), measured) == conditions_of(task(), ours())


def test_the_sample_counts_by_content() -> None:
    """Its name and its place do not matter, its sha256 does, in either case."""
    sample = ours().sample
    moved = sample.model_copy(update={"name": "y.exe", "key": "k2", "sha256": "AB" * 32})
    other = sample.model_copy(update={"sha256": "cd" * 32})
    assert conditions_of(task(), ours(sample=moved)) == conditions_of(task(), ours())
    assert conditions_of(task(), ours(sample=other)) != conditions_of(task(), ours())


@pytest.mark.parametrize(
    "changes",
    [
        {"is_test": True},
        {"retry_of": "a-0"},
        {"sample": ObjectRef(bucket="b", key="k", name="x")},
        {"custom_hooks": ObjectRef(bucket="b", key="k", name="h")},
    ],
)
def test_who_shares_with_nobody(changes: dict[str, Any]) -> None:
    """A test, a retry, and what has unknown content have no conditions."""
    assert conditions_of(task(), ours(**changes)) is None


def test_another_version_shares_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may see other things in the same run."""
    before = conditions_of(task(), ours())
    monkeypatch.setattr(conditions, "__version__", "99")
    assert conditions_of(task(), ours()) != before


NAMES = st.text(max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda one: st.lists(one, max_size=3)
)
BAGS = st.dictionaries(NAMES.filter(lambda name: name not in conditions.WISHES), VALUES, max_size=3)


@given(BAGS, BAGS)
def test_persistent_headers_have_to_be_equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    """By name and by value, whatever they are: 1 is not true."""
    same = repr(sorted(one.items())) == repr(sorted(other.items()))
    digests = [conditions_of(task(headers_persistent=bag), ours()) for bag in (one, other)]
    assert (digests[0] == digests[1]) is same


@given(BAGS, BAGS)
def test_the_persistent_payload_has_to_be_equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Likewise."""
    same = repr(sorted(one.items())) == repr(sorted(other.items()))
    digests = [conditions_of(task(payload_persistent=bag), ours()) for bag in (one, other)]
    assert (digests[0] == digests[1]) is same


def test_a_persistent_header_is_not_a_plain_one() -> None:
    """It travels on to the analysis task."""
    plain, persistent = task(), task(headers_persistent={"share": False})
    plain.headers["share"] = False
    assert conditions_of(plain, ours()) != conditions_of(persistent, ours())


def test_persistent_resources_count_by_content() -> None:
    """Each submission puts its own copy into S3."""
    bags = [{"extra": RemoteResource("e", bucket="b", uid=uid, sha256="ab" * 32)} for uid in ("1", "2")]
    one, other = (conditions_of(task(payload_persistent=bag), ours()) for bag in bags)
    assert one == other
    assert one != conditions_of(task(), ours())


def test_how_a_task_came_does_not_matter() -> None:
    """Routing and wishes are no visibility; what was decided by them is in the analysis."""
    routed = task()
    routed.headers |= {"origin": "x", "receiver": "y", "stage": "recognized", "reuse": "60", "quality": "low"}
    routed.headers |= {"watch": "off", "variants": 0}
    assert visibility(routed) == visibility(task())


@pytest.mark.parametrize(
    ("given_", "seconds"), [(None, None), (0, 0), (60, 60), ("60", 60), (LONGEST, LONGEST)]
)
def test_what_a_task_agrees_to(given_: object, seconds: int | None) -> None:
    """In the payload or in a header; the payload counts if both say something."""
    in_payload, in_header = task(), task()
    if given_ is not None:
        in_payload.add_payload("reuse", given_)
        in_payload.headers["reuse"] = 1
        in_header.headers["reuse"] = given_
    assert (agreed(in_payload), agreed(in_header)) == (seconds, seconds)


@pytest.mark.parametrize("wrong", [-1, LONGEST + 1, True, 1.0, "1d", "", [], {}])
def test_what_no_age_is(wrong: object) -> None:
    """It is refused with a sentence that names the field."""
    with pytest.raises(BadTask, match="'reuse' is "):
        agreed(task(payload={"reuse": wrong}))


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("30m", 1800), ("12h", 43200), ("7d", 604800)]
)
def test_ages(text: str, seconds: int) -> None:
    """Seconds, or with a unit."""
    assert parse_age(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-1", "d", "1w", "1.5h", "367d", "9" * 30])
def test_no_ages(text: str) -> None:
    """Anything else is refused."""
    with pytest.raises(ValueError, match="an age such as"):
        parse_age(text)


def test_rules_give_ages() -> None:
    """The first that matches counts, as for profiles."""
    rules = [parse_rule("1h if quality=low and platform=win32"), parse_rule("1d if quality=low|feed")]
    assert pick(rules, {"quality": "low", "platform": "win32"}) == 3600
    assert pick(rules, {"quality": "feed"}) == 86400
    assert pick(rules, {"quality": "high"}) is None
    with pytest.raises(ValueError, match="such as: 1d if quality=low"):
        parse_rule("1d")


def host(name: str, engine: str = "drakvuf 1", **changes: Any) -> HostStatus:
    """A host with a slot of win10."""
    slot = SlotStatus(name="vm-1", profile="win10", state="free", since=0)
    return HostStatus(host=name, engine=engine, slots=(slot,)).model_copy(update=changes)


METADATA = Metadata(
    sample_sha256="ab" * 32,
    magic_output="",
    time_started=1,
    time_finished=2,
    snapshot_version=1,
    analysis_uid="a",
    snapshot_sha256="cd" * 32,
    start_command="%f",
    plugins=(),
    engine="drakvuf 1",
    host="rack-1",
    slot="vm-1",
    attempts=1,
    execution="executed",
    snapshot_id="s1",
)


@pytest.mark.parametrize(
    ("hosts", "is_hit"),
    [
        ([host("rack-1", snapshot="s1")], True),
        ([host("rack-1", snapshot="s1"), host("rack-2", snapshot="s1")], True),
        ([host("rack-1", snapshot="s1"), host("rack-2", snapshot="s2")], False),
        ([host("rack-1", snapshot="s1"), host("rack-2")], False),
        ([host("rack-1", "drakvuf 2", snapshot="s1")], False),
        ([host("rack-1", snapshot="s1"), host("rack-2", slots=())], True),
        ([], False),
    ],
)
def test_what_hosts_have_by_now(hosts: list[HostStatus], is_hit: bool) -> None:
    """Each host that could run the sample has to be as the earlier run's was."""
    if is_hit:
        check_fleet(hosts, Place(profile="win10"), METADATA)
        return
    with pytest.raises(NotReused) as raised:
        check_fleet(hosts, Place(profile="win10"), METADATA)
    assert raised.value.miss is Miss.FLEET


def test_a_host_that_was_asked_for_counts_alone() -> None:
    """What others have is not of interest then."""
    hosts = [host("rack-1", snapshot="s1"), host("rack-2", snapshot="s2")]
    check_fleet(hosts, Place(profile="win10", host="rack-1"), METADATA)


def test_a_snapshot_that_nobody_knows_is_no_equal_one() -> None:
    """With DRAKVUF; other engines have none."""
    unknown = METADATA.model_copy(update={"snapshot_id": None})
    with pytest.raises(NotReused):
        check_fleet([host("rack-1")], Place(profile="win10"), unknown)
    check_fleet(
        [host("rack-1", "replay")], Place(profile="win10"), unknown.model_copy(update={"engine": "replay"})
    )


def test_the_origin_says_where_it_ran() -> None:
    """For people."""
    origin = Origin(uid="a", host="rack-1", slot="vm-1", started=1)
    assert (origin.where, Reuse(origin=origin).reused_from, Reuse().reused_from) == ("rack-1/vm-1", "a", None)
