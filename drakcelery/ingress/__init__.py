"""Ingress: takes sample tasks off Karton's queue and starts their chains, as long as the fleet has room."""

from __future__ import annotations

import enum
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TypeVar

import structlog
from redis.exceptions import RedisError

from drakcelery.errors import StorageAway, Superseded
from drakcelery.ingress import orphans
from drakcelery.ingress.bind import bind_of, is_bound, register
from drakcelery.ingress.triage import Triage
from drakcelery.ingress.waiting import Lane, ended, longest_wait, resume_twins, withdraw_twins
from drakcelery.ledger import Ledger
from drakcelery.ledger.away import concerns_all
from drakcelery.ledger.fleet import Sight, nobody_came
from drakcelery.ledger.inbox import NOBODYS, Inbox
from drakcelery.model.analysis import Place
from drakcelery.model.capacity import Capacity
from drakcelery.model.timeouts import Watch
from drakcelery.recovery.isolation import Isolation
from drakcelery.settings import Settings
from drakcelery.stages.dispatch import Send
from drakcelery.storage import Storage

T = TypeVar("T")

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.2
"""Seconds between two looks for free room in the fleet, and so until it is filled from Karton's queue."""
EAGER_SECONDS = 0.02
"""Seconds between two looks within :data:`EAGER_FOR` seconds after a sample came; a look is one command."""
EAGER_FOR = 10.0
AWAY_SECONDS = 5.0
"""Seconds before the next try if Redis does not answer."""
BATCH = 16
"""How many tasks are taken at once. If the ingress dies, they wait until it counts as dead."""
GIVE_UP_AT_ONCE = 100
"""How many tasks of a line are refused before other work is looked at."""
LOOKED_THROUGH = 200
"""How many tasks of each line and queue are checked for having been cancelled."""
TWINS_AT_ONCE = 4
"""How many tasks that waited for a twin are dealt with before other work, where there is no lane."""


class Round(enum.Enum):
    """The result of one look for work."""

    WORKED = enum.auto()
    NO_ROOM = enum.auto()
    """Something waits, but for a full place or for its time to be sent."""
    NOTHING = enum.auto()
    FAILED = enum.auto()


