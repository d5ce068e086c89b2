"""What becomes of one accepted task: an analysis, a refusal, or a place in line."""

from __future__ import annotations

import contextlib
import copy
import time
from dataclasses import dataclass
from functools import partial

import structlog
from karton.core.task import Task, TaskState
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from drakcelery.artifacts.metadata import METADATA
from drakcelery.errors import (
    AlreadyFinished,
    BadTask,
    Changed,
    DrakceleryError,
    StorageAway,
    StorageError,
    Superseded,
    Unreadable,
)
from drakcelery.failpoints import reach
from drakcelery.ingress import second_looks
from drakcelery.ingress.reuse import Reusing
from drakcelery.ingress.stored import is_of
from drakcelery.karton import contract, reading
from drakcelery.karton.contract import MAGIC_BYTES, SampleFacts
from drakcelery.karton.destination import destination, fixed
from drakcelery.karton.filetype import describe
from drakcelery.karton.places import require_place
from drakcelery.karton.policy import Policy, policy_of
from drakcelery.ledger import Ledger
from drakcelery.ledger.fleet import Sight
from drakcelery.ledger.inbox import Inbox
from drakcelery.model.analysis import Analysis, ObjectRef
from drakcelery.model.capacity import Capacity
from drakcelery.model.names import is_uid
from drakcelery.model.records import Record
from drakcelery.model.text import storable
from drakcelery.settings import Settings
from drakcelery.stages.dispatch import Send
from drakcelery.storage import Storage
from drakcelery.telemetry import metrics, tracing
from drakcelery.telemetry.logs import about

log = structlog.get_logger(__name__)

RE_READS = 3
"""How often a task is read again if it changes in between."""


