"""docs/guarantees.md keeps up with the failpoints."""

from __future__ import annotations

import pytest

from benchmarks.pages import filled
from drakcelery.failpoints import POINTS
from tests.faults.report import ACTIONS, CASES, PAGE, Outage, Outcome, matrix, outages, simulation

OUTCOMES = [
    Outcome(point=point, action=action, state="PUBLISHED", attempts=2, reason=None, seconds=3.81)
    for point in POINTS
    for action in ACTIONS
]


def test_the_page_shows_every_case() -> None:
    """Each failpoint has its row, with an outcome for each fault."""
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    shown = {row.split("`")[1]: row.split("|")[2:-1] for row in rows}
    assert {point: len(shown.get(point, ())) for point in POINTS} == dict.fromkeys(POINTS, len(ACTIONS))


def test_a_case_that_was_not_run_is_missed() -> None:
    """No table is made of half a run."""
    with pytest.raises(KeyError):
        matrix(OUTCOMES[1:])


def test_tables_are_replaced() -> None:
    """A new table takes the place of the old one, and nothing else changes."""
    page = "before\n<!-- matrix -->\nold\n<!-- /matrix -->\nafter\n"
    once = filled(page, "matrix", matrix(OUTCOMES))
    assert once == filled(once, "matrix", matrix(OUTCOMES))
    assert "| published, 3.8 s, attempt 2 |" in once
    assert "old" not in once
    assert once.startswith("before\n")
    assert once.endswith("\nafter\n")
    with pytest.raises(ValueError, match="storm"):
        filled(page, "storm", "")


def test_outages_are_shown() -> None:
    """What went wrong is said, what was not run is left open, and how many were run is counted."""
    run = Outage(
        what="power",
        leases=3,
        first="vm",
        guest_attempts=2,
        innocent_ended=1,
        detonated_again=0,
        found_seconds=6.4,
    )
    text = outages([run])
    assert (
        "| power, everywhere | 3 | - | all published, guest in attempt 2, 1 ended; death found in 6.4 s | - |"
        in text
    )
    assert f"1 of {len(CASES)} cases were run; the real death was found within 6 s." in text


def test_a_batch_of_schedules_is_shown() -> None:
    """Those that failed are named, and what went wrong most often comes first."""
    tally = {
        "first_seed": 7,
        "steps_each": 300,
        "schedules": 1000,
        "failed": [9],
        "steps": 2_000_000,
        "virtual_seconds": 7200,
        "seconds": 500,
        "drawn": {"NaN": 3, "kill": 1200},
    }
    table = simulation(tally)
    assert "| seeds | 7 to 1006, `STEPS=300` |" in table
    assert "| failed | 9 |" in table
    assert "| speed | 4,000 steps/s, 2.0 schedules/s |" in table
    assert table.endswith("kill 1,200, NaN 3.")
    assert "| failed | none |" in simulation(tally | {"failed": []})
