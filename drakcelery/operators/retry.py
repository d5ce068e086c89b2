"""Asks again: a new analysis of the sample of one that is over, which stays as it is.

The sample and its task are where they are kept, beside the artifacts (:mod:`drakcelery.karton.kept`), or
still with Karton.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass

import structlog
from karton.core.resource import RemoteResource
from karton.core.task import Task

from drakcelery.errors import DrakceleryError, StackError
from drakcelery.karton import kept
from drakcelery.karton.kept import Wishes
from drakcelery.karton.policy import policy_of
from drakcelery.ledger import Ledger
from drakcelery.model.analysis import ObjectRef
from drakcelery.model.names import is_uid
from drakcelery.model.records import Record
from drakcelery.operators import analyses, finding
from drakcelery.operators.stored_tasks import stored_task
from drakcelery.operators.wishes import require_possible
from drakcelery.settings import Settings
from drakcelery.storage import Storage

log = structlog.get_logger(__name__)

SUBMIT = "submit the sample again"


@dataclass(frozen=True, kw_only=True)
class _Source:
    """An analysis that can be asked for again."""

    uid: str
    task: Task
    """Its sample task."""
    copies: Mapping[str, ObjectRef]
    """What is kept, by its name in the payload; anything else is with Karton."""

    def moved(self, bucket: str) -> dict[str, RemoteResource]:
        """What is kept as resources of a new task, which are still to be copied to *bucket*."""
        found = kept.resources(self.task)
        return {name: kept.moved(found[name], bucket=bucket, key=str(uuid.uuid4())) for name in self.copies}


def retry(
    settings: Settings,
    ledger: Ledger,
    storage: Storage,
    uid: str,
    *,
    wishes: Wishes | None = None,
    by: str,
) -> str:
    """Analyse the sample of an analysis that is over once more; returns the uid of the new analysis.

    *wishes* replace what its task asked for.

    Raises:
        StackError: there is no such analysis, it is not over, its sample is gone, or nobody would take it.
        StorageError: S3 failed.
        Unreadable: what Karton has for the task is no task.
        BadTask: no sample can be run as *wishes* say.
    """
    wishes = wishes or Wishes()
    source = _source(settings, ledger, storage, uid)
    _check_bound(ledger)
    require_possible(wishes, policy_of(settings), ledger.fleet.places())
    replaced = source.moved(settings.s3.bucket)
    again = kept.retry_task(
        source.task, of=source.uid, identity=ledger.identity, wishes=wishes, replaced=replaced
    )
    ledger.declare(again)  # first of all: Karton's collector takes what no task refers to
    try:
        _secure(ledger, storage, source, replaced)
    except BaseException:
        ledger.undeclare(again)
        raise
    uid = str(again.task_uid)
    ledger.ask_again(again, uid=uid, of=source.uid)
    log.info("retried", uid=source.uid, retry=uid, task=again.uid, by=by)
    return uid


def _check_bound(ledger: Ledger) -> None:
    if ledger.bound() is None:
        raise StackError(
            f"no ingress has ever bound {ledger.identity} in this Karton: start `drakcelery up`, or "
            "`drakcelery ingress` on a host"
        )


def obstacle(
    settings: Settings, ledger: Ledger, storage: Storage, record: Record, stored: Mapping[str, int]
) -> str | None:
    """Why the analysis of *record*, which is over, cannot be asked for again, in a sentence; None if it can.

    *stored*: its objects by name. Raises :class:`RedisError`."""
    needed = {kept.TASK, *kept.sources(record.analysis)} if record.analysis else set()
    if needed and needed <= stored.keys():
        return None
    try:
        _source_of(settings, ledger, storage, record.uid, record)
    except DrakceleryError as error:
        return str(error)
    return None


def _source(settings: Settings, ledger: Ledger, storage: Storage, uid: str) -> _Source:
    """Raises as :func:`retry`."""
    record = finding.record_of(ledger, uid)
    if record is None and not is_uid(uid):
        raise StackError(f"no analysis can have the uid {uid!r:.200}")
    if record is not None and not record.state.is_over:
        raise StackError(
            f"analysis {record.uid} is {record.state.value}: it can be asked for again when it is over, or "
            "is cancelled"
        )
    return _source_of(settings, ledger, storage, record.uid if record else uid, record)


def _source_of(
    settings: Settings, ledger: Ledger, storage: Storage, uid: str, record: Record | None
) -> _Source:
    bucket = analyses.bucket_of(settings, record) if record else settings.drakcelery.bucket
    names = {key.removeprefix(f"{uid}/") for key in analyses.stored_objects(storage, bucket, uid)}
    in_karton = ledger.karton_task(record.task_uid) if record else None
    task = in_karton
    if task is None and bucket is not None and kept.TASK in names:
        task = stored_task(storage, bucket, f"{uid}/{kept.TASK}")
    if task is None:
        raise StackError(_nothing(uid, record))
    resources = kept.resources(task)
    if kept.SAMPLE not in resources:
        raise StackError(f"the task of analysis {uid} has no sample: {SUBMIT}")
    for name, one in resources.items():
        where = one.bucket or settings.s3.bucket
        if name not in names and not (in_karton and storage.holds(where, one.uid)):
            raise StackError(_gone(uid, name, record))
    copies = {
        name: ObjectRef(bucket=bucket, key=f"{uid}/{name}", name=name)
        for name in resources
        if bucket is not None and name in names
    }
    return _Source(uid=uid, task=task, copies=copies)


def _nothing(uid: str, record: Record | None) -> str:
    if record is None:
        return (
            f"no analysis {uid} in the ledger, and its sample is not kept: it still waits in Karton, was "
            "never pushed, or all of it has expired"
        )
    return f"Karton has dropped the task {record.task_uid}, and {_not_kept(record)}: {SUBMIT}"


def _gone(uid: str, name: str, record: Record | None) -> str:
    what = "sample" if name == kept.SAMPLE else "list of hooks"
    why = _not_kept(record) if name == kept.SAMPLE else "it is not kept"
    return f"Karton has collected the {what} of analysis {uid}, and {why}: {SUBMIT}"


def _not_kept(record: Record | None) -> str:
    """Why there is no sample beside the artifacts."""
    if record is not None and record.analysis is None:
        return "the sample of a task that was refused is kept nowhere else"
    if record is not None and record.analysis is not None and record.analysis.is_test:
        return "the sample of a test is not kept"
    return "its sample is not kept (keep_sample was 0, it was cancelled, or the copy has expired)"


def _secure(
    ledger: Ledger, storage: Storage, source: _Source, replaced: Mapping[str, RemoteResource]
) -> None:
    """See that all to which the new task refers is there, and stays. Raises as :func:`retry`."""
    for name, one in replaced.items():
        storage.copies.copy(source.copies[name], str(one.bucket), str(one.uid))
    others = kept.resources(source.task).keys() - replaced.keys()
    # While Karton has the old task, its collector cannot have taken what both refer to
    if others and ledger.karton_task(source.task.uid) is None:
        raise StackError(f"Karton has just collected the sample of analysis {source.uid}: {SUBMIT}")
