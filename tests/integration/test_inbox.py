"""Lines before full places, and what is known of the fleet, on a real Valkey."""

from __future__ import annotations

import pytest
import redis
from karton.core import Task
from karton.core.backend import KartonBackendBase
from karton.core.task import TaskPriority, TaskState

from drakcelery.errors import Changed
from drakcelery.karton import contract
from drakcelery.ledger import Ledger
from drakcelery.ledger.fleet import MEMORY
from drakcelery.ledger.inbox import Inbox
from drakcelery.ledger.keys import DUE, FLEET, INFLIGHT
from drakcelery.model.analysis import Analysis, Place
from drakcelery.model.records import HostStatus, Record, SlotStatus
from drakcelery.model.timeouts import DEFAULT
from tests.builders import analysis
from tests.ledgers import inbox_of, watched

IDENTITY = "karton.test-intake"
WIN7, WIN10 = Place(profile="win7"), Place(profile="win10")


@pytest.fixture
def ledger(redis_client: redis.Redis) -> Ledger:
    """A ledger of its own identity."""
    return Ledger(redis_client, identity=IDENTITY, record_ttl=600)


@pytest.fixture
def inbox(ledger: Ledger) -> Inbox:
    """The inbox beside it."""
    return inbox_of(ledger)


def pushed(ledger: Ledger, uid: str, priority: TaskPriority, *, at: float) -> Task:
    """A task that karton-system has routed to us."""
    task = Task({"type": "sample"}, uid=uid, root_uid="r", priority=priority)
    task.last_update = at
    ledger.declare(task)
    ledger._redis.rpush(KartonBackendBase.get_queue_name(IDENTITY, priority), uid)
    return task


def in_line(inbox: Inbox, ledger: Ledger, place: Place, uid: str, priority: TaskPriority, at: float) -> None:
    """A task that was taken and put in line."""
    task = pushed(ledger, uid, priority, at=at)
    assert inbox.accept(limit=10, places={}, most=1) == [uid]
    inbox.wait(task, place)


def test_a_line_keeps_priority_and_age(inbox: Inbox, ledger: Ledger) -> None:
    """Out of a line comes the most urgent first, and the oldest of those; then the line is gone."""
    in_line(inbox, ledger, WIN7, "low", TaskPriority.LOW, at=10)
    in_line(inbox, ledger, WIN7, "newer", TaskPriority.HIGH, at=30)
    in_line(inbox, ledger, WIN7, "older", TaskPriority.HIGH, at=20)
    [line] = inbox.lines()
    assert (line.place, line.length, line.since) == (WIN7, 3, 10.0)
    assert inbox.accept(limit=10, places={WIN7: 10}, most=10) == ["older", "newer", "low"]
    assert inbox.lines() == []


def test_urgent_tasks_on_the_queue_pass_a_line(inbox: Inbox, ledger: Ledger) -> None:
    """Between a line and Karton's queue the more urgent wins; of the same urgency the line, which waited."""
    in_line(inbox, ledger, WIN7, "line", TaskPriority.NORMAL, at=20)
    pushed(ledger, "queue", TaskPriority.NORMAL, at=10)
    pushed(ledger, "urgent", TaskPriority.HIGH, at=30)
    assert inbox.accept(limit=10, places={WIN7: 10}, most=10) == ["urgent", "line", "queue"]


def test_lines_of_full_places_are_left_alone(inbox: Inbox, ledger: Ledger) -> None:
    """Only the lines that were named are looked at; the oldest among them comes first."""
    in_line(inbox, ledger, WIN7, "seven", TaskPriority.NORMAL, at=10)
    in_line(inbox, ledger, WIN10, "ten", TaskPriority.NORMAL, at=20)
    assert inbox.accept(limit=10, places={WIN10: 10}, most=1) == ["ten"]
    assert inbox.accept(limit=10, places={WIN10: 10}, most=1) == []
    assert [line.place for line in inbox.lines()] == [WIN7]
    assert inbox.accept(limit=10, places={WIN7: 10, WIN10: 10}, most=1) == ["seven"]


