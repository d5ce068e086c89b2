"""Ingress: takes sample tasks off Karton's queue and starts their chains, as long as the fleet has room."""

from __future__ import annotations

import contextlib
import copy
import enum
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TypeVar

import structlog
from karton.core import Task
from karton.core.__version__ import __version__ as karton_version
from karton.core.backend import KARTON_BINDS_HSET, KartonBackendBase, KartonBind
from karton.core.task import TaskState
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from drakcelery import __version__
from drakcelery.artifacts.metadata import METADATA
from drakcelery.errors import (
    AlreadyFinished,
    BadTask,
    Changed,
    SettingsError,
    StorageAway,
    StorageError,
    Superseded,
    Unreadable,
)
from drakcelery.failpoints import reach
from drakcelery.ingress import orphans
from drakcelery.karton import contract, reading
from drakcelery.karton.contract import MAGIC_BYTES, SampleFacts
from drakcelery.karton.destination import destination, fixed
from drakcelery.karton.filetype import describe
from drakcelery.karton.policy import Policy, policy_of
from drakcelery.ledger import Ledger
from drakcelery.ledger.away import concerns_all
from drakcelery.ledger.deployment import Deployment
from drakcelery.ledger.fleet import Sight, nobody_came
from drakcelery.ledger.inbox import NOBODYS, Intake
from drakcelery.ledger.keys import record_key
from drakcelery.ledger.keytypes import named
from drakcelery.ledger.lines import Stretch
from drakcelery.model.analysis import Analysis, Place, is_uid
from drakcelery.model.capacity import Rooms
from drakcelery.model.records import Record
from drakcelery.model.text import storable
from drakcelery.model.timeouts import Watch
from drakcelery.recovery.isolation import Isolation
from drakcelery.settings import Settings
from drakcelery.storage import Storage
from drakcelery.telemetry import metrics, tracing
from drakcelery.telemetry.logs import about

T = TypeVar("T")

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.2
"""How soon a free place in the fleet is filled from Karton's queue."""
EAGER_SECONDS = 0.02
"""How soon a sample is seen that comes within :data:`EAGER_FOR` seconds of another; a look is one command."""
EAGER_FOR = 10.0
AWAY_SECONDS = 5.0
"""Before the next try where Redis does not answer."""
BATCH = 16
"""So many tasks are taken at once. Those of an ingress that dies wait until it counts as dead."""
GIVE_UP_AT_ONCE = 100
"""How many tasks of a line are refused before other work is looked at."""
LOOKED_THROUGH = 200
"""So many tasks of each line and queue are looked through for what was cancelled."""
RE_READS = 3
"""So often a task is read again that changes in between."""
_OVER = re.compile(f'"(?:{TaskState.FINISHED.value}|{TaskState.CRASHED.value})"')


def bind_of(settings: Settings) -> KartonBind:
    """What karton-system routes to us."""
    drakrun = settings.drakrun
    filters = [*drakrun.filters, *(drakrun.test_filters if drakrun.sample_testing else ())]
    return KartonBind(
        identity=drakrun.identity,
        info="drakcelery: runs recognized samples in DRAKVUF",
        version=karton_version,
        persistent=True,
        filters=[dict(one) for one in filters],
        service_version=__version__,
        is_async=False,
    )


class Turn(enum.Enum):
    """What came of a look at what is to do."""

    WORKED = enum.auto()
    NO_ROOM = enum.auto()
    """Something waits, but for a place that is full, or for a time that is to come."""
    NOTHING = enum.auto()
    FAILED = enum.auto()


