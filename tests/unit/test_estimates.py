"""Estimates of waiting: learned durations played forward over the slots."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from drakcelery.forecast.learning import Learned, learned_of
from drakcelery.forecast.simulation import Estimate, KnownSlot, Situation, Wait, Work, estimate
from drakcelery.model.analysis import Place, State
from drakcelery.model.records import Record
from tests.builders import analysis

NOW = 1_760_000_000.0
ANY = Place(profile="win10")
TEN = [Learned(timeout=600, prepare=2, run=8, rest=5)] * 20
"""Every analysis holds its slot for ten seconds."""


def known_slots(*names: str | None, host: str = "rack-1") -> list[KnownSlot]:
    """Slots of a host, and who has each."""
    return [KnownSlot(place=Place(profile="win10", host=host), uid=name) for name in names]


def wait(uid: str, place: Place = ANY, **more: float) -> Wait:
    return Wait(uid=uid, place=place, timeout=600, not_before=more.get("not_before", 0.0))


def situation(
    slots: Sequence[KnownSlot],
    waiting: Sequence[Wait] = (),
    *,
    at_work: Sequence[Work] = (),
    learned: Sequence[Learned] = TEN,
) -> Situation:
    return Situation(now=NOW, slots=slots, at_work=at_work, waiting=waiting, learned={"win10": learned})


def start(found: Estimate) -> tuple[float, float, float]:
    """Seconds from now: low, middle, high."""
    assert found.start is not None
    return found.start.low - NOW, found.start.middle - NOW, found.start.high - NOW


def finish(found: Estimate) -> tuple[float, float, float]:
    return found.finish.low - NOW, found.finish.middle - NOW, found.finish.high - NOW


def test_each_takes_the_slot_that_is_free_first() -> None:
    """With runs of one length there is no uncertainty: the order and the slots say when each starts."""
    found = estimate(situation(known_slots(None, None), [wait(name) for name in "abcde"]))
    assert [start(found[name])[1] for name in "abcde"] == [0, 0, 10, 10, 20]
    assert [finish(found[name]) for name in "ae"] == [(15, 15, 15), (35, 35, 35)]
    assert {one.learned for one in found.values()} == {20}


def test_what_is_at_work_ends_when_its_like_did() -> None:
    """The time that it has taken already counts, stage by stage; what has left its slot blocks nobody."""
    works = [
        Work(uid="prepares", profile="win10", timeout=600, state=State.PREPARING, since=1),
        Work(uid="runs", profile="win10", timeout=600, state=State.RUNNING, since=5),
        Work(uid="collects", profile="win10", timeout=600, state=State.COLLECTING, since=4),
    ]
    slots = known_slots("prepares", "runs")
    found = estimate(situation(slots, [wait("a"), wait("b")], at_work=works))
    assert [finish(found[one.uid])[1] for one in works] == [14, 8, 1]
    assert all(found[one.uid].start is None for one in works)
    assert (start(found["a"])[1], start(found["b"])[1]) == (3, 9)


def test_a_run_that_takes_long_already_is_one_of_the_long_ones() -> None:
    """What is left is drawn from the runs that took longer than it has until now."""
    learned = [Learned(timeout=600, prepare=0, run=run, rest=0) for run in (10, 20, 500, 520, 540)]
    work = Work(uid="a", profile="win10", timeout=600, state=State.RUNNING, since=100)
    low, _, high = finish(estimate(situation(known_slots("a"), at_work=[work], learned=learned))["a"])
    assert (low, high) == (400, 440)
    late = Work(uid="a", profile="win10", timeout=600, state=State.RUNNING, since=1000)
    low, _, high = finish(estimate(situation(known_slots("a"), at_work=[late], learned=learned))["a"])
    assert (low, high) == (0, 300)


@pytest.mark.parametrize("since", [9, 60, 119])
def test_a_run_may_last_until_its_timeout(since: float) -> None:
    """Where it has outlasted all that is known: who waits behind it is promised nothing else."""
    work = Work(uid="a", profile="win10", timeout=120, state=State.RUNNING, since=since)
    found = estimate(situation(known_slots("a"), [wait("b")], at_work=[work]))
    assert (start(found["b"])[0], start(found["b"])[2]) == (0, 120 - since)


def test_a_slot_that_was_claimed_is_taken() -> None:
    """Whoever has claimed a slot starts in it, whatever its place in the order."""
    found = estimate(situation(known_slots("b"), [wait("a"), wait("b")]))
    assert (start(found["b"])[1], start(found["a"])[1]) == (0, 10)


def test_a_host_that_was_asked_for_is_waited_for() -> None:
    """A sample for one host does not take another's slot, and does not hold up those behind it."""
    slots = [*known_slots("r", host="rack-1"), *known_slots(None, host="rack-2")]
    work = Work(uid="r", profile="win10", timeout=600, state=State.RUNNING, since=1)
    waiting = [wait("one", Place(profile="win10", host="rack-1")), wait("any")]
    found = estimate(situation(slots, waiting, at_work=[work]))
    assert (start(found["one"])[1], start(found["any"])[1]) == (7, 0)


def test_nothing_is_said_of_what_is_offline() -> None:
    """No slot of the profile, or of the host, is there: no estimate."""
    waiting = [wait("a", Place(profile="win7")), wait("b", Place(profile="win10", host="rack-9")), wait("c")]
    assert estimate(situation(known_slots(None), waiting)).keys() == {"c"}


