"""Watched runs of a fleet, as its publications leave them: most show all early, a few go on."""

from __future__ import annotations

import random

from drakcelery.forecast.curve import WatchedRun
from drakcelery.forecast.news import WatchedRuns
from drakcelery.ledger import Ledger
from drakcelery.model.news import News

TIMEOUT = 600


def measured_run(dice: random.Random, *, late: float) -> WatchedRun:
    """A run to its end; one in *late* shows something after a long silence."""
    facts = {min(119, int(dice.expovariate(1 / 25))): dice.randint(1, 9) for _ in range(dice.randint(8, 40))}
    if dice.random() < late:
        facts[dice.randint(200, TIMEOUT - 1)] = dice.randint(1, 6)
    held = [(second, second + 20)] if (second := dice.randint(0, 400)) < 60 else []
    return WatchedRun(seconds=TIMEOUT, timeout=TIMEOUT, news=News.of(TIMEOUT, facts, held))


def remember(ledger: Ledger) -> None:
    """Two profiles: one with enough runs, and some that were stopped; one with few, of two qualities."""
    dice = random.Random(16)  # noqa: S311 - the same on each run
    runs = WatchedRuns(ledger.news)
    for pair, count in {
        ("win10-22h2", "high"): 400,
        ("win7-x64", "high"): 60,
        ("win7-x64", "low"): 12,
    }.items():
        for _ in range(count):
            runs.learn(pair, measured_run(dice, late=0.1), at=ledger.now())
    for _ in range(40):
        stopped = WatchedRun(seconds=dice.randint(120, 240), timeout=TIMEOUT, quiet=True)
        runs.learn(("win10-22h2", "high"), stopped, at=ledger.now())
