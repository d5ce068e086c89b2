"""Any interleaving of ingresses, deliveries, reconcilers and cancellers on the ledger, stale ones included.

Each change is one script, which Redis runs alone: whatever may happen between processes is a sequence of
these calls, in some order, with whatever their callers believed before. Hypothesis looks for the sequence
that breaks a promise.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from karton.core import Task
from karton.core.backend import KARTON_TASKS_QUEUE, KartonBackendBase
from karton.core.task import TaskPriority, TaskState

from drakcelery.embedded.services import Services
from drakcelery.errors import BadTask, Superseded
from drakcelery.karton import contract
from drakcelery.ledger import Ledger
from drakcelery.ledger.keys import DONE, DUE, LIVE, NOTICES, record_key
from drakcelery.ledger.outbox import Notice, Outbox
from drakcelery.model.analysis import Failure, Fault, Stage, State
from drakcelery.model.records import Record
from tests.builders import analysis
from tests.ledgers import inbox_of, open_analysis

IDENTITY = "karton.test-property"
PLACE = analysis().place
DATABASE = 7
"""Of this test alone: it empties it after each example."""
UIDS = ("a", "b")
EXAMPLES, STEPS = 150, 50
"""Some ten seconds on a slow core."""

STAGES = tuple(Stage)

uids = st.sampled_from(UIDS)
ages = st.sampled_from((0, 0, 0, 1, 5, 6))
"""Which delivery acts: mostly the newest."""
delays = st.sampled_from((0.0, 60.0))
lags = st.sampled_from((0, 0, 1))
"""How many attempts a caller is behind: mostly none, so that analyses get somewhere."""
leaps = st.sampled_from((0, 0, 0, 0, 0, 1, -1))
"""How far off a caller's idea of the next stage is."""


