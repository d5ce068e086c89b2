"""Reuse: a task that agrees to it gets the result of an earlier analysis, or waits for one that is live.

A claim is not believed: the sample that the task brings is read once, before anybody gets the result of
another with its sha256. All that goes wrong here leads to a run.
"""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import structlog
from karton.core.task import Task
from redis.exceptions import RedisError

from drakcelery.errors import AlreadyFinished, BadTask, Changed, StorageError, Superseded
from drakcelery.failpoints import reach
from drakcelery.ingress.origins import check_fleet, origin_of, require_free
from drakcelery.ingress.stored import Copy, StoredAnalysis, find
from drakcelery.ingress.waiting import WAITING, longest_wait
from drakcelery.karton import contract
from drakcelery.karton.analysis_task import build_analysis_task
from drakcelery.karton.conditions import conditions_of, may_be_shared, wished_age
from drakcelery.karton.destination import destination
from drakcelery.ledger import Ledger
from drakcelery.ledger.inbox import Inbox
from drakcelery.ledger.twins import MOST_WAITING, Reused
from drakcelery.model.analysis import Analysis, ObjectRef
from drakcelery.model.records import Record
from drakcelery.model.result import Result
from drakcelery.model.reuse import Miss, NotReused, Origin, Reuse
from drakcelery.model.text import storable
from drakcelery.settings import Settings
from drakcelery.storage import Storage
from drakcelery.telemetry import metrics, tracing

log = structlog.get_logger(__name__)

MOST_REASON = 500
"""Characters of the sentence that says why nothing was reused; it may quote what is stored."""


