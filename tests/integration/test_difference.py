"""Two runs of the same sample show no difference: by the emulator, and by its records with jitter."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.diff import PROGRAMS, Recorded, planted_and_told, share
from drakcelery.behaviour.difference import difference
from tests.emulating import Bench

FALSE_DIFFERENCES = 0.05
"""As issue 14 has it."""


@pytest.mark.parametrize("program", PROGRAMS)
def test_two_runs_are_the_same(program: str, tmp_path: Path) -> None:
    """The emulator sees the same twice, and five replays of its records with jitter are within the bounds;
    what another sample calls otherwise is told all the same."""
    bench = Bench(tmp_path)
    record, again = Recorded.of(bench, program), Recorded.of(bench, program)
    found = difference(record.report, again.report)
    assert found.changes == ()
    assert sum(found.same.values()) >= 5
    first = record.replayed(tmp_path, 0)
    replays = [difference(first, record.replayed(tmp_path, seed)) for seed in range(1, 6)]
    assert max(map(share, replays)) <= FALSE_DIFFERENCES
    assert min(one.alike["files"] for one in replays) >= 5
    assert min(one.alike["registry"] for one in replays) >= 1
    assert any(sum(one.background) for one in replays)
    planted, told = planted_and_told(first, record.replayed(tmp_path, 6, other=True))
    assert told == planted >= 2
