"""Every kind of error at every stage: what the ledger, the slot, the files and Karton say afterwards."""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import pytest
from karton.core.task import TaskState

from drakcelery import safe_files
from drakcelery.errors import (
    AlreadyFinished,
    Astray,
    BadTask,
    Blame,
    Changed,
    DiskFull,
    DrakceleryError,
    EngineError,
    EvidenceLost,
    GuestLost,
    InDoubt,
    InfrastructureError,
    NeedsSolitude,
    SlotsBlocked,
    StorageAway,
    StorageError,
    Superseded,
    UnderWay,
    Unreadable,
    UnsupportedSample,
    is_full,
)
from drakcelery.host.charges import counted
from drakcelery.host.slot import SlotState
from drakcelery.host.slots import SlotTable
from drakcelery.model.analysis import WITH_FILES, WITH_GUEST, Failure, Fault, Stage, State
from drakcelery.model.records import Record
from drakcelery.storage import receiving
from tests.bench import HOST, SLOT, Bench
from tests.heart.conftest import Trip, begin, go_on

FULL = Path("/dev/full")
ENDS: dict[str, Callable[[], DrakceleryError]] = {
    "BadTask": lambda: BadTask("no sample"),
    "AlreadyFinished": lambda: AlreadyFinished("it is there"),
    "Unreadable": lambda: Unreadable("no task"),
    "UnsupportedSample": lambda: UnsupportedSample("a program for another machine"),
}
"""The task is at fault: all is over."""
STOPS: dict[str, Callable[[], DrakceleryError]] = {
    "Superseded": lambda: Superseded("another attempt has it"),
    "Changed": lambda: Changed("Karton's task has changed"),
    "UnderWay": lambda: UnderWay("delivered twice"),
}
"""Another has it: nothing is noted."""
WAITS: dict[str, Callable[[], DrakceleryError]] = {
    "StorageError": lambda: StorageError("S3 says no"),
    "StorageAway": lambda: StorageAway("S3 does not answer"),
}
"""S3 is waited for, as long as there are files to keep."""
FAILS: dict[str, tuple[Callable[[], BaseException], Fault, str | None]] = {
    "InfrastructureError": (lambda: InfrastructureError("no luck"), Fault.FAILED, None),
    "NeedsSolitude": (lambda: NeedsSolitude("it has to be alone"), Fault.FAILED, None),
    "EvidenceLost": (lambda: EvidenceLost("a file is gone"), Fault.FAILED, None),
    "GuestLost": (lambda: GuestLost("the guest is gone"), Fault.LOST, None),
    "InDoubt": (lambda: InDoubt("no traffic", lacks="pcap"), Fault.DOUBTED, Blame.SLOT),
    "EngineError, slot": (lambda: EngineError("no answer", code=193), Fault.FAILED, Blame.SLOT),
    "EngineError, sample": (
        lambda: EngineError("it crashed", blames=Blame.SAMPLE),
        Fault.FAILED,
        Blame.SAMPLE,
    ),
    "EngineError, snapshot": (
        lambda: EngineError("odd", blames=Blame.SNAPSHOT),
        Fault.FAILED,
        Blame.SNAPSHOT,
    ),
    "EngineError, host": (lambda: EngineError("no bridge", blames=Blame.HOST), Fault.FAILED, Blame.HOST),
    "SlotsBlocked": (lambda: SlotsBlocked("its file is locked"), Fault.FAILED, Blame.HOST),
    "DiskFull": (lambda: DiskFull("no space"), Fault.FAILED, Blame.HOST),
    "a full disk": (lambda: OSError(errno.ENOSPC, "no space"), Fault.FAILED, Blame.HOST),
    "a full quota": (lambda: OSError(errno.EDQUOT, "no quota"), Fault.FAILED, Blame.HOST),
    "an error nobody expected": (lambda: ValueError("oops"), Fault.FAILED, Blame.SLOT),
    "no memory": (lambda: MemoryError(), Fault.FAILED, None),
}
"""The attempt is over: its fault, and whom a stage with a guest puts it down to."""


def failure(record: Record) -> Failure:
    """The only one."""
    (one,) = record.failures
    return one


def karton_says(bench: Bench, record: Record) -> tuple[TaskState, list[str]]:
    """State and error of the sample task."""
    task = bench.ledger.karton_task(record.task_uid)
    assert task is not None
    return task.status, [line.strip() for line in task.error or ()]


def slot_is(bench: Bench) -> tuple[SlotState, str | None]:
    """State and holder of the only slot."""
    (slot,) = bench.context.slots.all()
    return slot.state, slot.uid