@dataclass(frozen=True)
class Delivery:
    """A message that was delivered, and let in."""

    uid: str
    task_uid: str
    attempt: int
    stage: Stage
    token: str


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What is in Redis between two calls."""

    records: dict[str, Record | None]
    """By uid."""
    live: set[str]
    done: set[str]
    due: set[str]
    notices: list[str]
    unrouted: list[str]
    """What Karton was given."""
    queued: set[str]
    """Karton tasks that nobody has taken."""
    line: set[str]
    """Karton tasks that wait for their place."""
    ttl: dict[str, int]
    """Of the record, by uid."""


class Actors(RuleBasedStateMachine):
    """Callers of the ledger, and what must be true after each call."""

    client: redis.Redis

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(self.client, identity=IDENTITY, record_ttl=600)
        self.inbox = inbox_of(self.ledger)
        self.made = 0
        self.tasks: dict[str, list[Task]] = {uid: [] for uid in UIDS}
        """Karton tasks by the uid that they ask for, oldest first."""
        self.owner: dict[str, str] = {}
        """Karton task to the uid whose record it opened."""
        self.seen: list[Record] = []
        """Records as somebody has read them once: what a slow reconciler or canceller goes by."""
        self.over: dict[str, dict[str, object]] = {}
        """Karton task to the record of its analysis, as it was once that was over."""
        self.deliveries: list[Delivery] = []
        self.winners: dict[tuple[str, int, Stage], str] = {}
        self.published: dict[str, str] = {}
        self.refused: set[str] = set()
        self.numbers: dict[str, int] = dict.fromkeys(UIDS, 0)
        Outbox(self.client).want([State.PUBLISHED, State.FAILED, State.CANCELLED])

    def teardown(self) -> None:
        """Leave nothing to the next example."""
        self.client.flushdb()

    # What is known

    def record(self, uid: str) -> Record | None:
        return self.ledger.get(uid)

    def believed(self, uid: str, lag: int, leap: int = 0) -> tuple[int, Stage]:
        """(attempt, stage) that a caller takes for the current ones."""
        record = self.record(uid)
        attempt = max(1, (record.attempt if record else 0) - lag)
        place = STAGES.index(record.following) if record and record.following else 0
        return attempt, STAGES[(place + leap) % len(STAGES)]

    def karton_task(self, uid: str, task_uid: str) -> Task:
        return next(task for task in self.tasks[uid] if task.uid == task_uid)

    def queued(self) -> set[str]:
        """Karton tasks that nobody has taken."""
        return {uid for queue in KartonBackendBase.get_queue_names(IDENTITY) for uid in self.lrange(queue)}

    def in_line(self) -> set[str]:
        """Karton tasks that wait for their place."""
        return set(self.inbox.waiting(PLACE))

    def delivery(self, age: int) -> Delivery:
        return self.deliveries[-1 - age % len(self.deliveries)]

    def is_at_work(self, one: Delivery) -> bool:
        """Whether nobody has taken the stage from this delivery."""
        record = self.record(one.uid)
        return record is not None and (record.busy, record.state.is_over) == (one.token, False)

    # Ingress

    @initialize(earlier=st.sampled_from((None, *Stage)), stage=st.sampled_from(Stage))
    def begin_somewhere(self, earlier: Stage | None, stage: Stage) -> None:
        """An analysis at work on *stage*, perhaps after an attempt that was lost at work on *earlier*."""
        for goal in (earlier, stage):
            while goal and not (self.deliveries and self.deliveries[-1].stage is goal):
                self.go_on("a", 1)
            if goal is earlier is not None:
                self.fail("a", 0, final=False, delay=0)
                self.go_on("a", 2)

    @rule(uid=uids, priority=st.sampled_from(TaskPriority))
    def push(self, uid: str, priority: TaskPriority) -> None:
        """A producer sends a sample; its uid may be taken, or may have been used before."""
        self.made += 1
        task = Task({"type": "sample"}, uid=f"{{r}}:{self.made}", root_uid="r", priority=priority)
        self.ledger.declare(task)
        self.client.rpush(KartonBackendBase.get_queue_name(IDENTITY, priority), task.uid)
        self.tasks[uid].append(task)

    @rule()
    def accept(self) -> None:
        """An ingress takes the next task."""
        self.inbox.accept(limit=10, places={}, most=1)

    @rule()
    def take_from_line(self) -> None:
        """An ingress takes the next task while the place has room."""
        self.inbox.accept(limit=10, places={PLACE: 10}, most=1)

    @rule(uid=uids, back=st.integers(0, 2))
    def wait(self, uid: str, back: int) -> None:
        """An ingress puts a task in line that it took; it may have been frozen, and the task has gone on."""
        tasks = [task for task in self.tasks[uid] if task.uid not in self.queued()]
        if tasks:
            self.inbox.wait(tasks[-1 - back % len(tasks)], PLACE)

    @rule(uid=uids)
    def expire(self, uid: str) -> None:
        """An ingress gives up what has waited for too long."""
        for task in self.tasks[uid]:
            if self.inbox.expire(task.uid, PLACE):
                crashed = contract.crashed(task, ["late\n"]).serialize()
                # Its uid may be another analysis' meanwhile, which stays as it is
                self.inbox.refuse(task.uid, task_uid=task.uid, root_uid="r", reason="late", crashed=crashed)
                self.refused.add(task.uid)

    @rule(uid=uids, back=st.integers(0, 2))
    def open(self, uid: str, back: int) -> None:
        """An ingress opens a task that it took; it may have been frozen, and another has opened it since."""
        tasks = [task for task in self.tasks[uid] if task.uid not in self.queued() | self.in_line()]
        if not tasks:
            return
        task = tasks[-1 - back % len(tasks)]
        wanted = analysis().model_copy(update={"uid": uid, "task_uid": task.uid})
        try:
            record = open_analysis(self.ledger, wanted)
        except Superseded:
            assert task.uid in self.owner.keys() | self.refused
        except BadTask:
            crashed = contract.crashed(task, ["taken\n"]).serialize()
            self.inbox.refuse(uid, task_uid=task.uid, root_uid="r", reason="taken", crashed=crashed)
            self.refused.add(task.uid)
        else:
            assert record.is_unsent
            assert self.owner.setdefault(task.uid, uid) == uid

    @rule(uid=uids, lag=lags, lost=st.booleans())
    def begin(self, uid: str, lag: int, *, lost: bool) -> None:
        """An ingress or a reconciler begins an attempt."""
        record = self.record(uid)
        after = max(0, (record.attempt if record else 0) - lag)
        with contextlib.suppress(Superseded):
            number = self.ledger.begin_attempt(uid, after=after, lost=lost)
            assert number == after + 1

    @rule(uid=uids, lag=lags)
    def sent(self, uid: str, lag: int) -> None:
        """Whoever began an attempt has sent it."""
        self.ledger.sent(uid, self.believed(uid, lag)[0])

    @rule()
    def due(self) -> None:
        """An ingress takes what is due."""
        self.ledger.due()

    @rule(uid=uids, steps=st.sampled_from((1, 2, 3, 5, 8, 11, 12, 13)))
    def go_on(self, uid: str, steps: int) -> None:
        """All goes well for a while: without this, few analyses would come to their end."""
        for _ in range(steps):
            record = self.record(uid)
            if record is None or record.state.is_over:
                self.push(uid, TaskPriority.NORMAL)
                self.accept()
                self.open(uid, 0)
            elif record.is_unsent:
                self.sent(uid, 0)
            elif record.busy is None:
                self.deliver(uid, 0, 0)
            else:
                at_work = [age for age, one in enumerate(reversed(self.deliveries)) if self.is_at_work(one)]
                for age in at_work:
                    if self.delivery(age).uid == uid:
                        self.complete(age)
                        if self.delivery(age).stage is Stage.PUBLISH:
                            self.publish_by(self.delivery(age))

    # Deliveries: each has a token of its own, and goes by what was true when it began

    @rule(uid=uids, lag=lags, leap=leaps)
    def deliver(self, uid: str, lag: int, leap: int) -> None:
        """A message is delivered: only the next stage of the current attempt may be entered."""
        attempt, stage = self.believed(uid, lag, leap)
        token = f"d{len(self.deliveries)}"
        before = self.record(uid)
        with contextlib.suppress(Superseded):
            self.ledger.advance(uid, attempt, stage, host="rack-1", slot="vm-1", token=token)
            assert before is not None
            assert (before.attempt, before.following) == (attempt, stage)
            silent = before.beat is None or self.ledger.now() - before.beat > before.silence
            assert before.busy is None or silent
            self.deliveries.append(Delivery(uid, before.task_uid, attempt, stage, token))

    @precondition(lambda self: self.deliveries)
    @rule(age=ages)
    def renew(self, age: int) -> None:
        """A delivery shows life; it learns whether it is stale."""
        one = self.delivery(age)
        assert self.ledger.renew(one.uid, one.attempt, token=one.token) == self.is_at_work(one)

    @precondition(lambda self: self.deliveries)
    @rule(age=ages)
    def complete(self, age: int) -> None:
        """A delivery has done its stage; publish is closed by publishing."""
        one = self.delivery(age)
        if one.stage is Stage.PUBLISH:
            return
        at_work, before = self.is_at_work(one), self.record(one.uid)
        with contextlib.suppress(Superseded):
            self.ledger.complete(one.uid, one.attempt, one.stage, token=one.token)
            assert before is not None
            if at_work:
                key = (one.task_uid, one.attempt, one.stage)
                assert key not in self.winners, "two winners"
                self.winners[key] = one.token
            else:  # it asked again after a lost answer, or it is told that another has done it
                assert before.done is one.stage
                assert self.record(one.uid) == before

    @rule(uid=uids, lag=lags, leap=leaps)
    def abandon(self, uid: str, lag: int, leap: int) -> None:
        """A worker notices that a pool process died."""
        self.ledger.abandon(uid, *self.believed(uid, lag, leap))

    @precondition(lambda self: self.deliveries)
    @rule(age=ages, delay=delays)
    def postpone(self, age: int, delay: float) -> None:
        """Storage is away."""
        one = self.delivery(age)
        at_work = self.is_at_work(one)
        with contextlib.suppress(Superseded):
            self.ledger.postpone(one.uid, one.attempt, token=one.token, delay=delay)
            assert at_work

    @precondition(lambda self: any(one.stage is Stage.PUBLISH for one in self.deliveries))
    @rule(age=ages)
    def publish(self, age: int) -> None:
        """A delivery of the last stage publishes, however late."""
        last = [one for one in self.deliveries if one.stage is Stage.PUBLISH]
        self.publish_by(last[-1 - age % len(last)])

    def publish_by(self, one: Delivery) -> None:
        before = self.record(one.uid)
        out = f"{{r}}:out-{one.task_uid[4:]}-{one.attempt}"
        with contextlib.suppress(Superseded):
            self.ledger.publish(
                one.uid,
                one.attempt,
                task_uid=one.task_uid,
                finished=contract.finished(self.karton_task(one.uid, one.task_uid)).serialize(),
                analysis_task=Task({"type": "analysis"}, uid=out, root_uid="r").serialize(),
                analysis_task_uid=out,
            )
            assert before is not None
            assert (before.task_uid, before.attempt) == (one.task_uid, one.attempt), "a stale one published"
            assert one.task_uid not in self.published, "published twice"
            self.published[one.task_uid] = out

    @rule(uid=uids, lag=lags, final=st.sampled_from((False, False, False, True)), delay=delays)
    def fail(self, uid: str, lag: int, *, final: bool, delay: float) -> None:
        """An attempt fails; who says so may be its delivery, its worker or a reconciler."""
        attempt, stage = self.believed(uid, lag)
        record = self.record(uid)
        if record is None or record.analysis is None:
            return
        failure = Failure(attempt=attempt, stage=stage, error="broke", fault=Fault.FAILED, at=0)
        crashed = contract.crashed(self.karton_task(uid, record.task_uid), ["broke\n"]).serialize()
        with contextlib.suppress(Superseded):
            following = self.ledger.fail(
                uid, attempt, failure, task_uid=record.task_uid, final=final, crashed=crashed, delay=delay
            )
            assert following == (0 if final else attempt + 1)

    @precondition(lambda self: self.deliveries)
    @rule(age=ages)
    def fails_itself(self, age: int) -> None:
        """A delivery fails: only the one at work, or that has just done the stage, ends the attempt."""
        one = self.delivery(age)
        record = self.record(one.uid)
        if record is None or record.analysis is None:
            return
        claim = self.client.hmget(record_key(one.uid), ["busy", "done_by"])
        may = (claim[0] or claim[1]) == one.token
        failure = Failure(attempt=one.attempt, stage=one.stage, error="broke", fault=Fault.FAILED, at=0)
        with contextlib.suppress(Superseded):
            self.ledger.fail(
                one.uid,
                one.attempt,
                failure,
                task_uid=record.task_uid,
                final=False,
                crashed=None,
                token=one.token,
            )
            assert may

    # Those who look on

    @rule(uid=uids)
    def look(self, uid: str) -> None:
        """Somebody reads a live record, to act on it later."""
        record = self.record(uid)
        if record is not None and not record.state.is_over:
            self.seen.append(record)

    @precondition(lambda self: self.seen)
    @rule(which=st.integers(0, 9))
    def resend(self, which: int) -> None:
        """A reconciler claims to send a step again, by what it saw."""
        with contextlib.suppress(Superseded):
            self.ledger.resend(self.seen[which % len(self.seen)])

    @precondition(lambda self: self.seen)
    @rule(which=st.integers(0, 9))
    def cancel(self, which: int) -> None:
        """Somebody cancels what he saw."""
        record = self.seen[which % len(self.seen)]
        now = self.record(record.uid)
        if now is None or now.task_uid != record.task_uid:
            return  # the uid lives again; client.cancel reads and cancels within milliseconds
        crashed = contract.crashed(
            self.karton_task(record.uid, record.task_uid), ["cancelled by me\n"]
        ).serialize()
        self.ledger.cancel(record, reason="cancelled by me", crashed=crashed)

    @rule(uid=uids)
    def fall_silent(self, uid: str) -> None:
        """The delivery at work has not been heard for long."""
        if self.client.hexists(record_key(uid), "beat"):
            self.client.hset(
                record_key(uid), "beat", f"{self.ledger.now() - self.ledger.timeouts.silence - 1:.6f}"
            )

    # What must be true

    @invariant()
    def promises(self) -> None:
        """All of them, by what is in Redis now: read once, as nobody changes it meanwhile."""
        seen = self.see()
        self.sets_agree_with_states(seen)
        self.every_task_is_somewhere(seen)
        self.lines_and_counts_agree(seen)
        self.karton_agrees(seen)
        self.at_most_one_publication(seen)
        self.what_is_over_stays_as_it_is(seen)
        self.every_end_is_told_once(seen)
        self.attempts_only_go_up(seen)

    def see(self) -> Seen:
        """What is in Redis, in one answer; what the ledger makes of it is asked of the ledger."""
        queues = KartonBackendBase.get_queue_names(IDENTITY)
        with self.client.pipeline(transaction=False) as asked:
            for key in (LIVE, DONE, DUE, NOTICES):
                asked.zrange(key, 0, -1)
            for key in (KARTON_TASKS_QUEUE, *queues):
                asked.lrange(key, 0, -1)
            for uid in UIDS:
                asked.ttl(record_key(uid))
            live, done, due, notices, unrouted, *others = asked.execute()
        return Seen(
            records={uid: self.record(uid) for uid in UIDS},
            live=set(live),
            done=set(done),
            due=set(due),
            notices=notices,
            unrouted=unrouted,
            queued={uid for queue in others[: len(queues)] for uid in queue},
            line=self.in_line(),
            ttl=dict(zip(UIDS, others[len(queues) :], strict=True)),
        )

    def sets_agree_with_states(self, seen: Seen) -> None:
        """live, done and due hold what the records say; finished records expire, live ones never."""
        for uid, record in seen.records.items():
            assert (uid in seen.live) == (record is not None and not record.state.is_over)
            if record is None:
                continue
            if uid in seen.live:
                assert seen.ttl[uid] == -1
            else:
                assert 0 < seen.ttl[uid] <= 600
                assert uid in seen.done
                assert uid not in seen.due

    def every_task_is_somewhere(self, seen: Seen) -> None:
        """A Karton task is queued, in line, in the inbox, has a record, or was refused: one of these."""
        inbox = set(self.inbox.accepted())
        for tasks in self.tasks.values():
            for task in tasks:
                where = (seen.queued, seen.line, inbox, self.owner, self.refused)
                places = [task.uid in one for one in where]
                assert sum(places) == 1, (task.uid, places)

    def lines_and_counts_agree(self, seen: Seen) -> None:
        """A place is listed while it has a line; its live analyses are counted."""
        assert [one.length for one in self.inbox.lines()] == [len(seen.line)] * bool(seen.line)
        assert self.inbox.in_flight() == ({PLACE: len(seen.live)} if seen.live else {})

    def karton_agrees(self, seen: Seen) -> None:
        """The Karton task of a live analysis is STARTED; that of one that is over says how it ended."""
        ended = {State.PUBLISHED: TaskState.FINISHED, State.FAILED: TaskState.CRASHED}
        ended[State.CANCELLED] = TaskState.CRASHED
        for record in seen.records.values():
            if record is None or record.analysis is None:
                continue
            task = self.ledger.karton_task(record.task_uid)
            assert task is not None
            assert task.status is ended.get(record.state, TaskState.STARTED)

    def at_most_one_publication(self, seen: Seen) -> None:
        """What Karton was given is what the records say, once each."""
        assert sorted(seen.unrouted) == sorted(self.published.values())
        for record in seen.records.values():
            if record is not None and record.analysis is not None:
                assert (record.state is State.PUBLISHED) == (record.task_uid in self.published)

    def what_is_over_stays_as_it_is(self, seen: Seen) -> None:
        """Not a field of a finished record changes, until its uid lives again."""
        for record in seen.records.values():
            if record is not None and record.state.is_over:
                now = record.model_dump()
                assert self.over.setdefault(record.task_uid, now) == now

    def every_end_is_told_once(self, seen: Seen) -> None:
        """Each task that is over has one notice, with its end; a task that is not over has none."""
        queued = [Notice.parse(one).record for one in seen.notices]
        told = {record.task_uid: record.state for record in queued}
        assert len(told) == len(queued)
        live = {record.task_uid for record in seen.records.values() if record and not record.state.is_over}
        assert told.keys() == (self.owner.keys() | self.refused) - live
        assert {uid for uid, state in told.items() if state is State.PUBLISHED} == self.published.keys()

    def attempts_only_go_up(self, seen: Seen) -> None:
        """An attempt's number is never used again, in whatever life of the uid."""
        for uid, record in seen.records.items():
            if record is not None:
                assert record.attempt >= self.numbers[uid]
                self.numbers[uid] = record.attempt

    def lrange(self, key: str) -> list[str]:
        return [str(item) for item in self.client.lrange(key, 0, -1)]


@pytest.fixture
def own_database(services: Services) -> Iterator[redis.Redis]:
    """A client on a database that nobody else uses."""
    section = services.redis.model_copy(update={"db": DATABASE})
    with redis.Redis.from_url(section.address(), decode_responses=True) as client:
        assert client.dbsize() == 0
        yield client


def test_no_interleaving_breaks_a_promise(own_database: redis.Redis) -> None:
    """One winner for each attempt and stage, at most one publication, and records that agree with Karton."""

    class OnThisServer(Actors):
        client = own_database

    run_state_machine_as_test(
        OnThisServer,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
