"""Reuse: a task that agrees to it gets the result of an earlier analysis, or waits for one that is live.

A claim is not believed: the sample that the task brings is read once, before anybody gets the result of
another with its sha256. All that goes wrong here leads to a run.
"""

from __future__ import annotations

import contextlib
import copy
import time
from dataclasses import dataclass

import structlog
from karton.core import Task
from redis.exceptions import RedisError

from drakcelery.errors import BadTask, Changed, StorageError, Superseded, UnreadableRecord
from drakcelery.failpoints import reach
from drakcelery.ingress.stored import Copy, StoredAnalysis, find
from drakcelery.karton import contract
from drakcelery.karton.analysis_task import build_analysis_task
from drakcelery.karton.conditions import agreed, conditions_of, may_be_shared
from drakcelery.karton.destination import destination
from drakcelery.ledger import Ledger
from drakcelery.ledger.inbox import Inbox
from drakcelery.ledger.twins import MOST_WAITING, Reused
from drakcelery.model.analysis import Analysis, ObjectRef, Place, State
from drakcelery.model.metadata import Metadata
from drakcelery.model.records import HostStatus, Record
from drakcelery.model.result import Result
from drakcelery.model.reuse import Miss, NotReused, Origin, Reuse
from drakcelery.settings import Settings
from drakcelery.storage import Storage
from drakcelery.telemetry import metrics, tracing

log = structlog.get_logger(__name__)

WITH_SNAPSHOT = "drakvuf"
"""The engine whose guests are restored from a snapshot, which its hosts report."""


