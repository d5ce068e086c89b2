"""When a run had something new to show, and when a quiet stop would have ended it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drakcelery.model.news import (
    MOST_ENTRIES,
    News,
    WatchPlan,
    WatchRules,
    WatchRun,
    is_of_share,
    merged,
)

LONGEST = 120

SECONDS = st.integers(0, LONGEST)
FACTS = st.dictionaries(SECONDS, st.integers(1, 5), max_size=12)
PERIODS = st.lists(st.tuples(SECONDS, SECONDS).map(lambda two: (min(two), max(two))), max_size=6)
RULES = st.builds(WatchRules, min_seconds=st.integers(1, LONGEST), quiet_seconds=st.integers(1, LONGEST))
RUNS = st.builds(News.of, st.floats(0, LONGEST), FACTS, PERIODS)


def naive(news: News, rules: WatchRules) -> int | None:
    """The stop, found by looking at each second alone."""
    busy = [(0, 0), *((at, at) for at, _ in news.facts), *news.held]
    for second in range(rules.min_seconds, LONGEST + 1):
        if second >= news.seconds:
            return None
        if all(end + rules.quiet_seconds <= second for begin, end in busy if begin <= second):
            return second
    return None


@given(RUNS, RULES)
def test_the_stop_is_that_of_each_second_alone(news: News, rules: WatchRules) -> None:
    """A reference that asks at each second whether it has been quiet for long enough finds the same stop."""
    assert news.stop_second(rules) == naive(news, rules)


@given(RUNS, RULES, st.integers(0, 50), st.integers(0, 50))
def test_stricter_rules_stop_later(news: News, rules: WatchRules, longer: int, quieter: int) -> None:
    """With a larger ``min_seconds`` or ``quiet_seconds`` no run ends earlier, and none loses more facts."""
    stricter = WatchRules(min_seconds=rules.min_seconds + longer, quiet_seconds=rules.quiet_seconds + quieter)
    stop, later = news.stop_second(rules), news.stop_second(stricter)
    if later is not None:
        assert stop is not None
        assert stop <= later
        assert news.seen_by(stop) <= news.seen_by(later)


@given(RUNS, RULES)
def test_no_stop_while_something_forbids_it(news: News, rules: WatchRules) -> None:
    """A stop lies within the run, and not within a held period, nor ``quiet_seconds`` after one, or after
    news."""
    stop = news.stop_second(rules)
    if stop is not None:
        assert rules.min_seconds <= stop < news.seconds
        assert not any(begin <= stop < end + rules.quiet_seconds for begin, end in news.held)
        assert not any(at <= stop < at + rules.quiet_seconds for at, _ in news.facts)


def seconds_of(noise: bytes) -> list[int]:
    """Seconds from 0 to 3000, of two bytes each: many are drawn at once, not one by one."""
    return [(high << 8 | low) % 3001 for high, low in zip(noise[::2], noise[1::2], strict=True)]


def drawn(least: int, most: int) -> st.SearchStrategy[list[int]]:
    """From *least* to *most* seconds."""
    sizes = st.integers(least, most)
    return sizes.flatmap(lambda size: st.binary(min_size=2 * size, max_size=2 * size)).map(seconds_of)


@given(
    drawn(200, 600).map(lambda seconds: {at: 1 + at % 3 for at in seconds}),
    drawn(0, 600),
    RULES,
)
def test_what_is_too_much_is_joined(facts: dict[int, int], held: list[int], rules: WatchRules) -> None:
    """A run with more seconds of news, or periods, than are kept has no earlier stop, and as many facts by
    then."""
    periods = [(at, at) for at in held]
    kept = News.of(4000.0, facts, periods)
    whole = News(seconds=4000.0, facts=tuple(sorted(facts.items())), held=tuple(merged(periods)))
    assert max(len(kept.facts), len(kept.held)) <= MOST_ENTRIES
    assert kept.total == whole.total
    stop, exact = kept.stop_second(rules), whole.stop_second(rules)
    if stop is not None:
        assert exact is not None
        assert exact <= stop
        assert kept.seen_by(stop) == whole.seen_by(stop)


def test_a_quiet_run_ends_at_the_least_time() -> None:
    """A run without any news is stopped after ``min_seconds``, or ``quiet_seconds`` if that is longer."""
    news = News(seconds=600.0)
    assert news.stop_second(WatchRules(min_seconds=120, quiet_seconds=60)) == 120
    assert news.stop_second(WatchRules(min_seconds=120, quiet_seconds=200)) == 200
    assert News(seconds=120.0).stop_second(WatchRules(min_seconds=120, quiet_seconds=60)) is None


def test_a_pending_sleep_forbids_the_stop() -> None:
    """The stop comes ``quiet_seconds`` after what held it, and not at all if that lasts longer than the
    run."""
    rules = WatchRules(min_seconds=10, quiet_seconds=20)
    assert News.of(600.0, {3: 5}, [(4, 300)]).stop_second(rules) == 320
    assert News.of(600.0, {3: 5}, [(4, 590)]).stop_second(rules) is None
    assert News.of(600.0, {3: 5, 310: 1}, [(50, 300)]).stop_second(rules) == 23


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 1.0])
def test_a_share_is_drawn_by_the_uid(share: float) -> None:
    """About that share of all analyses is drawn, and each of them at each attempt."""
    drawn = [is_of_share(f"uid-{number}", share) for number in range(4000)]
    assert sum(drawn) == pytest.approx(4000 * share, abs=80)
    assert drawn[:50] == [is_of_share(f"uid-{number}", share) for number in range(50)]


def test_words() -> None:
    """A run that was stopped, one that would have been and one that would not are told apart."""
    plan = WatchPlan(min_seconds=10, quiet_seconds=60, mode="active", extend_to=900)
    assert plan.stops
    assert plan.longest(600) == 900
    assert (plan.earliest(600), plan.earliest(5)) == (10, 5)
    assert plan.model_copy(update={"measures": True}).earliest(600) == 600
    assert not plan.model_copy(update={"measures": True}).stops
    stopped = WatchRun(plan=plan, ended="quiet", seconds=143, stop_second=142, facts=8)
    assert stopped.words == "stopped after 143 s, since nothing new had come for 60 s"
    shadow = stopped.model_copy(update={"ended": "timeout", "seconds": 600, "later": 2})
    assert shadow.words == (
        "watched for 600 s; a quiet stop would have come after 142 s: 2 of 10 facts came after that"
    )
    busy = shadow.model_copy(update={"stop_second": None, "later": 0, "trouble": "it was too fast"})
    assert busy.words == "watched for 600 s; a quiet stop would not have come before (it was too fast)"
