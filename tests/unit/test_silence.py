"""What a run did not leave, and whose doing that is (R19)."""

from __future__ import annotations

import pytest

from drakcelery.errors import Blame
from drakcelery.host import charges
from drakcelery.host.checkup import PUZZLING, checkups, is_puzzling
from drakcelery.host.history import Facts, Kind, Run
from drakcelery.host.silence import Lack, doubted, lacking, usual_snapshot
from drakcelery.model.analysis import Failure, Fault, State
from tests.builders import HERE, THERE, failure, record

PROFILES = {"vm-1": "win10", "vm-2": "win10", "vm-3": "win10", "vm-9": "win7"}
GOOD = Facts(log_size=9, pcap_size=99, snapshot="a")
NO_LOG = Facts(log_size=0, pcap_size=99, snapshot="a")
NO_PACKET = Facts(log_size=9, pcap_size=24, snapshot="a")
NO_FILE = Facts(log_size=9, pcap_size=None, snapshot="a")
OTHER = Facts(log_size=9, pcap_size=99, snapshot="b")


def run(slot: str, facts: Facts = GOOD, kind: Kind = Kind.WORKED, **more: object) -> Run:
    """A run of a sample."""
    given: dict[str, object] = {"uid": "a", "blame": None, "charged": False, **more}
    return Run(number=1, slot=slot, attempt=1, at=0, kind=kind, open=False, facts=facts, error=None, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("facts", "lacks"),
    [
        (GOOD, set()),
        (NO_LOG, {Lack.LOG}),
        (NO_PACKET, {Lack.TRAFFIC}),
        (NO_FILE, {Lack.TRAFFIC}),
        (Facts(log_size=9, pcap_size=None, snapshot="a", traffic_due=False), set()),
        (OTHER, {Lack.SNAPSHOT}),
        (Facts(log_size=0, snapshot="b"), {Lack.LOG, Lack.TRAFFIC, Lack.SNAPSHOT}),
    ],
)
def test_what_others_have_is_missed(facts: Facts, lacks: set[Lack]) -> None:
    """Of the same profile, and whatever the slot's own runs left."""
    runs = [run("vm-2"), run("vm-3"), *[run("vm-1", facts)] * 5, *[run("vm-9", NO_LOG)] * 5]
    assert lacking(PROFILES, runs, "vm-1", facts) == lacks


def test_what_half_of_the_others_lack_is_not_missed() -> None:
    """As it is where no sample of a profile has traffic; runs that failed, or were doubted, say nothing."""
    runs = [run("vm-2"), run("vm-3", NO_LOG)]
    assert lacking(PROFILES, runs, "vm-1", NO_LOG) == set()
    failed = run("vm-3", NO_LOG, Kind.FAILED)
    assert lacking(PROFILES, [*runs, failed, run("vm-2")], "vm-1", NO_LOG) == {Lack.LOG}
    assert lacking(PROFILES, [run("vm-2", NO_PACKET)], "vm-1", NO_FILE) == set()


def test_where_nothing_is_known() -> None:
    """An empty log is odd by itself, and a recording that is no file; one without packets may be as usual."""
    assert lacking(PROFILES, [], "vm-1", NO_LOG) == {Lack.LOG}
    assert lacking(PROFILES, [], "vm-1", NO_FILE) == {Lack.TRAFFIC}
    assert lacking(PROFILES, [], "vm-1", NO_PACKET) == set()
    assert lacking(PROFILES, [], "vm-1", OTHER) == set()


def test_the_only_slot_is_compared_with_itself() -> None:
    """With what its own runs left before."""
    alone = {"vm-1": "win10"}
    assert lacking(alone, [run("vm-1")], "vm-1", NO_PACKET) == {Lack.TRAFFIC}
    assert lacking(alone, [run("vm-1", NO_LOG)], "vm-1", NO_LOG) == set()


@pytest.mark.parametrize(
    ("slots", "usual"),
    [
        (("aa", "ab", "a"), "a"),
        (("ab", "ab", "a"), "b"),  # most are on to the next
        (("ab", "aa"), "a"),  # of two, the one that changed
        (("b", "a"), None),  # from the first: nobody knows
        (("", "a"), "a"),
        ((), None),
    ],
)
def test_the_snapshot_of_a_profile(slots: tuple[str, ...], usual: str | None) -> None:
    """That of most slots, and where it is none, that from which all began."""
    assert usual_snapshot([Facts(snapshot=one) for one in runs] for runs in slots) == usual


def doubt(where: tuple[str, str], lacks: str) -> Failure:
    """An attempt that ended in doubt."""
    return failure(where, fault=Fault.DOUBTED).model_copy(update={"lacks": lacks, "number": 1})


def test_what_an_analysis_was_doubted_for() -> None:
    """By which slots; a word of a newer version is skipped."""
    failures = [doubt(HERE, "log,traffic"), doubt(THERE, "snapshot,smell"), failure(THERE)]
    assert doubted(failures) == {Lack.LOG, Lack.TRAFFIC, Lack.SNAPSHOT}
    assert doubted(failures, besides=HERE) == {Lack.SNAPSHOT}


@pytest.mark.parametrize(
    ("alike", "state", "charged", "settled"),
    [
        (True, State.PUBLISHED, False, True),
        (True, State.COLLECTING, False, False),
        (False, State.PUBLISHED, True, True),
    ],
)
def test_a_charge_for_what_another_slot_shows_too(
    alike: bool, state: State, charged: bool, settled: bool
) -> None:
    """Is taken back; where the other slot's run has it all, the first slot has lost it."""
    found = record(doubt(HERE, "log"), state=state).model_copy(update={"alike": alike})
    became = charges.state_of(found, 1, blame=Blame.SLOT, charged=True, where=HERE)
    assert (became.charged, became.settled) == (charged, settled)


def test_what_another_slot_has_shown_is_no_symptom() -> None:
    """Of the second slot neither: the sample is to blame."""
    runs = [run("vm-2"), run("vm-3"), *[run("vm-1", NO_LOG)] * 3]
    assert checkups(PROFILES, runs)["vm-1"].is_sick
    excused = [run("vm-2"), run("vm-3"), *[run("vm-1", NO_LOG, blame=Blame.SAMPLE)] * 3]
    assert checkups(PROFILES, excused)["vm-1"].score == 1


def failed(uid: str, blame: Blame = Blame.SLOT) -> Run:
    """A run of *uid* in vm-1 that failed, and was charged to nobody."""
    return run("vm-1", Facts(), Kind.FAILED, uid=uid, blame=blame)


def test_what_only_a_canary_can_say() -> None:
    """A sample that fails twice in a slot, or many in a row; a good run, or canary, ends the row."""
    assert not is_puzzling([], "vm-1")
    assert not is_puzzling([failed("a"), failed("b")], "vm-1")
    assert is_puzzling([failed("a"), failed("b"), failed("a")], "vm-1")
    assert not is_puzzling([failed("a"), failed("a", Blame.HOST)], "vm-1")
    assert not is_puzzling([failed("a"), run("vm-1"), failed("a")], "vm-1")
    row = [failed(str(number), Blame.SAMPLE) for number in range(PUZZLING)]
    assert is_puzzling(row, "vm-1")
    assert not is_puzzling(row, "vm-2")
    assert not is_puzzling([*row, run("vm-1", kind=Kind.CANARY_WORKED), failed("z")], "vm-1")