@dataclass(frozen=True, kw_only=True)
class Ingress:
    """One ingress. Several may run: each task is taken by one of them."""

    settings: Settings
    ledger: Ledger
    intake: Intake
    storage: Storage
    send: Callable[[Record], None]
    """Send the current attempt of a record on its way."""

    def run(self, stop: threading.Event) -> None:
        """Until *stop* is set, or another ingress with other filters takes over our identity.

        No task, and no record, ends it: what goes wrong with one is told and passed over.
        """
        bind = bind_of(self.settings)
        self._register(bind)
        search, checked, worked = self._find_stranded(), 0.0, 0.0
        while not stop.is_set():
            try:
                if time.monotonic() - checked >= self.ledger.times.check:
                    checked = time.monotonic()
                    if not self._bound(bind):
                        return
                    watch = self.ledger.watch()
                    adopt, give_up = partial(self._adopt, watch), partial(self._give_up, watch)
                    for part in (adopt, self._try_again, give_up, self._withdraw):
                        self._safely(part)
                searching = self._safely(partial(next, search, False))
                turn = self._safely(self.work) or Turn.FAILED
                if turn is Turn.WORKED:
                    worked = time.monotonic()
                elif turn is Turn.FAILED:
                    stop.wait(AWAY_SECONDS)  # no task's own error: the next turn meets it too
                elif not searching:
                    is_eager = turn is Turn.NOTHING and time.monotonic() - worked < EAGER_FOR
                    stop.wait(EAGER_SECONDS if is_eager else POLL_SECONDS)
            except RedisError as error:
                log.warning("redis_away", error=str(error))
                search = self._find_stranded()  # the error has ended that one
                stop.wait(AWAY_SECONDS)

    def _safely(self, part: Callable[[], T]) -> T | None:
        """Do one part of the work; what fails in it keeps no other part from being done.

        Raises:
            redis.exceptions.RedisError: Redis is away, or refuses everything.
        """
        try:
            with named(self.ledger.redis):
                return part()
        except Exception as error:
            if concerns_all(error):
                raise
            name = getattr(getattr(part, "func", part), "__name__", "?")
            log.exception("part_failed", part=name, error=str(error))
            return None

    def work(self) -> Turn:
        """Send what is due, or take what waits."""
        if not self.intake.has_work():
            return Turn.NOTHING
        return Turn.WORKED if self.send_due() or self.take() else Turn.NO_ROOM

    def take(self) -> bool:
        """Take the most urgent tasks, as far as the fleet has room. False where there was nothing to take."""
        in_flight, places = self.intake.look()
        rooms = self._sight.rooms().beside(in_flight)
        if not rooms.total():
            return False
        lines = {place: free for place in places if (free := rooms.free(place))}
        taken = self.intake.accept(limit=rooms.most(), places=lines, most=BATCH)
        self._handle(taken, rooms)
        return bool(taken)

    def send_due(self) -> bool:
        """Send an attempt, or a postponed stage, whose time has come. False where there was none."""
        uid = self.ledger.due()
        if uid is None:
            return False
        self._due.begin()
        with self._due.item(uid):
            record = self.ledger.get(uid)
            if record is not None and not record.state.is_over and not record.is_foreign:
                self._send(record)
        return True

    @cached_property
    def _sight(self) -> Sight:
        return Sight(self.ledger.fleet, look_ahead=self.settings.drakcelery.look_ahead)

    @cached_property
    def _inbox(self) -> Isolation:
        return Isolation(self.ledger.quarantine, where="inbox", give_up=self._end_odd)

    @cached_property
    def _due(self) -> Isolation:
        return Isolation(self.ledger.quarantine, where="due")

    @cached_property
    def _lines(self) -> Isolation:
        return Isolation(self.ledger.quarantine, where="line")

    def _handle(self, task_uids: Sequence[str], rooms: Rooms) -> None:
        """Deal with accepted Karton tasks, one by one. They stay in the inbox while S3 is away.

        One that cannot be dealt with leaves the inbox until its next try, so that it takes up no room there.
        """
        if task_uids:
            self._inbox.begin()
        for task_uid, text in zip(task_uids, self.intake.tasks(task_uids), strict=True):
            is_dealt_with = False
            with structlog.contextvars.bound_contextvars(task=task_uid):
                try:
                    with self._inbox.item(task_uid):
                        rooms = self._deal_with(task_uid, text, rooms)
                        is_dealt_with = True
                except StorageAway as error:
                    log.warning("sample_unreachable", error=str(error))
                    self.intake.set_back(task_uid)
                    return  # the others' samples would not be reached either; they are tried first next time
                except Superseded:
                    log.info("started_by_another")  # an ingress or reconcile that held this one for dead
                    is_dealt_with = True
                if not is_dealt_with:
                    self.intake.set_aside(task_uid)

    def _deal_with(self, task_uid: str, text: str | None, rooms: Rooms) -> Rooms:
        """One accepted task, whose JSON is *text*.

        Raises:
            StorageAway, Superseded: as :meth:`_admit`.
            StorageError: S3 has something against this sample.
            Unreadable: there is no JSON object where the task should be.
        """
        for _ in range(RE_READS):
            if text is None:
                self._drop(task_uid, None, "Karton has dropped its task")
                return rooms
            try:
                task = reading.read_task(text, task_uid)
            except Unreadable as error:
                if not reading.is_readable(text):
                    raise
                self._refuse(task_uid, None, str(error))
                return rooms
            if task.status in (TaskState.FINISHED, TaskState.CRASHED):
                self._drop(task_uid, task, f"its Karton task is {task.status.value}")
                return rooms
            try:
                return self._admit(task, text, rooms)
            except Changed:
                [text] = self.intake.tasks([task_uid])
        return rooms  # somebody writes it all the time: it is looked at again with the next that are left

    def _drop(self, task_uid: str, task: Task | None, why: str) -> None:
        """Take a task out of the inbox that is over: cancelled, or here for a second time."""
        log.warning("task_gone" if task is None else "task_over", task=task_uid, reason=why)
        if task is not None and task.status is TaskState.CRASHED:
            self.intake.drop(task_uid)
            return
        root = task.root_uid if task is not None else reading.root_of(task_uid)
        self.intake.withdraw(
            self._uid_of(task_uid, task), task_uid=task_uid, root_uid=root, reason=f"cancelled: {why}"
        )

    def _admit(self, task: Task, text: str, rooms: Rooms) -> Rooms:
        """Turn an accepted task into an analysis, refuse it, or let it wait for its place.

        Returns what is left of *rooms*.

        Raises:
            Changed: the task is another than was read.
            Superseded: somebody else has it.
            StorageAway: S3 is away, for all samples.
            StorageError: S3 has something against this one.
        """
        try:
            return self._start(task, text, rooms)
        except AlreadyFinished as error:
            self._refuse(
                task.uid, task, str(error), uid=task.task_uid
            )  # the other uid is that of an analysis
        except BadTask as error:
            self._refuse(task.uid, task, str(error))
        except StorageAway as error:
            if self.storage.answers(self.settings.s3.bucket):
                raise StorageError(str(error)) from None
            raise
        except (RedisError, StorageError, Superseded):
            raise  # the task is in the inbox, or in the ledger
        except Exception as error:
            log.exception("task_not_understood")
            reason = f"drakcelery could not read this task: {type(error).__name__}: {error}"
            self._refuse(task.uid, task, reason)
        return rooms

    def _start(self, task: Task, text: str, rooms: Rooms) -> Rooms:
        policy = policy_of(self.settings)
        reach("ingress.accepted", str(task.payload.get("override_uid")))
        analysis = fixed(self.settings, contract.read_task(task, self._facts(task, policy), policy))
        with about(uid=analysis.uid):
            return self._open(task, text, analysis, rooms)

    def _open(self, task: Task, text: str, analysis: Analysis, rooms: Rooms) -> Rooms:
        place = analysis.place
        record = None
        if rooms.free(place):
            self._spare_finished(task, analysis)
            # A copy: the task's age counts, should others have filled the place
            started = contract.started(copy.copy(task), now=self.ledger.now())
            record = self.intake.open(analysis, started, limit=rooms.limit(place), read=text)
            if record is None:
                self._sight.look_again()
        else:
            self._check_place(place)
        if record is None:
            self.intake.wait(task, place)
            log.info("waits_for_place", place=str(place))
            return rooms
        waited = time.time() - (task.last_update or time.time())
        metrics.analysis_received(analysis.profile, waited=waited)
        log.info("accepted", sample=analysis.sample_label, priority=analysis.priority.value)
        try:
            reach("ingress.opened", record.uid)
            self._send(record)
            reach("ingress.sent", record.uid)
            tracing.accepted(lambda: record, self.ledger.now)
        except (Superseded, RedisError):
            raise
        except Exception:
            # Not the task's fault, and too late to refuse it: it is live, so reconcile sends it
            log.exception("not_sent")
        return rooms.after(place)

    def _spare_finished(self, task: Task, analysis: Analysis) -> None:
        """Refuse to replace what is complete, unless the settings say otherwise."""
        ours = self.settings.drakcelery
        if ours.override_finished == "replace" or analysis.uid == task.task_uid:
            return
        bucket = destination(self.settings, analysis).bucket
        if self.storage.holds(bucket, f"{analysis.uid}/{METADATA}"):
            raise AlreadyFinished(
                f"analysis {analysis.uid} is complete, and another task's: ask for another uid (payload "
                "'override_uid'), remove its objects, or set [drakcelery] override_finished = replace"
            )

    def _check_place(self, wanted: Place) -> None:
        """Refuse what no host could ever take: it would wait for ever."""
        places = self.ledger.fleet.places()
        profiles = sorted({place.profile for place in places})
        hosts = sorted({str(place.host) for place in places})
        if wanted.profile not in profiles:
            raise BadTask(f"no host has the VM profile {wanted.profile!r}; there are: {', '.join(profiles)}")
        if wanted.host is None:
            return
        if wanted.host not in hosts:
            raise BadTask(f"there is no host {wanted.host!r}; there are: {', '.join(hosts)}")
        if wanted not in places:
            there = ", ".join(sorted(place.profile for place in places if place.host == wanted.host))
            raise BadTask(
                f"host {wanted.host!r} has no VM of the profile {wanted.profile!r}; it has: {there}"
            )

    def _send(self, record: Record) -> None:
        """What cannot be sent now stays unsent in the ledger, where reconcile finds it."""
        with about(**record.context):
            try:
                self.send(record)
            except OperationalError as error:
                log.warning("broker_away", error=str(error))

    def _facts(self, task: Task, policy: Policy) -> SampleFacts:
        """Size and magic of the sample, from its first bytes."""
        sample = contract.sample_ref(task, policy)
        found = self.storage.peek(sample.bucket, sample.key, MAGIC_BYTES)
        if found is None:
            raise BadTask(f"the sample {sample.name!r} is not in the bucket {sample.bucket!r} any more")
        size, head = found
        return SampleFacts(size=size, magic=describe(head) if head else "empty")

    def _end_odd(self, task_uid: str, reason: str) -> bool:
        """The last resort for what could not be dealt with, however often it was tried."""
        task = None
        with contextlib.suppress(Unreadable):
            task = self.ledger.karton_task(task_uid)
        self._refuse(task_uid, task, reason)
        return True

    def _uid_of(self, task_uid: str, task: Task | None) -> str:
        """What the record of a task is called that does not become an analysis."""
        override = task.payload.get("override_uid") if task is not None else None
        own = reading.own_uid(task_uid)
        if not isinstance(override, str) or not is_uid(override):
            return own
        owner = self.ledger.redis.hget(record_key(override), "task_uid")
        return override if owner in (None, task_uid) else own  # that record is another task's

    def _refuse(self, task_uid: str, task: Task | None, reason: str, *, uid: str | None = None) -> None:
        """End a task that cannot become an analysis; *task* is None where it cannot be read."""
        uid, told = uid or self._uid_of(task_uid, task), storable(reason)
        log.warning("refused", uid=uid, reason=told)
        self.intake.refuse(
            uid,
            task_uid=task_uid,
            root_uid=task.root_uid if task is not None else reading.root_of(task_uid),
            reason=told,
            crashed=self.ledger.last_word(task_uid, [f"{told}\n"]) or "",
        )
        tracing.refused(task_uid, lambda: self.ledger.get(uid))

    def _find_stranded(self) -> Iterator[bool]:
        """Adopt, or report, what a consumer before us left behind; bit by bit, True until it is done."""
        what = self.settings.drakcelery.stranded
        if what == "leave":
            return
        limit = self.settings.drakcelery.hard_time_limit
        for found in orphans.find(self.ledger, self.intake, hard_time_limit=limit):
            for task_uid in found:
                log.warning("stranded_task", task=task_uid, adopted=what == "adopt")
                if what == "adopt":
                    self.intake.adopt(task_uid)
            yield True

    def _adopt(self, watch: Watch) -> None:
        """Handle what an ingress that died has taken, and what was left while S3 was away.

        Who took something just before Redis went away has as long as ever to go on with it.
        """
        patience = self.ledger.times.orphan
        left = self.intake.inbox(before=watch.now - patience if watch.lasts > patience else NOBODYS)
        for begin in range(0, len(left), BATCH):
            some = left[begin : begin + BATCH]
            for task_uid in some:
                log.info("adopted", task=task_uid)
            self._handle(some, self._sight.rooms().beside(self.intake.in_flight()))

    def _try_again(self) -> None:
        """Look once more at what was set aside, as far as its time has come."""
        waiting = self.intake.aside()
        if not waiting:
            return
        self._inbox.begin()
        due = [task_uid for task_uid in waiting if not self._inbox.skips(task_uid)][:BATCH]
        ours = []
        for task_uid in due:
            with self._lines.item(task_uid):
                ours += [task_uid] if self.intake.take_back(task_uid) else []
        self._handle(ours, self._sight.rooms().beside(self.intake.in_flight()))

    def _give_up(self, watch: Watch) -> None:
        """Refuse what has waited, while somebody watched, for too long for what is offline."""
        patience = self.settings.drakcelery.offline_patience
        places = self.intake.places()
        self._lines.begin()
        for place, offline in (self.ledger.fleet.silences(places, watch) if places else {}).items():
            if offline <= patience:
                continue
            before = watch.ago(patience)
            for task_uid in self.intake.waiting(place, before=before, most=GIVE_UP_AT_ONCE):
                if not self._lines.skips(task_uid):
                    with self._lines.item(task_uid):
                        self._give_up_one(task_uid, place, nobody_came(place, offline))

    def _give_up_one(self, task_uid: str, place: Place, reason: str) -> None:
        if self.intake.expire(task_uid, place):
            self._end_odd(task_uid, reason)

    def _withdraw(self) -> None:
        """Take out of lines and queues what was cancelled in Karton meanwhile: nobody waits for it.

        Of each line and queue the first are looked at; those behind are seen when they come to the front.
        """
        self._lines.begin()
        for stretch in self.intake.backlog(most=LOOKED_THROUGH):
            for task_uid, text in zip(stretch.named, self.intake.tasks(stretch.named), strict=True):
                if text is not None and not _OVER.search(text):  # as nearly always: it need not be parsed
                    continue
                if not self._lines.skips(task_uid):
                    with self._lines.item(task_uid):
                        self._withdraw_one(task_uid, text, stretch)

    def _withdraw_one(self, task_uid: str, text: str | None, stretch: Stretch) -> None:
        task = None
        if text is not None:
            try:
                task = reading.read_task(text, task_uid)
            except Unreadable:
                return  # its turn tells
            if task.status not in (TaskState.FINISHED, TaskState.CRASHED):
                return
        if self.intake.pull(task_uid, stretch):
            why = f"its Karton task is {task.status.value}" if task else "Karton has dropped its task"
            self._drop(task_uid, task, why)

    def _register(self, bind: KartonBind) -> None:
        serialized = KartonBackendBase.serialize_bind(bind)
        self.ledger.redis.hset(KARTON_BINDS_HSET, bind.identity, serialized)
        log.info("bound", identity=bind.identity, filters=bind.filters)
        for notice in self.settings.notices():
            log.warning("setting_without_effect", notice=notice)

    def _is_the_deployment(self) -> bool:
        """Show life; False where a deployment of another identity is at work on this Redis by now."""
        try:
            Deployment(self.ledger.redis, self.ledger.identity).claim()
        except SettingsError as error:
            log.error("other_deployment", why=str(error))
            return False
        return True

    def _bound(self, bind: KartonBind) -> bool:
        """Karton's rule: an instance whose bind was replaced exits, since it would take the wrong tasks."""
        now = self.ledger.redis.hget(KARTON_BINDS_HSET, bind.identity)
        if now == KartonBackendBase.serialize_bind(bind):
            return self._is_the_deployment()
        log.error("bind_replaced", identity=bind.identity, now=now)
        return False