@dataclass(frozen=True, kw_only=True)
class Reusing:
    """What one ingress does about reuse."""

    settings: Settings
    ledger: Ledger
    inbox: Inbox
    storage: Storage

    def decided(self, task: Task, analysis: Analysis) -> Analysis:
        """*analysis* with what its task and the settings say about reuse.

        Raises:
            BadTask: the task says something that makes no sense.
            StorageError: S3 refuses the sample.
        """
        seconds = agreed(task)
        if seconds is None:
            platform = str(task.headers.get("platform") or "")
            facts = {"extension": analysis.extension, "quality": analysis.quality, "magic": analysis.magic}
            seconds = self.settings.reuse_of({"platform": platform, **facts})
        seconds = seconds or None
        if not self.settings.reuse.enabled or not may_be_shared(analysis):
            if seconds is None:
                return analysis
            why = (
                "a test, a retry or a second look is always run"
                if self.settings.reuse.enabled
                else "[reuse] enabled is 0"
            )
            return _with(analysis, Reuse(seconds=seconds, miss=Miss.OFF, refused=why))
        if seconds is not None and analysis.sample.sha256 is None:
            known = self._sha256(analysis.sample, analysis.task_uid)
            analysis = analysis.model_copy(
                update={"sample": analysis.sample.model_copy(update={"sha256": known})}
            )
        return _with(analysis, Reuse(seconds=seconds, conditions=conditions_of(task, analysis)))

    def instead_of_a_run(self, task: Task, text: str, analysis: Analysis) -> Analysis | None:
        """Publish an earlier analysis for *task*, whose JSON is *text*, or let it wait for one that is live.

        None if that is done; otherwise the analysis that is to be run.

        Raises:
            BadTask: another live analysis has its uid.
            Changed, Superseded: as :meth:`drakcelery.ledger.inbox.Inbox.open`.
        """
        wish = analysis.reuse
        if wish.seconds is None or wish.refused is not None:
            return analysis
        try:
            self._reuse(task, text, analysis)
        except NotReused as why:
            miss, refused = why.miss, str(why)
        except (RedisError, Superseded):
            raise
        except (BadTask, StorageError) as error:
            miss, refused = Miss.FAILED, str(error)
        except Exception as error:
            log.exception("reuse_failed")
            miss, refused = Miss.FAILED, f"an error came up: {type(error).__name__}"
        else:
            return None
        if self._waits(task, analysis):
            return None
        return _with(analysis, wish.model_copy(update={"miss": miss, "refused": refused}))

    def may_wait(self, analysis: Analysis) -> bool:
        """Whether its task agrees to wait for a live analysis under the same conditions, and has not waited
        for too long."""
        wish = analysis.reuse
        if wish.seconds is None or wish.conditions is None:
            return False
        since = self.inbox.twins.since(analysis.task_uid)
        if since is None:
            return self.inbox.twins.count() < MOST_WAITING
        # Twice what one run may take: a first attempt may fail
        return self.ledger.now() - since < 2 * self.settings.drakcelery.hard_time_limit

    def opened(self, analysis: Analysis) -> None:
        """A task that agrees to reuse is run after all."""
        wish = analysis.reuse
        if wish.miss is not None:
            metrics.reuse(wish.miss)
            log.info("not_reused", miss=wish.miss, reason=wish.refused)

    def _waits(self, task: Task, analysis: Analysis) -> bool:
        """Let the task wait for a live analysis under the same conditions, if there is one."""
        twins = self.inbox.twins
        twin = twins.live(str(analysis.reuse.conditions)) if self.may_wait(analysis) else None
        if twin is None or twin == analysis.uid or not twins.wait(task.uid, twin):
            return False
        reach("ingress.twin_waits", analysis.uid)
        metrics.reuse("waited")
        log.info("waits_for_twin", twin=twin)
        return True

    # An earlier analysis

    def _reuse(self, task: Task, text: str, analysis: Analysis) -> None:
        """Raises :class:`NotReused`, and as :meth:`instead_of_a_run`."""
        began = time.monotonic()
        origin, attempt = self._origin(analysis), self._next_attempt(analysis)
        bucket = destination(self.settings, analysis).bucket
        stored = find(self, bucket, origin.uid, task_uid=origin.analysis_task_uid)
        check_fleet(self.ledger.fleet.hosts(), analysis.place, stored.metadata)
        self._check_content(analysis, stored)
        reach("ingress.reuse_checked", analysis.uid)
        record = self._publish(task, text, _from(analysis, stored), stored, origin, attempt)
        reach("ingress.reuse_published", analysis.uid)
        metrics.analysis_received(analysis.profile, waited=time.time() - (task.last_update or time.time()))
        metrics.reuse("reused")
        tracing.reused(record)
        log.info(
            "reused",
            origin=origin.uid,
            age=round(record.received - (origin.finished or 0)),
            sample=analysis.sample_label,
            bytes=sum(artifact.size for artifact in stored.manifest.artifacts),
            seconds=round(time.monotonic() - began, 3),
        )

    def _origin(self, analysis: Analysis) -> Record:
        """The record of an analysis under the same conditions that is young enough."""
        conditions = analysis.reuse.conditions
        if conditions is None:
            raise NotReused(Miss.OFF, "nobody says what its files contain")
        uid = self.inbox.twins.reusable(conditions)
        record = None
        try:
            record = self.ledger.get(uid) if uid is not None else None
        except UnreadableRecord:
            log.warning("origin_not_read", origin=uid)
        if record is None or record.analysis is None or record.analysis.reuse.conditions != conditions:
            raise NotReused(Miss.NONE, "there is no earlier analysis of it under the same conditions")
        if record.state is not State.PUBLISHED or record.finished is None or record.uid == analysis.uid:
            raise NotReused(Miss.NONE, f"analysis {record.uid} is {record.state.value}, or has its own uid")
        age, limit = self.ledger.now() - record.finished, self.settings.reuse_age
        if age > min(limit, analysis.reuse.seconds or 0):
            raise NotReused(Miss.OLD, f"analysis {record.uid} is {age:.0f} s old")
        return record

    def _next_attempt(self, analysis: Analysis) -> int:
        """The number that its first attempt would have; also, nobody is at work under its uid."""
        try:
            before = self.ledger.get(analysis.uid)
        except UnreadableRecord as error:
            raise NotReused(Miss.FAILED, str(error)) from None
        if before is not None and (not before.state.is_over or before.task_uid == analysis.task_uid):
            raise NotReused(Miss.FAILED, f"there is a record of {analysis.uid}")
        return 1 if before is None else before.attempt + 1

    def _check_content(self, analysis: Analysis, stored: StoredAnalysis) -> None:
        """Make sure that the task has the files whose results it gets."""
        sha256 = self._sha256(analysis.sample, analysis.task_uid)
        if sha256 != stored.metadata.sample_sha256.lower():
            raise NotReused(Miss.CONTENT, f"the sample's sha256 is {sha256}, not what its task says")
        hooks = analysis.custom_hooks
        if hooks is not None and self._sha256(hooks, analysis.task_uid) != str(hooks.sha256).lower():
            raise NotReused(Miss.CONTENT, "the sha256 of custom_hooks is not what its task says")

    def _sha256(self, ref: ObjectRef, task_uid: str) -> str:
        return self.storage.copies.sha256(
            ref.bucket,
            ref.key,
            max_size=self.settings.drakcelery.max_sample_size,
            check=lambda: self._check(task_uid),
        )

    def _check(self, task_uid: str) -> None:
        """Show that the task is dealt with. Raises :class:`Superseded` if it has left the inbox."""
        if not self.inbox.set_back(task_uid):
            raise Superseded(f"the Karton task {task_uid} is not in the inbox any more")

    def _publish(
        self, task: Task, text: str, analysis: Analysis, stored: StoredAnalysis, origin: Record, attempt: int
    ) -> Record:
        making = Copy(
            keeper=self, source=stored, analysis=analysis, check=lambda: self._check(analysis.task_uid)
        )
        try:
            return self._published(task, text, making, origin, attempt)
        except (Changed, NotReused, StorageError):
            with contextlib.suppress(StorageError, Superseded):
                making.clear()
            raise

    def _published(self, task: Task, text: str, making: Copy, origin: Record, attempt: int) -> Record:
        analysis = making.analysis
        sample_task, ours = copy.deepcopy(task), destination(self.settings, analysis)
        making.clear()
        making.artifacts()
        reach("ingress.reuse_copied", analysis.uid)
        manifest, now = making.manifest(), self.ledger.now()
        result = build_analysis_task(
            sample_task,
            analysis,
            manifest,
            attempt=attempt,
            headers=ours.headers,
            bucket=ours.bucket,
            identity=ours.identity,
            now=now,
        )
        making.complete(manifest, task, result)
        reach("ingress.reuse_complete", analysis.uid)
        record = self.inbox.twins.publish(
            Reused(
                analysis=analysis,
                read=text,
                attempt=attempt,
                origin=origin,
                finished=contract.finished(sample_task, now=now).serialize(),
                task=result.serialize(),
                task_uid=result.uid,
                result=Result.of(manifest.metadata).model_copy(update={"watch": None}),
            )
        )
        if record is None:
            raise NotReused(Miss.GONE, f"analysis {origin.uid} was deleted meanwhile")
        return record