def test_a_line_gives_what_its_place_takes(inbox: Inbox, ledger: Ledger) -> None:
    """However much room the fleet has, no more leave a line than its place has room for."""
    for number in range(3):
        in_line(inbox, ledger, WIN7, f"seven-{number}", TaskPriority.NORMAL, at=10 + number)
        in_line(inbox, ledger, WIN10, f"ten-{number}", TaskPriority.LOW, at=10 + number)
    pushed(ledger, "queue", TaskPriority.LOW, at=1)
    accept = inbox.accept(limit=10, places={WIN7: 1, WIN10: 2}, most=10)
    assert accept == ["seven-0", "ten-0", "ten-1", "queue"]
    assert [(line.place, line.length) for line in inbox.lines()] == [(WIN10, 1), (WIN7, 2)]


def test_one_question_tells_whether_there_is_work(inbox: Inbox, ledger: Ledger) -> None:
    """What is on a queue, in a line or due later is seen; what is in the inbox is somebody's already."""
    assert not inbox.has_work()
    in_line(inbox, ledger, WIN7, "line", TaskPriority.LOW, at=10)
    assert inbox.has_work()
    assert inbox.accept(limit=10, places={WIN7: 1}, most=1) == ["line"]
    assert not inbox.has_work()
    pushed(ledger, "queue", TaskPriority.HIGH, at=10)
    assert inbox.has_work()
    assert inbox.accept(limit=10, places={}, most=1) == ["queue"]
    ledger._redis.zadd(DUE, {"a": ledger.now() + 60})
    assert inbox.has_work()


def test_only_what_is_in_the_inbox_is_put_in_line(inbox: Inbox, ledger: Ledger) -> None:
    """An ingress that was considered dead cannot put a task in line that another has gone on with."""
    task = pushed(ledger, "t", TaskPriority.NORMAL, at=10)
    inbox.wait(task, WIN7)
    assert inbox.lines() == []


def test_what_waited_too_long_can_be_taken_out(inbox: Inbox, ledger: Ledger) -> None:
    """Old tasks of a line are found whatever their priority; each is taken out once, into the inbox."""
    in_line(inbox, ledger, WIN7, "old-low", TaskPriority.LOW, at=10)
    in_line(inbox, ledger, WIN7, "old-high", TaskPriority.HIGH, at=20)
    in_line(inbox, ledger, WIN7, "new", TaskPriority.HIGH, at=1000)
    assert inbox.waiting(WIN7, before=500.0, most=10) == ["old-high", "old-low"]
    assert inbox.waiting(WIN7) == ["old-high", "new", "old-low"]
    assert [inbox.expire("old-low", WIN7), inbox.expire("old-low", WIN7)] == [True, False]
    assert inbox.accepted() == ["old-low"]


def test_a_task_cancelled_in_karton_is_not_started(inbox: Inbox, ledger: Ledger) -> None:
    """Karton-dashboard's cancel counts up to the instant in which the task would become STARTED.

    What was read is compared with what is there by then, and is to be read again.
    """
    task = pushed(ledger, "t", TaskPriority.NORMAL, at=10)
    assert inbox.accept(limit=1, places={}, most=1) == ["t"]
    read, started = task.serialize(), contract.started(Task.unserialize(task.serialize()))
    ledger.declare(contract.finished(task))
    with pytest.raises(Changed):
        inbox.open(analysis().model_copy(update={"task_uid": "t"}), started, limit=1, read=read)
    kept = ledger.karton_task("t")
    assert kept is not None
    assert kept.status is TaskState.FINISHED
    assert inbox.accepted() == ["t"]
    assert ledger.get(analysis().uid) is None


