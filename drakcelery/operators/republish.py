"""Sends a stored analysis to its consumers again, without a VM: the task that was published, under a new uid.

Facts about Karton 5.9 are from ``karton.core.karton.Producer``, ``karton.core.backend`` and
``karton.system.system.SystemService.route_task``.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog
from karton.core import Producer, Task
from karton.core.backend import KartonBackend
from karton.core.resource import LocalResource, ResourceBase
from karton.core.task import TaskState

from drakcelery.artifacts.metadata import METADATA
from drakcelery.errors import StackError, Unreadable
from drakcelery.karton import kept
from drakcelery.karton.analysis_task import STORED, stored_artifacts
from drakcelery.karton.backend import make_backend
from drakcelery.karton.binds import filters_by_identity, would_get
from drakcelery.karton.submit import karton_config
from drakcelery.ledger import Ledger
from drakcelery.model.analysis import State
from drakcelery.model.names import is_uid
from drakcelery.operators import analyses, finding
from drakcelery.operators.stored_tasks import stored_task
from drakcelery.settings import Settings
from drakcelery.settings.values import IDENTITY_PATTERN
from drakcelery.storage import Storage

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Republished:
    """What was sent."""

    uid: str
    """Of the analysis."""
    task: str
    """The uid of the new task."""
    to: tuple[str, ...]
    """The identities that get it."""
    artifacts: int


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where the artifacts of an analysis are."""

    uid: str
    bucket: str
    task_uid: str | None
    """The uid that its analysis task had in Karton."""


def republish(
    settings: Settings,
    ledger: Ledger,
    storage: Storage,
    uid: str,
    *,
    to: str | None = None,
    sample: Path | None = None,
    by: str,
) -> Republished:
    """Send the analysis *uid* again: to all consumers that its headers match, or only to the identity *to*.

    *sample* is the sample, for when Karton has collected it.

    Raises:
        StackError: there is no such analysis, it is not published, its artifacts or its sample are gone, or
            nobody would get it.
    """
    place = _located(settings, ledger, uid)
    task = _stored_task(ledger, storage, place)
    artifacts = _checked(storage, task, place)
    backend = _backend(settings, task)
    with contextlib.closing(backend.redis), contextlib.closing(backend.s3):
        recipients = _recipients(backend, task, to)
        again = task.fork_task()
        _give_sample(storage, settings, again, place, sample)
        if to is None:
            Producer(config=backend.config, identity=backend.identity, backend=backend).send_task(again)
        else:
            _send_to(backend, again, to)
    log.info("republished", uid=place.uid, task=again.uid, to=", ".join(recipients), by=by)
    return Republished(uid=place.uid, task=str(again.uid), to=recipients, artifacts=len(artifacts))


def _located(settings: Settings, ledger: Ledger, uid: str) -> _Place:
    """Where the analysis is: as its record says, or, if that has expired, where the settings say."""
    record = finding.record_of(ledger, uid)
    if record is None:
        if not is_uid(uid):
            raise StackError(f"no analysis can have the uid {uid!r:.200}")
        return _Place(uid=uid, bucket=settings.drakcelery.bucket, task_uid=None)
    bucket = analyses.bucket_of(settings, record)
    if record.state is not State.PUBLISHED or bucket is None:
        why = f": {record.error}" if record.error else ""
        raise StackError(
            f"analysis {record.uid} is {record.state.value}{why}. Only what was published is sent again"
        )
    return _Place(uid=record.uid, bucket=bucket, task_uid=record.analysis_task_uid)


def _stored_task(ledger: Ledger, storage: Storage, place: _Place) -> Task:
    """The analysis task as it was published: from the bucket, or, of an older version, from Karton."""
    if not storage.holds(place.bucket, f"{place.uid}/{METADATA}"):
        known = "its artifacts are gone" if place.task_uid else "none in the ledger either"
        raise StackError(f"no analysis {place.uid} in the bucket {place.bucket!r} ({known})")
    task = stored_task(storage, place.bucket, f"{place.uid}/{STORED}")
    if task is None and place.task_uid is not None:
        task = ledger.karton_task(place.task_uid)
    if task is None:
        raise StackError(
            f"analysis {place.uid} was published by a version that did not store its analysis task, and "
            "Karton has collected that: `drakcelery retry` analyses the sample again"
        )
    return task


