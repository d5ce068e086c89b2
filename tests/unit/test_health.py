"""How well a slot is (R19): pure judgement."""

from __future__ import annotations

import pytest

from drakcelery.host.health import SlotHealth, Trial, health, most_aside

GOOD = Trial(seconds=2.0)
PEERS = [GOOD] * 20


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        (Trial(failed=True, broke_off=True, seconds=2.0), "failed"),
        (Trial(empty_log=True, seconds=2.0), "empty log"),
        (Trial(no_pcap=True, seconds=2.0), "no traffic"),
        (Trial(seconds=10.0), "slower"),
        (Trial(other_snapshot=True), "another snapshot"),
    ],
)
def test_a_broken_slot_is_sick_after_three_runs(bad: Trial, word: str) -> None:
    """Unwell after two, sick after three, with the reason; after a good run it is no longer sick."""
    earlier = [GOOD] * 5
    one, two, three = (health([*earlier, *[bad] * count], PEERS) for count in (1, 2, 3))
    assert (one.is_unwell, two.is_unwell, two.is_sick, three.is_sick) == (False, True, False, True)
    assert [word in reason for reason in three.reasons] == [True]
    assert not health([*earlier, *[bad] * 3, GOOD], PEERS).is_sick


@pytest.mark.parametrize("bad", [Trial(seconds=10.0), Trial(empty_log=True), Trial(no_pcap=True)])
def test_a_bad_sample_in_between_hides_nothing(bad: Trial) -> None:
    """A run that failed says neither that its slot is quick, nor that it writes logs."""
    assert health([bad, bad, Trial(failed=True, broke_off=True), bad], PEERS).is_sick
    assert not health([bad, bad, Trial(failed=True, broke_off=True)], PEERS).is_sick
    assert not health([bad, bad, GOOD, Trial(failed=True, broke_off=True), bad], PEERS).is_sick


def test_a_slot_that_fails_every_other_run_is_sick() -> None:
    """Also what never fails three times in a row."""
    assert health([GOOD, Trial(failed=True, broke_off=True)] * 5, PEERS).is_sick
    assert not health([*[GOOD] * 4, Trial(failed=True, broke_off=True)] * 2, PEERS).is_unwell


def test_nothing_known_is_nothing_bad() -> None:
    """A new slot is well; one without peers is judged by itself."""
    assert health([], []) == SlotHealth()
    assert health([Trial(empty_log=True)] * 3, []).is_sick
    assert health([Trial(seconds=50.0)] * 9, []).score == 1


def test_what_all_show_is_no_slots_fault() -> None:
    """Where half of the peers' runs fail as well, the trouble is the profile's, or the samples'."""
    bad = Trial(failed=True, broke_off=True)
    assert not health([bad] * 10, [GOOD, bad] * 10).is_unwell
    assert health([bad] * 10, [*[GOOD] * 19, bad]).is_sick


def test_a_canary_says_at_once() -> None:
    """One that fails makes its slot sick; what was before one that works does not count."""
    assert health([GOOD] * 9 + [Trial(failed=True, broke_off=True, canary=True)], PEERS).is_sick
    failed = Trial(failed=True, broke_off=True)
    found = health([failed] * 9 + [Trial(canary=True), failed], PEERS)
    assert (found.is_unwell, found.runs) == (False, 2)


def test_a_slot_that_was_mended_stays() -> None:
    """Its first good run ends what put it aside, also where no canary ran."""
    assert not health([Trial(empty_log=True)] * 9 + [GOOD], PEERS).is_sick


def test_a_small_difference_is_not_slow() -> None:
    """Where a restore takes next to nothing, three times as much is no sign either."""
    quick = [Trial(seconds=0.1)] * 20
    assert health([Trial(seconds=0.9)] * 5, quick).score == 1
    assert health([Trial(seconds=1.2)] * 5, quick).is_sick


def test_most_of_a_profile_stays_in_use() -> None:
    """A quarter is put aside by score at most, and at least one."""
    assert [most_aside(slots) for slots in (1, 2, 4, 7, 8, 40)] == [1, 1, 1, 1, 2, 10]
