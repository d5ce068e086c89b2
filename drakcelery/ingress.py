"""Ingress: takes sample tasks off Karton's queue and starts their chains, as long as the fleet has room."""

from __future__ import annotations

import copy
import enum
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import structlog
from karton.core import Task
from karton.core.__version__ import __version__ as karton_version
from karton.core.backend import KARTON_BINDS_HSET, KartonBackendBase, KartonBind
from karton.core.task import TaskState
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from drakcelery import __version__, contract, stranded
from drakcelery.analysis import Analysis, Place, is_uid
from drakcelery.artifacts.metadata import METADATA
from drakcelery.contract import MAGIC_BYTES, Policy, SampleFacts
from drakcelery.errors import AlreadyFinished, BadTask, StorageAway, StorageError, Superseded
from drakcelery.faults import reach
from drakcelery.filetype import describe
from drakcelery.fleet import Sight, nobody_came
from drakcelery.intake import Intake
from drakcelery.ledger import Ledger
from drakcelery.logs import about
from drakcelery.monitoring import metrics, tracing
from drakcelery.records import Record
from drakcelery.rooms import Rooms
from drakcelery.settings import Settings
from drakcelery.storage import Storage

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


def policy_of(settings: Settings) -> Policy:
    """What the settings say about reading tasks."""
    drakrun, ours = settings.drakrun, settings.drakcelery
    return Policy(
        default_timeout=drakrun.analysis_timeout,
        hard_time_limit=ours.hard_time_limit,
        max_sample_size=ours.max_sample_size,
        default_bucket=settings.s3.bucket,
        use_root_uid=drakrun.use_root_uid,
        plugins_of=settings.plugins_of,
        profile_of=settings.profile_of,
        test_filters=drakrun.test_filters if drakrun.sample_testing else (),
    )


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
        """Until *stop* is set, or another ingress with other filters takes over our identity."""
        bind = bind_of(self.settings)
        self._register(bind)
        search, searching, checked, worked = self._find_stranded(), True, 0.0, 0.0
        while not stop.is_set():
            try:
                if time.monotonic() - checked >= self.ledger.times.check:
                    checked = time.monotonic()
                    if not self._bound(bind):
                        return
                    self._adopt()
                    self._give_up()
                searching = searching and next(search, False)
                turn = self.work()
                if turn is Turn.WORKED:
                    worked = time.monotonic()
                elif not searching:
                    is_eager = turn is Turn.NOTHING and time.monotonic() - worked < EAGER_FOR
                    stop.wait(EAGER_SECONDS if is_eager else POLL_SECONDS)
            except RedisError as error:
                log.warning("redis_away", error=str(error))
                search = self._find_stranded()  # the error has ended that one
                stop.wait(AWAY_SECONDS)

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
        record = self.ledger.get(uid)
        if record is not None and not record.state.is_over:
            self._send(record)
        return True

    @cached_property
    def _sight(self) -> Sight:
        return Sight(self.ledger.fleet, look_ahead=self.settings.drakcelery.look_ahead)

    def _handle(self, task_uids: Sequence[str], rooms: Rooms) -> None:
        """Deal with accepted Karton tasks. They stay in the inbox while S3 is away."""
        for task_uid, text in zip(task_uids, self.intake.tasks(task_uids), strict=True):
            task = Task.unserialize(text) if text is not None else None
            if task is None or task.status is TaskState.FINISHED:
                log.warning("task_gone" if task is None else "task_cancelled", task=task_uid)
                self.intake.drop(task_uid)
                continue
            with structlog.contextvars.bound_contextvars(task=task_uid):
                try:
                    rooms = self._admit(task, rooms)
                except StorageAway as error:
                    log.warning("sample_unreachable", error=str(error))
                    self.intake.set_back(task_uid)
                    return  # the others' samples would not be reached either; they are tried first next time

    def _admit(self, task: Task, rooms: Rooms) -> Rooms:
        """Turn an accepted task into an analysis, refuse it, or let it wait for its place.

        Returns what is left of *rooms*. Raises :class:`StorageAway`.
        """
        try:
            return self._start(task, rooms)
        except AlreadyFinished as error:
            self._refuse(task, str(error), uid=task.task_uid)  # the other uid is that of an analysis
        except BadTask as error:
            self._refuse(task, str(error))
        except Superseded:
            log.info("started_by_another")  # an ingress or reconcile that held this one for dead
        except (RedisError, StorageAway):
            raise  # they are waited for; the task is in the inbox, or in the ledger
        except StorageError as error:
            log.warning("sample_unreachable", error=str(error))
        except Exception as error:
            log.exception("task_not_understood")
            self._refuse(task, f"drakcelery could not read this task: {type(error).__name__}: {error}")
        return rooms

    def _start(self, task: Task, rooms: Rooms) -> Rooms:
        policy = policy_of(self.settings)
        reach("ingress.accepted", str(task.payload.get("override_uid")))
        analysis = contract.read_task(task, self._facts(task, policy), policy)
        with about(uid=analysis.uid):
            return self._open(task, analysis, rooms)

    def _open(self, task: Task, analysis: Analysis, rooms: Rooms) -> Rooms:
        place = analysis.place
        record = None
        if rooms.free(place):
            self._spare_finished(task, analysis)
            # A copy: the task's age counts, should others have filled the place
            started = contract.started(copy.copy(task), now=self.ledger.now())
            record = self.intake.open(analysis, started, limit=rooms.limit(place))
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
        bucket = self.settings.s3.bucket if analysis.is_test else ours.bucket
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

    def _refuse(self, task: Task, reason: str, *, uid: str | None = None) -> None:
        override = task.payload.get("override_uid")
        uid = uid or (override if isinstance(override, str) and is_uid(override) else task.task_uid)
        record = self.ledger.get(uid)
        if record is not None and record.task_uid != task.uid:
            uid = task.task_uid  # that record is another task's
        log.warning("refused", uid=uid, reason=reason)
        self.intake.refuse(
            uid,
            task_uid=task.uid,
            root_uid=task.root_uid,
            reason=reason,
            crashed=contract.crashed(task, [f"{reason}\n"], now=self.ledger.now()).serialize(),
        )
        tracing.refused(task.uid, lambda: self.ledger.get(uid))

    def _find_stranded(self) -> Iterator[bool]:
        """Adopt, or report, what a consumer before us left behind; bit by bit, True until it is done."""
        what = self.settings.drakcelery.stranded
        if what == "leave":
            return
        limit = self.settings.drakcelery.hard_time_limit
        for found in stranded.find(self.ledger, self.intake, hard_time_limit=limit):
            for task_uid in found:
                log.warning("stranded_task", task=task_uid, adopted=what == "adopt")
                if what == "adopt":
                    self.intake.adopt(task_uid)
            yield True

    def _adopt(self) -> None:
        """Handle what an ingress that died has taken, and what was left while S3 was away."""
        left = self.intake.inbox(older_than=self.ledger.times.orphan)
        for begin in range(0, len(left), BATCH):
            some = left[begin : begin + BATCH]
            for task_uid in some:
                log.info("adopted", task=task_uid)
            self._handle(some, self._sight.rooms().beside(self.intake.in_flight()))

    def _give_up(self) -> None:
        """Refuse what has waited for too long for a profile or host that is offline."""
        patience = self.settings.drakcelery.offline_patience
        places = self.intake.places()
        for place, offline in (self.ledger.fleet.silences(places) if places else {}).items():
            if offline <= patience:
                continue
            before = self.ledger.now() - patience
            for task_uid in self.intake.waiting(place, before=before, most=GIVE_UP_AT_ONCE):
                task = self.ledger.karton_task(task_uid)
                if self.intake.expire(task_uid, place) and task is not None:
                    self._refuse(task, nobody_came(place, offline))

    def _register(self, bind: KartonBind) -> None:
        serialized = KartonBackendBase.serialize_bind(bind)
        self.ledger.redis.hset(KARTON_BINDS_HSET, bind.identity, serialized)
        log.info("bound", identity=bind.identity, filters=bind.filters)
        for notice in self.settings.notices():
            log.warning("setting_without_effect", notice=notice)

    def _bound(self, bind: KartonBind) -> bool:
        """Karton's rule: an instance whose bind was replaced exits, since it would take the wrong tasks."""
        now = self.ledger.redis.hget(KARTON_BINDS_HSET, bind.identity)
        if now == KartonBackendBase.serialize_bind(bind):
            return True
        log.error("bind_replaced", identity=bind.identity, now=now)
        return False
