"""Whom a failed attempt is charged to: a slot at once, the sample once it fails in a second one (R19)."""

from __future__ import annotations

import errno
import weakref
from pathlib import Path

import pytest

from drakcelery.errors import BadTask, Blame, EngineError, GuestLost, StorageError
from drakcelery.host import charges, history
from drakcelery.host.charges import ChargeState
from drakcelery.host.history import Facts, Kind
from drakcelery.host.slot import SlotState
from drakcelery.host.slots import SlotTable
from drakcelery.model.analysis import Fault, Stage, State
from drakcelery.model.records import Record
from drakcelery.model.text import REPLACEMENT
from drakcelery.stages import guest
from tests.builders import HERE, THERE, failure, record


@pytest.mark.parametrize(
    ("stage", "error", "blame"),
    [
        (Stage.RUN, EngineError("no"), Blame.SLOT),
        (Stage.PREPARE, EngineError("no", blames=Blame.HOST), Blame.HOST),
        (Stage.COLLECT, EngineError("no"), None),
        (Stage.RUN, GuestLost("its process died"), None),
        (Stage.PREPARE, StorageError("S3 is away"), None),
        (Stage.PREPARE, BadTask("no sample"), None),
    ],
)
def test_what_an_error_blames(stage: Stage, error: Exception, blame: Blame | None) -> None:
    """Only what the engine says of a guest; neither storage, nor a bad task, nor a process that died."""
    assert charges.blame_of(stage, error) is blame


def test_the_charge_moves_to_the_sample() -> None:
    """The first slot is charged; a second one is not, for the sample failed elsewhere too."""
    assert charges.charge((), Blame.SLOT, where=HERE) is Blame.SLOT
    assert charges.charge([failure(HERE)], Blame.SLOT, where=HERE) is Blame.SLOT
    assert charges.charge([failure(HERE)], Blame.SLOT, where=THERE) is Blame.SAMPLE
    assert charges.charge([failure(HERE)], Blame.SNAPSHOT, where=THERE) is Blame.SNAPSHOT
    assert charges.charge([failure(HERE, charged="host")], Blame.SLOT, where=THERE) is Blame.SLOT
    assert charges.charge([failure(HERE, charged=None)], Blame.SLOT, where=THERE) is Blame.SLOT
    assert charges.charge([failure(HERE)], None, where=THERE) is None


@pytest.mark.parametrize(
    ("found", "charged", "settled"),
    [
        (None, True, True),  # the ledger knows nothing of it any more
        (record(state=State.RUNNING, attempt=1), True, False),  # not yet on record
        (record(failure(HERE)), True, False),  # a second attempt may fail elsewhere
        (record(failure(HERE), failure(THERE, "sample")), False, False),  # it does
        (record(failure(HERE), failure(THERE, "sample"), state=State.FAILED), False, True),
        (record(failure(HERE), failure(THERE, "sample"), state=State.PUBLISHED), True, True),  # it was sound
        (record(failure(HERE), state=State.PUBLISHED), True, True),
        (record(failure(HERE), state=State.FAILED), True, True),  # it never had another slot
        (record(failure(HERE), state=State.CANCELLED), True, True),
        (record(state=State.CANCELLED, attempt=1), False, True),  # in the very run that failed
        (record(failure(HERE, None, Fault.STOPPED)), False, True),
        (record(failure(HERE), failure(("rack-2", "vm-2"), None, Fault.LOST)), True, False),
    ],
)
def test_the_record_decides(found: Record | None, charged: bool, settled: bool) -> None:
    """What became of the sample since; cancelled, stopped and lost attempts charge nobody."""
    state = charges.state_of(found, 1, blame=Blame.SLOT, charged=True, where=HERE)
    assert state == ChargeState(charged=charged, settled=settled)


def test_a_restore_is_no_matter_of_the_sample() -> None:
    """Where all slots fail to restore, the samples that meet them one after the other are not to blame."""
    before = [failure(HERE).model_copy(update={"stage": Stage.PREPARE})]
    assert charges.charge(before, Blame.SLOT, where=THERE, stage=Stage.PREPARE) is Blame.SLOT
    assert charges.charge(before, Blame.SLOT, where=THERE) is Blame.SLOT
    assert charges.charge([failure(HERE)], Blame.SLOT, where=THERE, stage=Stage.PREPARE) is Blame.SLOT
    assert not charges.may_move(Stage.PREPARE, Blame.SLOT)


def test_what_the_snapshot_is_blamed_for_stays() -> None:
    """An error that names the snapshot is certain, wherever else the sample fails."""
    found = record(failure(HERE, "snapshot"), failure(THERE, "snapshot"))
    state = charges.state_of(found, 1, blame=Blame.SNAPSHOT, charged=True, where=HERE)
    assert state == ChargeState(charged=True, settled=True)


