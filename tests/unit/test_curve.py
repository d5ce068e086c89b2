"""What a quiet stop would buy: tried on runs that nobody stopped, and said no surer than it is."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drakcelery.forecast.curve import (
    GRID,
    Curve,
    Group,
    Trial,
    WatchedRun,
    at_most,
    best,
    recommend,
    runs_needed,
)
from drakcelery.model.news import News, WatchRules
from tests.examples import examples

KEEP = 0.98


@st.composite
def news(draw: st.DrawFn) -> News:
    """What a run may have shown: seconds in order, periods in order and apart, none after its end."""
    seconds = draw(st.integers(1, 700))
    at = sorted(draw(st.sets(st.integers(0, seconds), max_size=12)))
    edges = sorted(draw(st.sets(st.integers(0, seconds), max_size=8)))
    return News(
        seconds=seconds + draw(st.sampled_from((0, 0.25))),
        facts=tuple((second, draw(st.integers(1, 50))) for second in at),
        held=tuple(zip(edges[::2], edges[1::2], strict=False)),
    )


def measured(*all_news: News) -> list[WatchedRun]:
    """Measured runs with these."""
    return [WatchedRun(seconds=one.seconds, timeout=600, news=one) for one in all_news]


def curve_of(runs: Sequence[WatchedRun], current: WatchRules | None = None, keep: float = KEEP) -> Curve:
    return Group.of(runs, current).curve(keep=keep, current=current)


@examples(60)
@given(st.lists(news(), max_size=6), st.integers(1, 400), st.integers(1, 200))
def test_rules_are_tried_as_news_says(all_news: list[News], low: int, quiet: int) -> None:
    """Time saved and facts lost are those that News itself has, run by run and second by second."""
    rules = WatchRules(min_seconds=low, quiet_seconds=quiet)
    trial = curve_of(measured(*all_news), rules).current
    if not all_news:
        assert trial is None
        return
    stops = [(one, one.stop_second(rules)) for one in all_news]
    stopped = [(one, stop) for one, stop in stops if stop is not None]
    lost = sum(one.total - one.seen_by(stop) for one, stop in stopped)
    assert trial is not None
    assert trial.stopped == len(stopped)
    assert trial.losing == sum(one.seen_by(stop) < one.total for one, stop in stopped)
    facts, seconds = sum(one.total for one in all_news), sum(one.seconds for one in all_news)
    assert trial.saved == pytest.approx(sum(one.seconds - stop for one, stop in stopped) / seconds)
    assert trial.lost == pytest.approx(lost / facts if facts else 0)
    assert trial.lost <= trial.lost_at_most <= 1


@examples(40)
@given(st.lists(news(), max_size=4), st.lists(news(), max_size=4))
def test_groups_add_up(some: list[News], more: list[News]) -> None:
    """All together are what their runs are together."""
    rules = WatchRules(min_seconds=30, quiet_seconds=5)
    added = Group.of(measured(*some), rules) + Group.of(measured(*more), rules)
    whole = Group.of(measured(*some, *more), rules)
    assert added.curve(keep=KEEP, current=rules) == whole.curve(keep=KEEP, current=rules)


@st.composite
def trials(draw: st.DrawFn) -> list[Trial]:
    """Some trials, with equal ones among them."""
    shares = st.sampled_from((0.0, 0.1, 0.2, 0.3))
    return [
        Trial(rules=rules, stopped=1, losing=1, saved=draw(shares), lost=lost, lost_at_most=lost + 0.05)
        for rules in GRID[: draw(st.integers(0, 10))]
        for lost in [draw(shares)]
    ]


@given(trials())
def test_the_curve_has_the_best_rules(tried: list[Trial]) -> None:
    """By brute force: none of them is beaten, each other one is, and they go up."""
    front = best(tried)

    def beats(one: Trial, other: Trial) -> bool:
        return (
            one.saved >= other.saved
            and one.lost <= other.lost
            and ((one.saved, one.lost) != (other.saved, other.lost))
        )

    points = {(one.saved, one.lost) for one in tried if not any(beats(other, one) for other in tried)}
    assert [(one.saved, one.lost) for one in front] == sorted(points)


@given(trials(), st.sampled_from((0.5, 0.8, 0.95)))
def test_the_recommendation_saves_most(tried: list[Trial], keep: float) -> None:
    """Of those whose loss is surely within the bound; none where none is, or where nothing is saved."""
    fit = [one for one in tried if one.lost_at_most <= 1 - keep and one.saved > 0]
    chosen = recommend(tried, keep=keep)
    assert (chosen is None) == (not fit)
    if chosen is not None:
        assert chosen in fit
        assert chosen.saved == max(one.saved for one in fit)


BURST = News(seconds=600, facts=((1, 20), (5, 20)))
LATE = News(seconds=600, facts=((1, 20), (400, 20)))


def test_enough_runs_make_a_recommendation() -> None:
    """133 runs that lose nothing show that 98 % is kept; 132 do not, and it is said how many are missing."""
    assert runs_needed(KEEP) == 133
    sure = curve_of(measured(*[BURST] * 133))
    assert sure.recommended is not None
    assert (sure.recommended.lost, sure.missing_runs) == (0, None)
    assert sure.recommended.saved == pytest.approx(1 - 15 / 600)
    few = curve_of(measured(*[BURST] * 132))
    assert (few.recommended, few.missing_runs) == (None, 1)
    assert curve_of([]).missing_runs == 133


def test_late_news_cost_time() -> None:
    """Where one run in ten shows half of its facts late, no stop before that is recommended."""
    curve = curve_of(measured(*[*[BURST] * 900, *[LATE] * 100]))
    assert (curve.recommended, curve.missing_runs) == (None, None)
    assert curve.trials[-1].lost == pytest.approx(0.05)
    fine = curve_of(measured(*[*[BURST] * 900, *[LATE] * 100]), keep=0.9)
    assert fine.recommended == fine.trials[-1]


def test_a_run_with_most_of_the_facts_makes_the_others_few() -> None:
    """200 runs of which one has nearly all facts say little of how much is lost."""
    huge = News(seconds=600, facts=((1, 100_000),))
    curve = curve_of(measured(huge, *[BURST] * 199))
    assert (curve.runs, curve.weight, curve.recommended) == (200, 1, None)
    assert curve.missing_runs is not None
    assert curve.missing_runs > 10_000


def test_what_was_stopped_counts_for_time_only() -> None:
    """A run that was stopped, or was never quiet, adds nothing to what is lost or what might be saved."""
    stopped = WatchedRun(seconds=100, timeout=600, quiet=True)
    busy = WatchedRun(seconds=600, timeout=600)
    odd = WatchedRun(seconds=700, timeout=600, quiet=True)
    with_them = curve_of([*measured(BURST, LATE), stopped, stopped, busy, odd])
    assert (with_them.stopped, with_them.saved_seconds, with_them.runs) == (3, 1000, 2)
    assert with_them.trials == curve_of(measured(BURST, LATE)).trials


def test_without_facts_nothing_is_recommended() -> None:
    """Runs that showed nothing do not say that nothing is lost."""
    curve = curve_of(measured(*[News(seconds=600)] * 500))
    assert (curve.weight, curve.recommended) == (0, None)


@pytest.mark.parametrize("share", [0.002, 0.01, 0.03])
def test_the_bound_holds(share: float) -> None:
    """In 19 of 20 fleets the real loss is below what their runs say at most; some too many is no fault."""
    dice = random.Random(4)  # noqa: S311 - no secret
    fleets = [sum(dice.random() < share for _ in range(300)) / 300 for _ in range(1000)]
    assert sum(at_most(seen, 300) >= share for seen in fleets) / len(fleets) >= 0.93
