"""Files and guests of an attempt that Redis has no record of: an empty Redis costs the hosts nothing."""

from __future__ import annotations

from drakcelery.model.timeouts import Watch
from drakcelery.worker.janitor import ABSENT_SECONDS, Absent

DAY = ABSENT_SECONDS
HOLDER = ("a", 1)


def lasts(absent: Absent, now: float, since: float) -> float:
    """For how long a watch that began at *since* found no record."""
    return absent.lasts(HOLDER, Watch(now=now, since=since, gaps=()))


def test_an_empty_redis_is_a_beginning() -> None:
    """What has just been found without a record is kept, however long Redis was watched before (R17)."""
    absent = Absent()
    assert lasts(absent, 9 * DAY, 0) == 0
    assert lasts(absent, 9 * DAY + 60, 0) == 60
    assert lasts(absent, 10 * DAY + 1, 0) > ABSENT_SECONDS


def test_a_break_of_the_watch_begins_it_anew() -> None:
    """A time in which nobody heard Redis does not count, nor what was before it (R17)."""
    absent = Absent()
    lasts(absent, DAY, 0)
    assert lasts(absent, 3 * DAY, 3 * DAY - 5) == 5


def test_a_record_that_came_back() -> None:
    """Data that was restored ends the absence; a later one is counted by itself (R17)."""
    absent = Absent()
    lasts(absent, DAY, 0)
    absent.forget(HOLDER)
    assert lasts(absent, 5 * DAY, 0) == 0