def is_due(bench: Bench) -> bool:
    """Whether the analysis waits for its time; it is taken as its time had come."""
    assert bench.ledger.is_due_later("a-1")
    bench.redis.zadd("drak:due", {"a-1": 0})
    return bench.ledger.due() == "a-1"


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize("name", ENDS)
def test_the_task_is_at_fault(bench: Bench, trip: Trip, name: str, stage: Stage) -> None:
    """CRASHED in Karton at once, with the reason; of the files the log is kept, in the bucket."""
    error = ENDS[name]()
    begin(bench, stage)
    workspace = bench.workspace()
    if stage is not Stage.PREPARE:  # which begins with an empty one
        workspace.log.write_text("what was said\n")
    with pytest.raises(type(error), match=str(error)):
        trip(bench, stage, error)
    record = bench.record()
    assert (record.state, record.error) == (State.FAILED, str(error))
    where = f"attempt 1: {stage.value} on {HOST}/{SLOT}: {error}"
    assert karton_says(bench, record) == (TaskState.CRASHED, [str(error), where])
    assert slot_is(bench) == (SlotState.FREE, None)
    assert not workspace.root.exists()
    # A complete analysis that is in the bucket already is spared
    assert ("drakrun.log" in bench.objects()) is (stage not in (Stage.PREPARE, Stage.PUBLISH))
    assert not bench.ledger.is_due_later("a-1")


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize("name", STOPS)
def test_another_has_it(bench: Bench, trip: Trip, name: str, stage: Stage) -> None:
    """Nothing is noted, and no file is touched; a guest goes, unless another is at work with it."""
    error = STOPS[name]()
    begin(bench, stage)
    before = bench.record()
    workspace = bench.workspace()
    with pytest.raises(type(error), match=str(error)):
        trip(bench, stage, error)
    record = bench.record()
    assert (record.attempt, record.failures, record.done) == (1, (), before.done)
    assert karton_says(bench, record) == (TaskState.STARTED, [])
    assert workspace.root.exists()
    keeps_slot = stage is Stage.RUN and isinstance(error, UnderWay)
    assert slot_is(bench) == ((SlotState.RUNNING, "a-1") if keeps_slot else (SlotState.FREE, None))
    assert not bench.ledger.is_due_later("a-1")


@pytest.mark.parametrize("stage", Stage)
def test_its_machine_has_lost_its_name(bench: Bench, trip: Trip, stage: Stage) -> None:
    """Nobody else would ever take the attempt up: another begins at once."""
    begin(bench, stage)
    with pytest.raises(Astray):
        trip(bench, stage, Astray("another machine has the name"))
    record = bench.record()
    assert (record.attempt, record.state) == (2, State.QUEUED)
    assert (failure(record).fault, failure(record).charged) == (Fault.GONE, None)
    assert HOST in failure(record).error
    assert slot_is(bench) == (SlotState.FREE, None)
    assert is_due(bench)
    go_on(bench)


@pytest.mark.parametrize("stage", WITH_FILES)
@pytest.mark.parametrize("name", WAITS)
def test_s3_is_waited_for(bench: Bench, trip: Trip, name: str, stage: Stage) -> None:
    """The stage comes again, later, on its host and with its files; no attempt is used up."""
    error = WAITS[name]()
    begin(bench, stage)
    with pytest.raises(type(error), match=str(error)):
        trip(bench, stage, error)
    record = bench.record()
    assert (record.attempt, record.failures, record.following) == (1, (), stage)
    assert (record.postponed, record.busy, record.host) == (1, None, HOST)
    assert bench.workspace().root.exists()
    assert is_due(bench)
    go_on(bench)