@pytest.fixture
def table(tmp_path: Path) -> SlotTable:
    """A host with one free slot."""
    slots = SlotTable(tmp_path, quarantine_after=2)
    slots.define({"vm-1": "win10"})
    slots.cleaned("vm-1")
    return slots


def run(table: SlotTable, uid: str, *, fails: bool, charged: bool = True) -> None:
    assert table.claim("win10", uid, 1) == "vm-1"
    if fails:
        table.failed("vm-1", uid, 1, charged=charged, facts=Facts(seconds=1.0), error="no")
    else:
        table.worked("vm-1", uid, 1, facts=Facts(seconds=2.0, snapshot="aa", log_size=3))
    table.release("vm-1", uid, 1)


def state(table: SlotTable) -> tuple[SlotState, int]:
    (slot,) = table.all()
    return slot.state, slot.failures


def test_a_charge_that_is_taken_back_gives_the_slot_back(table: SlotTable) -> None:
    """A slot that is aside for what samples did comes back without a canary."""
    run(table, "bad-1", fails=True)
    run(table, "bad-2", fails=True)
    assert state(table) == (SlotState.QUARANTINED, 2)
    first, second = table.open_charges()
    table.settle_charge(first, charged=False, settled=True)
    assert state(table) == (SlotState.DIRTY, 1)
    assert table.open_charges() == [second]
    table.settle_charge(second, charged=False, settled=True)
    assert state(table)[1] == 0


def test_a_charge_may_come_back(table: SlotTable) -> None:
    """A sample that failed in two slots and is published from a third: both were to blame."""
    run(table, "a", fails=True)
    run(table, "b", fails=True, charged=False)
    assert state(table) == (SlotState.FREE, 1)
    table.settle_charge(table.open_charges()[1], charged=True, settled=True)
    assert state(table) == (SlotState.QUARANTINED, 2)


def test_what_is_past_is_past(table: SlotTable) -> None:
    """A slot that has worked since is not put aside, nor its count lowered, for what it did before."""
    run(table, "a", fails=True)
    run(table, "b", fails=True, charged=False)
    run(table, "c", fails=False)
    run(table, "d", fails=True)
    first, second, third = table.open_charges()
    table.settle_charge(first, charged=False, settled=True)
    table.settle_charge(second, charged=True, settled=True)
    assert state(table) == (SlotState.FREE, 1)
    table.settle_charge(third, charged=False, settled=False)
    assert state(table) == (SlotState.FREE, 0)


def test_the_history_of_a_slot(table: SlotTable, tmp_path: Path) -> None:
    """Oldest first, with what each run left; it outlives the worker, and only the last are kept."""
    run(table, "a", fails=True)
    run(table, "b", fails=False)
    table.define({"vm-1": "win10"})
    again = SlotTable(tmp_path, quarantine_after=2)
    assert [(one.uid, one.kind, one.error) for one in again.history()] == [
        ("a", Kind.FAILED, "no"),
        ("b", Kind.WORKED, None),
    ]
    assert again.history()[1].facts == Facts(seconds=2.0, snapshot="aa", log_size=3)
    table.cleaned("vm-1")
    for number in range(history.KEPT + 5):
        run(table, str(number), fails=False)
    assert len(table.history()) == history.KEPT
    table.define({"vm-2": "win10"})
    assert table.history() == []


def test_an_error_that_no_file_can_hold(table: SlotTable) -> None:
    """The run is noted: a lone surrogate, from a file's name say, is replaced."""
    table.claim("win10", "a", 1)
    (noted,) = table.failed("vm-1", "a", 1, error="no such file: \udc83")
    assert noted.error == f"no such file: {REPLACEMENT}"


def test_a_process_keeps_what_the_table_has(table: SlotTable) -> None:
    """A run that was read before is not read again; one that the table has forgotten takes no memory."""
    run(table, "a", fails=True)
    known = weakref.ref(table.history()[0])
    assert table.history()[0] is known()
    for number in range(history.KEPT):
        run(table, str(number), fails=False)
    assert len(table.history()) == history.KEPT
    assert known() is None


@pytest.mark.parametrize(
    ("error", "blame"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), Blame.HOST),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), Blame.HOST),
        (OSError(errno.EIO, "Input/output error"), Blame.SLOT),
        (ValueError("a mistake"), Blame.SLOT),
    ],
)
def test_a_full_disk_is_no_fault_of_a_slot(error: Exception, blame: Blame) -> None:
    """All of a host's slots share it, and the host stops for it."""
    with pytest.raises(EngineError) as raised, guest._of_the_engine(Stage.PREPARE):
        raise error
    assert charges.blame_of(Stage.PREPARE, raised.value) is blame
