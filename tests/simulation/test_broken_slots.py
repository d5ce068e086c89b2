"""A slot that fails each run, or leaves nothing of it, eats no samples (R19); in virtual time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from benchmarks.broken_slots import ILL, seen
from benchmarks.ward import Break, Ward, stay
from tests.simulation.schedule import Schedule
from tests.simulation.valkey import Valkey

SAMPLES = 20


@pytest.fixture(scope="module")
def valkey(server_programs: None) -> Iterator[Valkey]:  # noqa: ARG001 - a check
    """A server for all of them."""
    with Valkey() as server:
        yield server


@pytest.mark.parametrize(
    ("how", "hosts", "slots"),
    [(Break.INJECTION, 1, 2), (Break.INJECTION, 2, 1), (Break.EMPTY_LOG, 1, 2)],
)
def test_it_is_out_of_use_after_three_runs(valkey: Valkey, how: Break, hosts: int, slots: int) -> None:
    """Its samples go on elsewhere, none comes to it twice, and nothing else is put aside."""
    ward = Ward(ill={ILL: how}, bad=frozenset())
    schedule = Schedule(seed=3, hosts=hosts, slots=slots)
    states = stay(valkey, schedule, ward, samples=SAMPLES, mend_after=SAMPLES)
    cell = seen(how, hosts * slots, ward, states)
    assert set(states.values()) == {"PUBLISHED"}
    assert (cell.until_aside, cell.innocent) == (3, 0)
    mine = Counter(guest.uid for guest in ward.guests if guest.place == ILL and not ward.is_canary(guest))
    assert max(mine.values()) == 1