def test_a_count_that_is_none_stops_no_intake(inbox: Inbox, ledger: Ledger) -> None:
    """What is no number among the analyses in flight counts as none, and is put right by the next."""
    for count in ("garbage", "1.5", "nan", "9" * 400):
        ledger._redis.hset(INFLIGHT, mapping={"win10": count, "gone@rack-9": count, "win7": 2})
        assert inbox.counts()[0] == {WIN7: 2}
        assert inbox.in_flight() == {WIN7: 2}
    ledger._redis.hset(INFLIGHT, "win10", "garbage")
    one = analysis()
    record = open_analysis_in(inbox, ledger, one)
    assert record is not None
    assert inbox.in_flight()[one.place] == 1


def open_analysis_in(inbox: Inbox, ledger: Ledger, one: Analysis) -> Record | None:
    """Begin *one* where there is room for it alone."""
    task = Task({"type": "sample"}, uid=one.task_uid, root_uid=one.root_uid)
    inbox.adopt(one.task_uid)
    ledger.declare(task)
    read = ledger._redis.get(f"karton.task:{one.task_uid}")
    return inbox.open(one, contract.started(task), limit=1, read=str(read))


def test_a_task_without_a_name_leaves_a_record_that_can_be_read(inbox: Inbox, ledger: Ledger) -> None:
    """An empty uid on Karton's queue is refused, and its record read like any other."""
    inbox.adopt("")
    inbox.withdraw("of-no-name", task_uid="", root_uid="", reason="Karton has dropped its task")
    record = ledger.get("of-no-name")
    assert record is not None
    assert (record.task_uid, record.root_uid) == ("", "")


def test_the_fleet_remembers(ledger: Ledger) -> None:
    """A place is online while its host reports, and offline since its last report."""
    slot = SlotStatus(name="vm-1", profile="win7", state="free", since=0)
    ledger.fleet.report(HostStatus(host="rack-1", engine="replay", slots=(slot,)))
    on_rack = Place(profile="win7", host="rack-1")
    assert list(ledger.fleet.places()) == [on_rack]
    watched(ledger, seconds=3600)
    watch = ledger.watch()
    assert ledger.fleet.offline(WIN7, watch) == ledger.fleet.offline(on_rack, watch) == 0
    ledger._redis.zincrby(FLEET, -100 - DEFAULT.host, str(on_rack))
    assert 100 < ledger.fleet.offline(WIN7, watch) < 200
    assert ledger.fleet.offline(Place(profile="win7", host="rack-2"), watch) > 3600


def test_the_fleet_forgets(ledger: Ledger) -> None:
    """A host that was not seen for a week leaves nothing behind while others go on reporting."""
    slot = SlotStatus(name="vm-1", profile="win7", state="free", since=0)
    for host in ("rack-1", "rack-2"):
        ledger.fleet.report(HostStatus(host=host, engine="replay", slots=(slot,)))
    ledger._redis.zincrby(FLEET, -MEMORY - 1, "win7@rack-1")
    ledger.fleet.report(HostStatus(host="rack-2", engine="replay", slots=(slot,)))
    assert ledger._redis.zrange(FLEET, 0, -1) == ["win7@rack-2"]


def test_a_long_backlog_is_read_as_far_as_it_is_listed(
    inbox: Inbox, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there are many lines, fewer of each are named; all are counted."""
    monkeypatch.setattr("drakcelery.ledger.lines.NAMED", 4)
    for number in range(3):
        in_line(inbox, ledger, WIN7, f"seven-{number}", TaskPriority.NORMAL, at=10 + number)
        in_line(inbox, ledger, WIN10, f"ten-{number}", TaskPriority.NORMAL, at=10 + number)
    for number in range(3):
        pushed(ledger, f"high-{number}", TaskPriority.HIGH, at=10 + number)
    found = [(one.place, one.named, one.length) for one in inbox.backlog(most=3)]
    assert found == [
        (None, ("high-0", "high-1", "high-2"), 3),
        (WIN10, ("ten-0", "ten-1"), 3),
        (WIN7, ("seven-0", "seven-1"), 3),
    ]
