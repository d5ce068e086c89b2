"""The played day of :mod:`benchmarks.watching`: its samples are as published, and it keeps the rules."""

from __future__ import annotations

import pytest

from benchmarks.published import EARLY, KNOWN_SHARE, NEW_AFTER, SEEN_EARLY, TIMEOUT, Samples, Submission
from benchmarks.slot_day import OVERHEAD, SLOTS, Means, SecondLooks, play
from drakcelery.model.news import News, WatchRules

RULES = WatchRules(min_seconds=120, quiet_seconds=60)


@pytest.fixture(scope="module")
def submissions() -> list[Submission]:
    """Enough for shares to be near what they are in the long run."""
    return Samples(3).day(4_000)


def one(at: float, *, sample: int = 0, shared: bool | None = None, evades: bool = False) -> Submission:
    """A sample that shows three things at once and nothing later."""
    news = News(seconds=TIMEOUT, facts=((0, 3),))
    return Submission(at=at, sample=sample, shared=shared, urgency=1, evades=evades, news=news)


def test_samples_are_as_published(submissions: list[Submission]) -> None:
    """The shares of the papers come out again, within what chance does."""
    total = sum(one.news.total for one in submissions)
    assert sum(one.news.seen_by(EARLY) for one in submissions) / total == pytest.approx(SEEN_EARLY, abs=0.005)
    for second, share in NEW_AFTER[:2]:
        late = sum(one.news.seen_by(second) < one.news.total for one in submissions)
        assert late / len(submissions) == pytest.approx(share, abs=0.02)
    known = 1 - len({one.sample for one in submissions}) / len(submissions)
    assert known == pytest.approx(KNOWN_SHARE, abs=0.03)


def test_a_slot_that_is_always_watched() -> None:
    """Without anything switched on, a slot does what its time has room for."""
    day = play([one(0, sample=number) for number in range(SLOTS * 200)], Means())
    assert day.per_slot() == -(-86_400 // (TIMEOUT + OVERHEAD))
    assert (day.kept, day.reused, day.second_looks) == (1, 0, 0)


def test_a_quiet_run_is_stopped() -> None:
    """A run that shows nothing new after its first second takes as long as the rules say, and is whole."""
    day = play([one(0)], Means(rules=RULES))
    assert (day.seconds_first, day.kept) == (RULES.min_seconds + OVERHEAD, 1)


def test_nothing_is_reused_across_visibility() -> None:
    """Equal samples are run once for each visibility."""
    tasks = [one(at, shared=shared) for at, shared in enumerate([None, True, False, None, True, False])]
    day = play(tasks, Means(reuse=True))
    assert (day.published, day.reused) == (6, 3)


def test_second_looks_have_their_share() -> None:
    """However many evaders there are, second looks take no more of the slots' time than they may."""
    looks = SecondLooks(told=1, mistaken=1, max_share=0.1)
    day = play([one(0, sample=number, evades=True) for number in range(2_000)], Means(second_looks=looks))
    assert 0 < day.seconds_second <= 0.1 * day.seconds_first


def test_nobody_waits_for_ever(submissions: list[Submission]) -> None:
    """Each submission of a fleet that is not full is published, whatever its priority."""
    looks = SecondLooks(told=1, mistaken=0.1, max_share=0.15)
    day = play(submissions, Means(rules=RULES, reuse=True, second_looks=looks), seconds=10 * 86_400)
    assert day.published == len(submissions)
    assert sum(map(len, day.waits.values())) == day.published - day.reused + day.second_looks