@dataclass(frozen=True, kw_only=True)
class Reusing:
    """What one ingress does about reuse."""

    settings: Settings
    ledger: Ledger
    inbox: Inbox
    storage: Storage
    has_time: bool = True
    """Whether samples may be read and artifacts copied now; if not, such tasks are left to the lane."""

    def decided(self, task: Task, analysis: Analysis) -> Analysis | None:
        """*analysis* with what its task and the settings say about reuse; None if it is left to the lane.

        Raises:
            BadTask: the task says something that makes no sense.
            StorageError: S3 refuses the sample.
        """
        seconds = wished_age(task, analysis, self.settings)
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
            if self._leaves(analysis):
                return None
            known = self._sha256(analysis.sample, analysis.task_uid)
            analysis = analysis.model_copy(
                update={"sample": analysis.sample.model_copy(update={"sha256": known})}
            )
        return _with(analysis, Reuse(seconds=seconds, conditions=conditions_of(task, analysis)))

    def instead_of_a_run(
        self, task: Task, text: str, analysis: Analysis, *, spare: Callable[[], None]
    ) -> Analysis | None:
        """Publish an earlier analysis for *task*, whose JSON is *text*, or let it wait for one that is live.

        None if that is done, or left to the lane; otherwise the analysis that is to be run. *spare* raises
        :class:`AlreadyFinished` if a complete analysis has the uid.

        Raises:
            AlreadyFinished: as *spare*.
            Changed, Superseded: as :meth:`drakcelery.ledger.inbox.Inbox.open`.
        """
        wish = analysis.reuse
        if wish.seconds is None or wish.refused is not None:
            return analysis
        try:
            origin = origin_of(self.ledger, self.inbox.twins, analysis, limit=self.settings.reuse_age)
            if not self._leaves(analysis):
                self._reuse(task, text, analysis, origin, spare)
        except NotReused as why:
            miss, refused = why.miss, str(why)
        except (RedisError, Superseded, AlreadyFinished):
            raise
        except (BadTask, StorageError) as error:
            miss, refused = Miss.FAILED, str(error)
        except Exception as error:
            log.exception("reuse_failed")
            miss, refused = Miss.FAILED, f"an error came up: {type(error).__name__}"
        else:
            return None
        told = storable(" ".join(refused.split()))[:MOST_REASON]
        to_run = _with(analysis, wish.model_copy(update={"miss": miss, "refused": told}))
        return None if self._waits(task, to_run) else to_run

    def _leaves(self, analysis: Analysis) -> bool:
        """Leave its task to the lane, if there is one, and it has room."""
        return not self.has_time and self.inbox.twins.leave(analysis.task_uid)

    def may_wait(self, analysis: Analysis) -> bool:
        """Whether its task agrees to wait for a live analysis under the same conditions, and has not waited
        for too long."""
        wish = analysis.reuse
        if wish.seconds is None or wish.conditions is None or wish.miss not in WAITING:
            return False
        since = self.inbox.twins.since(analysis.task_uid)
        if since is None:
            return self.inbox.twins.count() < MOST_WAITING
        return self.ledger.now() - since < longest_wait(self.settings)

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

    def _reuse(
        self, task: Task, text: str, analysis: Analysis, origin: Record, spare: Callable[[], None]
    ) -> None:
        """Raises :class:`NotReused`, and as :meth:`instead_of_a_run`."""
        began = time.monotonic()
        require_free(self.ledger, analysis)
        bucket = destination(self.settings, analysis).bucket
        stored = find(self, bucket, origin.uid, task_uid=origin.analysis_task_uid)
        if _result(stored) != (origin.result and origin.result.model_copy(update={"watch": None})):
            raise NotReused(Miss.GONE, f"what is stored of analysis {origin.uid} is not what its record says")
        check_fleet(self.ledger.fleet.hosts(), analysis.place, stored.metadata)
        self._check_content(analysis, stored)
        reach("ingress.reuse_checked", analysis.uid)
        with self._alone(analysis) as mark:
            spare()
            record = self._publish(task, text, _from(analysis, stored), stored, origin, mark)
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

    @contextlib.contextmanager
    def _alone(self, analysis: Analysis) -> Iterator[str]:
        """Nobody else copies to its uid meanwhile; gives the mark of this try.

        Raises :class:`Changed` if somebody does.
        """
        twins = self.inbox.twins
        mark = twins.claim(analysis.uid, analysis.task_uid)
        if mark is None:
            raise Changed(f"another task is being dealt with under the uid {analysis.uid}")
        try:
            yield mark
        except Exception:  # not `finally`: who is ended leaves the claim to time, as if he had died
            twins.release(analysis.uid, analysis.task_uid, mark)
            raise
        twins.release(analysis.uid, analysis.task_uid, mark)

    def _publish(
        self, task: Task, text: str, analysis: Analysis, stored: StoredAnalysis, origin: Record, mark: str
    ) -> Record:
        def check() -> None:
            if not self.inbox.twins.hold(analysis.uid, analysis.task_uid, mark):
                raise Superseded(f"the task {analysis.task_uid}, or its uid, is somebody else's by now")

        making = Copy(keeper=self, source=stored, analysis=analysis, check=check)
        try:
            return self._published(task, text, making, origin, mark)
        except Exception:
            # Not what is somebody else's by now, or was published though the answer was lost: see check
            with contextlib.suppress(StorageError, Superseded):
                making.clear()
            raise

    def _published(self, task: Task, text: str, making: Copy, origin: Record, mark: str) -> Record:
        analysis, attempt = making.analysis, require_free(self.ledger, making.analysis)
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
                mark=mark,
                origin=origin,
                finished=contract.finished(sample_task, now=now).serialize(),
                task=result.serialize(),
                task_uid=result.uid,
                result=_result(making.source),
            )
        )
        if record is None:
            raise NotReused(Miss.GONE, f"analysis {origin.uid} was deleted meanwhile")
        return record


def _result(stored: StoredAnalysis) -> Result:
    """What its record says of it; how a run was watched is a matter of those who ran it."""
    return Result.of(stored.manifest.metadata).model_copy(update={"watch": None})


def _with(analysis: Analysis, reuse: Reuse) -> Analysis:
    return analysis.model_copy(update={"reuse": reuse})


def _from(analysis: Analysis, stored: StoredAnalysis) -> Analysis:
    """*analysis* with its origin."""
    run = stored.metadata
    origin = Origin(uid=stored.uid, host=run.host, slot=run.slot, started=run.time_started)
    return _with(analysis, analysis.reuse.model_copy(update={"origin": origin}))
