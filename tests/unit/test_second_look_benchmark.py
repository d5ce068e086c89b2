"""What the benchmark of second looks makes of what became of each program."""

from __future__ import annotations

import pytest

from benchmarks.second_look import Looks, results


def looks(evades: str | None, *, news: int = 0, stretch: float = 0) -> Looks:
    """A program whose second look took *stretch* times as long as the first; 0: it had none."""
    changes = ("profile used",) if stretch else ()
    return Looks(
        program="x", evades=evades, first="sandbox", clues=(), changes=changes, news=news, stretch=stretch
    )


def test_the_figures() -> None:
    """Evaders count where their second look shows more, others where they had one; slot time by the mix."""
    found = [
        *(looks("user", news=3, stretch=1), looks("sleep", news=0, stretch=2), looks("mouse"), looks("bits")),
        *(looks(None, stretch=1), *[looks(None)] * 9),
    ]
    more, twice, time = results(found)
    assert (more.ours, more.runs, more.less_is_better) == (25, 4, False)
    assert (twice.ours, twice.runs, twice.less_is_better) == (10, 10, True)
    assert time.ours == pytest.approx(100 * (0.05 * 0.75 + 0.95 * 0.1))