@dataclass(frozen=True, kw_only=True)
class Ingress:
    """One ingress. Several may run: each task is taken by one of them."""

    settings: Settings
    ledger: Ledger
    inbox: Inbox
    storage: Storage
    send: Send
    """Send the current attempt of a record on its way."""
    lane: Lane | None = None
    """Who deals with tasks whose reuse takes time; None: this ingress itself, between other work."""

    def run(self, stop: threading.Event) -> None:
        """Until *stop* is set, or another ingress with other filters takes over our identity.

        No single task or record ends it: if something goes wrong with one, that is logged and the task
        skipped.
        """
        bind = bind_of(self.settings)
        register(self.ledger, self.settings, bind)
        search, checked, worked = self._find_orphans(), 0.0, 0.0
        while not stop.is_set():
            try:
                if time.monotonic() - checked >= self.ledger.timeouts.check:
                    checked = time.monotonic()
                    if not is_bound(self.ledger, bind):
                        return
                    watch = self.ledger.watch()
                    adopt, give_up = partial(self._adopt, watch), partial(self._give_up, watch)
                    for part in (self._keep_lane, adopt, self._try_again, give_up, self._withdraw):
                        self._safely(part)
                searching = self._safely(partial(next, search, False))
                done = self._safely(self.work) or Round.FAILED
                if done is Round.WORKED:
                    worked = time.monotonic()
                elif done is Round.FAILED:  # not the error of a single task: the next round would meet it too
                    stop.wait(AWAY_SECONDS)
                elif not searching:
                    is_eager = done is Round.NOTHING and time.monotonic() - worked < EAGER_FOR
                    stop.wait(EAGER_SECONDS if is_eager else POLL_SECONDS)
            except RedisError as error:
                log.warning("redis_away", error=str(error))
                search = self._find_orphans()  # the error has ended that one
                stop.wait(AWAY_SECONDS)

    def _safely(self, part: Callable[[], T]) -> T | None:
        """Do one part of the work; if it fails, the other parts are done all the same.

        Raises:
            redis.exceptions.RedisError: Redis is away, or refuses everything.
        """
        try:
            with self.ledger.named():
                return part()
        except Exception as error:
            if concerns_all(error):
                raise
            name = getattr(getattr(part, "func", part), "__name__", "?")
            log.exception("part_failed", part=name, error=str(error))
            return None

    def work(self) -> Round:
        """Send what is due, or take what waits."""
        if not self.inbox.has_work():
            return Round.NOTHING
        twins = self.lane is None and self._resume_twins()
        done = (twins, self.send_due() or self.accept_tasks())  # neither holds up the other
        return Round.WORKED if any(done) else Round.NO_ROOM

    def accept_tasks(self) -> bool:
        """Take the most urgent tasks, as far as the fleet has room. False if there was nothing to take."""
        in_flight, places = self.inbox.counts()
        capacity = self._sight.capacity().beside(in_flight)
        if not capacity.total():
            return False
        lines = {place: free for place in places if (free := capacity.free(place))}
        taken = self.inbox.accept(limit=capacity.most(), places=lines, most=BATCH)
        self._handle(taken, capacity)
        return bool(taken)

    def send_due(self) -> bool:
        """Send an attempt, or a postponed stage, whose time has come. False if there was none."""
        uid = self.ledger.due()
        if uid is None:
            return False
        self._due.begin()
        with self._due.item(uid):
            record = self.ledger.get(uid)
            if record is not None and not record.state.is_over and not record.is_foreign:
                self._triage.send_off(record)
        return True

    @cached_property
    def _sight(self) -> Sight:
        return Sight(self.ledger.fleet, look_ahead=self.settings.drakcelery.look_ahead)

    @property
    def _triage(self) -> Triage:
        return Triage(
            settings=self.settings,
            ledger=self.ledger,
            inbox=self.inbox,
            storage=self.storage,
            send=self.send,
            sight=self._sight,
            has_time=self.lane is None,
        )

    @cached_property
    def _inbox(self) -> Isolation:
        return Isolation(self.ledger.quarantine, where="inbox", give_up=self._triage.end_odd)

    @cached_property
    def _due(self) -> Isolation:
        return Isolation(self.ledger.quarantine, where="due")

    @cached_property
    def _lines(self) -> Isolation:
        return Isolation(self.ledger.quarantine, where="line")

    def _handle(self, task_uids: Sequence[str], capacity: Capacity) -> None:
        """Deal with accepted Karton tasks, one by one. They stay in the inbox while S3 is away.

        One that cannot be dealt with leaves the inbox until its next try, so that it takes up no room there.
        """
        if task_uids:
            self._inbox.begin()
        for task_uid, text in zip(task_uids, self.inbox.tasks(task_uids), strict=True):
            is_dealt_with = False
            with structlog.contextvars.bound_contextvars(task=task_uid):
                try:
                    with self._inbox.item(task_uid):
                        capacity = self._triage.deal_with(task_uid, text, capacity)
                        is_dealt_with = True
                except StorageAway as error:
                    log.warning("sample_unreachable", error=str(error))
                    self.inbox.set_back(task_uid)
                    return  # the others' samples would not be reached either; they are tried first next time
                except Superseded:
                    log.info("started_by_another")  # an ingress or reconcile that took this ingress for dead
                    is_dealt_with = True
                if not is_dealt_with:
                    self.inbox.set_aside(task_uid)

    def _find_orphans(self) -> Iterator[bool]:
        """Adopt, or report, what an earlier consumer left; a part at each call, True until all is done."""
        what = self.settings.drakcelery.stranded
        if what == "leave":
            return
        limit = self.settings.drakcelery.hard_time_limit
        for found in orphans.find(self.ledger, self.inbox, hard_time_limit=limit):
            for task_uid in found:
                log.warning("orphaned_task", task=task_uid, adopted=what == "adopt")
                if what == "adopt":
                    self.inbox.adopt(task_uid)
            yield True

    def _adopt(self, watch: Watch) -> None:
        """Handle tasks that an ingress took before it died, and those that were left while S3 was away.

        An outage of Redis does not count: an ingress that took a task just before it has as long as usual to
        go on.
        """
        patience = self.ledger.timeouts.orphan
        left = self.inbox.accepted(before=watch.now - patience if watch.lasts > patience else NOBODYS)
        for begin in range(0, len(left), BATCH):
            some = left[begin : begin + BATCH]
            for task_uid in some:
                log.info("adopted", task=task_uid)
            self.deal_with(some)

    def _try_again(self) -> None:
        """Try tasks again that were set aside and are due."""
        waiting = self.inbox.aside()
        if not waiting:
            return
        self._inbox.begin()
        due = [task_uid for task_uid in waiting if not self._inbox.skips(task_uid)][:BATCH]
        ours = []
        for task_uid in due:
            with self._lines.item(task_uid):
                ours += [task_uid] if self.inbox.put_back(task_uid) else []
        self.deal_with(ours)

    def _give_up(self, watch: Watch) -> None:
        """Refuse tasks that have waited too long, in watched time, for a place that is offline."""
        patience = self.settings.drakcelery.offline_patience
        places = self.inbox.places()
        self._lines.begin()
        for place, offline in (self.ledger.fleet.silences(places, watch) if places else {}).items():
            if offline <= patience:
                continue
            before = watch.ago(patience)
            for task_uid in self.inbox.waiting(place, before=before, most=GIVE_UP_AT_ONCE):
                if not self._lines.skips(task_uid):
                    with self._lines.item(task_uid):
                        self._give_up_one(task_uid, place, nobody_came(place, offline))

    def _give_up_one(self, task_uid: str, place: Place, reason: str) -> None:
        if self.inbox.expire(task_uid, place):
            self._triage.end_odd(task_uid, reason)

    def _withdraw(self) -> None:
        """Take tasks out of lines and queues that were cancelled in Karton meanwhile.

        Only the first of each line and queue are checked, and the others once they come to the front.
        """
        withdraw_twins(self.inbox, self._lines, self._triage.drop, now=self.ledger.now())
        self._lines.begin()
        for stretch in self.inbox.backlog(most=LOOKED_THROUGH):
            for task_uid, text in zip(stretch.named, self.inbox.tasks(stretch.named), strict=True):
                if (over := ended(text, task_uid)) is not None and not self._lines.skips(task_uid):
                    with self._lines.item(task_uid):
                        if self.inbox.pull(task_uid, stretch):
                            self._triage.drop(task_uid, over.task, over.why)

    def _resume_twins(self) -> bool:
        """Deal with some of the tasks that need wait for no twin any more. False if there was none."""
        ours = self.resumed(TWINS_AT_ONCE)
        self.deal_with(ours)
        return bool(ours)

    def resumed(self, most: int) -> list[str]:
        """Put tasks that need wait for no twin any more back into the inbox; returns their Karton uids."""
        longest = longest_wait(self.settings)
        return resume_twins(self.inbox, self._lines, most=most, longest=longest, now=self.ledger.now)

    def deal_with(self, task_uids: Sequence[str]) -> None:
        """Deal with tasks of the inbox."""
        if task_uids:
            self._handle(task_uids, self._sight.capacity().beside(self.inbox.in_flight()))

    def _keep_lane(self) -> None:
        if self.lane is not None:
            self.lane.keep(self.inbox)
