"""Ingress: takes sample tasks off Karton's queue and starts their chains, as long as the fleet has room."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from karton.core import Task
from karton.core.__version__ import __version__ as karton_version
from karton.core.backend import KARTON_BINDS_HSET, KartonBackendBase, KartonBind
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from drakcelery import __version__, chain, contract, stranded
from drakcelery.analysis import Analysis, is_uid
from drakcelery.contract import MAGIC_BYTES, Policy, SampleFacts
from drakcelery.errors import BadTask, StorageError, Superseded
from drakcelery.faults import reach
from drakcelery.filetype import describe
from drakcelery.ledger import Ledger
from drakcelery.records import Record
from drakcelery.settings import Settings
from drakcelery.storage import Storage

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.2
"""How soon a free place in the fleet is filled from Karton's queue."""
CHECK_SECONDS = 5.0
"""How often the bind, and the inbox of other ingresses that died, are looked at."""
ORPHAN_SECONDS = 20.0
"""After that long in the inbox, the ingress that took a task is taken for dead."""


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


@dataclass(frozen=True, kw_only=True)
class Ingress:
    """One ingress. Several may run: each task is taken by one of them."""

    settings: Settings
    ledger: Ledger
    storage: Storage
    send: Callable[[Record], None]
    """Send the current attempt of a record on its way."""

    def run(self, stop: threading.Event) -> None:
        """Until *stop* is set, or another ingress with other filters takes over our identity."""
        bind = bind_of(self.settings)
        self._register(bind)
        self._find_stranded()
        checked = 0.0
        while not stop.is_set():
            try:
                if time.monotonic() - checked >= CHECK_SECONDS:
                    checked = time.monotonic()
                    if not self._bound(bind):
                        return
                    self._adopt()
                if not (self.send_due() or self.take_one()):
                    stop.wait(POLL_SECONDS)
            except RedisError as error:
                log.warning("redis_away", error=str(error))
                stop.wait(CHECK_SECONDS)

    def take_one(self) -> bool:
        """Take the most urgent task, if the fleet has room. False where there was nothing to take."""
        task_uid = self.ledger.accept(capacity=self.capacity())
        if task_uid is None:
            return False
        self.handle(task_uid)
        return True

    def send_due(self) -> bool:
        """Send an attempt, or a postponed stage, whose time has come. False where there was none."""
        uid = self.ledger.due()
        if uid is not None:
            self._send(uid)
        return uid is not None

    def capacity(self) -> int:
        """How many analyses may be in flight: the slots that are alive, and a few to look ahead."""
        slots = sum(len(host.slots) for host in self.ledger.hosts())
        return slots + self.settings.drakcelery.look_ahead if slots else 0

    def handle(self, task_uid: str) -> None:
        """Turn an accepted Karton task into an analysis, or refuse it; it waits while S3 is away."""
        task = self.ledger.karton_task(task_uid)
        if task is None:
            log.warning("task_gone", task=task_uid)
            self.ledger.drop(task_uid)
            return
        with structlog.contextvars.bound_contextvars(task=task_uid):
            try:
                self._start(task)
            except BadTask as error:
                self._refuse(task, str(error))
            except Superseded:
                log.info("started_by_another")  # an ingress or reconcile that held this one for dead
            except RedisError:
                raise  # the loop waits for it; the task is in the inbox, or in the ledger
            except StorageError as error:
                log.warning("sample_unreachable", error=str(error))
            except Exception as error:
                log.exception("task_not_understood")
                self._refuse(task, f"drakcelery could not read this task: {type(error).__name__}: {error}")

    def _start(self, task: Task) -> None:
        policy = policy_of(self.settings)
        reach("ingress.accepted", str(task.payload.get("override_uid")))
        analysis = contract.read_task(task, self._facts(task, policy), policy)
        self._check_place(analysis)
        self.ledger.start(contract.started(task))
        reach("ingress.started", analysis.uid)
        attempts = self.ledger.open(analysis)
        if attempts is None:
            raise BadTask(
                f"another analysis is under way under the uid {analysis.uid}; wait for it, or choose another"
            )
        log.info("accepted", uid=analysis.uid, sample=analysis.sample_label, priority=analysis.priority.value)
        try:
            self._begin(analysis.uid, after=attempts)
        except (Superseded, RedisError):
            raise
        except Exception:
            # Not the task's fault, and too late to refuse it: it is live, so reconcile sends it
            log.exception("not_sent", uid=analysis.uid)

    def _begin(self, uid: str, *, after: int) -> None:
        reach("ingress.opened", uid)
        self.ledger.begin_attempt(uid, after=after)
        reach("ingress.begun", uid)
        self._send(uid)
        reach("ingress.sent", uid)

    def _check_place(self, analysis: Analysis) -> None:
        """Refuse what no host could ever take: it would wait for ever, and keep others from being taken."""
        default_profile = self.settings.drakcelery.default_profile
        profile, host = chain.wanted(analysis, default_profile=default_profile)
        profiles, hosts = self.ledger.known("profile"), self.ledger.known("host")
        if profile not in profiles:
            raise BadTask(f"no host has the VM profile {profile!r}; there are: {', '.join(profiles)}")
        if host is not None and host not in hosts:
            raise BadTask(f"there is no host {host!r}; there are: {', '.join(hosts)}")

    def _send(self, uid: str) -> None:
        """What cannot be sent now stays unsent in the ledger, where reconcile finds it."""
        record = self.ledger.get(uid)
        if record is None or record.state.is_over:
            return
        try:
            self.send(record)
        except OperationalError as error:
            log.warning("broker_away", uid=uid, error=str(error))

    def _facts(self, task: Task, policy: Policy) -> SampleFacts:
        """Size and magic of the sample, from its first bytes."""
        sample = contract.sample_ref(task, policy)
        size = self.storage.stat(sample.bucket, sample.key)
        if size is None:
            raise BadTask(f"the sample {sample.name!r} is not in the bucket {sample.bucket!r} any more")
        head = self.storage.head(sample.bucket, sample.key, MAGIC_BYTES) if size else b""
        return SampleFacts(size=size, magic=describe(head) if head else "empty")

    def _refuse(self, task: Task, reason: str) -> None:
        override = task.payload.get("override_uid")
        uid = override if isinstance(override, str) and is_uid(override) else task.task_uid
        record = self.ledger.get(uid)
        if record is not None and record.task_uid != task.uid:
            uid = task.task_uid  # that record is another task's
        log.warning("refused", reason=reason)
        self.ledger.refuse(
            uid,
            task_uid=task.uid,
            root_uid=task.root_uid,
            reason=reason,
            crashed=contract.crashed(task, [f"{reason}\n"]).serialize(),
        )

    def _find_stranded(self) -> None:
        """Adopt, or report, what a consumer before us left behind."""
        what = self.settings.drakcelery.stranded
        if what == "leave":
            return
        for task_uid in stranded.find(self.ledger, hard_time_limit=self.settings.drakcelery.hard_time_limit):
            log.warning("stranded_task", task=task_uid, adopted=what == "adopt")
            if what == "adopt":
                self.ledger.adopt(task_uid)

    def _adopt(self) -> None:
        """Handle what an ingress that died has taken, and what was left while S3 was away."""
        for task_uid in self.ledger.inbox(older_than=ORPHAN_SECONDS):
            log.info("adopted", task=task_uid)
            self.handle(task_uid)

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