def check_fleet(hosts: list[HostStatus], place: Place, metadata: Metadata) -> None:
    """Raise :class:`NotReused` unless every host of *place* would run it as the earlier one was run."""
    ours = [
        host
        for host in hosts
        if place.host in (None, host.host) and any(slot.profile == place.profile for slot in host.slots)
    ]
    if not ours:
        raise NotReused(Miss.FLEET, f"no host of {place} says which engine it has")
    for host in ours:
        if host.engine != metadata.engine:
            raise NotReused(Miss.FLEET, f"{host.host} has {host.engine}, not {metadata.engine}")
        unknown = host.snapshot is None and host.engine.startswith(WITH_SNAPSHOT)
        if unknown or host.snapshot != metadata.snapshot_id:
            raise NotReused(Miss.FLEET, f"{host.host} has another snapshot, or does not say which")


def _with(analysis: Analysis, reuse: Reuse) -> Analysis:
    return analysis.model_copy(update={"reuse": reuse})


def _from(analysis: Analysis, stored: StoredAnalysis) -> Analysis:
    """*analysis* with its origin."""
    run = stored.metadata
    origin = Origin(uid=stored.uid, host=run.host, slot=run.slot, started=run.time_started)
    return _with(analysis, analysis.reuse.model_copy(update={"origin": origin}))