@pytest.mark.parametrize("stage", WITH_GUEST)
@pytest.mark.parametrize("name", WAITS)
def test_s3_before_there_are_files(bench: Bench, trip: Trip, name: str, stage: Stage) -> None:
    """There is nothing to keep: the slot is given back, and another attempt begins later."""
    error = WAITS[name]()
    begin(bench, stage)
    with pytest.raises(type(error), match=str(error)):
        trip(bench, stage, error)
    record = bench.record()
    is_away = stage is Stage.PREPARE and isinstance(error, StorageAway)
    assert (record.attempt, failure(record).fault) == (2, Fault.AWAY if is_away else Fault.FAILED)
    assert slot_is(bench) == (SlotState.FREE, None)
    assert is_due(bench)
    go_on(bench)


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize("name", FAILS)
def test_the_attempt_is_over(bench: Bench, trip: Trip, name: str, stage: Stage) -> None:
    """It is noted with its reason and whom it is charged to; the next attempt begins again, and ends well."""
    make, fault, blame = FAILS[name]
    error = make()
    begin(bench, stage)
    workspace = bench.workspace()
    with pytest.raises(DrakceleryError) as raised:
        trip(bench, stage, error)
    assert isinstance(error, DrakceleryError) is (raised.value is error)
    record = bench.record()
    assert (record.attempt, record.state, record.done) == (2, State.QUEUED, None)
    one = failure(record)
    assert (one.fault, one.stage, one.host, one.slot) == (fault, stage, HOST, SLOT)
    assert one.error == str(raised.value)
    assert one.charged == (blame if stage in WITH_GUEST or is_full(error) else None)
    assert one.code == (193 if name == "EngineError, slot" else None)
    assert one.lacks == ("pcap" if name == "InDoubt" else None)
    assert karton_says(bench, record) == (TaskState.STARTED, [])
    assert slot_is(bench) == (SlotState.FREE, None)
    assert not workspace.root.exists()
    (slot,) = bench.context.slots.all()
    charged = stage in WITH_GUEST and blame in (Blame.SLOT, Blame.SNAPSHOT)
    assert slot.failures == charged
    assert is_due(bench)
    go_on(bench)
    assert failure(bench.record()) == one


@pytest.mark.parametrize("stage", sorted(WITH_FILES))
@pytest.mark.parametrize("name", FAILS)
def test_an_io_worker_leaves_the_slots_alone(
    bench: Bench, trip: Trip, tmp_path: Path, name: str, stage: Stage
) -> None:
    """On a Xen host it may not use the slots' file, which is root's: its error is told, and no other."""
    error = FAILS[name][0]()
    begin(bench, stage)
    (tmp_path / "a file").touch()
    out_of_reach = SlotTable(tmp_path / "a file" / "below", quarantine_after=3)
    io_worker = dataclasses.replace(bench, context=dataclasses.replace(bench.context, slots=out_of_reach))
    with pytest.raises(DrakceleryError) as raised:
        trip(io_worker, stage, error)
    assert failure(bench.record()).error == str(raised.value)
    assert "state_dir" not in str(raised.value)
    assert failure(bench.record()).charged == (Blame.HOST if is_full(error) else None)


def no_room(*_: object, **__: object) -> NoReturn:
    """Write to a disk that is full."""
    with FULL.open("wb", buffering=0) as file:
        file.write(b"x")
    raise AssertionError


@pytest.mark.parametrize(
    ("stage", "where", "name"),
    [
        (Stage.PREPARE, receiving, "receive"),  # the sample is written while it is downloaded
        (Stage.RUN, safe_files, "share"),  # some file systems need room for a change of rights
    ],
)
def test_whoever_finds_the_disk_full(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, stage: Stage, where: ModuleType, name: str
) -> None:
    """It is the host's fault, and uses up no attempt of the sample."""
    begin(bench, stage)
    with monkeypatch.context() as patched:
        patched.setattr(where, name, no_room)
        with pytest.raises(DrakceleryError, match="No space left on device"):
            bench.do(stage)
    record = bench.record()
    assert failure(record).charged == Blame.HOST
    assert counted(record.failures) == 0
    assert is_due(bench)
    go_on(bench)


def test_every_kind_of_error_is_here() -> None:
    """An error that is new in drakcelery.errors has to say here what follows it."""
    tried: set[type[BaseException]] = {Astray}
    tried |= {type(make()) for make in (*ENDS.values(), *STOPS.values(), *WAITS.values())}
    tried |= {type(make()) for make, _, _ in FAILS.values()}
    of_settings = {
        "SettingsError",
        "NameTaken",
        "SlotsDamaged",
        "SlotsLost",
        "SlotsUnusable",
        "StackError",
        "UnreadableRecord",
    }
    of_readers = {"ArtifactMissing", "ArtifactUnreadable"}  # of programs that read analyses: no stage does
    assert {kind.__name__ for kind in kinds(DrakceleryError)} - {
        kind.__name__ for kind in tried
    } == of_settings | of_readers


def kinds(base: type[DrakceleryError]) -> set[type[DrakceleryError]]:
    """All below *base*."""
    found = set()
    for kind in base.__subclasses__():
        if kind.__module__ == "drakcelery.errors":
            found |= {kind} | kinds(kind)
    return found