def test_a_retry_waits_for_its_time() -> None:
    """One that is due later lets others pass, and goes first once it is due."""
    found = estimate(situation(known_slots(None), [wait("later", not_before=5), wait("a"), wait("b")]))
    assert [start(found[name])[1] for name in ("a", "later", "b")] == [0, 10, 20]


def test_a_probe_takes_no_slot() -> None:
    """Who only asks stands in the line at its place, and changes nothing for those behind."""
    probe = Wait(uid="?", place=ANY, timeout=600, is_probe=True)
    found = estimate(situation(known_slots(None), [wait("a"), probe, wait("b")]))
    assert (start(found["?"])[1], start(found["b"])[1]) == (10, 10)


def test_many_are_as_long_as_each_of_them() -> None:
    """Ten thousand that nobody has looked at are counted, not played: their work is spread over the slots."""
    many = Wait(uid="", place=ANY, timeout=600, count=10_000)
    found = estimate(situation(known_slots(None, None, None, None), [many, wait("last")]))
    assert found.keys() == {"last"}
    low, middle, high = start(found["last"])
    assert low <= middle <= high
    assert middle == pytest.approx(25_000, rel=0.001)


def test_the_same_scene_gives_the_same_answer() -> None:
    """By the seed; and by another seed a little different one."""
    learned = [Learned(timeout=600, prepare=1, run=run, rest=1) for run in range(1, 300)]
    one = situation(known_slots(None), [wait("a"), wait("b"), wait("c")], learned=learned)
    assert estimate(one, seed=3) == estimate(one, seed=3)
    assert estimate(one, seed=3) != estimate(one, seed=4)


def test_little_knowledge_makes_wide_ranges() -> None:
    """Nothing learned is a guess from nothing to the full timeout; one profile may learn from another."""
    guess = estimate(situation(known_slots(None), [wait("a"), wait("b")], learned=[]))["b"]
    low, _, high = start(guess)
    assert (low < 60, high > 600, guess.learned) == (True, True, 0)
    other = Situation(
        now=NOW, slots=known_slots(None), at_work=[], waiting=[wait("a"), wait("b")], learned={"w": TEN}
    )
    assert start(estimate(other)["b"])[1] == 10
    few = [Learned(timeout=600, prepare=1, run=run, rest=1) for run in (100, 110, 300, 320, 330)]
    narrow, wide = (
        start(estimate(situation(known_slots(None), [wait(str(n)) for n in range(30)], learned=many))["29"])
        for many in (few * 40, few)
    )
    assert wide[2] - wide[0] > 1.5 * (narrow[2] - narrow[0])


@pytest.mark.parametrize(
    ("run", "timeout", "expected"),
    [(603, 60, 63), (603, 1200, 1203), (30, 60, 30), (30, 1200, 30), (300, 60, 60)],
    ids=["watched to the end", "longer", "ended by itself", "by itself, longer", "would have been stopped"],
)
def test_a_run_under_another_timeout(run: float, timeout: int, expected: float) -> None:
    """What a run of 600 seconds' timeout says about another timeout."""
    assert Learned(timeout=600, prepare=0, run=run, rest=0).run_within(timeout) == expected


@pytest.mark.parametrize("slots", [1, 4])
def test_eight_of_ten_truths_are_in_the_range(slots: int) -> None:
    """Where the future is drawn from what was learned, the range holds what it promises."""
    chance = random.Random(7)  # noqa: S311 the same in each run of the test
    inside = total = 0
    for seed in range(40):
        runs = [chance.lognormvariate(5, 0.8) for _ in range(60)]
        learned = [Learned(timeout=600, prepare=5, run=min(600, run), rest=1) for run in runs]
        names = [str(number) for number in range(12)]
        found = estimate(
            situation(known_slots(*[None] * slots), [wait(name) for name in names], learned=learned),
            seed=seed,
        )
        free = [0.0] * slots
        for number, name in enumerate(names):
            slot = free.index(min(free))
            if number >= slots:
                low, _, high = start(found[name])
                inside += low <= free[slot] <= high
                total += 1
            free[slot] += 5 + min(600, chance.lognormvariate(5, 0.8))
    assert 0.7 < inside / total < 0.9


def test_what_a_record_teaches() -> None:
    """Only a published analysis whose times are known teaches anything."""
    times = {State.QUEUED: 100.0, State.PREPARING: 110.0, State.RUNNING: 113.5, State.COLLECTING: 173.5}
    record = Record(
        uid="a-1",
        task_uid="{r}:t",
        root_uid="r",
        state=State.PUBLISHED,
        attempt=1,
        first_attempt=1,
        analysis=analysis(),
        received=90,
        updated=180,
        finished=180,
        updated_text="180",
        entered={**times, State.UPLOADING: 175.0},
    )
    assert learned_of(record) == Learned(timeout=60, prepare=3.5, run=60, rest=6.5)
    assert learned_of(record.model_copy(update={"state": State.FAILED})) is None
    assert learned_of(record.model_copy(update={"entered": {State.RUNNING: 113.5}})) is None
    assert learned_of(record.model_copy(update={"analysis": None})) is None
