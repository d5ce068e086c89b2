"""Silence as far as somebody listened: what a watch with gaps says. Pure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drakcelery.model.timeouts import Watch

WATCH = Watch(now=1000, since=900, gaps=((200, 500), (850, 900)))


@pytest.mark.parametrize(
    ("sign", "seconds"),
    [
        (990, 10),
        (900, 100),
        (870, 100),
        (850, 100),
        (840, 110),
        (500, 450),
        (300, 450),
        (200, 450),
        (9, 641),
    ],
)
def test_what_was_watched_counts(sign: float, seconds: float) -> None:
    """Of the time since a sign, the gaps are left out, one that the sign falls into as well."""
    assert WATCH.watched(sign) == seconds


@pytest.mark.parametrize(("seconds", "at"), [(10, 990), (100, 900), (101, 849), (450, 500), (451, 199)])
def test_how_long_ago(seconds: float, at: float) -> None:
    """The time from which on so many seconds were watched lies before the gaps in between."""
    assert WATCH.ago(seconds) == at
    assert WATCH.lasts == 100


@given(
    st.lists(st.floats(1, 1e6), max_size=12).map(sorted),
    st.floats(0, 1e6),
)
def test_one_is_the_inverse_of_the_other(ends: list[float], seconds: float) -> None:
    """Whatever gaps there are: since the time that lies so many watched seconds ago, so many were watched."""
    gaps = tuple(zip(ends[::2], ends[1::2], strict=False))
    watch = Watch(now=1e6, since=gaps[-1][1] if gaps else 0.0, gaps=gaps)
    assert watch.watched(watch.ago(seconds)) == pytest.approx(seconds, abs=1e-3)
