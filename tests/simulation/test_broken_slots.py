"""A slot that fails each run, or leaves nothing of it, eats no samples (R19); in virtual time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from benchmarks.broken_slots import ILL, TRIED_AGAIN, seen
from benchmarks.ward import Break, Ward, stay
from tests.simulation.schedule import Schedule
from tests.simulation.valkey import Valkey

SAMPLES = 20
SAMPLES_IF_SLOW = 40
"""A slow slot has few of them, and needs three."""
MEND_AT = 300.0
"""Seconds after the beginning."""


@pytest.fixture(scope="module")
def valkey(server_programs: None) -> Iterator[Valkey]:  # noqa: ARG001 - a check
    """A server for all of them."""
    with Valkey() as server:
        yield server


@pytest.mark.parametrize(
    ("how", "hosts", "slots"),
    [
        (Break.INJECTION, 1, 2),
        (Break.INJECTION, 2, 1),
        (Break.EMPTY_LOG, 1, 2),
        (Break.EMPTY_LOG, 2, 1),
        (Break.NO_PCAP, 1, 2),
        (Break.SLOW, 2, 2),
        (Break.SNAPSHOT, 1, 3),
    ],
)
def test_it_is_out_of_use_after_three_runs(valkey: Valkey, how: Break, hosts: int, slots: int) -> None:
    """What it leaves is not published, no sample comes to it twice, and nothing else is put aside.

    Only the snapshot of a host's first run is like any other's.
    """
    ward = Ward(ill={ILL: how}, bad=frozenset())
    schedule = Schedule(seed=3, hosts=hosts, slots=slots)
    samples = SAMPLES_IF_SLOW if how is Break.SLOW else SAMPLES
    states = stay(valkey, schedule, ward, samples=samples, mend_after=samples)
    cell = seen(how, hosts * slots, ward, states)
    assert set(states.values()) == {"PUBLISHED"}
    assert (cell.until_aside is not None, cell.spoiled, cell.innocent) == (True, how is Break.SNAPSHOT, 0)
    mine = Counter(guest.uid for guest in ward.guests if guest.place == ILL and not ward.is_canary(guest))
    assert len(mine) <= 3
    assert max(mine.values()) == 1


@pytest.mark.parametrize("how", [Break.INJECTION, Break.RESTORE, Break.EMPTY_LOG])
def test_the_only_slot_of_a_profile(valkey: Valkey, how: Break) -> None:
    """It fails its canary and is put aside; the samples wait, and are analysed once it is fixed.

    An empty log is published once: there is nobody else to ask, until the canary was.
    """
    ward = Ward(ill={ILL: how}, bad=frozenset(), mend_at=MEND_AT)
    schedule = Schedule(seed=5, hosts=1, slots=1, options={"quarantine_seconds": TRIED_AGAIN})
    states = stay(valkey, schedule, ward, samples=6, mend_after=6)
    cell = seen(how, 1, ward, states)
    assert set(states.values()) == {"PUBLISHED"}
    assert cell.until_aside in (1, 2)
    assert cell.in_all == cell.until_aside
    assert cell.spoiled == (how is Break.EMPTY_LOG)
    assert cell.canaries == 1


@pytest.mark.parametrize(("max_attempts", "runs"), [(3, 2), (1, 1)])
def test_samples_that_leave_nothing(valkey: Valkey, max_attempts: int, runs: int) -> None:
    """In no slot: each is tried in two, unless it has one attempt; it is published, and no slot put aside.

    By then each slot has had others: a run is compared with those (:mod:`drakcelery.host.silence`).
    """
    silent = frozenset(f"s-{number}" for number in range(4, SAMPLES, 5))
    ward = Ward(ill={}, bad=frozenset(), silent=silent)
    schedule = Schedule(seed=3, hosts=2, slots=2, options={"max_attempts": max_attempts})
    states = stay(valkey, schedule, ward, samples=SAMPLES, mend_after=SAMPLES)
    assert set(states.values()) == {"PUBLISHED"}
    assert ward.put_aside == []
    ran = Counter(guest.uid for guest in ward.guests if not ward.is_canary(guest))
    assert ran == {uid: runs if uid in silent else 1 for uid in states}