@dataclass(frozen=True, kw_only=True)
class Triage:
    """Decides what becomes of each task of one ingress, and does it."""

    settings: Settings
    ledger: Ledger
    inbox: Inbox
    storage: Storage
    send: Send
    """Send the current attempt of a record on its way."""
    sight: Sight
    """The view of the fleet: which places have room."""
    has_time: bool = True
    """As :attr:`~drakcelery.ingress.reuse.Reusing.has_time`."""

    def deal_with(self, task_uid: str, text: str | None, capacity: Capacity) -> Capacity:
        """Deal with one accepted task, whose JSON is *text*.

        Raises:
            StorageAway, Superseded: as :meth:`_admit`.
            StorageError: S3 refuses this sample.
            Unreadable: there is no JSON object where the task should be.
        """
        for _ in range(RE_READS):
            if text is None:
                self.drop(task_uid, None, "Karton has dropped its task")
                return capacity
            try:
                task = reading.read_task(text, task_uid)
            except Unreadable as error:
                if not reading.is_readable(text):
                    raise
                self._refuse(task_uid, None, str(error))
                return capacity
            if task.status in (TaskState.FINISHED, TaskState.CRASHED):
                self.drop(task_uid, task, f"its Karton task is {task.status.value}")
                return capacity
            try:
                return self._admit(task, text, capacity)
            except Changed:
                [text] = self.inbox.tasks([task_uid])
        return capacity  # it changes all the time: it is tried again with the tasks that are left over

    def drop(self, task_uid: str, task: Task | None, why: str) -> None:
        """Take a task out of the inbox that is over: it was cancelled, or came a second time."""
        log.warning("task_gone" if task is None else "task_over", task=task_uid, reason=why)
        if task is not None and task.status is TaskState.CRASHED:
            self.inbox.drop(task_uid)
            return
        root = task.root_uid if task is not None else reading.root_of(task_uid)
        self.inbox.withdraw(
            self._uid_of(task_uid, task),
            task_uid=task_uid,
            root_uid=root,
            reason=f"cancelled: {why}",
            sample=self._noted(task),
        )

    def _admit(self, task: Task, text: str, capacity: Capacity) -> Capacity:
        """Turn an accepted task into an analysis, refuse it, or let it wait for its place.

        Returns what is left of *capacity*.

        Raises:
            Changed: the task has changed since it was read.
            Superseded: somebody else has it.
            StorageAway: S3 is away, for all samples.
            StorageError: S3 refuses this one.
        """
        try:
            return self._start(task, text, capacity)
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
        return capacity

    def _start(self, task: Task, text: str, capacity: Capacity) -> Capacity:
        policy = policy_of(self.settings)
        reach("ingress.accepted", str(contract.payload(task, "override_uid")))
        analysis = fixed(self.settings, contract.read_task(task, self._facts(task, policy), policy))
        second_looks.require_granted(self.ledger, analysis)
        decided = self._reusing.decided(task, analysis)
        if decided is None:
            return capacity
        analysis = decided
        with about(uid=analysis.uid):
            if analysis.reuse.seconds is not None:
                self._spare_finished(task, analysis)
            spare = partial(self._spare_finished, task, analysis)
            to_run = self._reusing.instead_of_a_run(task, text, analysis, spare=spare)
            return self._open(task, text, to_run, capacity) if to_run is not None else capacity

    @property
    def _reusing(self) -> Reusing:
        return Reusing(
            settings=self.settings,
            ledger=self.ledger,
            inbox=self.inbox,
            storage=self.storage,
            has_time=self.has_time,
        )

    def _open(self, task: Task, text: str, analysis: Analysis, capacity: Capacity) -> Capacity:
        place = analysis.place
        record = None
        if capacity.free(place):
            self._spare_finished(task, analysis)
            # A copy, since the task's age still counts if others have filled the place
            started = contract.started(copy.copy(task), now=self.ledger.about_now())
            waits, limit = self._reusing.may_wait(analysis), capacity.limit(place)
            record = self.inbox.open(analysis, started, limit=limit, read=text, waits=waits)
            if record is None:
                self.sight.forget()
        else:
            require_place(place, self.ledger.fleet.places())
        if record is None:
            self.inbox.wait(task, place)
            log.info("waits_for_place", place=str(place))
            return capacity
        waited = time.time() - (task.last_update or time.time())
        metrics.analysis_received(analysis.profile, waited=waited)
        self._reusing.opened(analysis)
        log.info(
            "accepted",
            sample=analysis.sample_label,
            name=analysis.sample.name,
            priority=analysis.priority.value,
        )
        try:
            reach("ingress.opened", record.uid)
            self.send_off(record)
            reach("ingress.sent", record.uid)
            tracing.accepted(lambda: record, self.ledger.now)
        except (Superseded, RedisError):
            raise
        except Exception:
            # Not the task's fault, and too late to refuse it: its analysis is live, so reconcile sends it
            log.exception("not_sent")
        return capacity.after(place)

    def _spare_finished(self, task: Task, analysis: Analysis) -> None:
        """Refuse to replace the artifacts of a complete analysis, unless the settings allow it."""
        ours = self.settings.drakcelery
        if ours.override_finished == "replace" or analysis.uid == task.task_uid:
            return
        bucket = destination(self.settings, analysis).bucket
        if self.storage.holds(bucket, f"{analysis.uid}/{METADATA}") and not is_of(
            self, bucket, analysis.uid, task
        ):
            raise AlreadyFinished(
                f"analysis {analysis.uid} is complete, and another task's: ask for another uid (payload "
                "'override_uid'), remove its objects, or set [drakcelery] override_finished = replace"
            )

    def send_off(self, record: Record) -> None:
        """Send the attempt. If that fails now, it stays unsent in the ledger, where reconcile finds it."""
        with about(**record.log_fields):
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

    def end_odd(self, task_uid: str, reason: str) -> bool:
        """The last resort for a task that could not be dealt with in many tries: end it."""
        task = None
        with contextlib.suppress(Unreadable):
            task = self.ledger.karton_task(task_uid)
        self._refuse(task_uid, task, reason)
        return True

    def _noted(self, task: Task | None) -> ObjectRef | None:
        """What is kept of the sample of a task that does not become an analysis.

        Its size is asked of S3 if the task does not say it, as tasks of old producers do not.
        """
        sample = contract.noted_sample(task, policy_of(self.settings)) if task is not None else None
        if sample is not None and sample.size is None:
            with contextlib.suppress(DrakceleryError):
                size = self.storage.stat(sample.bucket, sample.key)
                return sample.model_copy(update={"size": size})
        return sample

    def _uid_of(self, task_uid: str, task: Task | None) -> str:
        """The uid of the record of a task that does not become an analysis."""
        override = contract.payload(task, "override_uid") if task is not None else None
        own = reading.own_uid(task_uid)
        if not isinstance(override, str) or not is_uid(override):
            return own
        owner = self.ledger.owner(override)
        return override if owner in (None, task_uid) else own  # that record is another task's

    def _refuse(self, task_uid: str, task: Task | None, reason: str, *, uid: str | None = None) -> None:
        """End a task that cannot become an analysis; *task* is None if it cannot be read."""
        uid, told = uid or self._uid_of(task_uid, task), storable(reason)
        noted = self._noted(task)
        log.warning("refused", uid=uid, name=noted.name if noted is not None else None, reason=told)
        self.inbox.refuse(
            uid,
            task_uid=task_uid,
            root_uid=task.root_uid if task is not None else reading.root_of(task_uid),
            reason=told,
            crashed=self.ledger.last_word(task_uid, [f"{told}\n"]) or "",
            sample=noted,
        )
        tracing.refused(task_uid, lambda: self.ledger.get(uid))
