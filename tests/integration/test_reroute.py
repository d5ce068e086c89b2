"""Attempts that may wait in a drained host's own queue, on a real ledger."""

from __future__ import annotations

import redis
from karton.core import Task

from drakcelery.errors import Blame
from drakcelery.host.charges import MOST_SPARED
from drakcelery.karton import contract
from drakcelery.ledger import Ledger
from drakcelery.ledger.keys import INBOX
from drakcelery.model.analysis import Failure, Fault, Stage, State
from drakcelery.model.records import HostStatus, Record, SlotStatus
from drakcelery.recovery.reroute import reroute
from drakcelery.settings import Settings
from drakcelery.stages.failures import end_attempt, failure_of
from tests.builders import analysis
from tests.ledgers import open_analysis


def begin(ledger: Ledger, uid: str, *, failed: bool = True, sent: bool = True, **wishes: str) -> None:
    """An analysis that waits for a slot, as a rule for its second attempt."""
    task = Task({"type": "sample"}, uid=f"{{r}}:{uid}", root_uid="r")
    ledger.declare(contract.started(task))
    ledger._redis.zadd(INBOX, {task.uid: ledger.now()})
    wanted = analysis(**wishes).model_copy(update={"uid": uid, "task_uid": task.uid})
    attempt = open_analysis(ledger, wanted).attempt
    ledger.sent(uid, attempt)
    if failed:
        failure = Failure(attempt=1, stage=Stage.PREPARE, error="no restore", host="rack-1", at=0)
        attempt = ledger.fail(uid, attempt, failure, task_uid=task.uid, final=False, crashed=None)
        ledger.due()
        if sent:
            ledger.sent(uid, attempt)


def rerouted(ledger: Ledger, *profiles: str) -> dict[str, int]:
    """uid and attempt of what is sent."""
    sent: dict[str, int] = {}

    def send(record: Record) -> None:
        sent[record.uid] = record.attempt
        ledger.sent(record.uid, record.attempt)

    assert reroute(ledger, send, profiles) == len(sent)
    return sent


def test_only_what_may_be_stranded(redis_client: redis.Redis) -> None:
    """A later attempt that any host may take is sent again; what cannot be in that queue stays where it
    is."""
    ledger = Ledger(redis_client, identity="karton.test-handover", record_ttl=600)
    slot = SlotStatus(name="vm-1", profile="win10", state="running", since=0)
    ledger.fleet.report(HostStatus(host="rack-1", engine="replay", slots=(slot,)), lasts=600)
    begin(ledger, "again")
    begin(ledger, "first", failed=False)
    begin(ledger, "asked-for", target_host="rack-1")
    begin(ledger, "unsent", sent=False)
    begin(ledger, "other", profile="win7")
    begin(ledger, "taken")
    ledger.advance("taken", 2, Stage.PREPARE, host="rack-2", slot="vm-1", token="t")
    assert rerouted(ledger, "win10") == {"again": 3}
    assert rerouted(ledger) == {}
    record = ledger.get("again")
    assert record is not None
    assert (record.state, record.sent) == (State.QUEUED, 3)
    assert rerouted(ledger, "win7") == {"other": 3}


def test_an_attempt_that_nobody_took_up_is_none(redis_client: redis.Redis) -> None:
    """What met a host that takes nothing any more uses up no attempt, and has no number (R20)."""
    ledger = Ledger(redis_client, identity="karton.test-handover", record_ttl=600)
    begin(ledger, "again", failed=False)
    for tries in (1, 2, 3):
        if tries > 1:
            assert rerouted(ledger, "win10") == {"again": 3 * tries - 3}
            assert rerouted(ledger, "win10") == {"again": 3 * tries - 2}
        record = ledger.get("again")
        assert record is not None
        assert record.attempts == tries
        failure = failure_of(record, "no restore", Fault.FAILED, host="rack-1", slot="vm-1")
        assert end_attempt(ledger, record, failure, settings=Settings()) == (tries == 3)
        if tries < 3:
            ledger._redis.zrem("drak:due", "again")
            ledger.sent("again", record.attempt + 1)
    over, task = ledger.get("again"), ledger.karton_task("{r}:again")
    assert over is not None
    assert task is not None
    assert (over.state, over.attempts) == (State.FAILED, 3)
    assert [(one.attempt, one.number) for one in over.failures] == [(1, 1), (2, 4), (3, 7)]
    assert [line.split(":")[0].strip() for line in task.error or ()] == [
        *("no restore", "attempt 1", "attempt 2", "attempt 3")
    ]


def test_what_a_host_alone_is_to_blame_for(redis_client: redis.Redis) -> None:
    """An attempt on a host whose network lets guests out uses up none of the sample's, within bounds (H1)."""
    ledger = Ledger(redis_client, identity="karton.test-handover", record_ttl=600)
    begin(ledger, "again", failed=False)
    last = MOST_SPARED + Settings().drakcelery.max_attempts
    for tries in range(1, last + 1):
        record = ledger.get("again")
        assert record is not None
        failure = failure_of(
            record, "not isolated", Fault.FAILED, host="rack-1", slot="vm-1", charged=Blame.HOST
        )
        assert end_attempt(ledger, record, failure, settings=Settings()) == (tries == last)
        if tries < last:
            ledger._redis.zrem("drak:due", "again")
            ledger.sent("again", record.attempt + 1)
    over = ledger.get("again")
    assert over is not None
    assert (over.state, over.attempts) == (State.FAILED, last)