def _checked(storage: Storage, task: Task, place: _Place) -> Mapping[str, int]:
    """The artifacts that the task refers to; all are there. Raises :class:`StackError`."""
    try:
        wanted = stored_artifacts(task, place.uid, bucket=place.bucket)
    except Unreadable as error:
        raise StackError(f"{place.bucket}/{place.uid}: {error}") from None
    there = storage.list(place.bucket, f"{place.uid}/")
    gone = sorted(name for name, size in wanted.items() if there.get(f"{place.uid}/{name}") != size)
    if gone:
        raise StackError(
            f"analysis {place.uid}: {len(gone)} of {len(wanted)} artifacts are not in the bucket "
            f"{place.bucket!r} any more, or have another size: {', '.join(gone[:10])}"
        )
    return wanted


def _backend(settings: Settings, task: Task) -> KartonBackend:
    """Karton, for the producer that *task* names. Raises :class:`StackError` if nobody can have that name."""
    origin = task.headers.get("origin")
    if not isinstance(origin, str) or not re.match(IDENTITY_PATTERN, origin):
        raise StackError(f"the stored analysis task is of nobody: its header origin is {origin!r:.200}")
    return make_backend(settings, karton_config(settings), identity=origin)


def _recipients(backend: KartonBackend, task: Task, to: str | None) -> tuple[str, ...]:
    """The identities that get *task*. Raises :class:`StackError` if there is none."""
    filters = filters_by_identity(backend)
    matching = tuple(sorted(identity for identity, wanted in filters.items() if would_get(task, wanted)))
    if to is None and not matching:
        raise StackError(f"no consumer in this Karton has a bind for the headers {task.headers}")
    if to is None:
        return matching
    others = ", ".join(matching) or "nobody"
    if to not in filters:
        raise StackError(f"no consumer {to!r:.200} in this Karton; analyses go to {others}")
    if to not in matching:
        raise StackError(
            f"{to} would drop the analysis: its filters {filters[to]} do not match {task.headers}; "
            f"analyses go to {others}"
        )
    return (to,)


def _give_sample(
    storage: Storage, settings: Settings, task: Task, place: _Place, sample: Path | None
) -> None:
    """Make sure that the payload's sample is there for the consumers. Raises :class:`StackError`."""
    ours = task.get_payload("sample")
    if not isinstance(ours, ResourceBase):
        raise StackError("the stored analysis task has no sample")
    if storage.holds(ours.bucket or settings.s3.bucket, ours.uid):
        return
    metadata = task.payload.get("metadata")
    expected = metadata.get("sample_sha256") if isinstance(metadata, dict) else None
    key = f"{place.uid}/{kept.SAMPLE}"
    if sample is None and storage.holds(place.bucket, key):
        _replace_sample(task, kept.moved(ours, bucket=place.bucket, key=key))
        return
    if sample is None:
        raise StackError(
            f"Karton has collected the sample {ours.name!r:.200} (sha256 {expected}): give it with "
            "--sample FILE"
        )
    given = LocalResource(ours.name, path=str(sample))
    if given.sha256 != expected:
        raise StackError(f"{sample} is another file: its sha256 is {given.sha256} instead of {expected}")
    _replace_sample(task, given)


def _replace_sample(task: Task, by: ResourceBase) -> None:
    for bag, name, value in list(task.walk_payload_bags()):
        if name == "sample" and isinstance(value, ResourceBase):
            bag[name] = by


def _send_to(backend: KartonBackend, task: Task, identity: str) -> None:
    """Put *task* into the queue of one consumer, as karton-system does when it routes it there."""
    task.headers["receiver"] = identity
    task.status = TaskState.SPAWNED
    backend.declare_task(task)
    for resource in task.iterate_resources():
        if isinstance(resource, LocalResource):
            resource.upload(backend)
    backend.produce_routed_task(identity, task)
